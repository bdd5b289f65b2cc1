//! JSON that is carried and not looked into, and the limits both ends hold it to.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// The deepest nesting of arrays and objects that either end accepts.
pub const MAX_DEPTH: usize = 64;

/// The largest body, in bytes, that either end accepts (16 MiB).
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// The largest single server-sent event, in bytes (8 MiB).
pub const MAX_EVENT_BYTES: usize = 8 * 1024 * 1024;

/// The largest prompt, in bytes (1 MiB).
pub const MAX_PROMPT_BYTES: usize = 1024 * 1024;

/// One JSON value kept as the bytes it came in, so that it goes on unchanged: numbers of any
/// size, key order and all.
#[derive(Clone)]
pub struct RawJson(Arc<RawValue>);

impl RawJson {
    /// Encodes `value`.
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`] if `value` has no JSON form (a map with keys that are not text).
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(|raw| Self(raw.into()))
    }

    /// Parses `text`, which must be one JSON value within [`MAX_DEPTH`].
    ///
    /// # Errors
    ///
    /// [`JsonError`] with the position if it is no JSON, or the depth if it is too deep.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        check_depth(text.as_bytes())?;
        let raw: Box<RawValue> = serde_json::from_str(text)?;
        Ok(Self(raw.into()))
    }

    /// Returns the value as it was written.
    #[must_use]
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// Reads the value as a `T`.
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`] if the value is not a `T`. As a [`serde_json::Value`] that is only a
    /// number beyond what 64 bits of float hold.
    pub fn decode<'de, T: Deserialize<'de>>(&'de self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.get())
    }

    /// Returns the JSON value `null`.
    #[must_use]
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned().into())
    }
}

impl From<&serde_json::Value> for RawJson {
    fn from(value: &serde_json::Value) -> Self {
        Self::encode(value).unwrap_or_else(|_| Self::null())
    }
}

impl From<serde_json::Value> for RawJson {
    fn from(value: serde_json::Value) -> Self {
        Self::from(&value)
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for RawJson {}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get())
    }
}

impl fmt::Display for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get())
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| Self(raw.into()))
    }
}

impl schemars::JsonSchema for RawJson {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AnyJson".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        true.into()
    }
}

/// Why a text was refused as JSON.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It is not JSON.
    #[error("not valid JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    /// It nests deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels, at byte {at}")]
    TooDeep {
        /// The offset of the bracket that went too deep.
        at: usize,
    },
}

/// Checks the nesting of `text` without building anything.
///
/// # Errors
///
/// [`JsonError::TooDeep`] at the first bracket beyond [`MAX_DEPTH`].
pub fn check_depth(text: &[u8]) -> Result<(), JsonError> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.iter().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(JsonError::TooDeep { at });
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Returns the beginning of `text`, at most `limit` bytes of it, for an error message.
#[must_use]
pub fn excerpt(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = (0..=limit).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    format!("{}… ({} bytes)", &text[..end], text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn big_numbers_and_key_order_survive() {
        let text = r#"{"b":123456789012345678901234567890,"a":1e400}"#;
        assert_eq!(RawJson::parse(text).unwrap().get(), text);
    }

    #[test]
    fn depth_is_counted_outside_strings_only() {
        let flat = format!("\"{}\"", "[".repeat(200));
        assert!(RawJson::parse(&flat).is_ok());
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        assert!(matches!(RawJson::parse(&deep), Err(JsonError::TooDeep { at: 64 })));
        let allowed = format!("{}{}", "[".repeat(64), "]".repeat(64));
        assert!(RawJson::parse(&allowed).is_ok());
    }
}

//! JSON that is carried and not looked into, and the limits both ends hold it to.
//!
//! A text is JSON here if RFC 8259 says so, in UTF-8 without a byte-order mark, and if besides
//!
//! - arrays and objects nest at most [`MAX_DEPTH`] levels,
//! - every number is within the range of a 64-bit float, integers too: `1e400` is no number that
//!   another program could read. Digits are kept as they are: a [`RawJson`] goes on unchanged, and
//!   only a reader of its value may be less exact;
//! - text has no lone surrogates,
//! - no object has one key twice, however the key is written.
//!
//! [`check_limits`] checks the last four in one pass. It is made of whatever comes in: values of
//! callers ([`RawJson::parse`]), events and answers of runners. The runner holds what it gets to
//! the same limits, and what it sends. The tests of both read one list of texts with verdicts.

mod scan;

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

pub use self::scan::check_limits;

/// The deepest nesting of arrays and objects that either end accepts.
pub const MAX_DEPTH: usize = 64;

/// The largest body, in bytes, that either end accepts (16 MiB).
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// The largest single server-sent event, in bytes (8 MiB).
pub const MAX_EVENT_BYTES: usize = 8 * 1024 * 1024;

/// The largest prompt, in bytes (1 MiB).
pub const MAX_PROMPT_BYTES: usize = 1024 * 1024;

/// The integers below it are exact as 64-bit floats (2^53).
const MAX_EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;

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

    /// Parses `text`, which must be one JSON value within the [limits](self).
    ///
    /// # Errors
    ///
    /// [`JsonError`] with the place where it is no JSON, or beyond the limits.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        check_limits(text.as_bytes())?;
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

    /// Reads the value as a `T`, as a model means it: where `T` has an integer, `1.0` is one too,
    /// as JSON Schema says.
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`] if the value is not a `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        self.decode().or_else(|error| {
            let mut value: Value = self.decode()?;
            whole_numbers(&mut value);
            T::deserialize(value).or(Err(error))
        })
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
    /// A number is beyond the range of a 64-bit float.
    #[error("the number at byte {at} is beyond the range of a 64-bit float: write it as text")]
    NotFinite {
        /// The offset of the number.
        at: usize,
    },
    /// Half of a character is written without its other half.
    #[error("lone surrogate at byte {at}")]
    LoneSurrogate {
        /// The offset of the escape.
        at: usize,
    },
    /// An object has one key twice.
    #[error("an object has the key \"{key}\" a second time, before byte {at}")]
    DuplicateKey {
        /// The offset behind the second.
        at: usize,
        /// The key, or its beginning.
        key: String,
    },
}

/// Writes numbers like `1.0` as integers.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(whole) = integer(number) {
                *number = whole;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(members) => members.values_mut().for_each(whole_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// Returns the integer that a number with a fraction of zero is.
fn integer(number: &Number) -> Option<Number> {
    let float = number.as_f64().filter(|_| number.is_f64())?;
    let exact = float.fract() == 0.0 && float.abs() < MAX_EXACT_INTEGER;
    exact.then(|| format!("{float:.0}").parse::<i64>().ok()).flatten().map(Number::from)
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
        let text = r#"{"b":123456789012345678901234567890,"a":1e300}"#;
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

    #[test]
    fn whole_numbers_are_integers_where_integers_are_read() {
        let read = |text| RawJson::parse(text).unwrap().read::<(u8, Vec<i64>, f64)>();
        assert_eq!(read("[1.0, [-2.0, 3e2], 1.5]").unwrap(), (1, vec![-2, 300], 1.5));
        for wrong in ["[1.5, [], 1]", "[256.0, [], 1]", "[1, [1e300], 1]", "[\"1\", [], 1]"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}

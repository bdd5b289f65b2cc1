//! Secrets that callers give with a run: they reach the tools, and nothing that is kept or shown.

use std::cell::RefCell;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::json::RawJson;

/// What stands in the place of a secret wherever one must not stand.
pub const MASK: &str = "[secret]";

thread_local! {
    /// The secrets that were written while [`encode`] writes them; nothing at any other time.
    static REVEALED: RefCell<Option<Vec<SecretString>>> = const { RefCell::new(None) };
}

/// A text that tools may see and nobody else: a key, a token.
///
/// Given with the deps of a run it reaches the run's tools, in Rust and in Python. The store, the
/// logs, the events and the prompts of templates get [`MASK`]: that is how it is written by serde,
/// and shown by `Debug`. It has no `Display`.
///
/// A run whose deps hold secrets goes on in another process only when it is given them again. What
/// a tool returns, and what a panic prints to stderr, is the tool's own: keep the secret out of it.
///
/// ```
/// use axon_kernel::secret::Secret;
///
/// let key: Secret = "sk-1234".into();
/// assert_eq!(serde_json::to_string(&key).unwrap(), "\"[secret]\"");
/// assert_eq!(format!("{key:?}"), "[secret]");
/// assert_eq!(key.expose(), "sk-1234");
/// ```
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Makes a secret of a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into().into())
    }

    /// Returns the text, for whoever it was meant for.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_revealed = REVEALED.with_borrow_mut(|revealed| match revealed {
            Some(secrets) => {
                secrets.push(self.0.clone());
                true
            }
            None => false,
        });
        serializer.serialize_str(if is_revealed { self.expose() } else { MASK })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "writeOnly": true })
    }
}

/// A value as its tools get it, and as everybody else does.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// The value with [`MASK`] in the place of each secret.
    pub masked: RawJson,
    /// The value with its secrets, if it has any.
    pub whole: Option<Whole>,
}

/// A value with its secrets. Shows nothing of it.
#[derive(Clone)]
pub struct Whole {
    value: RawJson,
    secrets: Vec<SecretString>,
}

impl Whole {
    /// Returns the value, for whoever its secrets are meant for.
    #[must_use]
    pub fn value(&self) -> &RawJson {
        &self.value
    }

    /// Returns the secrets in it, to take them out of what is shown.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.secrets.iter().map(ExposeSecret::expose_secret)
    }
}

impl PartialEq for Whole {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl fmt::Debug for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Closes what [`encode`] opened, however that ends.
struct Open;

impl Drop for Open {
    fn drop(&mut self) {
        REVEALED.set(None);
    }
}

/// Writes `value` twice: without its secrets and, if it has any, with them.
///
/// # Errors
///
/// [`serde_json::Error`] if `value` has no JSON form.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Encoded, serde_json::Error> {
    let masked = RawJson::encode(value)?;
    REVEALED.set(Some(Vec::new()));
    let open = Open;
    let value = RawJson::encode(value)?;
    let secrets = REVEALED.take().unwrap_or_default();
    drop(open);
    let whole = (!secrets.is_empty()).then_some(Whole { value, secrets });
    Ok(Encoded { masked, whole })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Serialize)]
    struct Deps {
        customer: u32,
        keys: Vec<Secret>,
    }

    #[test]
    fn only_what_is_meant_for_tools_has_the_secrets() {
        let deps = Deps { customer: 1, keys: vec!["sk-1".into(), "sk-2".into()] };
        let Encoded { masked, whole } = encode(&deps).unwrap();
        assert_eq!(masked.get(), r#"{"customer":1,"keys":["[secret]","[secret]"]}"#);
        let whole = whole.unwrap();
        assert_eq!(whole.value().get(), r#"{"customer":1,"keys":["sk-1","sk-2"]}"#);
        assert_eq!(whole.secrets().collect::<Vec<_>>(), ["sk-1", "sk-2"]);
        assert_eq!(format!("{whole:?}"), "[secret]");
        // Nothing stays open.
        assert_eq!(serde_json::to_value(&deps).unwrap()["keys"][0], json!("[secret]"));
        assert_eq!(encode(&json!({ "a": 1 })).unwrap().whole, None);
    }

    #[test]
    fn a_value_that_cannot_be_written_leaves_nothing_open() {
        struct Broken(Secret);

        impl Serialize for Broken {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let written = serde_json::to_string(&self.0).unwrap();
                if written.contains(MASK) {
                    return serializer.serialize_unit();
                }
                Err(serde::ser::Error::custom("no"))
            }
        }

        assert!(encode(&Broken("sk-1".into())).is_err());
        assert_eq!(serde_json::to_string(&Secret::from("sk-1")).unwrap(), "\"[secret]\"");
    }
}

//! A JSON Schema as a file has it: in line, or in a file of its own beside that.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema as FormSchema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use super::check::Rule;
use super::error::What;
use super::load::ReadFile;
use super::print::fits;
use super::source::Source;
use crate::schema::Schema;

/// A JSON Schema as it is written: in line as a table, in line as JSON text, or in a file.
#[derive(Clone, Debug, PartialEq)]
pub enum SchemaSource {
    /// A table.
    Table(Map<String, Value>),
    /// JSON text, for what a table cannot hold (`null`, and schemas that are just true or false).
    Json(String),
    /// A file in the agent's folder.
    File(String),
}

impl SchemaSource {
    /// Reads the schema that stands at `pointer` of `source`, adding a problem if it cannot be used.
    pub(crate) fn load(
        self,
        pointer: &str,
        source: &mut Source<'_>,
        read: ReadFile<'_>,
    ) -> Option<Schema> {
        let raw = match self {
            Self::Table(members) => Ok(Value::Object(members)),
            Self::Json(text) => json(None, &text),
            Self::File(file) => in_file(&file, read),
        };
        raw.and_then(|raw| Schema::new(raw).map_err(|error| Rule::from(error).into()))
            .map_err(|what| source.add_at(pointer, what))
            .ok()
    }
}

fn in_file(file: &str, read: ReadFile<'_>) -> Result<Value, What> {
    let inside = !file.starts_with(['/', '\\']) && !file.contains(':');
    if !inside || file.split(['/', '\\']).any(|part| part == "..") {
        return Err(What::SchemaPath { file: file.to_owned() });
    }
    let text = read(file)
        .map_err(|error| What::SchemaFile { file: file.to_owned(), message: error.to_string() })?;
    json(Some(file), &text)
}

fn json(file: Option<&str>, text: &str) -> Result<Value, What> {
    serde_json::from_str(text).map_err(|error| What::SchemaText {
        file: file.map(str::to_owned),
        message: error.to_string(),
    })
}

impl From<&Value> for SchemaSource {
    fn from(schema: &Value) -> Self {
        if let Value::Object(members) = schema
            && fits(schema).is_ok()
        {
            return Self::Table(members.clone());
        }
        Self::Json(schema.to_string())
    }
}

impl Serialize for SchemaSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Table(members) => members.serialize(serializer),
            Self::Json(text) | Self::File(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for SchemaSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = SchemaSource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON Schema as a table, or the name of its file")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SchemaSource, E> {
                let json = matches!(text, "true" | "false") || text.trim_start().starts_with('{');
                let text = text.to_owned();
                Ok(if json { SchemaSource::Json(text) } else { SchemaSource::File(text) })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<SchemaSource, A::Error> {
                Map::deserialize(de::value::MapAccessDeserializer::new(map))
                    .map(SchemaSource::Table)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for SchemaSource {
    fn schema_name() -> Cow<'static, str> {
        "SchemaSource".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> FormSchema {
        json_schema!({
            "description": "A JSON Schema: a table, or the name of a file in the agent's folder.",
            "type": ["object", "string"],
        })
    }
}

//! The instructions of an agent: parts in order, each a template or a function of the service.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::names::PromptName;
use crate::prompt::Template;

/// One part of an agent's instructions, worked out anew for each run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// A template, which may be plain text.
    Text(Template),
    /// What the Rust function gives that the service registered under this name.
    Rust(PromptName),
}

/// The instructions as a file has them: a text, or a list of texts and functions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstructionsFile(pub Vec<InstructionFile>);

/// One part of the instructions as a file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum InstructionFile {
    /// A minijinja template.
    Text(String),
    /// A function of the service.
    Rust(RustInstruction),
}

/// A function of the service that gives instructions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RustInstruction {
    /// The function, as the service registered it.
    pub rust: PromptName,
}

impl InstructionsFile {
    /// Returns where the part `index` stands below the instructions, as a JSON pointer.
    #[must_use]
    pub fn pointer(&self, index: usize) -> String {
        match self.0.as_slice() {
            [InstructionFile::Text(_)] => String::new(),
            _ => format!("/{index}"),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&[Instruction]> for InstructionsFile {
    fn from(parts: &[Instruction]) -> Self {
        let part = |part: &Instruction| match part {
            Instruction::Text(template) => InstructionFile::Text(template.source().to_owned()),
            Instruction::Rust(rust) => {
                InstructionFile::Rust(RustInstruction { rust: rust.clone() })
            }
        };
        Self(parts.iter().map(part).collect())
    }
}

impl<'de> Deserialize<'de> for InstructionFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = InstructionFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or { rust = \"function\" }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<InstructionFile, E> {
                Ok(InstructionFile::Text(text.to_owned()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<InstructionFile, A::Error> {
                RustInstruction::deserialize(de::value::MapAccessDeserializer::new(map))
                    .map(InstructionFile::Rust)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for InstructionsFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [InstructionFile::Text(text)] => serializer.serialize_str(text),
            parts => parts.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for InstructionsFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = InstructionsFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or a list of texts and { rust = \"function\" }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<InstructionsFile, E> {
                Ok(InstructionsFile(vec![InstructionFile::Text(text.to_owned())]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(
                self,
                parts: A,
            ) -> Result<InstructionsFile, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(parts)).map(InstructionsFile)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for InstructionsFile {
    fn schema_name() -> Cow<'static, str> {
        "Instructions".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rust = generator.subschema_for::<RustInstruction>();
        let part = json_schema!({ "anyOf": [{ "type": "string" }, rust] });
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": part }] })
    }
}

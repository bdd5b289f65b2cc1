//! The forms in which files write conditions, expressions, and what happens after a failure.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use crate::flow::plan::{Balance, Join};
use crate::spec::{AgentName, PromptName, SchemaSource};

const FAIL: &str = "fail";
const SKIP: &str = "skip";

/// An expression or a template of minijinja, or a function of the service that gives the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ScriptFile {
    /// The expression or template.
    Text(String),
    /// The function.
    Rust(RustFunction),
}

/// A function of the service, written `{ rust = "name" }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RustFunction {
    /// The function, as the service registered it.
    pub rust: PromptName,
}

/// A condition: an expression of minijinja, or a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ConditionFile {
    /// The expression.
    Text(String),
    /// The table.
    Table(ConditionTable),
}

/// A condition as a table: exactly one of `matches`, `equals` and `schema`, which test a part of the
/// message, and `rust`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConditionTable {
    /// The part of the message that is tested, as a JSON pointer (the whole).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = "^(/|$)"))]
    pub pointer: Option<String>,
    /// A regular expression that has to match somewhere in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
    /// What it has to be equal to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub equals: Option<Value>,
    /// The JSON Schema that it has to fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaSource>,
    /// The function of the service that says whether it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rust: Option<PromptName>,
}

/// Until when a step is made again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepeatFile {
    /// What has to hold of its `last` output.
    pub until: ConditionFile,
    /// How often it is made at most; then the last output stands.
    #[schemars(range(max = 100))]
    pub at_most: NonZeroU32,
}

/// Several that do the same, one of which is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BalancedFile {
    /// By which rule.
    pub by: Balance,
    /// Which: agents, routers and pipelines.
    #[schemars(length(min = 1, max = 64))]
    pub of: Vec<AgentName>,
}

/// What happens after a failure: `fail`, `skip`, or the names of those who are asked instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnFailureFile {
    /// Whatever holds it fails, too.
    #[default]
    Fail,
    /// It is left out.
    Skip,
    /// These are asked, one after the other.
    Ask(Vec<AgentName>),
}

impl OnFailureFile {
    pub(in crate::flow) fn is_fail(&self) -> bool {
        *self == Self::Fail
    }
}

impl Serialize for OnFailureFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fail => serializer.serialize_str(FAIL),
            Self::Skip => serializer.serialize_str(SKIP),
            Self::Ask(names) => match names.as_slice() {
                [one] if one.as_str() != FAIL && one.as_str() != SKIP => one.serialize(serializer),
                names => names.serialize(serializer),
            },
        }
    }
}

impl<'de> Deserialize<'de> for OnFailureFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = OnFailureFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"fail\", \"skip\", a name, or a list of names")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OnFailureFile, E> {
                match text {
                    FAIL => Ok(OnFailureFile::Fail),
                    SKIP => Ok(OnFailureFile::Skip),
                    name => {
                        let name = AgentName::try_from(name).map_err(E::custom)?;
                        Ok(OnFailureFile::Ask(vec![name]))
                    }
                }
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, names: A) -> Result<OnFailureFile, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(names))
                    .map(OnFailureFile::Ask)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for OnFailureFile {
    fn schema_name() -> Cow<'static, str> {
        "OnFailure".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = generator.subschema_for::<AgentName>();
        json_schema!({
            "description": "`fail`, `skip`, or those who are asked instead; `human` is a person.",
            "anyOf": [name.clone(), { "type": "array", "items": name, "minItems": 1 }],
        })
    }
}

impl Serialize for Join {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::First => serializer.serialize_str("first"),
            Self::Quorum(need) => need.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Join {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Join;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"all\", \"first\", or how many are waited for, from 1")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Join, E> {
                match text {
                    "all" => Ok(Join::All),
                    "first" => Ok(Join::First),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }

            fn visit_i64<E: de::Error>(self, need: i64) -> Result<Join, E> {
                let found = u32::try_from(need).ok().and_then(NonZeroU32::new);
                let refused = || E::invalid_value(de::Unexpected::Signed(need), &self);
                found.map(Join::Quorum).ok_or_else(refused)
            }

            fn visit_u64<E: de::Error>(self, need: u64) -> Result<Join, E> {
                let found = u32::try_from(need).ok().and_then(NonZeroU32::new);
                let refused = || E::invalid_value(de::Unexpected::Unsigned(need), &self);
                found.map(Join::Quorum).ok_or_else(refused)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Join {
    fn schema_name() -> Cow<'static, str> {
        "Join".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "`all`, the `first` that succeeds, or so many.",
            "anyOf": [{ "enum": ["all", "first"] }, { "type": "integer", "minimum": 1 }],
        })
    }
}

impl<'de> Deserialize<'de> for ScriptFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = ScriptFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or { rust = \"function\" }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ScriptFile, E> {
                Ok(ScriptFile::Text(text.to_owned()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<ScriptFile, A::Error> {
                RustFunction::deserialize(de::value::MapAccessDeserializer::new(map))
                    .map(ScriptFile::Rust)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for ScriptFile {
    fn schema_name() -> Cow<'static, str> {
        "Script".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rust = generator.subschema_for::<RustFunction>();
        json_schema!({ "anyOf": [{ "type": "string" }, rust] })
    }
}

impl<'de> Deserialize<'de> for ConditionFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = ConditionFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an expression, or a table like { pointer = \"/kind\", equals = 1 }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ConditionFile, E> {
                Ok(ConditionFile::Text(text.to_owned()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<ConditionFile, A::Error> {
                ConditionTable::deserialize(de::value::MapAccessDeserializer::new(map))
                    .map(ConditionFile::Table)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for ConditionFile {
    fn schema_name() -> Cow<'static, str> {
        "Condition".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<ConditionTable>();
        json_schema!({ "anyOf": [{ "type": "string" }, table] })
    }
}

//! The answer of an agent: plain text, or a value of a schema.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::check::{Broke, Rule};
use super::names::ToolName;
use crate::json::RawJson;
use crate::schema::{Schema, WRAPPED};

/// The answer of an agent.
///
/// Models are asked for objects only. Where the schema is of anything else, they are asked for
/// `{"value": …}` ([`OutputSpec::wire_schema`]), and what is inside is the output
/// ([`OutputSpec::unwrap`]): nobody but the model sees the object around it.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputSpec {
    /// How the model is made to give it.
    pub mode: OutputMode,
    /// The schema that it is held to; none for [`OutputMode::Text`], and only for that.
    pub schema: Option<Schema>,
    /// The name of the output, for the model.
    pub name: Option<ToolName>,
    /// What the output is, for the model.
    pub description: Option<String>,
    /// Whether the provider is to enforce the schema while it generates.
    pub strict: Option<bool>,
}

/// How the model is made to give its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputMode {
    /// However the model does it best.
    #[default]
    Auto,
    /// By calling a tool whose arguments are the output.
    Tool,
    /// By the provider's own structured output.
    Native,
    /// By asking for it in the prompt.
    Prompted,
    /// As plain text, of no schema.
    Text,
}

impl OutputSpec {
    /// Makes an output that is held to `schema`, with every other property at its default.
    #[must_use]
    pub fn new(schema: Schema) -> Self {
        Self { mode: OutputMode::Auto, schema: Some(schema), ..Self::text() }
    }

    /// Makes an output that is plain text.
    #[must_use]
    pub fn text() -> Self {
        Self { mode: OutputMode::Text, schema: None, name: None, description: None, strict: None }
    }

    /// Returns the same output, given in another way.
    #[must_use]
    pub fn with_mode(mut self, mode: OutputMode) -> Self {
        self.mode = mode;
        self
    }

    /// Returns whether the model is asked for `{"value": …}` around the output.
    #[must_use]
    pub fn is_wrapped(&self) -> bool {
        self.schema.as_ref().is_some_and(|schema| !schema.is_object())
    }

    /// Returns the schema that the model is asked by, which is of an object; none for plain text.
    #[must_use]
    pub fn wire_schema(&self) -> Option<Value> {
        let schema = self.schema.as_ref()?;
        Some(if schema.is_object() { schema.raw().clone() } else { schema.wrapped() })
    }

    /// Returns the output in what the model `said`.
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`] if the object around it is missing.
    pub fn unwrap<'s>(&self, said: &'s RawJson) -> Result<Cow<'s, RawJson>, serde_json::Error> {
        if !self.is_wrapped() {
            return Ok(Cow::Borrowed(said));
        }
        let mut members: BTreeMap<String, RawJson> = said.decode()?;
        let value = members.remove(WRAPPED).ok_or_else(|| Error::missing_field(WRAPPED))?;
        Ok(Cow::Owned(value))
    }

    /// Returns the output in what the model has `said` so far, if it has come to it.
    #[must_use]
    pub fn unwrap_partial<'s>(&self, said: &'s RawJson) -> Option<Cow<'s, RawJson>> {
        self.unwrap(said).ok()
    }

    /// Checks the rules that the types do not express.
    pub(super) fn check(&self, broken: &mut Broke) {
        if self.mode != OutputMode::Text {
            if self.schema.is_none() {
                broken.add("/output", Rule::NoOutputSchema);
            }
            if let Some(Err(error)) = self.wire_schema().map(Schema::on_the_wire) {
                broken.add("/output/schema", error);
            }
            return;
        }
        let said = [
            ("schema", self.schema.is_some()),
            ("name", self.name.is_some()),
            ("description", self.description.is_some()),
            ("strict", self.strict.is_some()),
        ];
        for (key, _) in said.into_iter().filter(|(_, said)| *said) {
            broken.add(format!("/output/{key}"), Rule::TextOutput { key });
        }
    }
}

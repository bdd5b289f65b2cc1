//! What expressions, templates and functions see at one place of a flow.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::value::Serde;
use serde_json::Value;

use super::advance::{Functions, Message};
use super::expression::ExpressionError;
use crate::spec::PromptName;

/// What is known at one place. Cheap to clone.
#[derive(Clone)]
pub(super) struct Scope<'a> {
    functions: &'a dyn Functions,
    input: Arc<Value>,
    /// What came before: what is asked where nothing else is said.
    previous: Arc<Value>,
    names: BTreeMap<String, minijinja::Value>,
}

impl<'a> Scope<'a> {
    /// Returns what is known at the beginning.
    pub(super) fn new(message: &Message, functions: &'a dyn Functions) -> Self {
        let input = Arc::new(structured(&message.prompt));
        let previous = Arc::new(message.prompt.clone());
        let mut scope = Self { functions, input: input.clone(), previous, names: BTreeMap::new() };
        scope.bind("input", &input);
        scope.bind("prompt", &message.prompt);
        scope.bind("deps", &message.deps);
        scope.bind("failures", &Value::Array(Vec::new()));
        scope
    }

    /// Makes `value` known as `name`.
    pub(super) fn bind(&mut self, name: &str, value: &Value) {
        self.names.insert(name.to_owned(), minijinja::Value::from(Serde(value)));
    }

    /// Says what came before.
    pub(super) fn follow(&mut self, previous: Value) {
        self.bind("previous", &previous);
        self.previous = Arc::new(previous);
    }

    pub(super) fn previous(&self) -> &Value {
        &self.previous
    }

    pub(super) fn input(&self) -> &Value {
        &self.input
    }

    pub(super) fn values(&self) -> minijinja::Value {
        self.names.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    pub(super) fn call(&self, name: &PromptName) -> Result<Value, ExpressionError> {
        self.functions
            .call(name, &self.previous)
            .map_err(|message| ExpressionError { source_text: format!("rust {name}"), message })
    }
}

/// Returns a message as the value that its text is, where that is an object or a list.
fn structured(prompt: &Value) -> Value {
    let Value::String(text) = prompt else { return prompt.clone() };
    if !text.trim_start().starts_with(['{', '[']) {
        return prompt.clone();
    }
    let parsed = crate::json::RawJson::parse(text).ok().and_then(|raw| raw.decode().ok());
    parsed.unwrap_or_else(|| prompt.clone())
}

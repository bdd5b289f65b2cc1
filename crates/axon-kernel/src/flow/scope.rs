//! What expressions, templates and functions see at one place of a flow.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::advance::{Functions, Message, NoFunctions};
use super::expression::ExpressionError;
use super::known::Known;
use crate::spec::PromptName;

/// What is known at one place. Cheap to clone.
#[derive(Clone)]
pub(super) struct Scope<'a> {
    functions: &'a dyn Functions,
    input: Arc<Value>,
    message: Arc<Value>,
    /// What came before: what is asked where nothing else is said.
    previous: Arc<Value>,
    /// What failed before and was left out.
    failures: Vec<Value>,
    names: BTreeMap<Arc<str>, Known>,
    /// This place was reached as soon as so many calls had settled.
    since: usize,
}

impl<'a> Scope<'a> {
    /// Returns what is known at the beginning.
    pub(super) fn new(message: &Message, functions: &'a dyn Functions) -> Self {
        let mut scope = Self { functions, ..Scope::empty() };
        scope.input = Arc::new(structured(&message.prompt));
        scope.message = Arc::new(message.prompt.clone());
        scope.previous = scope.message.clone();
        scope.bind("input", &scope.input.clone());
        scope.bind("prompt", &message.prompt);
        scope.bind("previous", &message.prompt);
        scope.bind("deps", &message.deps);
        scope.bind("failures", &Value::Array(Vec::new()));
        scope
    }

    /// Returns a place at which nothing is known.
    pub(super) fn empty() -> Scope<'static> {
        Scope {
            functions: &NoFunctions,
            input: Arc::default(),
            message: Arc::default(),
            previous: Arc::default(),
            failures: Vec::new(),
            names: BTreeMap::new(),
            since: 0,
        }
    }

    /// Makes `value` known as `name`.
    pub(super) fn bind(&mut self, name: &str, value: &Value) {
        self.know(name, Known::from(value));
    }

    /// Makes `known` known as `name`.
    pub(super) fn know(&mut self, name: &str, known: Known) {
        self.names.insert(name.into(), known);
    }

    /// Says what came before.
    pub(super) fn follow(&mut self, previous: Value) {
        self.bind("previous", &previous);
        self.previous = Arc::new(previous);
    }

    /// Says what else failed before and was left out.
    pub(super) fn add_failures(&mut self, failures: Vec<Value>) {
        if !failures.is_empty() {
            self.failures.extend(failures);
            self.know("failures", Known::from(&Value::Array(self.failures.clone())));
        }
    }

    /// Says that this place was not reached before so many calls had settled.
    pub(super) fn reach(&mut self, since: usize) {
        self.since = self.since.max(since);
    }

    /// Returns how many calls had settled when this place was reached.
    pub(super) fn since(&self) -> usize {
        self.since
    }

    pub(super) fn previous(&self) -> &Value {
        &self.previous
    }

    pub(super) fn message(&self) -> &Value {
        &self.message
    }

    pub(super) fn input(&self) -> &Value {
        &self.input
    }

    pub(super) fn values(&self) -> minijinja::Value {
        let names = self.names.iter().map(|(name, known)| (name.clone(), known.0.clone()));
        minijinja::Value::from(names.collect::<BTreeMap<_, _>>())
    }

    pub(super) fn call(&self, name: &PromptName) -> Result<Value, ExpressionError> {
        self.functions
            .call(name, &self.message, &self.previous)
            .map_err(|message| ExpressionError { source_text: format!("rust {name}"), message })
    }
}

/// Returns a message as the value that its text is, where that is an object or a list.
pub(super) fn structured(prompt: &Value) -> Value {
    let Value::String(text) = prompt else { return prompt.clone() };
    if !text.trim_start().starts_with(['{', '[']) {
        return prompt.clone();
    }
    let parsed = crate::json::RawJson::parse(text).ok().and_then(|raw| raw.decode().ok());
    parsed.unwrap_or_else(|| prompt.clone())
}

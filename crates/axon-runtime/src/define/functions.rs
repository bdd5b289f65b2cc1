//! Rust functions that are steps of routers and pipelines.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use axon_kernel::flow::Functions;
use axon_kernel::spec::PromptName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::tools::ToolError;

type Function = Arc<dyn Fn(&Value, Value) -> Result<Value, String> + Send + Sync>;

/// The functions by name. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct StepFunctions(Arc<BTreeMap<PromptName, Function>>);

impl StepFunctions {
    /// Adds `function`, in place of one of the same name.
    pub(crate) fn add<I, A, B, F>(&mut self, name: PromptName, function: F)
    where
        I: DeserializeOwned,
        A: DeserializeOwned,
        B: Serialize,
        F: Fn(&mut dyn FnMut() -> Result<I, ToolError>, A) -> Result<B, ToolError>
            + Send
            + Sync
            + 'static,
    {
        let called = move |message: &Value, previous: Value| {
            let previous = read(previous).map_err(|error| error.chain())?;
            let output = function(&mut || read(message.clone()), previous);
            let output = output.map_err(|error| error.chain())?;
            serde_json::to_value(output).map_err(|error| format!("its output is no JSON: {error}"))
        };
        Arc::make_mut(&mut self.0).insert(name, Arc::new(called));
    }

    /// Takes in what `of_all` has and these have not.
    pub(crate) fn take_in(&mut self, of_all: &Self) {
        for (name, function) in of_all.0.iter() {
            if !self.has(name) {
                Arc::make_mut(&mut self.0).insert(name.clone(), function.clone());
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn has(&self, name: &PromptName) -> bool {
        self.0.contains_key(name)
    }
}

/// Reads a value as a function takes it; a text may hold it as JSON, as messages do.
fn read<T: DeserializeOwned>(value: Value) -> Result<T, ToolError> {
    let error = match T::deserialize(&value) {
        Ok(read) => return Ok(read),
        Err(error) => error,
    };
    let text = value.as_str().and_then(|text| serde_json::from_str(text).ok());
    text.ok_or_else(|| ToolError::Broken(format!("it takes no such value: {error}").into()))
}

/// The functions of one flow, and those that the service has for all.
pub(crate) struct Both<'a>(pub(crate) &'a StepFunctions, pub(crate) &'a StepFunctions);

impl Functions for Both<'_> {
    fn call(&self, name: &PromptName, message: &Value, previous: &Value) -> Result<Value, String> {
        let function = self.0.0.get(name).or_else(|| self.1.0.get(name));
        let function = function.ok_or_else(|| format!("no function is registered as `{name}`"))?;
        let called = catch_unwind(AssertUnwindSafe(|| function(message, previous.clone())));
        called.unwrap_or_else(|panic| {
            Err(format!("it panicked: {}", crate::panics::message(panic.as_ref())))
        })
    }
}

impl fmt::Debug for StepFunctions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

//! Tools that the service itself brings: called in its process, beside the store.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axon_kernel::ids::{Attempt, RunId, ToolCallId};
use axon_kernel::json::RawJson;
use axon_kernel::spec::ToolName;
use axon_kernel::store::Write;
use serde_json::Value;

/// What a tool is called with.
#[derive(Clone, Debug)]
pub struct ToolCall {
    /// The run.
    pub run_id: RunId,
    /// The attempt.
    pub attempt: Attempt,
    /// The call, as the model named it.
    pub tool_call_id: ToolCallId,
    /// The same over all attempts of the run: give it to foreign systems that know such keys.
    pub idempotency_key: String,
    /// The arguments, as the tool's schema wants them.
    pub args: RawJson,
    /// What the caller of the run gave to tools.
    pub deps: Option<RawJson>,
}

/// What a tool answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolReply {
    /// What the model is told that it returned.
    pub result: Value,
    /// What is written together with the result, in one transaction of the store: both are there,
    /// or neither. So a tool that does nothing else is `pure`, however often its call is repeated:
    /// its writes are made exactly once. They need a store on a database.
    pub writes: Vec<Write>,
}

impl From<Value> for ToolReply {
    fn from(result: Value) -> Self {
        Self { result, writes: Vec::new() }
    }
}

/// Why a tool gave no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// The model shall call again, better.
    #[error("{0}")]
    Retry(String),
    /// The model is told that the call failed.
    #[error("{0}")]
    Failed(String),
    /// The attempt ends.
    #[error("{0}")]
    Broken(String),
}

type ToolFuture = Pin<Box<dyn Future<Output = Result<ToolReply, ToolError>> + Send>>;

type Function = dyn Fn(ToolCall) -> ToolFuture + Send + Sync;

/// The tools that a service has registered, by name. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Tools(Arc<BTreeMap<ToolName, Arc<Function>>>);

impl fmt::Debug for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Tools {
    pub(crate) fn add<F, R>(&mut self, name: ToolName, function: F)
    where
        F: Fn(ToolCall) -> R + Send + Sync + 'static,
        R: Future<Output = Result<ToolReply, ToolError>> + Send + 'static,
    {
        let boxed = move |call| -> ToolFuture { Box::pin(function(call)) };
        Arc::make_mut(&mut self.0).insert(name, Arc::new(boxed));
    }

    pub(crate) fn has(&self, name: &ToolName) -> bool {
        self.0.contains_key(name)
    }

    /// Calls a tool, if there is one of this name.
    pub(crate) fn call(&self, name: &ToolName, call: ToolCall) -> Option<ToolFuture> {
        self.0.get(name).map(|function| function(call))
    }
}

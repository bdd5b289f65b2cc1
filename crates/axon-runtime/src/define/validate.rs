//! Validators: what an answer has to keep besides its schema, said in Rust.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use axon_kernel::ids::RunId;
use axon_kernel::json::RawJson;
use axon_kernel::spec::AgentName;
use serde_json::Value;

use super::Output;
use crate::run::Given;
use crate::tools::{AnyDeps, FromDeps, ToolError};

/// Why an answer is not taken. The model is told, and asked again within `retries.output`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Reject(String);

impl Reject {
    /// Rejects an answer; `why` is what the model is told.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl From<&str> for Reject {
    fn from(why: &str) -> Self {
        Self::new(why)
    }
}

impl From<String> for Reject {
    fn from(why: String) -> Self {
        Self::new(why)
    }
}

/// What a validator knows of the run whose answer it looks at.
#[derive(Clone, Debug)]
pub struct OutputContext<D = AnyDeps> {
    deps: D,
    known: Known,
}

/// What is known of an answer that is to be looked at.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) run_id: RunId,
    pub(crate) agent: AgentName,
    pub(crate) deps: Given,
    pub(crate) retry: u32,
    pub(crate) max_retries: u32,
}

impl<D> OutputContext<D> {
    /// Returns what the caller of the run gave.
    #[must_use]
    pub fn deps(&self) -> &D {
        &self.deps
    }

    /// Returns the run.
    #[must_use]
    pub fn run_id(&self) -> &RunId {
        &self.known.run_id
    }

    /// Returns the agent.
    #[must_use]
    pub fn agent(&self) -> &AgentName {
        &self.known.agent
    }

    /// Returns how often the model was asked to correct its answer so far.
    #[must_use]
    pub fn retry(&self) -> u32 {
        self.known.retry
    }

    /// Returns how often it may be asked to.
    #[must_use]
    pub fn max_retries(&self) -> u32 {
        self.known.max_retries
    }
}

type Function = dyn Fn(&Value, &Known) -> Result<(), ToolError> + Send + Sync;

/// The validators of an agent, in order. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Validators(Vec<Arc<Function>>);

impl Validators {
    pub(crate) fn add<D, O, F>(&mut self, validate: F)
    where
        D: FromDeps,
        O: Output,
        F: Fn(&O, &OutputContext<D>) -> Result<(), Reject> + Send + Sync + 'static,
    {
        let function = move |output: &Value, known: &Known| -> Result<(), ToolError> {
            let read = RawJson::from(output).read();
            let output: O = read.map_err(|error| ToolError::Retry(error.to_string()))?;
            let deps = D::from_deps(known.deps.whole())?;
            let context = OutputContext { deps, known: known.clone() };
            validate(&output, &context).map_err(|Reject(why)| ToolError::Retry(why))
        };
        self.0.push(Arc::new(function));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Asks one after the other. The panic of one is its failure.
    pub(crate) fn check(&self, output: &Value, known: &Known) -> Result<(), ToolError> {
        let checked =
            AssertUnwindSafe(|| self.0.iter().try_for_each(|validate| validate(output, known)));
        catch_unwind(checked).unwrap_or_else(|panic| {
            let message = crate::panics::message(panic.as_ref());
            Err(ToolError::Broken(format!("a validator panicked: {message}").into()))
        })
    }
}

impl fmt::Debug for Validators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} validators", self.0.len())
    }
}

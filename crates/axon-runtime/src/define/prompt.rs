//! Instructions that a Rust function gives, anew for each run.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use axon_kernel::ids::{ConversationId, RunId};
use axon_kernel::json::RawJson;
use axon_kernel::spec::{AgentName, PromptName};
use futures_util::FutureExt;

use crate::run::Given;
use crate::tools::{AnyDeps, FromDeps, Provided, ToolError};

/// What a prompt function is called with.
#[derive(Clone, Debug)]
pub(crate) struct PromptCall {
    pub(crate) agent: AgentName,
    pub(crate) run_id: RunId,
    pub(crate) conversation: Option<ConversationId>,
    pub(crate) prompt: RawJson,
    pub(crate) deps: Given,
    pub(crate) provided: Provided,
}

/// What a prompt function knows of the run that it gives instructions for.
#[derive(Clone, Debug)]
pub struct PromptContext<D = AnyDeps> {
    call: PromptCall,
    deps: D,
}

impl<D> PromptContext<D> {
    /// Returns what the caller of the run gave.
    #[must_use]
    pub fn deps(&self) -> &D {
        &self.deps
    }

    /// Returns the service of type `T`: whatever the agent or the runtime was given by
    /// `.service(…)`.
    ///
    /// # Errors
    ///
    /// [`ToolError::Broken`] if none was given.
    pub fn service<T: Send + Sync + 'static>(&self) -> Result<Arc<T>, ToolError> {
        self.call.provided.get()
    }

    /// Returns the agent.
    #[must_use]
    pub fn agent(&self) -> &AgentName {
        &self.call.agent
    }

    /// Returns the run.
    #[must_use]
    pub fn run_id(&self) -> &RunId {
        &self.call.run_id
    }

    /// Returns the conversation that the run is a turn of.
    #[must_use]
    pub fn conversation(&self) -> Option<&ConversationId> {
        self.call.conversation.as_ref()
    }

    /// Returns what the agent is asked: text, or a list of pydantic-ai's content parts.
    #[must_use]
    pub fn prompt(&self) -> &RawJson {
        &self.call.prompt
    }
}

/// What a prompt function can return: text, text or nothing, or either unless it fails.
pub trait IntoInstructions {
    /// Returns the instructions, if there are any.
    ///
    /// # Errors
    ///
    /// [`ToolError`] as the function gave it; the run is refused.
    fn into_instructions(self) -> Result<Option<String>, ToolError>;
}

impl IntoInstructions for String {
    fn into_instructions(self) -> Result<Option<String>, ToolError> {
        Ok(Some(self))
    }
}

impl IntoInstructions for &str {
    fn into_instructions(self) -> Result<Option<String>, ToolError> {
        Ok(Some(self.to_owned()))
    }
}

impl<T: IntoInstructions> IntoInstructions for Option<T> {
    fn into_instructions(self) -> Result<Option<String>, ToolError> {
        self.map_or(Ok(None), T::into_instructions)
    }
}

impl<T: IntoInstructions, E: Into<ToolError>> IntoInstructions for Result<T, E> {
    fn into_instructions(self) -> Result<Option<String>, ToolError> {
        self.map_err(Into::into)?.into_instructions()
    }
}

type PromptFuture = Pin<Box<dyn Future<Output = Result<Option<String>, ToolError>> + Send>>;

type Function = dyn Fn(PromptCall) -> PromptFuture + Send + Sync;

/// The prompt functions that there are, by name. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Prompts(Arc<BTreeMap<PromptName, Arc<Function>>>);

impl Prompts {
    pub(crate) fn add<D, F, U, T>(&mut self, name: PromptName, function: F)
    where
        D: FromDeps,
        F: Fn(PromptContext<D>) -> U + Send + Sync + 'static,
        U: Future<Output = T> + Send + 'static,
        T: IntoInstructions,
    {
        let function = Arc::new(function);
        let called = move |call: PromptCall| -> PromptFuture {
            let function = function.clone();
            Box::pin(async move {
                let deps = D::from_deps(call.deps.whole())?;
                function(PromptContext { call, deps }).await.into_instructions()
            })
        };
        Arc::make_mut(&mut self.0).insert(name, Arc::new(called));
    }

    /// Takes in the functions of `others` whose names are free.
    pub(crate) fn take_in(&mut self, others: &Self) {
        let functions = Arc::make_mut(&mut self.0);
        for (name, function) in others.0.iter() {
            functions.entry(name.clone()).or_insert_with(|| function.clone());
        }
    }

    pub(crate) fn has(&self, name: &PromptName) -> bool {
        self.0.contains_key(name)
    }

    /// Calls the function `name`, whose panic is its failure.
    pub(crate) async fn call(
        &self,
        name: &PromptName,
        call: PromptCall,
    ) -> Result<Option<String>, ToolError> {
        let Some(function) = self.0.get(name) else {
            let message = format!("no prompt function is registered as `{name}`");
            return Err(ToolError::Broken(message.into()));
        };
        let called = AssertUnwindSafe(async move { function(call).await });
        let told = called.catch_unwind().await;
        told.unwrap_or_else(|panic| {
            let message = format!("it panicked: {}", crate::panics::message(panic.as_ref()));
            Err(ToolError::Broken(message.into()))
        })
    }
}

impl fmt::Debug for Prompts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

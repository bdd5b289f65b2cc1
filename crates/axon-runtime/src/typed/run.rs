//! A run in the types that its agent was defined in.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use axon_kernel::ids::ConversationId;
use axon_kernel::spec::ModelName;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Answer, RunError};
use crate::budget::Budget;
use crate::run::{Refusal, RunBuilder, RunHandle};

/// A run that is being prepared, and made when it is awaited.
#[must_use = "a run is made when it is awaited"]
pub struct TypedRun<D, O> {
    run: Result<RunBuilder, Refusal>,
    types: PhantomData<fn(D) -> O>,
}

impl<D, O> TypedRun<D, O> {
    pub(super) fn new(run: Result<RunBuilder, Refusal>) -> Self {
        Self { run, types: PhantomData }
    }

    /// Prepares what has no method here.
    pub fn with(mut self, prepare: impl FnOnce(RunBuilder) -> RunBuilder) -> Self {
        self.run = self.run.map(prepare);
        self
    }

    /// Gives `deps` to the agent's tools and prompts.
    pub fn deps(self, deps: &D) -> Self
    where
        D: Serialize,
    {
        self.with(|run| run.deps(deps))
    }

    /// Makes the run a turn of `conversation`.
    pub fn conversation(self, conversation: impl Into<ConversationId>) -> Self {
        self.with(|run| run.conversation(conversation))
    }

    /// Has the run carry `state`, an object that its tools read and change.
    pub fn state<S: Serialize + ?Sized>(self, state: &S) -> Self {
        self.with(|run| run.state(state))
    }

    /// Asks another model than the agent's own.
    pub fn model(self, model: ModelName) -> Self {
        self.with(|run| run.model(model))
    }

    /// Takes what the run uses out of `budget`.
    pub fn budget(self, budget: &Budget) -> Self {
        self.with(|run| run.budget(budget))
    }

    /// Gives the run this long, from its acceptance on.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|run| run.timeout(timeout))
    }

    /// Starts the run, and returns when it is accepted: its handle shows what it does, and
    /// [`RunOutcome::answer`](crate::RunOutcome::answer) reads what comes of it.
    ///
    /// # Errors
    ///
    /// [`Refusal`] as for [`RunBuilder::start`].
    pub async fn start(self) -> Result<RunHandle, Refusal> {
        self.run?.start().await
    }
}

impl<D: 'static, O: DeserializeOwned + Send + 'static> IntoFuture for TypedRun<D, O> {
    type Output = Result<Answer<O>, RunError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let run = self.run;
        Box::pin(async move { run?.wait().await?.answer() })
    }
}

impl<D, O> fmt::Debug for TypedRun<D, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedRun").field(&self.run).finish()
    }
}

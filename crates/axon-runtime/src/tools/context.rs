//! What one call of a tool knows.

use std::sync::Arc;
use std::time::Duration;

use axon_kernel::event::{RunEvent, ToolProgress};
use axon_kernel::ids::{Attempt, ConversationId, RunId, ToolCallId, idempotency_key};
use axon_kernel::json::RawJson;
use axon_kernel::spec::AgentName;
use axon_kernel::store::Write;
use axon_kernel::trace::TraceContext;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::call::{Call, Left};
use super::{AnyDeps, FromDeps, Provided, ToolError};
use crate::budget::Budget;
use crate::carried::Carried;
use crate::run::Given;

/// How long a call has that is made outside of any run.
const NO_RUN: Duration = Duration::from_secs(60 * 60);

/// What one call of a tool knows: the deps of its run, who calls, how long it has. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ToolContext<D = AnyDeps> {
    call: Arc<Call>,
    deps: Arc<D>,
    provided: Provided,
}

impl<D: FromDeps> ToolContext<D> {
    /// Reads the deps of a call.
    pub(crate) fn of(call: Arc<Call>) -> Result<Self, ToolError> {
        let deps = D::from_deps(call.deps.whole()).map_err(|error| {
            let (agent, why) = (&call.agent, call.deps.redact(&error.to_string()));
            ToolError::Broken(format!("the deps of agent `{agent}` do not fit: {why}").into())
        })?;
        let provided = call.provided.clone();
        Ok(Self { call, deps: Arc::new(deps), provided })
    }

    /// Makes the context of a call outside of any run, for a test of the tool itself.
    ///
    /// ```
    /// use axon_runtime::ToolContext;
    ///
    /// let ctx = ToolContext::detached(42_u32);
    /// assert_eq!(*ctx.deps(), 42);
    /// ```
    #[must_use]
    pub fn detached(deps: D) -> Self {
        let name = AgentName::try_from("detached").expect("it is a name");
        let call = Call {
            run_id: RunId::new("detached"),
            agent: name,
            tool: "detached".to_owned(),
            attempt: Attempt::FIRST,
            tool_call_id: ToolCallId::new("detached"),
            step: 0,
            args: RawJson::null(),
            deps: Given::default(),
            retry: 0,
            max_retries: 0,
            approved: false,
            deadline: Instant::now() + NO_RUN,
            conversation: None,
            traceparent: None,
            budget: Budget::unlimited(),
            cancelled: CancellationToken::new(),
            told: None,
            state: Carried::default(),
            provided: Provided::default(),
            left: std::sync::Mutex::new(Left::default()),
        };
        let provided = Provided::default();
        Self { call: Arc::new(call), deps: Arc::new(deps), provided }
    }
}

impl<D> ToolContext<D> {
    /// Returns what the caller of the run gave.
    #[must_use]
    pub fn deps(&self) -> &D {
        &self.deps
    }

    /// Gives a call outside of any run what [`AgentBuilder::service`](crate::AgentBuilder::service)
    /// gives to those of an agent.
    #[must_use]
    pub fn with_service<T: Send + Sync + 'static>(mut self, service: T) -> Self {
        self.provided.add(service);
        self
    }

    /// Returns the service of type `T`: the database, the client, whatever the agent or the runtime
    /// was given by `.service(…)`.
    ///
    /// # Errors
    ///
    /// [`ToolError::Broken`] if none was given.
    pub fn service<T: Send + Sync + 'static>(&self) -> Result<Arc<T>, ToolError> {
        self.provided.get()
    }

    /// Returns the run that makes the call.
    #[must_use]
    pub fn run_id(&self) -> &RunId {
        &self.call.run_id
    }

    /// Returns the agent whose tool is called.
    #[must_use]
    pub fn agent(&self) -> &AgentName {
        &self.call.agent
    }

    /// Returns the conversation that the run is a turn of.
    #[must_use]
    pub fn conversation(&self) -> Option<&ConversationId> {
        self.call.conversation.as_ref()
    }

    /// Returns the call, as the model named it.
    #[must_use]
    pub fn tool_call_id(&self) -> &ToolCallId {
        &self.call.tool_call_id
    }

    /// Returns the key of the call, the same over all attempts of the run and no other call's: give
    /// it to foreign systems that know such keys, and the call takes effect there once.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        idempotency_key(&self.call.run_id, self.call.step, &self.call.tool_call_id)
    }

    /// Returns the call's span, if the run stands in a trace: what the tool asks of others over HTTP
    /// names it in the header `traceparent`.
    #[must_use]
    pub fn traceparent(&self) -> Option<TraceContext> {
        self.call.traceparent
    }

    /// Returns the attempt of the run that makes the call.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        self.call.attempt
    }

    /// Returns how often the model was asked to correct its calls of this tool so far.
    #[must_use]
    pub fn retry(&self) -> u32 {
        self.call.retry
    }

    /// Returns how often it may be asked to.
    #[must_use]
    pub fn max_retries(&self) -> u32 {
        self.call.max_retries
    }

    /// Returns whether a person approved this call.
    #[must_use]
    pub fn approved(&self) -> bool {
        self.call.approved
    }

    /// Returns when the call has to have ended: it is called off then.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.call.deadline
    }

    /// Returns how long the call has still.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.call.deadline.saturating_duration_since(Instant::now())
    }

    /// Returns the budget of the run: whatever else the tool asks of models should be taken out of
    /// it, by [`RunBuilder::budget`](crate::RunBuilder::budget).
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.call.budget
    }

    /// Resolves when the call is called off, or its deadline has passed: it then has its agent's
    /// `cancel_grace` to end, and is dropped after that.
    pub async fn cancelled(&self) {
        self.call.cancelled.cancelled().await;
    }

    /// Returns whether the call was called off.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.call.cancelled.is_cancelled()
    }

    /// Tells whoever follows the run how far the call is. It is shown and not recorded; what comes
    /// faster than the run can show it is dropped, and counted (`axon_dropped_events_total`).
    ///
    /// # Errors
    ///
    /// [`ToolError::Broken`] if `progress` has no JSON form.
    pub fn emit<T: Serialize + ?Sized>(&self, progress: &T) -> Result<(), ToolError> {
        let data = RawJson::encode(progress)?;
        let Some(told) = &self.call.told else { return Ok(()) };
        let (tool_call_id, name) = (self.call.tool_call_id.clone(), self.call.tool.clone());
        let progress = RunEvent::ToolProgress(ToolProgress { tool_call_id, name, data });
        if let Err(TrySendError::Full(_)) = told.try_send(Box::new(progress)) {
            crate::meters::count(&axon_kernel::metric::DROPPED_EVENTS, 1);
        }
        Ok(())
    }

    /// Writes something in the store, in the same transaction in which the call's result is
    /// recorded: both are there, or neither. So a tool that does nothing else is `pure`, however
    /// often its call is repeated: what it writes is written exactly once. It needs a store on a
    /// database.
    pub fn write(&self, write: Write) {
        self.call.leave(|left| left.writes.push(write));
    }

    /// Reads the state that the run carries.
    ///
    /// # Errors
    ///
    /// [`ToolError::Broken`] if it is no `S`.
    pub fn state<S: DeserializeOwned>(&self) -> Result<S, ToolError> {
        Ok(self.call.state.read()?)
    }

    /// Changes the state that the run carries, and returns what `change` does. No other call of the
    /// run changes it meanwhile.
    ///
    /// The change is on record together with how this call ends, and stands however that is. A call
    /// that is lost with its runner and made again finds the state as it was before; one that asks
    /// for an approval should do so before it changes anything.
    ///
    /// # Errors
    ///
    /// [`ToolError::Broken`] if the state is no `S`, or `S` is no object in JSON.
    pub fn update_state<S, R>(&self, change: impl FnOnce(&mut S) -> R) -> Result<R, ToolError>
    where
        S: DeserializeOwned + Serialize,
    {
        let (returned, patch) = self.call.state.update(change)?;
        if !patch.is_empty() {
            self.call.leave(|left| left.patches.push(patch));
        }
        Ok(returned)
    }
}

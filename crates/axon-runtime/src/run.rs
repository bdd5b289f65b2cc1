//! A run: what a caller asks for, follows and gets.

mod attempt;
mod driver;
mod model_event;
mod outcome;
mod refusal;

pub(crate) use driver::Driver;
pub use outcome::{Outcome, RunOutcome};
pub use refusal::Refusal;

use std::sync::Arc;
use std::time::Duration;

use axon_kernel::event::Accepted;
use axon_kernel::ids::{ConversationId, RunId};
use axon_kernel::json::{MAX_PROMPT_BYTES, RawJson};
use axon_kernel::prompt::Context;
use axon_kernel::spec::ModelName;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::agent::AgentHandle;
use crate::log::{RunEvents, RunLog};

/// What an agent is asked: text, or a list of pydantic-ai's content parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt(RawJson);

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self(Value::from(text).into())
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self(Value::from(text).into())
    }
}

impl From<Value> for Prompt {
    fn from(parts: Value) -> Self {
        Self(parts.into())
    }
}

/// Everything about one run that does not change while it lasts.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) prompt: RawJson,
    pub(crate) deps: Option<RawJson>,
    pub(crate) conversation: Option<ConversationId>,
    pub(crate) history: Option<Vec<RawJson>>,
    pub(crate) model: Option<ModelName>,
    pub(crate) model_settings: Option<RawJson>,
    pub(crate) usage_limits: Map<String, Value>,
    pub(crate) timeout: Duration,
    pub(crate) metadata: Option<RawJson>,
    /// Whether somebody wants the events as they come.
    pub(crate) stream: bool,
    pub(crate) instructions: Option<String>,
}

/// A run that is being prepared.
#[derive(Debug)]
#[must_use = "a run starts with `start` or `wait`"]
pub struct RunBuilder {
    agent: AgentHandle,
    run_id: RunId,
    request: Request,
    invalid: Option<String>,
}

impl RunBuilder {
    pub(crate) fn new(agent: AgentHandle, prompt: Prompt) -> Self {
        let limits = &agent.spec().limits;
        let request = Request {
            prompt: prompt.0,
            deps: None,
            conversation: None,
            history: None,
            model: None,
            model_settings: None,
            usage_limits: limits.usage_limits(),
            timeout: limits.timeout,
            metadata: None,
            stream: true,
            instructions: None,
        };
        let run_id = RunId::new(uuid::Uuid::now_v7().to_string());
        Self { agent, run_id, request, invalid: None }
    }

    fn encode<T: Serialize + ?Sized>(&mut self, what: &str, value: &T) -> Option<RawJson> {
        let encoded = RawJson::encode(value);
        if let Err(error) = &encoded {
            self.invalid = Some(format!("{what} cannot be written as JSON: {error}"));
        }
        encoded.ok()
    }

    /// Gives `deps` to the agent's tools and prompts.
    pub fn deps<T: Serialize + ?Sized>(mut self, deps: &T) -> Self {
        self.request.deps = self.encode("deps", deps);
        self
    }

    /// Makes the run a turn of `conversation`: it continues that history, and joins it when it
    /// succeeds. Of turns that run at the same time the first to end joins; the others then fail
    /// as `busy`.
    pub fn conversation(mut self, conversation: impl Into<ConversationId>) -> Self {
        self.request.conversation = Some(conversation.into());
        self
    }

    /// Gives the history to continue, as pydantic-ai's messages, in place of the conversation's.
    pub fn history(mut self, messages: Vec<RawJson>) -> Self {
        self.request.history = Some(messages);
        self
    }

    /// Asks another model than the agent's own.
    pub fn model(mut self, model: ModelName) -> Self {
        self.request.model = Some(model);
        self
    }

    /// Overrides settings of the model, such as `temperature`, for this run.
    pub fn model_settings<T: Serialize + ?Sized>(mut self, settings: &T) -> Self {
        self.request.model_settings = self.encode("model_settings", settings);
        self
    }

    /// Overrides usage limits for this run, by pydantic-ai's names (`request_limit`,
    /// `total_tokens_limit`, …).
    pub fn usage_limits(mut self, limits: Map<String, Value>) -> Self {
        self.request.usage_limits.extend(limits);
        self
    }

    /// Gives the run this long, from its acceptance on; the agent's own limit is the default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.request.timeout = timeout;
        self
    }

    /// Attaches free data, which reaches Python as the run's metadata.
    pub fn metadata<T: Serialize + ?Sized>(mut self, metadata: &T) -> Self {
        self.request.metadata = self.encode("metadata", metadata);
        self
    }

    /// Starts the run, and returns when it is accepted.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if the request is invalid, or the agent is full, stopped or unavailable.
    pub async fn start(mut self) -> Result<RunHandle, Refusal> {
        self.check()?;
        let accepted_at = Instant::now();
        let admission = self.agent.admit().await?;
        let log = Arc::new(RunLog::new(self.run_id));
        let (cancel, cancelled) = watch::channel(None);
        let accepted = Accepted {
            agent: self.agent.name().clone(),
            conversation_id: self.request.conversation.clone(),
            prompt: self.request.prompt.clone(),
            deps: self.request.deps.clone(),
        };
        let mut driver = Driver::new(self.agent.clone(), self.request, log.clone(), accepted_at);
        driver.accept(accepted).await?;
        let cancel = Arc::new(cancel);
        self.agent.runs.spawn(driver, admission, cancelled, cancel.clone())?;
        Ok(RunHandle { events: log.read(), log, cancel })
    }

    /// Starts the run and waits for its end. No events are streamed, which is cheaper.
    ///
    /// # Errors
    ///
    /// [`Refusal`] as for [`RunBuilder::start`]. A run that was accepted and failed is no error
    /// here: see [`RunOutcome::completed`].
    pub async fn wait(mut self) -> Result<RunOutcome, Refusal> {
        self.request.stream = false;
        let run = self.start().await?;
        Ok(run.outcome().await)
    }

    /// Renders the instructions that this run's model would see.
    ///
    /// # Errors
    ///
    /// [`Refusal::Invalid`] if the request is invalid or the template fails on it.
    pub fn instructions(&self) -> Result<Option<String>, Refusal> {
        let Some(template) = &self.agent.spec().instructions else { return Ok(None) };
        let deps: Value = match &self.request.deps {
            Some(deps) => deps.decode().map_err(|error| invalid("deps", &error))?,
            None => Value::Null,
        };
        let context = Context {
            agent: self.agent.name(),
            run_id: &self.run_id,
            conversation_id: self.request.conversation.as_ref(),
            deps: &deps,
        };
        template.render(context).map(Some).map_err(|error| invalid("instructions", &error))
    }

    fn check(&mut self) -> Result<(), Refusal> {
        if let Some(problem) = self.invalid.take() {
            return Err(Refusal::Invalid { problem });
        }
        if self.request.history.is_some() && self.request.conversation.is_some() {
            let problem = "a run continues its conversation or the history it is given, not both";
            return Err(Refusal::Invalid { problem: problem.to_owned() });
        }
        let size = self.request.prompt.get().len();
        if size > MAX_PROMPT_BYTES {
            let problem =
                format!("the prompt has {size} bytes, and at most {MAX_PROMPT_BYTES} are taken");
            return Err(Refusal::Invalid { problem });
        }
        self.check_deps()?;
        self.request.instructions = self.instructions()?;
        Ok(())
    }

    fn check_deps(&self) -> Result<(), Refusal> {
        let Some(schema) = &self.agent.spec().deps.schema else { return Ok(()) };
        let deps: Value = match &self.request.deps {
            None => {
                let problem = format!(
                    "agent `{}` needs deps: give them as its schema says, {}",
                    self.agent.name(),
                    schema.raw()
                );
                return Err(Refusal::Invalid { problem });
            }
            Some(deps) => deps.decode().map_err(|error| invalid("deps", &error))?,
        };
        schema.validate(&deps).map_err(|violations| {
            let found: Vec<String> = violations.iter().map(ToString::to_string).collect();
            Refusal::Invalid { problem: format!("deps break their schema: {}", found.join("; ")) }
        })
    }
}

fn invalid(what: &str, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::Invalid { problem: format!("{what}: {error}") }
}

/// Follows one accepted run. Dropping it lets the run go on.
#[derive(Debug)]
pub struct RunHandle {
    log: Arc<RunLog>,
    events: RunEvents,
    cancel: Arc<watch::Sender<Option<String>>>,
}

impl RunHandle {
    /// Returns the run's identity.
    #[must_use]
    pub fn id(&self) -> &RunId {
        self.log.run_id()
    }

    /// Returns the run's events, from the first one on.
    pub fn events(&mut self) -> &mut RunEvents {
        &mut self.events
    }

    /// Cancels the run; it still ends with its one terminal event.
    pub fn cancel(&self, reason: impl Into<String>) {
        let reason = reason.into();
        self.cancel.send_if_modified(|cancelled| {
            let first = cancelled.is_none();
            if first {
                *cancelled = Some(reason);
            }
            first
        });
    }

    /// Waits for the run's end: its outcome, or the pause that it waits in.
    pub async fn outcome(&self) -> RunOutcome {
        RunOutcome::new(self.id().clone(), &self.log.settled().await.event)
    }
}

//! Prepares a run: what it is asked, with what, and within which limits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axon_kernel::budget::Allowance;
use axon_kernel::event::{Accepted, Parent, RunTerms, millis};
use axon_kernel::flow::Message;
use axon_kernel::ids::{ConversationId, MessageId, RunId};
use axon_kernel::json::{MAX_PROMPT_BYTES, RawJson};
use axon_kernel::metric;
use axon_kernel::run::RunState;
use axon_kernel::spec::{ModelName, WhenBusy};
use axon_kernel::store::{RunQuery, RunSummary};
use axon_kernel::trace::TraceContext;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::delegation::Before;
use super::prompts::invalid;
use super::{Driver, Entrance, Given, LiveRun, Prompt, Refusal, Request, RunHandle, RunOutcome};
use crate::agent::AgentHandle;
use crate::budget::Budget;
use crate::carried::to_object;
use crate::conversations::Place;
use crate::log::RunLog;
use crate::registry::nearest;

/// The most characters that a conversation's id has: runners take no more.
const MAX_CONVERSATION_ID: usize = 256;

/// A run that is being prepared.
#[derive(Debug)]
#[must_use = "a run starts with `start` or `wait`"]
pub struct RunBuilder {
    pub(super) agent: AgentHandle,
    pub(super) run_id: RunId,
    pub(super) request: Request,
    /// The state that the run begins with.
    state: Option<Map<String, Value>>,
    when_busy: Option<WhenBusy>,
    /// When it has to be over, however late it begins.
    until: Option<Instant>,
    invalid: Option<String>,
}

impl RunBuilder {
    pub(crate) fn new(agent: AgentHandle, prompt: Prompt) -> Self {
        let spec = agent.spec();
        let limits = &spec.limits;
        let request = Request {
            prompt: prompt.0,
            deps: Given::default(),
            conversation: None,
            history: None,
            continues: None,
            model: None,
            model_settings: None,
            usage_limits: limits.usage_limits(),
            timeout: limits.timeout,
            metadata: None,
            stream: true,
            instructions: None,
            approve: BTreeSet::new(),
            budget: agent.services.budget.clone(),
            parent: None,
            traceparent: None,
        };
        let run_id = RunId::new(uuid::Uuid::now_v7().to_string());
        Self { agent, run_id, request, state: None, when_busy: None, until: None, invalid: None }
    }

    /// Prepares the run that answers a tool call of another one.
    pub(super) fn delegated(
        agent: AgentHandle,
        run_id: RunId,
        (parent, prompt): (Parent, Prompt),
        deps: Given,
    ) -> Self {
        let mut run = Self::new(agent, prompt);
        run.run_id = run_id;
        run.request.deps = deps;
        run.request.parent = Some(parent);
        run
    }

    /// Says what was said before, where anything was.
    pub(super) fn told_before(mut self, before: Before) -> Self {
        match before {
            Before::Nothing => {}
            Before::Messages(history) => self.request.history = Some(history),
            Before::Conversation(continues) => self.request.continues = Some(continues),
        }
        self
    }

    /// Approves beforehand what was approved for the run that hands this one its work.
    pub(super) fn approved(mut self, tools: &BTreeSet<String>) -> Self {
        self.request.approve = tools.clone();
        self
    }

    /// Has the run begin with the state of the one that hands it its work.
    pub(super) fn carrying(mut self, state: Map<String, Value>) -> Self {
        self.state = (!state.is_empty()).then_some(state);
        self
    }

    /// Says whether somebody wants the events as they come, and bounds the time.
    pub(super) fn watched(mut self, stream: bool, until: Instant) -> Self {
        self.request.stream = stream;
        self.until = Some(until);
        self
    }

    /// Makes the run a part of the trace that the run stands in that hands it its work.
    pub(super) fn traced(mut self, parent: Option<TraceContext>) -> Self {
        self.request.traceparent = parent;
        self
    }

    /// Takes this identity in place of a new one. A run is recorded once: a second one of the same
    /// identity is refused with [`StoreError::Conflict`](axon_kernel::store::StoreError::Conflict), in
    /// whatever process. So whoever derives it from a key of the caller's starts one run for that key.
    pub fn id(mut self, run: impl Into<RunId>) -> Self {
        self.run_id = run.into();
        self
    }

    /// Says that nobody wants the text as it comes, which is cheaper. [`RunBuilder::wait`] says it by
    /// itself.
    pub fn unwatched(mut self) -> Self {
        self.request.stream = false;
        self
    }

    fn encode<T: Serialize + ?Sized>(&mut self, what: &str, value: &T) -> Option<RawJson> {
        let encoded = RawJson::encode(value);
        if let Err(error) = &encoded {
            self.invalid = Some(format!("{what} cannot be written as JSON: {error}"));
        }
        encoded.ok()
    }

    /// Gives `deps` to the agent's tools and prompts. A [`Secret`](crate::Secret) in it reaches tools
    /// and prompt functions only.
    pub fn deps<T: Serialize + ?Sized>(mut self, deps: &T) -> Self {
        match Given::of(deps) {
            Ok(given) => self.request.deps = given,
            Err(error) => {
                self.invalid = Some(format!("deps cannot be written as JSON: {error}"));
            }
        }
        self
    }

    /// Has the run carry `state`, an object that its tools read and change; it comes back with the
    /// outcome.
    pub fn state<S: Serialize + ?Sized>(mut self, state: &S) -> Self {
        match to_object(state) {
            Ok(state) => self.state = Some(state),
            Err(error) => self.invalid = Some(error.to_string()),
        }
        self
    }

    /// Makes the run a turn of `conversation`: it continues that history, and joins it when it
    /// succeeds. A conversation takes one turn at a time; what a turn does that comes meanwhile
    /// says [`RunBuilder::when_busy`].
    pub fn conversation(mut self, conversation: impl Into<ConversationId>) -> Self {
        self.request.conversation = Some(conversation.into());
        self
    }

    /// Says what this turn does while another one of its conversation is under way: waits for its
    /// turn, is refused, or goes into the run under way as a further message. The agent's own
    /// `[conversation] when_busy` is the default.
    pub fn when_busy(mut self, when_busy: WhenBusy) -> Self {
        self.when_busy = Some(when_busy);
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

    /// Takes what the run uses out of `budget`, which other runs may share. The run ends when the
    /// time of the budget is over, too.
    pub fn budget(mut self, budget: &Budget) -> Self {
        self.request.budget = budget.clone();
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

    /// Makes the run a part of a trace: `parent` is the span of whoever asks, as W3C's `traceparent`
    /// says it. Without it the run begins a trace, which is called like the run.
    pub fn traceparent(mut self, parent: TraceContext) -> Self {
        self.request.traceparent = Some(parent);
        self
    }

    /// Approves every call of `tool` in this run beforehand, and in the runs that it hands work to:
    /// nobody is asked about it, in whatever process the run goes on. An agent to which the run
    /// falls back asks all the same.
    pub fn approve(mut self, tool: impl Into<String>) -> Self {
        self.request.approve.insert(tool.into());
        self
    }

    /// Starts the run, and returns when it is accepted.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if the request is invalid, or the agent is full, stopped or unavailable.
    pub async fn start(self) -> Result<RunHandle, Refusal> {
        // Who asks on behalf of another run asks again, and is no caller.
        let counted = self.request.parent.is_none().then(|| self.agent.agent.meters.clone());
        let begun = self.begin().await;
        if let (Err(refusal), Some(meters)) = (&begun, counted) {
            meters.count(&metric::REJECTED, &[("reason", refusal.code())], 1);
        }
        begun
    }

    async fn begin(mut self) -> Result<RunHandle, Refusal> {
        self.check()?;
        if let Some(left) = self.request.budget.time_left() {
            self.request.timeout = self.request.timeout.min(left);
        }
        // The runner counts its own tool calls, and knows which of them count.
        let own = Allowance::of_usage_limits(&self.request.usage_limits);
        self.request.budget = self.request.budget.child(Allowance { tool_calls: None, ..own });
        let accepted_at = Instant::now();
        if let Some(until) = self.until {
            let left = until.saturating_duration_since(accepted_at);
            self.request.timeout = self.request.timeout.min(left);
        }
        if let Some(steered) = self.steer().await {
            return Ok(steered);
        }
        self.check_conversation().await?;
        let services = self.agent.services.clone();
        let admission = self.agent.admit_below(self.request.parent.as_ref())?;
        // Only now: a run that is refused costs nothing.
        self.request.instructions = self.instructions().await?;
        let turn = self.join()?;
        let terms = self.terms();
        let log = Arc::new(RunLog::new(self.run_id));
        let (mut live, steered) = LiveRun::new(log, self.agent.name().clone());
        live.deps = self.request.deps.clone();
        live.state.set(self.state.unwrap_or_default());
        let mut accepted = Accepted {
            agent: self.agent.name().clone(),
            conversation_id: self.request.conversation.clone(),
            prompt: self.request.prompt.clone(),
            deps: self.request.deps.masked().cloned(),
            terms,
        };
        let stopped = Refusal::Stopped { agent: self.agent.name().clone() };
        let timeout = self.request.timeout;
        let mut driver = Driver::new(self.agent, self.request, live.clone(), accepted_at);
        let entrance = Entrance { admission, turn, steered };
        let (runs, followed) = (services.runs.clone(), live.clone());
        // In a task of its own: a run that is recorded is driven, whether or not its caller waits.
        let begun = tokio::spawn(async move {
            // From its record on: its time has been running since.
            accepted.terms.timeout_ms = millis(timeout.saturating_sub(accepted_at.elapsed()));
            driver.accept(accepted).await?;
            runs.spawn(driver, entrance, followed);
            Ok::<(), Refusal>(())
        });
        begun.await.map_err(|_panicked| stopped)??;
        Ok(RunHandle::new(live, services, false))
    }

    /// Returns everything else that another process needs to go on with the run.
    fn terms(&self) -> RunTerms {
        let request = &self.request;
        let limits = (!request.usage_limits.is_empty())
            .then(|| Value::Object(request.usage_limits.clone()).into());
        RunTerms {
            kind: self.agent.spec().kind(),
            timeout_ms: millis(request.timeout),
            definition: self.agent.agent.launcher().definition.clone(),
            module: self.agent.spec().runner.module.clone(),
            stream: request.stream,
            instructions: request.instructions.clone(),
            model: request.model.clone().or_else(|| self.agent.spec().model.clone()),
            model_settings: request.model_settings.clone(),
            usage_limits: limits,
            metadata: request.metadata.clone(),
            history: request.history.clone(),
            continues: request.continues.clone(),
            state: self.state.clone().map(|state| Value::Object(state).into()),
            secrets: request.deps.has_secrets(),
            parent: request.parent.clone(),
            approve: request.approve.clone(),
            traceparent: request.traceparent.map(Box::new),
        }
    }

    /// Refuses a turn of a conversation whose last one waits for a person, or was interrupted.
    async fn check_conversation(&self) -> Result<(), Refusal> {
        let Some(conversation) = &self.request.conversation else { return Ok(()) };
        let open = RunQuery {
            conversation: Some(conversation.clone()),
            unowned: true,
            limit: 1,
            ..RunQuery::default()
        };
        let found = self.agent.services.store.runs(&open).await?;
        let refusal = found.into_iter().next().and_then(|run| held_for_long(conversation, run));
        refusal.map_or(Ok(()), Err)
    }

    fn when_conversation_is_busy(&self) -> WhenBusy {
        self.when_busy.unwrap_or(self.agent.spec().conversation.when_busy)
    }

    /// Hands the prompt to the run whose turn it is, if it shall go there and that run takes it. One
    /// that is about to end does not: then this is the next turn.
    async fn steer(&self) -> Option<RunHandle> {
        let id = self.request.conversation.as_ref()?;
        if self.when_conversation_is_busy() != WhenBusy::Steer {
            return None;
        }
        let live = self.agent.services.conversations.live(id)?;
        if !live.is_of(self.agent.name()) {
            return None;
        }
        let message_id = MessageId::new(self.run_id.as_str());
        let taken = live.steer(message_id, self.request.prompt.clone());
        tokio::time::timeout(self.request.timeout, taken).await.ok()?.ok()?;
        Some(RunHandle::new(live, self.agent.services.clone(), true))
    }

    /// Stands in the line of the conversation.
    fn join(&self) -> Result<Option<Place>, Refusal> {
        let Some(id) = &self.request.conversation else { return Ok(None) };
        let conversations = &self.agent.services.conversations;
        match self.when_conversation_is_busy() {
            WhenBusy::Queue | WhenBusy::Steer => Ok(Some(conversations.join(id))),
            WhenBusy::Reject => match conversations.join_if_free(id) {
                Some(place) => Ok(Some(place)),
                None => Err(Refusal::ConversationBusy { conversation: id.clone(), by: None }),
            },
        }
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

    fn check(&mut self) -> Result<(), Refusal> {
        if let Some(problem) = self.invalid.take() {
            return Err(Refusal::Invalid { problem });
        }
        if self.request.history.is_some() && self.request.conversation.is_some() {
            let problem = "a run continues its conversation or the history it is given, not both";
            return Err(Refusal::Invalid { problem: problem.to_owned() });
        }
        if let Some(conversation) = &self.request.conversation {
            check_conversation_id(conversation)?;
        }
        let size = self.request.prompt.get().len();
        if size > MAX_PROMPT_BYTES {
            let problem =
                format!("the prompt has {size} bytes, and at most {MAX_PROMPT_BYTES} are taken");
            return Err(Refusal::Invalid { problem });
        }
        self.check_approve()?;
        self.check_flow()?;
        self.check_deps()
    }

    /// Refuses what a router or a pipeline cannot take.
    fn check_flow(&self) -> Result<(), Refusal> {
        let spec = self.agent.spec();
        let Some(flow) = &spec.flow else { return Ok(()) };
        let (kind, name) = (flow.kind, self.agent.name());
        if let Some(model) = &self.request.model {
            let problem = format!(
                "{kind} `{name}` has no model of its own, so it cannot ask `{model}`: name models \
                 in the files of the agents that it asks (AXON_MODEL, where those say so)"
            );
            return Err(Refusal::Invalid { problem });
        }
        let Some(schema) = &flow.input else { return Ok(()) };
        let prompt: Value = self.request.prompt.decode().map_err(|e| invalid("the prompt", &e))?;
        if schema.validate(&prompt).is_ok() {
            return Ok(());
        }
        schema.validate(&Message::input(&prompt)).map_err(|violations| {
            let found: Vec<String> = violations.iter().map(ToString::to_string).collect();
            let found = found.join("; ");
            let problem =
                format!("the message breaks the input schema of {kind} `{name}`: {found}");
            Refusal::Invalid { problem }
        })
    }

    /// Refuses to approve a tool that the agent does not have, where that can be known.
    fn check_approve(&self) -> Result<(), Refusal> {
        // Whoever began the run at the top has named them, for all agents below.
        if self.request.parent.is_some() {
            return Ok(());
        }
        let Some(known) = self.tools_to_approve() else { return Ok(()) };
        let Some(unknown) = self.request.approve.iter().find(|name| !known.contains(*name)) else {
            return Ok(());
        };
        let near = nearest(unknown, known.iter().map(String::as_str));
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        let agent = self.agent.name();
        let problem = format!("agent `{agent}` has no tool `{unknown}` to approve{hint}");
        Err(Refusal::Invalid { problem })
    }

    /// Returns the tools of the agent and of those that it hands work to; nothing if only Python
    /// knows all of them.
    fn tools_to_approve(&self) -> Option<BTreeSet<String>> {
        let (mut known, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let mut agents = vec![self.agent.clone()];
        while let Some(agent) = agents.pop() {
            if !seen.insert(agent.name().clone()) {
                continue;
            }
            let spec = agent.spec();
            if spec.runner.module.is_some() || !spec.capabilities.is_empty() {
                return None;
            }
            known.extend(spec.tools.iter().map(|tool| tool.name.to_string()));
            let registry = &self.agent.services.registry;
            let others = spec.delegates().chain(spec.successors());
            agents.extend(others.filter_map(|name| registry.find(name.as_str())));
        }
        Some(known)
    }

    fn check_deps(&self) -> Result<(), Refusal> {
        let spec = self.agent.spec();
        let Some(schema) = &spec.deps.schema else { return Ok(()) };
        let deps: Value = match self.request.whole_deps() {
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
            let found = self.request.deps.redact(&found.join("; "));
            Refusal::Invalid { problem: format!("deps break their schema: {found}") }
        })
    }
}

impl AgentHandle {
    /// Makes the request of another agent's run one for this agent, if it can be asked that.
    pub(crate) async fn adopt(
        &self,
        run_id: &RunId,
        request: &Request,
    ) -> Result<Request, Refusal> {
        let mut run = RunBuilder::new(self.clone(), Prompt(request.prompt.clone()));
        run.run_id = run_id.clone();
        run.request = Request { model: None, approve: BTreeSet::new(), ..request.clone() };
        run.check()?;
        run.request.instructions = run.instructions().await?;
        Ok(run.request)
    }
}

/// Returns the refusal of a turn that would wait for a person.
fn held_for_long(conversation: &ConversationId, holder: RunSummary) -> Option<Refusal> {
    let waits = holder.is_interrupted() || holder.state == RunState::Paused;
    let conversation = conversation.clone();
    waits.then(|| Refusal::ConversationBusy { conversation, by: Some(Box::new(holder)) })
}

/// Checks that a conversation's id is one that every side takes.
fn check_conversation_id(id: &ConversationId) -> Result<(), Refusal> {
    let length = id.as_str().chars().count();
    if (1..=MAX_CONVERSATION_ID).contains(&length) && !id.as_str().chars().any(char::is_control) {
        return Ok(());
    }
    let problem = format!(
        "a conversation's id has 1 to {MAX_CONVERSATION_ID} characters, none of them a control \
         character; this one has {length}"
    );
    Err(Refusal::Invalid { problem })
}

//! What is told of a run to those who watch the service: its spans, and the line of its end.
//!
//! A run that is left open is told of by whoever goes on with it: its span, and that of the attempt
//! that was under way, have the same identity in every process.

use std::collections::BTreeMap;
use std::time::Duration;

use axon_kernel::event::{Completed, Failed, RunEvent, ToolOutcome, ToolReturned};
use axon_kernel::failure::{Failure, Row};
use axon_kernel::ids::{Attempt, Generation, RunId, ToolCallId};
use axon_kernel::json::{RawJson, excerpt};
use axon_kernel::run::Replay;
use axon_kernel::spec::Kind;
use axon_kernel::time::Timestamp;
use axon_kernel::trace::{SpanId, SpanKind, TraceContext, TraceId};
use axon_kernel::wire::{AttemptTrace, ModelAnswered, ModelRequested};

use super::attempt::{AttemptEnd, AttemptError};
use super::driver::Driver;
use super::{Given, Request};
use crate::agent::AgentHandle;
use crate::trace::{OpenSpan, Tracer};

/// How much of what was asked and answered a span holds, in bytes of each.
const CONTENT_BYTES: usize = 64 * 1024;

/// What an attempt comes to that nobody was there to see the end of.
const GONE: &str = "process_gone";

/// The spans of a run that are under way.
#[derive(Debug)]
pub(super) struct Observed {
    tracer: Tracer,
    /// The span of whoever asked for the run.
    parent: Option<TraceContext>,
    run: OpenSpan,
    attempt: OpenSpan,
    model: OpenSpan,
    /// Bounded by the tool calls of one model response.
    tools: BTreeMap<ToolCallId, OpenSpan>,
}

/// Who makes a tool call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Host {
    Python,
    Rust,
    Agent,
}

impl Host {
    fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Rust => "rust",
            Self::Agent => "agent",
        }
    }
}

impl Observed {
    pub(super) fn new(agent: &AgentHandle, request: &Request, run: &RunId) -> Self {
        let none = OpenSpan::none;
        let (tracer, parent) = (agent.services.tracer.clone(), request.traceparent);
        let mut observed = Self {
            run: none(),
            attempt: none(),
            model: none(),
            tools: BTreeMap::new(),
            tracer,
            parent,
        };
        observed.run = observed.begin_run((agent, request), run, 0);
        observed
    }

    fn begin_run(
        &self,
        (agent, request): (&AgentHandle, &Request),
        run: &RunId,
        pauses: u32,
    ) -> OpenSpan {
        let (name, kind) = (agent.name().as_str(), agent.spec().kind());
        let (operation, named) = match kind {
            Kind::Agent => ("invoke_agent", "gen_ai.agent.name"),
            Kind::Router | Kind::Pipeline => ("invoke_workflow", "gen_ai.workflow.name"),
        };
        let place = (self.parent, TraceId::of_run(run));
        let context = self.tracer.place(place, SpanId::of_run(run, pauses));
        let title = format!("{operation} {name}");
        let parent = self.parent.map(|parent| parent.span);
        let mut span = self.tracer.begin((&title, SpanKind::Internal), context, parent);
        span.set("gen_ai.operation.name", operation);
        span.set(named, name);
        span.set("axon.run.id", run.as_str());
        let conversation = request.conversation.as_ref();
        span.set_some("gen_ai.conversation.id", conversation.map(|id| id.as_str()));
        span
    }

    /// Goes on with the spans of a run that was under way before.
    pub(super) fn goes_on(
        &mut self,
        (agent, request): (&AgentHandle, &Request),
        run: &RunId,
        replay: &Replay,
    ) {
        self.run.forget();
        let pauses = replay.resumptions + u32::from(replay.pause.is_some());
        self.run = self.begin_run((agent, request), run, pauses);
        if replay.pause.is_some() {
            return;
        }
        self.run.began(nanos(replay.since));
        if let Some((attempt, at)) = replay.open_attempt {
            let mut lost = self.attempt_span(agent, run, attempt);
            lost.fail(GONE, GONE);
            lost.began(nanos(at));
            lost.ended(nanos(replay.last_at));
        }
    }

    fn attempt_span(&self, agent: &AgentHandle, run: &RunId, attempt: Attempt) -> OpenSpan {
        let what = (&*format!("attempt {}", agent.name()), SpanKind::Internal);
        let id = SpanId::of_attempt(run, attempt);
        let mut span = self.tracer.begin_in(self.run.context(), what, Some(id));
        span.set("axon.attempt", u64::from(attempt.0));
        span.set("axon.run.id", run.as_str());
        span.set("gen_ai.agent.name", agent.name().as_str());
        span
    }

    pub(super) fn begin_attempt(&mut self, agent: &AgentHandle, run: &RunId, attempt: Attempt) {
        self.attempt = self.attempt_span(agent, run, attempt);
    }

    pub(super) fn has_runner(&mut self, generation: Generation) {
        self.attempt.set("axon.generation", u64::from(generation.0));
    }

    /// Returns what the runner is told of the trace.
    pub(super) fn of_attempt(&self) -> Option<AttemptTrace> {
        let context = self.attempt.context()?;
        Some(AttemptTrace { context, content: self.shows() })
    }

    pub(super) fn end_attempt(&mut self, end: &Result<AttemptEnd, AttemptError>) {
        let failed = match end {
            Ok(_) | Err(AttemptError::HandedOn) => None,
            Err(AttemptError::Stuck(_)) => Some("stuck"),
            Err(
                AttemptError::Failed(failure, _)
                | AttemptError::Told(failure)
                | AttemptError::Unavailable(failure),
            ) => Some(failure.kind.label()),
        };
        self.break_off(failed.unwrap_or("abandoned"));
        if let Some(kind) = failed {
            self.attempt.fail(kind, kind);
        }
        self.attempt = OpenSpan::none();
    }

    /// Ends what is under way inside of the attempt.
    fn break_off(&mut self, kind: &str) {
        self.model.fail(kind, kind);
        self.model = OpenSpan::none();
        for mut tool in std::mem::take(&mut self.tools).into_values() {
            tool.fail(kind, kind);
        }
    }

    pub(super) fn model_requested(&mut self, requested: ModelRequested) {
        let ModelRequested { span_id, provider, model, messages, omitted_messages } = requested;
        let name = format!("chat {}", excerpt(&model, 256));
        let id = span_id.as_deref().and_then(SpanId::from_hex);
        let mut span = self.tracer.begin_in(self.attempt.context(), (&name, SpanKind::Client), id);
        span.set("gen_ai.operation.name", "chat");
        span.set("gen_ai.provider.name", excerpt(&provider, 256));
        span.set("gen_ai.request.model", excerpt(&model, 256));
        if self.shows() {
            span.set_some("gen_ai.input.messages", messages.map(content));
            span.set_some("axon.input.messages.omitted", omitted_messages);
        }
        self.model = span;
    }

    pub(super) fn model_answered(&mut self, answered: ModelAnswered) {
        let mut span = std::mem::replace(&mut self.model, OpenSpan::none());
        let short = |text: String| excerpt(&text, 256);
        span.set_some("gen_ai.provider.name", answered.provider.map(short));
        span.set_some("gen_ai.response.model", answered.model.map(short));
        span.set_some("gen_ai.response.id", answered.response_id.map(short));
        let reasons = answered.finish_reason.map(|reason| vec![short(reason)]);
        span.set_some("gen_ai.response.finish_reasons", reasons);
        span.set_some("gen_ai.usage.input_tokens", answered.input_tokens);
        span.set_some("gen_ai.usage.output_tokens", answered.output_tokens);
        span.set_some("gen_ai.usage.cache_read.input_tokens", answered.cache_read_tokens);
        if self.shows() {
            span.set_some("gen_ai.output.messages", answered.messages.map(content));
        }
        if let Some(kind) = answered.error.map(short) {
            span.fail(&kind, &*kind);
        }
    }

    /// Begins the span of a tool call; `id` and `parent` are the caller's, who may know better.
    pub(super) fn tool_called(
        &mut self,
        (call, name): (&ToolCallId, &str),
        host: Host,
        (id, parent): (Option<&str>, Option<&str>),
    ) {
        let Some(attempt) = self.attempt.context() else { return };
        let parent = parent.and_then(|parent| parent.parse::<TraceContext>().ok());
        let parent = parent.filter(|parent| parent.trace == attempt.trace);
        let parent = parent.map_or(attempt, |parent| attempt.at(parent.span));
        let title = format!("execute_tool {}", excerpt(name, 256));
        let id = id.and_then(SpanId::from_hex);
        let mut span = self.tracer.begin_in(Some(parent), (&title, SpanKind::Internal), id);
        span.set("gen_ai.operation.name", "execute_tool");
        span.set("gen_ai.tool.name", excerpt(name, 256));
        span.set("gen_ai.tool.type", "function");
        span.set("gen_ai.tool.call.id", excerpt(call.as_str(), 256));
        span.set("axon.tool.host", host.name());
        self.tools.insert(call.clone(), span);
    }

    /// Says what a tool is called with, if spans hold that.
    pub(super) fn tool_given(&mut self, call: &ToolCallId, args: &RawJson, deps: &Given) {
        if self.shows()
            && let Some(span) = self.tools.get_mut(call)
        {
            span.set("gen_ai.tool.call.arguments", content(deps.redact(args.get())));
        }
    }

    pub(super) fn tool_returned(&mut self, returned: &ToolReturned, deps: &Given) {
        let Some(mut span) = self.tools.remove(&returned.tool_call_id) else { return };
        let outcome = match returned.outcome {
            ToolOutcome::Ok => "ok",
            ToolOutcome::Retry => "retry",
            ToolOutcome::Failed => "failed",
            ToolOutcome::Deferred => "deferred",
        };
        span.set("axon.tool.outcome", outcome);
        if matches!(returned.outcome, ToolOutcome::Retry | ToolOutcome::Failed) {
            span.fail(&format!("tool_{outcome}"), outcome);
        }
        if self.shows() {
            span.set("gen_ai.tool.call.result", content(deps.redact(returned.result.get())));
        }
    }

    /// Says that a call could not be made.
    pub(super) fn tool_refused(&mut self, call: &ToolCallId) {
        if let Some(mut span) = self.tools.remove(call) {
            span.set("axon.tool.outcome", "failed");
            span.fail("tool_failed", "failed");
        }
    }

    /// Returns what a part of the call names as its parent: the call's span, or what it is a part of.
    pub(super) fn inside(&self, call: &ToolCallId) -> Option<TraceContext> {
        let call = self.tools.get(call).and_then(OpenSpan::context);
        call.or_else(|| self.attempt.context()).or_else(|| self.context())
    }

    /// Returns where the run stands.
    pub(super) fn context(&self) -> Option<TraceContext> {
        self.run.context()
    }

    fn shows(&self) -> bool {
        self.run.is_told() && self.tracer.has_content()
    }

    fn end_run(&mut self, end: &RunEvent) {
        let (outcome, failed) = if let RunEvent::Failed(Failed { failure, .. }) = end {
            ("failed", Some(failure.kind.label()))
        } else if let RunEvent::Rejected(Failed { failure, .. }) = end {
            ("rejected", Some(failure.kind.label()))
        } else if let RunEvent::Cancelled(_) = end {
            ("cancelled", None)
        } else if let RunEvent::Paused(_) = end {
            ("paused", None)
        } else {
            ("completed", None)
        };
        let kind = failed.unwrap_or(outcome);
        self.break_off(kind);
        self.attempt.fail(kind, kind);
        self.attempt = OpenSpan::none();
        self.run.set("axon.outcome", outcome);
        if let RunEvent::Completed(Completed { model, attempts, .. }) = end {
            self.run.set("gen_ai.response.model", excerpt(model, 256));
            self.run.set("axon.attempts", u64::from(*attempts));
        }
        if let Some(kind) = failed {
            self.run.fail(kind, kind);
        }
        self.run = OpenSpan::none();
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        // Whoever goes on with the run tells of it.
        self.attempt.forget();
        self.run.forget();
    }
}

impl Driver {
    /// Returns what every line of the log names that is written on behalf of the run.
    pub(crate) fn span(&self) -> tracing::Span {
        let (run, agent) = (self.log().run_id(), self.agent.name());
        let trace = self.observed.context();
        let trace = trace.map(|context| tracing::field::display(context.trace));
        let generation = tracing::field::Empty;
        // Of the highest level, so that whatever is logged has it.
        tracing::error_span!(
            target: "axon_runtime::run", parent: None, "run", %run, %agent, generation, trace
        )
    }

    /// Tells how the run ended, or that it waits: once, whatever it has passed through.
    pub(super) fn tell_end(&mut self, end: &RunEvent) {
        if let RunEvent::Failed(Failed { failure, .. })
        | RunEvent::Rejected(Failed { failure, .. }) = end
        {
            let (kind, error) = (failure.kind.label(), self.told(failure));
            let (run, agent) = (self.log().run_id(), self.agent.name());
            let attempts = self.attempt.0;
            // What became of a part is told with the whole: whoever asked may have done without it.
            match &self.request.parent {
                None => tracing::error!(%run, %agent, kind, %error, attempts, "a run failed"),
                Some(_) => tracing::info!(%run, %agent, kind, attempts, "a part of a run failed"),
            }
        }
        self.observed.end_run(end);
    }

    /// Returns what the log says of a failure. What a model answered, or was asked, is no part of it
    /// unless that is wanted.
    pub(super) fn told(&self, failure: &Failure) -> String {
        if failure.kind.row().row == Row::Behavior && !self.services().tracer.has_content() {
            return "what the model answered was no answer (the run's record has it)".to_owned();
        }
        excerpt(&self.request.deps.redact(&failure.message), 4096)
    }
}

/// Returns JSON as it stands in an attribute: of what is too long the beginning, as a text in JSON.
fn content(json: String) -> String {
    if json.len() <= CONTENT_BYTES {
        return json;
    }
    let begins = &json[..json.floor_char_boundary(CONTENT_BYTES / 2)];
    serde_json::json!({ "begins": begins, "bytes": json.len() }).to_string()
}

fn nanos(at: Timestamp) -> u64 {
    let since = Duration::from_millis(at.0);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

//! What is measured of one agent, router or pipeline.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axon_kernel::event::{RunEvent, ToolOutcome};
use axon_kernel::failure::{Failure, FailureKind, Row};
use axon_kernel::ids::Generation;
use axon_kernel::metric::{self, Metric};
use axon_kernel::spec::{AgentName, AgentSpec, ModelName, ToolTarget};
use metrics::Gauge;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

use super::bounded::Bounded;
use super::provider_and_name;
use super::series::{Labels, Series, histogram};
use crate::agent::{AgentState, AgentStatus, REPLACED, RunnerState};

/// How many tools an agent may show that its definition does not name: those that Python brings.
const OWN_TOOLS: usize = 128;

/// How many models an agent may show that its definition does not name: those that callers choose.
const OTHER_MODELS: usize = 32;

/// The reasons to restart that are counted from the beginning, so that the first is seen.
const COMMON_REASONS: [&str; 5] =
    ["runner_died", "out_of_memory", "hard_stopped", "unhealthy", REPLACED];

/// What a provider can say that only a person can mend; counted from the beginning, too.
const REFUSED_BY_PROVIDER: [FailureKind; 3] =
    [FailureKind::ModelAuth, FailureKind::ModelQuota, FailureKind::ModelNotFound];

/// The refusals that are counted from the beginning.
const COMMON_REFUSALS: [&str; 2] = ["overloaded", "agent_unavailable"];

/// What is measured of one agent. It outlives each restart of the agent's actor.
#[derive(Debug)]
pub(crate) struct AgentMeters {
    agent: AgentName,
    series: Series,
    /// Runs that have a place.
    pub(crate) in_flight: Gauge,
    /// Runs that wait for one.
    pub(crate) queued: Gauge,
    tools: Bounded,
    models: Bounded,
    shown: Mutex<ShownState>,
    pauses: Arc<Notify>,
}

/// What the gauges say at the moment.
#[derive(Debug, Default)]
struct ShownState {
    state: Option<&'static str>,
    model: Option<String>,
    has_runners: bool,
    /// The CPU time of each runner that is counted already, in milliseconds.
    cpu: HashMap<Generation, u64>,
    /// Nothing is said any more.
    retired: bool,
}

/// Counts in a gauge for as long as it lives.
#[derive(Debug)]
pub(crate) struct Shown(Gauge);

impl Shown {
    pub(crate) fn in_gauge(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge.clone())
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// A call of a tool that is under way.
#[derive(Clone, Debug)]
pub(crate) struct ToolCall {
    pub(crate) name: String,
    pub(crate) host: &'static str,
    pub(crate) since: Instant,
}

impl ToolCall {
    /// Notes that a call of the tool `name` begins.
    pub(crate) fn begins(spec: &AgentSpec, name: &str) -> Self {
        let tool = spec.tools.iter().find(|tool| tool.name.as_str() == name);
        let host = match tool.map(|tool| &tool.target) {
            Some(ToolTarget::Rust(_)) => "rust",
            Some(ToolTarget::Agent(_) | ToolTarget::Handoff(_)) => "agent",
            Some(ToolTarget::Python(_) | ToolTarget::Own) | None => "python",
        };
        Self { name: name.to_owned(), host, since: Instant::now() }
    }
}

impl AgentMeters {
    pub(super) fn new(agent: AgentName, pauses: Arc<Notify>) -> Self {
        let series = Series::default();
        let name = agent.to_string();
        let labels = [("agent", name.as_str())];
        let in_flight = series.gauge(&metric::RUNS_IN_FLIGHT, &labels);
        let queued = series.gauge(&metric::QUEUE_DEPTH, &labels);
        let meters = Self {
            agent,
            series,
            in_flight,
            queued,
            tools: Bounded::new(OWN_TOOLS),
            models: Bounded::new(OTHER_MODELS),
            shown: Mutex::default(),
            pauses,
        };
        meters.in_flight.increment(0.0);
        meters.queued.increment(0.0);
        meters.gauge(&metric::APPROVALS_PENDING, &[]).set(0.0);
        meters.count(&metric::DROPPED_LOG_LINES, &[], 0);
        for outcome in ["completed", "failed", "cancelled", "rejected"] {
            meters.count(&metric::RUNS, &[("outcome", outcome)], 0);
        }
        for reason in COMMON_REFUSALS {
            meters.count(&metric::REJECTED, &[("reason", reason)], 0);
        }
        meters
    }

    /// Learns which names its definition knows.
    pub(crate) fn defined(&self, spec: &AgentSpec) {
        self.tools.expect(spec.tools.iter().map(|tool| tool.name.to_string()));
        self.models.expect(spec.model.iter().chain(&spec.fallback.model).map(ModelName::to_string));
        let has_runners = spec.flow.is_none();
        self.shown().has_runners = has_runners;
        if has_runners {
            self.gauge(&metric::RUNNER_MEMORY, &[]).increment(0.0);
            self.gauge(&metric::RUNNER_CPU, &[]).increment(0.0);
            for reason in COMMON_REASONS {
                self.count(&metric::AGENT_RESTARTS, &[("reason", reason)], 0);
            }
            self.count(&metric::RUN_QUARANTINES, &[], 0);
            for tool in &spec.tools {
                let ToolCall { name, host, .. } = ToolCall::begins(spec, tool.name.as_str());
                for outcome in ["ok", "lost"] {
                    let labels = [("tool", name.as_str()), ("host", host), ("outcome", outcome)];
                    self.count(&metric::TOOL_CALLS, &labels, 0);
                }
            }
        }
    }

    /// Counts the end of a run, `age` after it began here.
    pub(crate) fn run_ended(&self, end: &RunEvent, age: Duration) {
        self.count(&metric::RUNS, &[("outcome", outcome(end))], 1);
        self.record(&metric::RUN_DURATION, &[], age.as_secs_f64());
    }

    /// Notes that a run has paused, or goes on: what waits for a person is counted in the store.
    pub(crate) fn paused_or_resumed(&self) {
        self.pauses.notify_one();
    }

    /// Records how long a run waited for its turn and a place.
    pub(crate) fn queued_for(&self, wait: Duration) {
        self.record(&metric::RUN_QUEUE, &[], wait.as_secs_f64());
    }

    /// Counts how a request to `model` went that took so long: it was answered, or failed.
    pub(crate) fn model_asked(&self, model: &str, took: Duration, failure: Option<&Failure>) {
        if failure.is_some_and(|failure| !concerns_model(failure.kind)) {
            return;
        }
        let (provider, model) = provider_and_name(self.models.label(model));
        let kind = failure.map_or("ok", |failure| failure.kind.label());
        let labels = [("provider", provider), ("model", model), ("kind", kind)];
        self.count(&metric::MODEL_REQUESTS, &labels, 1);
        self.record(&metric::MODEL_REQUEST_DURATION, &labels[..2], took.as_secs_f64());
    }

    /// Records what a response of `model` took: tokens of input and output, and millionths of a dollar.
    #[expect(
        clippy::cast_precision_loss,
        reason = "2^53 tokens, or as many micros, are not reached"
    )]
    pub(crate) fn used(&self, model: &str, (input, output): (u64, u64), micros: u64) {
        let (_, model) = provider_and_name(self.models.label(model));
        for (kind, tokens) in [("input", input), ("output", output)] {
            let labels = [("model", model), ("type", kind)];
            self.record(&metric::TOKEN_USAGE, &labels, tokens as f64);
        }
        self.gauge(&metric::COST, &[("model", model)]).increment(micros as f64 / 1e6);
    }

    /// Counts the end of a call; one without an outcome was lost with its attempt.
    pub(crate) fn tool_called(&self, call: &ToolCall, outcome: Option<ToolOutcome>) {
        let tool = self.tools.label(&call.name);
        let outcome = match outcome {
            Some(ToolOutcome::Ok) => "ok",
            Some(ToolOutcome::Retry) => "retry",
            Some(ToolOutcome::Failed) => "failed",
            Some(ToolOutcome::Deferred) => "deferred",
            None => "lost",
        };
        let labels = [("tool", tool), ("host", call.host), ("outcome", outcome)];
        self.count(&metric::TOOL_CALLS, &labels, 1);
        self.record(&metric::TOOL_DURATION, &labels[..1], call.since.elapsed().as_secs_f64());
    }

    /// Counts something of this agent.
    pub(crate) fn count(&self, metric: &Metric, labels: &Labels<'_>, count: u64) {
        let labels = [&[("agent", self.agent.as_str())], labels].concat();
        self.series.counter(metric, &labels).increment(count);
    }

    /// Counts a message that this router has sent on.
    pub(crate) fn routed(&self, target: &str) {
        let labels = [("router", self.agent.as_str()), ("target", target)];
        self.series.counter(&metric::ROUTED, &labels).increment(1);
    }

    /// Records the time that a runner took to start.
    pub(crate) fn started_in(&self, took: Duration) {
        self.record(&metric::RUNNER_START_DURATION, &[], took.as_secs_f64());
    }

    /// Shows the state that the agent is in, and how many of its runners are up.
    pub(crate) fn shows(&self, state: &'static str, up: usize) {
        let mut shown = self.shown();
        if shown.retired {
            return;
        }
        if shown.state.replace(state) != Some(state) {
            for label in AgentState::LABELS {
                let value = f64::from(u8::from(label == state));
                self.gauge(&metric::AGENT_STATE, &[("state", label)]).set(value);
            }
        }
        if shown.has_runners {
            self.gauge(&metric::RUNNER_UP, &[]).set(whole(up));
        }
    }

    /// Shows the model that the agent asks.
    pub(crate) fn asks(&self, model: &str) {
        let (provider, model) = provider_and_name(self.models.label(model));
        self.gauge(&metric::COST, &[("model", model)]).increment(0.0);
        let refused = REFUSED_BY_PROVIDER.iter().map(|kind| kind.label());
        for kind in refused.chain(["ok"]) {
            let labels = [("provider", provider), ("model", model), ("kind", kind)];
            self.count(&metric::MODEL_REQUESTS, &labels, 0);
        }
        let mut shown = self.shown();
        if shown.retired || shown.model.as_deref() == Some(model) {
            return;
        }
        if let Some(before) = shown.model.replace(model.to_owned()) {
            self.gauge(&metric::AGENT_INFO, &[("model", &before)]).set(0.0);
        }
        self.gauge(&metric::AGENT_INFO, &[("model", model)]).set(1.0);
    }

    /// Shows how the agent is, with what its runners use of this machine.
    #[expect(clippy::cast_precision_loss, reason = "no machine has 2^53 bytes")]
    pub(super) fn look_at(&self, status: &AgentStatus) {
        let up = status.runners.iter().filter(|runner| runner.state == RunnerState::Up).count();
        self.shows(status.state.label(), up);
        let mut shown = self.shown();
        if shown.retired || !shown.has_runners {
            return;
        }
        let memory: u64 = status.runners.iter().filter_map(|runner| runner.resident_bytes).sum();
        self.gauge(&metric::RUNNER_MEMORY, &[]).set(memory as f64);
        let cpu = status.runners.iter().filter_map(|it| Some((it.generation, it.cpu_ms?)));
        let now: HashMap<Generation, u64> = cpu.collect();
        let before = std::mem::take(&mut shown.cpu);
        let more = now.iter().map(|(generation, ms)| {
            ms.saturating_sub(before.get(generation).copied().unwrap_or_default())
        });
        let more: u64 = more.sum();
        self.gauge(&metric::RUNNER_CPU, &[]).increment(more as f64 / 1e3);
        shown.cpu = now;
    }

    /// Shows how many of its runs wait for a person.
    pub(super) fn waits_for_people(&self, runs: usize) {
        if !self.shown().retired {
            self.gauge(&metric::APPROVALS_PENDING, &[]).set(whole(runs));
        }
    }

    pub(super) fn keep(&self) {
        self.series.keep();
    }

    /// Shows nothing any more, of an agent that was removed. What of its runs is under way still goes.
    pub(super) fn retire(&self) {
        let mut shown = self.shown();
        shown.retired = true;
        if shown.state.is_some() {
            for label in AgentState::LABELS {
                self.gauge(&metric::AGENT_STATE, &[("state", label)]).set(0.0);
            }
        }
        if let Some(model) = &shown.model {
            self.gauge(&metric::AGENT_INFO, &[("model", model)]).set(0.0);
        }
        self.gauge(&metric::APPROVALS_PENDING, &[]).set(0.0);
        if shown.has_runners {
            self.gauge(&metric::RUNNER_UP, &[]).set(0.0);
            self.gauge(&metric::RUNNER_MEMORY, &[]).set(0.0);
        }
    }

    fn gauge(&self, metric: &Metric, labels: &Labels<'_>) -> Gauge {
        let labels = [&[("agent", self.agent.as_str())], labels].concat();
        self.series.gauge(metric, &labels)
    }

    fn record(&self, metric: &Metric, labels: &Labels<'_>, value: f64) {
        let labels = [&[("agent", self.agent.as_str())], labels].concat();
        histogram(metric, &labels).record(value);
    }

    fn shown(&self) -> MutexGuard<'_, ShownState> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how a run ended, as a label.
pub(super) fn outcome(end: &RunEvent) -> &'static str {
    end.name().trim_start_matches("run_")
}

/// Returns whether a failure is one of the request to the model that was under way: not of what came
/// before it was sent.
fn concerns_model(kind: FailureKind) -> bool {
    match kind.row().row {
        Row::Transient => kind != FailureKind::Busy,
        Row::Deterministic => kind != FailureKind::UsageLimit,
        Row::Behavior | Row::Credentials | Row::Process | Row::Stopped => true,
        Row::Unmapped | Row::Tool | Row::Configuration => false,
    }
}

fn whole(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

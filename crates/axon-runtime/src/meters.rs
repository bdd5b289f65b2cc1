//! What the runtime measures, told to whatever recorder the process has, by the `metrics` facade.
//!
//! The names are in one table ([`axon_kernel::metric`]); `agent` has what is told of one agent,
//! [`series`] keeps its series alive, [`watch`] looks at what nobody tells of.
//!
//! The invariant: nothing here waits, and what is chosen by a model or a caller is bounded before it is
//! a label ([`bounded`]).

mod agent;
mod bounded;
mod series;
mod watch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axon_kernel::event::RunEvent;
use axon_kernel::metric::{self, Metric, MetricKind, MetricUnit};
use axon_kernel::spec::AgentName;
use metrics::{SharedString, Unit};
use tokio::sync::Notify;

use self::bounded::Bounded;
use self::series::Series;

pub(crate) use agent::{AgentMeters, Shown, ToolCall};
pub(crate) use watch::watch;

/// A supervisor had more restarts than it allows.
pub(crate) const INTENSITY: &str = "intensity";

/// A supervisor has given a child up.
pub(crate) const GIVEN_UP: &str = "given_up";

/// How many models may have a breaker that is shown.
const MODELS: usize = 256;

/// Tells the recorder of this process what each metric of Axon is. [`RuntimeBuilder::start`] does so,
/// too: this is for a service that installs its recorder later, or reads descriptions before.
///
/// A recorder has to be installed before the runtime starts: what is counted before goes nowhere.
/// Runtimes of one process whose agents have the same names share their series. The
/// buckets of the histograms are the recorder's business; [`axon_kernel::metric::ALL`] has them:
///
/// ```
/// use axon_runtime::kernel::metric::{ALL, MetricKind};
///
/// axon_runtime::describe_metrics();
/// for metric in ALL {
///     if let MetricKind::Histogram(buckets) = metric.kind {
///         println!("{}: {buckets:?}", metric.name);
///     }
/// }
/// ```
///
/// [`RuntimeBuilder::start`]: crate::RuntimeBuilder::start
pub fn describe_metrics() {
    metrics::with_recorder(|recorder| {
        for Metric { name, kind, unit, help, .. } in metric::ALL {
            let (name, help) = (*name, SharedString::const_str(help));
            // A recorder that appends units knows of no sums: it would append this one twice.
            let unit = (*kind != MetricKind::Sum).then_some(match unit {
                MetricUnit::Count => Unit::Count,
                MetricUnit::Seconds => Unit::Seconds,
                MetricUnit::Bytes => Unit::Bytes,
            });
            match kind {
                MetricKind::Counter => recorder.describe_counter(name.into(), unit, help),
                MetricKind::Gauge | MetricKind::Sum => {
                    recorder.describe_gauge(name.into(), unit, help);
                }
                MetricKind::Histogram(_) => recorder.describe_histogram(name.into(), unit, help),
            }
        }
    });
}

/// What one runtime measures.
#[derive(Debug)]
pub(crate) struct Meters {
    agents: Mutex<HashMap<AgentName, Arc<AgentMeters>>>,
    /// The series that belong to no agent.
    own: Series,
    models: Bounded,
    /// Told when a run pauses or goes on.
    pauses: Arc<Notify>,
}

impl Meters {
    pub(crate) fn new() -> Self {
        let own = Series::default();
        let version = env!("CARGO_PKG_VERSION");
        own.gauge(&metric::BUILD_INFO, &[("version", version)]).set(1.0);
        // From the beginning, so that the first one is seen as an increase. Those that runners are
        // counted by, too.
        for counted in [
            &metric::RUNNER_LEAKS,
            &metric::RUNNER_STRAYS,
            &metric::LAUNCHER_DEATHS,
            &metric::DROPPED_EVENTS,
        ] {
            own.counter(counted, &[]).increment(0);
        }
        let (agents, pauses) = (Mutex::default(), Arc::default());
        let meters = Self { agents, own, models: Bounded::new(MODELS), pauses };
        for supervisor in ["root", "agents"] {
            meters.supervises(supervisor);
        }
        meters
    }

    /// Returns what is told of an agent: the same as long as it is there.
    pub(crate) fn of(&self, agent: &AgentName) -> Arc<AgentMeters> {
        let made = || Arc::new(AgentMeters::new(agent.clone(), self.pauses.clone()));
        self.agents().entry(agent.clone()).or_insert_with(made).clone()
    }

    /// Returns what is told of an agent, if it is there.
    pub(crate) fn known(&self, agent: &AgentName) -> Option<Arc<AgentMeters>> {
        self.agents().get(agent).cloned()
    }

    /// Forgets an agent that was removed: nothing is said of it any more, and its counts are not kept.
    pub(crate) fn forget(&self, agent: &AgentName) {
        if let Some(meters) = self.agents().remove(agent) {
            meters.retire();
        }
    }

    /// Begins to count what a supervisor gives up.
    pub(crate) fn supervises(&self, supervisor: &str) {
        for reason in [INTENSITY, GIVEN_UP] {
            self.count_escalations(supervisor, reason, 0);
        }
    }

    /// Counts that a supervisor gave up.
    pub(crate) fn escalated(&self, supervisor: &str, reason: &str) {
        self.count_escalations(supervisor, reason, 1);
    }

    fn count_escalations(&self, supervisor: &str, reason: &str, count: u64) {
        let labels = [("supervisor", supervisor), ("reason", reason)];
        self.own.counter(&metric::SUPERVISOR_ESCALATIONS, &labels).increment(count);
    }

    /// Counts what belongs to no agent.
    pub(crate) fn count(&self, metric: &Metric, count: u64) {
        self.own.counter(metric, &[]).increment(count);
    }

    /// Returns the name of a model as a label.
    pub(crate) fn model<'a>(&self, model: &'a str) -> &'a str {
        self.models.label(model)
    }

    /// Shows where the breaker of a model stands, whose name is a label.
    pub(crate) fn breaker(&self, model: &str, level: f64) {
        let (provider, model) = provider_and_name(model);
        let labels = [("provider", provider), ("model", model)];
        self.own.gauge(&metric::BREAKER_STATE, &labels).set(level);
    }

    /// Tells the recorder that all series are still there.
    fn keep(&self) {
        self.own.keep();
        let agents: Vec<_> = self.agents().values().cloned().collect();
        for agent in agents {
            agent.keep();
        }
    }

    fn agents(&self) -> MutexGuard<'_, HashMap<AgentName, Arc<AgentMeters>>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a model string apart.
fn provider_and_name(model: &str) -> (&str, &str) {
    match model {
        bounded::OTHER => (bounded::OTHER, bounded::OTHER),
        model => model.split_once(':').unwrap_or(("none", model)),
    }
}

/// Counts the end of a run that nobody drove.
pub(crate) fn run_ended_at_rest(agent: &AgentName, end: &RunEvent) {
    let labels = [("agent", agent.to_string()), ("outcome", agent::outcome(end).to_owned())];
    metrics::counter!(metric::RUNS.name, &labels).increment(1);
}

/// Counts on behalf of the process, from where no runtime is at hand.
pub(crate) fn count(metric: &Metric, count: u64) {
    metrics::counter!(metric.name).increment(count);
}

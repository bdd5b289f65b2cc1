//! How an agent is, as data.

use std::time::SystemTime;

use axon_kernel::event::millis;
use axon_kernel::ids::Generation;
use axon_kernel::spec::{AgentName, Kind};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::actor::{Mode, State};
use super::seat::{Condition, Seat};
use super::tenancy::Tenancy;

/// How an agent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Its name.
    pub name: AgentName,
    /// What it is.
    pub kind: Kind,
    /// Where its runners are: up, if one is.
    #[serde(flatten)]
    pub state: AgentState,
    /// The generation of its first runner that is up; without one, of the last that was launched.
    pub generation: Generation,
    /// The process id of that runner.
    pub pid: Option<u32>,
    /// The model, as that runner resolved it.
    pub model: Option<String>,
    /// Whether that model only plays one.
    pub offline: bool,
    /// Runs under way.
    pub in_flight: usize,
    /// Runs that wait.
    pub queued: usize,
    /// How many more restarts of its runners are allowed now, before it is parked.
    pub restarts_left: u32,
    /// Its runners, with those that were replaced and that runs are still in.
    pub runners: Vec<RunnerStatus>,
}

/// Where an agent's runners are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum AgentState {
    /// Being launched.
    Starting,
    /// Taking runs.
    Up,
    /// Waiting to be launched again.
    Restarting {
        /// Why the last one ended.
        cause: String,
    },
    /// Not served until it is restarted or reloaded, or its next try succeeds.
    Parked {
        /// Why.
        cause: String,
        /// Milliseconds until the next try; without it, only a restart or a reload helps.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_in_ms: Option<u64>,
    },
    /// Without runners on purpose, until it is restarted.
    Drained,
    /// Its actor has ended and its supervisor has not started it again.
    Down {
        /// Why.
        cause: String,
    },
}

impl AgentState {
    /// The labels of all states.
    pub(crate) const LABELS: [&'static str; 6] =
        ["starting", "up", "restarting", "parked", "drained", "down"];

    /// Returns the state as metrics label it.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Restarting { .. } => "restarting",
            Self::Parked { .. } => "parked",
            Self::Drained => "drained",
            Self::Down { .. } => "down",
        }
    }
}

/// How one runner of an agent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerStatus {
    /// Its generation: the number of its launch among all launches of its agent.
    pub generation: Generation,
    /// Where it is.
    #[serde(flatten)]
    pub state: RunnerState,
    /// Its process id, once it is up.
    pub pid: Option<u32>,
    /// Runs that are in it.
    pub in_flight: usize,
    /// How many attempts of runs it was lent to.
    pub served: u64,
    /// When it came up, in milliseconds since the beginning of 1970 (UTC).
    pub started_at_ms: Option<u64>,
    /// How much memory it holds, in bytes.
    pub resident_bytes: Option<u64>,
    /// How much time its process has had on the processor, in milliseconds.
    pub cpu_ms: Option<u64>,
    /// How many threads it has.
    pub threads: Option<u32>,
}

/// Where one runner is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RunnerState {
    /// Being launched.
    Starting,
    /// Taking runs.
    Up,
    /// Waiting to be launched again.
    Waiting {
        /// Why the last one ended.
        cause: String,
        /// Milliseconds until the next launch.
        retry_in_ms: u64,
    },
    /// Replaced, and ended as soon as no run is in it.
    Retiring,
}

impl RunnerStatus {
    fn new(generation: Generation, state: RunnerState) -> Self {
        Self {
            generation,
            state,
            pid: None,
            in_flight: 0,
            served: 0,
            started_at_ms: None,
            resident_bytes: None,
            cpu_ms: None,
            threads: None,
        }
    }

    fn of(tenancy: &Tenancy, state: RunnerState) -> Self {
        let usage = tenancy.usage();
        let started_at = tenancy.started_at.duration_since(SystemTime::UNIX_EPOCH);
        Self {
            pid: Some(tenancy.pid()),
            in_flight: tenancy.in_flight(),
            served: tenancy.served(),
            // A clock before 1970 tells no time.
            started_at_ms: started_at.ok().map(millis),
            resident_bytes: usage.as_ref().map(|usage| usage.resident_bytes),
            cpu_ms: usage.as_ref().map(|usage| millis(usage.cpu)),
            threads: usage.as_ref().map(|usage| usage.threads),
            ..Self::new(tenancy.generation, state)
        }
    }
}

impl State {
    pub(super) fn status(&self) -> AgentStatus {
        let supervision = self.agent.launcher().spec.supervision;
        let first = self.seats.iter().find_map(Seat::tenancy);
        AgentStatus {
            name: self.agent.name.clone(),
            kind: self.agent.launcher().spec.kind(),
            state: self.state(),
            generation: first.map_or(self.latest, |tenancy| tenancy.generation),
            pid: first.map(|tenancy| tenancy.pid()),
            model: first.map(|tenancy| tenancy.model.clone()),
            offline: first.is_some_and(|tenancy| tenancy.offline),
            in_flight: self.agent.gate.in_flight(),
            queued: self.agent.gate.queued(),
            restarts_left: self.trouble.left(&supervision, Instant::now()),
            runners: self.runners(),
        }
    }

    fn state(&self) -> AgentState {
        match &self.mode {
            Mode::Parked { cause, retry_at, .. } => {
                let wait = retry_at.map(|at| at.saturating_duration_since(Instant::now()));
                AgentState::Parked { cause: cause.to_string(), retry_in_ms: wait.map(millis) }
            }
            Mode::Probing { cause } => {
                AgentState::Parked { cause: cause.to_string(), retry_in_ms: Some(0) }
            }
            Mode::Resting => AgentState::Drained,
            Mode::Serving if self.is_up() || self.seats.is_empty() => AgentState::Up,
            Mode::Serving if self.seats.iter().any(Seat::is_launching) => AgentState::Starting,
            Mode::Serving => {
                let last = self.seats.iter().find_map(|seat| match &seat.condition {
                    Condition::Waiting { cause, .. } => Some(cause.clone()),
                    Condition::Vacant | Condition::Up { .. } => None,
                });
                AgentState::Restarting { cause: last.unwrap_or_default() }
            }
        }
    }

    /// Shows the state in the metrics.
    pub(super) fn show(&self) {
        let up = self.seats.iter().filter(|seat| seat.tenancy().is_some()).count();
        let state = match &self.mode {
            // Without its cause, which nobody reads here.
            Mode::Parked { .. } | Mode::Probing { .. } => "parked",
            Mode::Resting | Mode::Serving => self.state().label(),
        };
        self.agent.meters.shows(state, up);
    }

    fn runners(&self) -> Vec<RunnerStatus> {
        let mut runners = Vec::new();
        for Seat { generation, condition, launch } in &self.seats {
            match condition {
                Condition::Vacant => {}
                Condition::Up { tenancy, .. } => {
                    runners.push(RunnerStatus::of(tenancy, RunnerState::Up));
                }
                Condition::Waiting { cause, until } => {
                    let wait = until.saturating_duration_since(Instant::now());
                    let (cause, retry_in_ms) = (cause.clone(), millis(wait));
                    let state = RunnerState::Waiting { cause, retry_in_ms };
                    runners.push(RunnerStatus::new(*generation, state));
                }
            }
            let starting = launch.iter().map(|launch| launch.generation);
            runners.extend(starting.map(|it| RunnerStatus::new(it, RunnerState::Starting)));
        }
        let retiring = self.retiring.iter();
        runners.extend(retiring.map(|it| RunnerStatus::of(it, RunnerState::Retiring)));
        runners
    }
}

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axon_kernel::spec::{Backoff, Intensity};
use axon_kernel::supervision::{
    ChildId, ChildState, ChildView, Incarnation, Moment, Restart, Strategy,
};
use serde::{Deserialize, Deserializer, Serialize};
use tokio::sync::oneshot;

use super::actor::{KILLED, State};
use super::event::seconds;
use super::{ChildKind, ChildSpec, Exit, SupervisorHandle};

/// A supervisor as data.
#[derive(Clone, Debug, Serialize)]
pub struct SupervisorSnapshot {
    /// Its label.
    pub supervisor: Arc<str>,
    /// Who is restarted with whom.
    pub strategy: Strategy,
    /// How many restarts are allowed in which time.
    pub intensity: Intensity,
    /// How many more restarts are allowed now.
    pub restarts_left: u32,
    /// How long restarts wait; `None`: they do not.
    pub backoff: Option<Backoff>,
    /// How many children did not end although they were killed.
    pub leaked: u64,
    /// The children, in their order.
    pub children: Vec<ChildSnapshot>,
}

/// A child as data.
#[derive(Clone, Debug, Serialize)]
pub struct ChildSnapshot {
    /// Its identity.
    pub id: ChildId,
    /// Worker or supervisor.
    pub kind: ChildKind,
    /// When it is restarted.
    pub restart: Restart,
    /// What it is doing.
    #[serde(flatten)]
    pub status: ChildStatus,
    /// Its current or last incarnation.
    pub incarnation: Option<Incarnation>,
    /// How often it was restarted automatically.
    pub restarts: u32,
    /// The supervisor that it is, to ask it for its own snapshot.
    #[serde(skip)]
    pub nested: Option<SupervisorHandle>,
}

/// What a child is doing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ChildStatus {
    /// Being started.
    Starting,
    /// Running.
    Running,
    /// Waiting for its restart.
    Restarting {
        /// How it ended, or why it did not start, the last time.
        cause: Option<Exit>,
        /// How long it still waits, if not for its siblings' turn; as data in seconds.
        #[serde(serialize_with = "maybe_seconds", deserialize_with = "of_seconds")]
        due_in: Option<Duration>,
    },
    /// Being stopped.
    Stopping,
    /// Not running, until somebody asks for it.
    Stopped,
    /// Not running, because a restart would not help.
    GivenUp {
        /// Why.
        cause: Exit,
    },
}

/// OTP's `count_children`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All entries.
    pub specs: usize,
    /// Those that run.
    pub active: usize,
    /// Those that are supervisors, running or not.
    pub supervisors: usize,
    /// Those that are workers, running or not.
    pub workers: usize,
}

/// What somebody wants to know.
pub(super) enum Query {
    Snapshot(oneshot::Sender<SupervisorSnapshot>),
    Count(oneshot::Sender<Counts>),
    Spec(ChildId, oneshot::Sender<Option<ChildSpec>>),
}

impl State {
    pub(super) fn answer(&self, query: Query) {
        // Whoever asked may have given up.
        match query {
            Query::Snapshot(reply) => drop(reply.send(self.snapshot())),
            Query::Count(reply) => drop(reply.send(self.counts())),
            Query::Spec(id, reply) => {
                drop(reply.send(self.entries.get(&id).map(|entry| entry.spec.clone())));
            }
        }
    }

    fn snapshot(&self) -> SupervisorSnapshot {
        let (now, flags) = (self.now(), self.machine.flags());
        SupervisorSnapshot {
            supervisor: self.label.clone(),
            strategy: flags.strategy,
            intensity: flags.intensity,
            restarts_left: self.machine.restarts_left(now),
            backoff: flags.backoff,
            leaked: self.leaked.load(Ordering::Relaxed),
            children: self.machine.children().map(|view| self.child(view, now)).collect(),
        }
    }

    fn child(&self, view: ChildView, now: Moment) -> ChildSnapshot {
        let entry = self.entries.get(&view.id);
        let cause = entry.and_then(|entry| entry.cause.clone());
        ChildSnapshot {
            kind: entry.map_or(ChildKind::Worker, |entry| entry.spec.kind()),
            restart: view.terms.restart,
            status: match view.state {
                ChildState::Starting => ChildStatus::Starting,
                ChildState::Running => ChildStatus::Running,
                ChildState::Restarting { due } => {
                    ChildStatus::Restarting { cause, due_in: due.map(|due| due.since(now)) }
                }
                ChildState::Stopping => ChildStatus::Stopping,
                ChildState::Stopped => ChildStatus::Stopped,
                ChildState::GivenUp => ChildStatus::GivenUp { cause: cause.unwrap_or(KILLED) },
            },
            incarnation: view.incarnation,
            restarts: view.restarts,
            nested: entry.and_then(|entry| entry.nested.clone()),
            id: view.id,
        }
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for view in self.machine.children() {
            let kind = self.entries.get(&view.id).map(|entry| entry.spec.kind());
            counts.specs += 1;
            counts.active += usize::from(view.state == ChildState::Running);
            counts.supervisors += usize::from(kind == Some(ChildKind::Supervisor));
            counts.workers += usize::from(kind != Some(ChildKind::Supervisor));
        }
        counts
    }
}

fn of_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let seconds = Option::<f64>::deserialize(deserializer)?;
    // What is no time is none.
    Ok(seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
}

fn maybe_seconds<S: serde::Serializer>(
    time: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => seconds(time, serializer),
        None => serializer.serialize_none(),
    }
}

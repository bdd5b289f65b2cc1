//! A process that this side has started, directly or through a launcher.

use std::process::ExitStatus;

use axon_kernel::metric;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::Child;

use crate::launcher::{Ended, Launched};

/// A process that this side has started, and may signal until it has been waited for.
#[derive(Debug)]
pub(crate) enum Held {
    /// A child of this process.
    Spawned { child: Child, pid: u32 },
    /// A child of a launcher.
    Launched(Launched),
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum Status {
    /// Like this.
    Ended(ExitStatus),
    /// Nobody can say how.
    Unknown,
    /// With its launcher.
    Lost,
}

impl From<std::io::Result<ExitStatus>> for Status {
    fn from(status: std::io::Result<ExitStatus>) -> Self {
        status.map_or(Self::Unknown, Self::Ended)
    }
}

impl From<Ended> for Status {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Told { status, strays } => {
                if strays > 0 {
                    tracing::warn!(strays, "a runner left processes behind, which were killed");
                    metrics::counter!(metric::RUNNER_STRAYS.name).increment(strays.into());
                }
                Self::Ended(status)
            }
            Ended::Untold => Self::Unknown,
            Ended::Lost => Self::Lost,
        }
    }
}

impl Held {
    pub(crate) fn spawned(child: Child) -> Self {
        let pid = child.id().unwrap_or_default();
        Self::Spawned { child, pid }
    }

    pub(crate) fn pid(&self) -> u32 {
        match self {
            Self::Spawned { pid, .. } => *pid,
            Self::Launched(launched) => launched.pid,
        }
    }

    /// Waits for its end.
    pub(crate) async fn wait(&mut self) -> Status {
        match self {
            Self::Spawned { child, .. } => child.wait().await.into(),
            Self::Launched(launched) => launched.wait().await.into(),
        }
    }

    /// Returns how it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<Status> {
        match self {
            Self::Spawned { child, .. } => child.try_wait().transpose().map(Status::from),
            Self::Launched(launched) => launched.ended().map(Status::from),
        }
    }

    /// Signals the process alone.
    pub(crate) fn signal(&self, signal: Signal) {
        match self {
            Self::Spawned { pid, .. } => {
                // It may be ending just now: then there is nobody left to signal.
                let _gone = raw(*pid).map(|pid| kill_process(pid, signal));
            }
            Self::Launched(launched) => launched.signal(signal),
        }
    }

    /// Signals its process group.
    pub(crate) fn signal_group(&self, signal: Signal) {
        match self {
            Self::Spawned { pid, .. } => {
                // The group may be empty already: then there is nobody left to signal.
                let _empty = raw(*pid).map(|group| kill_process_group(group, signal));
            }
            Self::Launched(launched) => launched.signal_group(signal),
        }
    }

    /// Kills what is left of its group after it has ended. A launcher has done so before it tells.
    pub(crate) fn sweep(&self) {
        if matches!(self, Self::Spawned { .. }) {
            self.signal_group(Signal::KILL);
        }
    }
}

fn raw(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

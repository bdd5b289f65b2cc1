//! What to launch, and where.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use axon_kernel::wire::Launch;
use tokio::sync::watch;

use crate::launcher::Launcher;
use crate::sockets::Sockets;

/// What to launch, and where.
#[derive(Clone)]
pub struct LaunchPlan {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The whole environment of the process. No secrets: those travel in [`Launch::env`].
    pub env: BTreeMap<String, String>,
    /// The working directory.
    pub directory: PathBuf,
    /// Where its listening socket comes from.
    pub sockets: Sockets,
    /// The launch data.
    pub launch: Launch,
    /// Who starts it; without one it is started directly, and what it starts in a session of its own
    /// may outlive it.
    pub launcher: Option<Launcher>,
    /// Whether the launcher is to fork it from what it has imported, instead of executing `command`.
    pub fork: bool,
    /// The model providers whose packages the launcher imports before it forks.
    pub providers: Vec<String>,
    /// What the kernel lets the process have.
    pub limits: ProcessLimits,
    /// Where the process is counted until it has really ended.
    pub living: Living,
}

impl LaunchPlan {
    /// Plans to start a program directly, with an empty environment and without limits.
    #[must_use]
    pub fn directly(command: Vec<String>, directory: PathBuf, launch: Launch) -> Self {
        Self {
            command,
            env: BTreeMap::new(),
            sockets: Sockets::below(&directory, 1),
            directory,
            launch,
            launcher: None,
            fork: false,
            providers: Vec::new(),
            limits: ProcessLimits::default(),
            living: Living::default(),
        }
    }
}

/// What the kernel lets one process have; what is not named is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessLimits {
    /// Bytes of memory of its own that it can write to (`RLIMIT_DATA`): the heap, and the stacks of
    /// threads. Beyond it allocations fail, in Python with `MemoryError`.
    pub memory: Option<u64>,
    /// Processor time over its whole life (`RLIMIT_CPU`), in whole seconds. Beyond it the process is
    /// ended by SIGXCPU.
    pub cpu_time: Option<Duration>,
    /// Open files (`RLIMIT_NOFILE`).
    pub open_files: Option<u64>,
}

/// Shows the variables' names only: a proxy's may carry a password.
impl std::fmt::Debug for LaunchPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaunchPlan")
            .field("command", &self.command)
            .field("env", &self.env.keys())
            .field("directory", &self.directory)
            .field("launch", &self.launch)
            .field("fork", &self.fork)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Counts processes until each has ended, was reaped, and left nothing behind.
#[derive(Clone, Debug, Default)]
pub struct Living(watch::Sender<usize>);

impl Living {
    /// Waits until no counted process is left.
    pub async fn none(&self) {
        // The sender lives in `self`, so the channel cannot close.
        let mut living = self.0.subscribe();
        let _none = living.wait_for(|living| *living == 0).await;
    }

    pub(crate) fn begin(&self) -> Life {
        self.0.send_modify(|living| *living += 1);
        Life(self.clone())
    }
}

/// One counted process.
#[derive(Debug)]
pub(crate) struct Life(Living);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.0.send_modify(|living| *living -= 1);
    }
}

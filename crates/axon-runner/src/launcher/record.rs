//! What passes over a launcher's socket.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a launcher is told.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Order {
    Start(Start),
    /// Signals the process group of what was started as `id`; by SIGKILL, all that descends from it.
    Signal {
        id: u64,
        signal: i32,
    },
}

/// What is to be started. Its descriptors come with it: control socket, listening socket, lifeline,
/// standard output, standard error.
#[derive(Debug, Serialize)]
pub(super) struct Start {
    pub(super) id: u64,
    /// Whether it is forked from what the launcher has imported, rather than executed.
    pub(super) fork: bool,
    pub(super) name: String,
    pub(super) command: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) directory: PathBuf,
    /// The model providers whose packages are imported before the fork.
    pub(super) providers: Vec<String>,
}

/// What a launcher tells.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Told {
    /// It was started; its pidfd comes with this.
    Started {
        id: u64,
        pid: u32,
        /// Why it was executed although it was to be forked; empty otherwise.
        cold: String,
    },
    /// It was not started.
    Failed { errno: i32 },
    /// It has ended and was reaped.
    Exited {
        id: u64,
        /// As `wait` gives it.
        status: i32,
        /// How many processes it had left behind, outside of its group; they were killed.
        strays: u32,
    },
}

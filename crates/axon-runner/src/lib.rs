//! One Python runner process: its environment, its launch, the HTTP and SSE link to it, its end.
//!
//! To start reading: [`plan`] says what to launch, [`launcher`] is the warm parent that forks it,
//! [`starting`] waits until it is ready, [`process`] is the [`Runner`] and says how it ended,
//! [`client`] speaks to it, [`frames`] guards what it streams, [`environment`] finds or builds the
//! Python it needs.
//!
//! The invariant: a runner, and what it has started, never outlives the value that owns it, nor the
//! process that owns that.

pub mod address;
pub mod attached;
pub mod client;
mod control;
mod dump;
pub mod embedded;
pub mod environment;
mod exit;
mod folders;
pub mod frames;
mod held;
pub mod launcher;
mod limits;
pub mod logs;
mod memory;
pub mod orphans;
pub mod plan;
pub mod process;
mod signals;
pub mod sockets;
pub mod starting;
mod type_schema;
pub mod usage;

pub use address::{Address, AddressError};
pub use attached::{AttachError, AttachPlan};
pub use client::{AttemptStream, RequestError, RunnerClient, StreamError};
pub use exit::{By, Exit};
pub use folders::sweep_folders;
pub use launcher::{Launcher, LauncherPlan};
pub use plan::{LaunchPlan, Living, ProcessLimits};
pub use process::Runner;
pub use sockets::Sockets;
pub use starting::{StartError, StartingRunner};
pub use type_schema::{TypeSchemaError, schema_of_type};
pub use usage::Usage;

//! One Python runner process: its environment, its launch, the HTTP and SSE link to it, its end.
//!
//! To start reading: [`process`] launches a [`Runner`] and says how it ended, [`client`] speaks to
//! it, [`frames`] guards what it streams, [`environment`] finds or builds the Python it needs.
//!
//! The invariant: a runner never outlives the value that owns it, nor the process that owns that.

pub mod client;
mod control;
mod dump;
pub mod embedded;
pub mod environment;
mod exit;
pub mod frames;
pub mod logs;
pub mod process;

pub use client::{AttemptStream, RequestError, RunnerClient, StreamError};
pub use exit::Exit;
pub use process::{LaunchPlan, Living, Runner, StartError, StartingRunner};

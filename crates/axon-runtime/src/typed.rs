//! Agents asked in a service's own types.
//!
//! To start reading: [`TypedAgent`] is asked, [`TypedRun`] is what it is asked for, [`Answer`] is
//! what comes of it.

mod agent;
mod answer;
mod run;

pub use agent::TypedAgent;
pub use answer::{Answer, RunError};
pub use run::TypedRun;

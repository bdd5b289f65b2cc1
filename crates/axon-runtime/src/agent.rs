//! An agent: an actor that owns its runners, admits runs, and lends runners to attempts.
//!
//! To start reading: [`actor`] has the seats of the runners and launches for them, [`lending`] says
//! which attempt gets which runner, [`ends`] what follows when one ends, [`recycle`] and [`reload`]
//! how one is replaced that is well.

mod actor;
mod direct_call;
mod ends;
mod gate;
mod handle;
mod lending;
mod pulse;
mod recycle;
mod reload;
mod seat;
mod shared;
mod status;
mod tenancy;
mod trouble;

pub(crate) use actor::{AgentActor, AgentArguments, AgentMessage};
pub use direct_call::DirectCall;
pub(crate) use ends::REPLACED;
pub(crate) use gate::{Admission, Slot};
pub use handle::AgentHandle;
pub(crate) use shared::{Agent, Standing};
pub use status::{AgentState, AgentStatus, RunnerState, RunnerStatus};
pub(crate) use tenancy::{Death, Lease};

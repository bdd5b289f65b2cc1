//! An agent: an actor that owns its runner, admits runs, and lends the runner to attempts.

mod actor;
mod gate;
mod handle;
mod shared;
mod status;
mod tenancy;
mod trouble;

pub(crate) use actor::{AgentActor, AgentArguments, AgentMessage};
pub(crate) use gate::{Admission, Slot};
pub use handle::AgentHandle;
pub(crate) use shared::{Agent, Standing};
pub use status::{AgentState, AgentStatus};
pub(crate) use tenancy::{Death, Lease};

//! An agent: an actor that owns its runner, admits runs, and lends the runner to attempts.

mod actor;
mod admission;
mod handle;

pub(crate) use actor::{AgentActor, AgentArguments, AgentMessage, Lease};
pub(crate) use admission::Admission;
pub use handle::{AgentHandle, AgentState, AgentStatus};

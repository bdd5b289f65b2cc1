//! Agents that a service defines in Rust: in its own types, with its own functions.
//!
//! To start reading: [`Agent`] is one, [`AgentBuilder`] says what it is. What a file can say of an
//! agent is its [`AgentSpec`](axon_kernel::spec::AgentSpec), the same for both; the functions
//! behind it are in [`AgentCode`].

mod agent;
mod builder;
mod code;
mod error;
mod functions;
mod pipeline;
mod prompt;
mod router;
mod schemas;
mod validate;

pub use agent::Agent;
pub use builder::AgentBuilder;
pub use code::AgentCode;
pub use error::DefinitionError;
pub(crate) use functions::{Both, StepFunctions};
pub use pipeline::{Addressable, Named, Pipeline, named};
pub use prompt::{IntoInstructions, PromptContext};
pub(crate) use prompt::{PromptCall, Prompts};
pub use router::Router;
pub(crate) use schemas::parameters_of;
pub use schemas::{Deps, Output};
pub(crate) use validate::{Known, Validators};
pub use validate::{OutputContext, Reject};

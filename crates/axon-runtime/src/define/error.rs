//! Why an agent, a tool or a prompt cannot be defined as it is.

use axon_kernel::prompt::PromptError;
use axon_kernel::schema::TypeError;
use axon_kernel::spec::{Broken, NameError, SpecError};

/// Why an agent, a tool or a prompt cannot be defined as it is. Nothing was started.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DefinitionError {
    /// A name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A Rust type has no schema that both ends can work with.
    #[error("{what} cannot be described to a model: {problem}")]
    Type {
        /// What the type is used as: `the output`, `the arguments of tool "add"`.
        what: String,
        /// Why, and what to write instead.
        problem: TypeError,
    },
    /// Instructions cannot be used.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The definition breaks rules that hold for every agent.
    #[error("agent `{agent}`: {}", rules(broken))]
    Rules {
        /// The agent.
        agent: String,
        /// The rules, with their places as in an `agent.toml`.
        broken: Vec<Broken>,
    },
    /// A router cannot be what it is said to be.
    #[error(transparent)]
    File(#[from] SpecError),
    /// A part of a definition has no form in which it can be kept.
    #[error("the definition cannot be written down: {0}")]
    Unwritable(String),
    /// A second thing has the same name.
    #[error("a second {what} is called `{name}`")]
    Duplicate {
        /// What it is.
        what: &'static str,
        /// The name.
        name: String,
    },
}

impl DefinitionError {
    pub(super) fn unwritable(error: impl std::fmt::Display) -> Self {
        Self::Unwritable(error.to_string())
    }
}

fn rules(broken: &[Broken]) -> String {
    broken.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

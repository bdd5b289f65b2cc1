//! An agent that a service defines in Rust.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use axon_kernel::spec::{AgentName, AgentSpec};

use super::{AgentBuilder, Deps, Output};
use crate::agents_dir::AgentDefinition;
use crate::tools::AnyDeps;

/// An agent that a service defines in Rust: callers give it a `D`, and it answers with an `O`.
/// Cheap to clone.
///
/// ```
/// use axon_runtime::{Agent, ToolContext, ToolError};
///
/// #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
/// struct Customer { id: u32 }
///
/// /// What the bank tells its customer.
/// #[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
/// struct Advice {
///     text: String,
///     /// From 0, harmless, to 10, money is being lost.
///     #[schemars(range(max = 10))]
///     risk: u8,
/// }
///
/// # fn example() -> Result<(), axon_runtime::DefinitionError> {
/// let support = Agent::<Customer, Advice>::builder("support")
///     .model("openai:gpt-5")
///     .instructions("You are a support agent in our bank. The customer is {{ deps.id }}.")
///     .validate(|advice, _ctx| match advice.text.is_empty() {
///         true => Err("say something".into()),
///         false => Ok(()),
///     })
///     .build()?;
/// assert!(support.spec().to_toml().unwrap().contains("maximum = 10"));
/// # Ok(())
/// # }
/// # example().unwrap();
/// ```
///
/// `Runtime::builder().agent(support.clone())` starts it, and
/// [`Runtime::agent`](crate::Runtime::agent) asks it.
pub struct Agent<D = AnyDeps, O = String> {
    definition: Arc<AgentDefinition>,
    types: PhantomData<fn(D) -> O>,
}

impl<D: Deps, O: Output> Agent<D, O> {
    /// Begins the agent called `name`.
    pub fn builder(name: &str) -> AgentBuilder<D, O> {
        AgentBuilder::new(name)
    }

    pub(super) fn new(definition: AgentDefinition) -> Self {
        Self { definition: Arc::new(definition), types: PhantomData }
    }
}

impl<D, O> Agent<D, O> {
    /// Returns the agent's name.
    #[must_use]
    pub fn name(&self) -> &AgentName {
        &self.definition.spec.name
    }

    /// Returns what a file can say of the agent.
    #[must_use]
    pub fn spec(&self) -> &AgentSpec {
        &self.definition.spec
    }
}

impl<D, O> Clone for Agent<D, O> {
    fn clone(&self) -> Self {
        Self { definition: self.definition.clone(), types: PhantomData }
    }
}

impl<D, O> fmt::Debug for Agent<D, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Agent").field(self.spec()).finish()
    }
}

impl<D, O> From<Agent<D, O>> for AgentDefinition {
    fn from(agent: Agent<D, O>) -> Self {
        Arc::unwrap_or_clone(agent.definition)
    }
}

impl<D, O> From<&Agent<D, O>> for AgentDefinition {
    fn from(agent: &Agent<D, O>) -> Self {
        agent.definition.as_ref().clone()
    }
}

//! An agent that is asked in the types that it was defined in.

use std::fmt;
use std::marker::PhantomData;

use axon_kernel::spec::AgentName;

use super::TypedRun;
use crate::agent::AgentHandle;
use crate::run::{Prompt, Refusal};

/// An agent of a runtime that is asked in the types that it was defined in. Cheap to clone.
pub struct TypedAgent<D, O> {
    found: Result<AgentHandle, (AgentName, Option<String>)>,
    types: PhantomData<fn(D) -> O>,
}

impl<D, O> TypedAgent<D, O> {
    pub(crate) fn new(found: Result<AgentHandle, (AgentName, Option<String>)>) -> Self {
        Self { found, types: PhantomData }
    }

    /// Prepares a run with `prompt`.
    pub fn run(&self, prompt: impl Into<Prompt>) -> TypedRun<D, O> {
        TypedRun::new(self.handle().map(|handle| handle.run(prompt)))
    }

    /// Returns the agent as those ask it who know nothing of its types.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotFound`] if the runtime has no such agent.
    pub fn handle(&self) -> Result<AgentHandle, Refusal> {
        self.found
            .clone()
            .map_err(|(name, nearest)| Refusal::NotFound { name: name.to_string(), nearest })
    }
}

impl<D, O> Clone for TypedAgent<D, O> {
    fn clone(&self) -> Self {
        Self::new(self.found.clone())
    }
}

impl<D, O> fmt::Debug for TypedAgent<D, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedAgent").field(&self.found).finish()
    }
}

impl AgentHandle {
    /// Asks the agent in these types: callers give it a `D`, and it answers with an `O`. That its
    /// answers are none is told by each run.
    #[must_use]
    pub fn typed<D, O>(&self) -> TypedAgent<D, O> {
        TypedAgent::new(Ok(self.clone()))
    }
}

//! An agent that somebody elsewhere defines while the runtime runs: what its definition may say.
//!
//! Whoever may define agents gets to use what the service has, and brings nothing of their own: no
//! code, no program, no file, no variable, no address that a key is sent to.

use std::path::PathBuf;

use axon_kernel::spec::{AgentName, AgentSpec, Callable, RunnerProgram, SpecError};
use serde_json::{Map, Value};

use crate::agent::AgentHandle;
use crate::agents_dir::AgentDefinition;
use crate::define::AgentCode;
use crate::runtime::{Runtime, StartError};

/// Why an agent was not taken in. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum NewcomerError {
    /// Its definition breaks the rules of every definition.
    #[error(transparent)]
    Wrong(#[from] SpecError),
    /// Its definition says what only the service's own files may say.
    #[error("agent `{agent}` brings what only the service's own files may: {}", reasons.join("; "))]
    NotAllowed {
        /// The agent.
        agent: AgentName,
        /// What, each with its key.
        reasons: Vec<String>,
    },
    /// It could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl Runtime {
    /// Starts an agent that is defined in JSON, by the keys of an `agent.toml`, as it comes from
    /// elsewhere. It lasts as long as the runtime.
    ///
    /// The definition may use what the runtime has: its models' providers, the Rust functions of
    /// the service, other agents, and the Python functions that an agent here names already, in the
    /// same part. It may bring no code, no program, no file and no environment.
    ///
    /// # Errors
    ///
    /// [`NewcomerError`] if the definition is wrong or says more than that, or the agent cannot
    /// start.
    pub async fn start_newcomer(
        &self,
        name: AgentName,
        definition: &Map<String, Value>,
    ) -> Result<AgentHandle, NewcomerError> {
        let spec = AgentSpec::from_json(name, definition)?;
        let mut reasons = brought(&spec);
        let mut path = Vec::new();
        for callable in spec.callables() {
            match self.path_of(&callable) {
                Some(found) => path.extend(found),
                None => reasons.push(format!(
                    "`{}`: no agent of this service names this Python object in the same part",
                    callable.target
                )),
            }
        }
        if !reasons.is_empty() {
            return Err(NewcomerError::NotAllowed { agent: spec.name, reasons });
        }
        path.sort();
        path.dedup();
        let code = AgentCode::default();
        Ok(self.start_agent(AgentDefinition { spec, folder: None, path, code }).await?)
    }

    /// Returns where the Python object is found that an agent here uses in the same part.
    fn path_of(&self, wanted: &Callable) -> Option<Vec<PathBuf>> {
        self.agents().into_iter().find_map(|agent| {
            let known = agent.spec().callables();
            let uses = known
                .iter()
                .any(|known| known.target == wanted.target && known.role == wanted.role);
            uses.then(|| agent.agent.launcher().python_path().to_vec())
        })
    }
}

/// Returns what a definition says that would be the newcomer's own.
fn brought(spec: &AgentSpec) -> Vec<String> {
    let runner = &spec.runner;
    let is_plain = matches!(runner.program, RunnerProgram::Python { python: None });
    let found = [
        (!is_plain, "`runner.python`, `command` and `url` choose a program"),
        (runner.module.is_some(), "`runner.module` is code"),
        (runner.token_env.is_some(), "`runner.token_env` reads the environment"),
        (!runner.pass_env.is_empty(), "`runner.pass_env` reads the environment"),
        (!runner.env.is_empty(), "`runner.env` changes the environment"),
        (spec.provider.is_some(), "`provider` says where a key is sent"),
        (!spec.capabilities.is_empty(), "`capabilities` can reach programs and addresses"),
    ];
    found.into_iter().filter(|(is_there, _)| *is_there).map(|(_, why)| why.to_owned()).collect()
}

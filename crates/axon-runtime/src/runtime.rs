//! The runtime: a value that owns its agents, their runs and their names.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axon_kernel::failure::Failure;
use axon_kernel::spec::AgentName;
use axon_kernel::store::Store;
use axon_runner::embedded::LayDownError;
use axon_runner::environment::SyncError;
use tokio::sync::watch;

use crate::agent::AgentHandle;
use crate::agents::Agents;
use crate::agents_dir::{AgentDefinition, FolderError, load_agents};
use crate::host::Host;
use crate::launch::{Launcher, OnProgress, PrepareError, Surroundings};
use crate::memory::MemoryStore;
use crate::registry::Registry;
use crate::run::Refusal;
use crate::runs::Runs;

/// How long runs may take to end when the runtime shuts down.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);

/// Why a runtime, or an agent of it, could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The surroundings cannot be read.
    #[error("cannot read the working directory")]
    Host(#[source] std::io::Error),
    /// An agent's folder cannot be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// There is no Python environment.
    #[error(transparent)]
    Environment(#[from] SyncError),
    /// The runner's sources cannot be written to the cache.
    #[error(transparent)]
    Sources(#[from] LayDownError),
    /// An agent cannot work as it is defined.
    #[error("agent `{agent}` cannot start: {failure}")]
    Refused {
        /// The agent.
        agent: AgentName,
        /// Why.
        failure: Box<Failure>,
    },
    /// The name is taken.
    #[error("there is an agent `{0}` already")]
    Duplicate(AgentName),
    /// The actor could not be started.
    #[error("cannot start an actor")]
    Actor(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Prepares a [`Runtime`].
#[must_use = "a runtime starts with `start`"]
pub struct RuntimeBuilder {
    host: Option<Host>,
    folders: Vec<PathBuf>,
    agents: Vec<AgentDefinition>,
    surroundings: Surroundings,
    store: Arc<dyn Store>,
}

impl RuntimeBuilder {
    /// Starts every agent of the folder `path`.
    pub fn agents_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.folders.push(path.into());
        self
    }

    /// Starts `agent`: a spec, or one read with [`load_agent`](crate::load_agent).
    pub fn agent(mut self, agent: impl Into<AgentDefinition>) -> Self {
        self.agents.push(agent.into());
        self
    }

    /// Starts `agent` and no other, whatever was asked for before.
    pub fn only(mut self, agent: impl Into<AgentDefinition>) -> Self {
        self.folders.clear();
        self.agents = vec![agent.into()];
        self
    }

    /// Returns the folders whose agents would be started.
    #[must_use]
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Returns the agents that would be started beside those of the folders.
    #[must_use]
    pub fn agents(&self) -> &[AgentDefinition] {
        &self.agents
    }

    /// Takes these surroundings in place of the process's own.
    pub fn host(mut self, host: Host) -> Self {
        self.host = Some(host);
        self
    }

    /// Lets agents answer with a model that only plays one.
    pub fn allow_offline(mut self) -> Self {
        self.surroundings.allow_offline = true;
        self
    }

    /// Keeps runs and conversations in `store`; in memory by default.
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = store;
        self
    }

    /// Calls `on_progress` while the Python environment is built, which can take a minute once.
    pub fn on_progress(mut self, on_progress: OnProgress) -> Self {
        self.surroundings.progress = on_progress;
        self
    }

    /// Starts the agents, and returns when each runner is up, could not be launched, or took longer
    /// than a run of its agent may.
    ///
    /// # Errors
    ///
    /// [`StartError`] of the first agent that cannot work as it is defined. An agent whose runner
    /// merely died while it started is tried again and is no error here.
    pub async fn start(self) -> Result<Runtime, StartError> {
        let Self { host, folders, mut agents, surroundings, store } = self;
        let host = host.map_or_else(Host::from_process, Ok).map_err(StartError::Host)?;
        for folder in folders {
            agents.extend(load_agents(&host.directory.join(folder), &host)?);
        }
        let runs = Runs::start(store).await.map_err(|error| StartError::Actor(error.into()))?;
        let supervisor = Agents::start().await.map_err(|error| StartError::Actor(error.into()))?;
        let registry = Registry::new();
        let inner =
            Inner { host: Arc::new(host), registry, runs, agents: supervisor, surroundings };
        let runtime = Runtime { inner: Arc::new(inner) };
        let mut handles = Vec::new();
        for agent in agents {
            handles.push(runtime.launch_agent(agent).await?);
        }
        for handle in handles {
            runtime.settle(&handle).await?;
        }
        Ok(runtime)
    }
}

impl std::fmt::Debug for RuntimeBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RuntimeBuilder")
            .field("folders", &self.folders)
            .field("agents", &self.agents)
            .finish_non_exhaustive()
    }
}

/// Owns agents, their runs and their names. Two runtimes in one process know nothing of each
/// other. Cheap to clone; the last clone that is dropped ends the runners.
#[derive(Clone, Debug)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    host: Arc<Host>,
    registry: Registry,
    runs: Runs,
    agents: Agents,
    surroundings: Surroundings,
}

impl Runtime {
    /// Prepares a runtime.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder {
            host: None,
            folders: Vec::new(),
            agents: Vec::new(),
            surroundings: Surroundings { allow_offline: false, progress: Arc::new(|_| ()) },
            store: Arc::new(MemoryStore::default()),
        }
    }

    /// Finds an agent by its name.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotFound`] with the nearest name.
    pub fn named(&self, name: &str) -> Result<AgentHandle, Refusal> {
        self.inner.registry.find(name).ok_or_else(|| Refusal::NotFound {
            name: name.to_owned(),
            nearest: self.inner.registry.nearest(name),
        })
    }

    /// Returns every agent, by name.
    #[must_use]
    pub fn agents(&self) -> Vec<AgentHandle> {
        self.inner.registry.all()
    }

    /// Starts one more agent, and returns when its runner is up or could not be launched.
    ///
    /// # Errors
    ///
    /// [`StartError`] as for [`RuntimeBuilder::start`].
    pub async fn start_agent(
        &self,
        agent: impl Into<AgentDefinition>,
    ) -> Result<AgentHandle, StartError> {
        let handle = self.launch_agent(agent.into()).await?;
        self.settle(&handle).await?;
        Ok(handle)
    }

    /// Stops an agent, and returns when its runner has ended. Its name is free then.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotFound`] with the nearest name.
    pub async fn stop_agent(&self, name: &str) -> Result<(), Refusal> {
        let agent = self.named(name)?;
        agent.stop().await;
        self.inner.registry.remove(agent.name());
        Ok(())
    }

    /// Cancels what is under way, and returns when every run and every runner has ended.
    pub async fn shutdown(&self) {
        self.inner.runs.shutdown("the runtime shuts down", SHUTDOWN_DEADLINE).await;
        let agents = self.agents();
        futures_util::future::join_all(agents.iter().map(AgentHandle::stop)).await;
        for agent in &agents {
            self.inner.registry.remove(agent.name());
        }
    }

    async fn launch_agent(&self, agent: AgentDefinition) -> Result<AgentHandle, StartError> {
        let name = agent.spec.name.clone();
        if self.named(name.as_str()).is_ok() {
            return Err(StartError::Duplicate(name));
        }
        let Inner { host, registry, runs, agents, surroundings } = self.inner.as_ref();
        let launcher = Launcher::prepare(agent, host.clone(), surroundings.clone()).await;
        let launcher = Arc::new(launcher.map_err(|error| refused(&name, error))?);
        let (settled, news) = watch::channel(None);
        let actor = agents.spawn(launcher.clone(), settled).await;
        let actor = actor.map_err(|error| StartError::Actor(error.into()))?;
        let handle = AgentHandle { launcher, actor, settled: news, runs: runs.clone() };
        if registry.enter(handle.clone()) {
            return Ok(handle);
        }
        handle.stop().await;
        Err(StartError::Duplicate(name))
    }

    /// Waits for the first launch. An agent that cannot work as it is defined is stopped again.
    async fn settle(&self, handle: &AgentHandle) -> Result<(), StartError> {
        use axon_kernel::failure::Row;
        // Whoever asks meanwhile waits for the runner within the deadline of the run.
        let limit = handle.spec().limits.timeout;
        let Ok(Err(failure)) = tokio::time::timeout(limit, handle.ready()).await else {
            return Ok(());
        };
        if !matches!(failure.kind.row().row, Row::Configuration | Row::Credentials) {
            return Ok(());
        }
        let agent = handle.name().clone();
        handle.stop().await;
        self.inner.registry.remove(&agent);
        Err(StartError::Refused { agent, failure: Box::new(failure) })
    }
}

fn refused(agent: &AgentName, error: PrepareError) -> StartError {
    match error {
        PrepareError::Environment(error) => error.into(),
        PrepareError::Sources(error) => error.into(),
        PrepareError::Definition(failure) => {
            StartError::Refused { agent: agent.clone(), failure: Box::new(failure) }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.runs.abandon("the runtime was dropped");
        // Children end with their supervisor, and a runner with the state of its agent's actor.
        self.agents.stop();
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("agents", &self.registry).finish_non_exhaustive()
    }
}

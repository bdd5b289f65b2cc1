//! The runtime: a value that owns its agents, their runs and their names.

mod builder;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axon_kernel::budget::Allowance;
use axon_kernel::config::Config;
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::RunId;
use axon_kernel::spec::{AgentName, AgentSpec};
use axon_kernel::store::{Store, StoreError};
use axon_runner::embedded::LayDownError;
use axon_runner::environment::SyncError;
use futures_util::future::join_all;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;

use crate::agent::{Agent, AgentHandle, Standing};
use crate::agents::Agents;
use crate::agents_dir::{AgentDefinition, FolderError, check_among, config_file, load_config};
use crate::budget::Budget;
use crate::define::{Agent as DefinedAgent, AgentCode, DefinitionError};
use crate::direct::DirectModels;
use crate::edges::Edges;
use crate::events::{Events, RuntimeEvents};
use crate::group::Group;
use crate::host::Host;
use crate::launch::{Launcher, OFFLINE_PHASE, PrepareError, Surroundings};
use crate::launchers::Launchers;
use crate::log::RunEvents;
use crate::meters::Meters;
use crate::models::Models;
use crate::records::RunRecords;
use crate::registry::{Directory, Registry};
use crate::run::{Refusal, Resume, RunHandle};
use crate::runs::Runs;
use crate::services::Services;
use crate::trace::Tracer;
use crate::tree::Tree;
use crate::typed::TypedAgent;

pub use builder::RuntimeBuilder;

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
    /// Two folders of agents have settings for the whole process.
    #[error(
        "both {} and {} hold settings of the whole process: keep one of them", .0.display(), .1.display()
    )]
    SecondSettings(PathBuf, PathBuf),
    /// There is no agent of this name.
    #[error("there is no agent `{0}`")]
    Unknown(AgentName),
    /// The name is taken.
    #[error("there is an agent or a group `{0}` already")]
    Duplicate(AgentName),
    /// A Rust tool or prompt of the service is wrong.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The actor could not be started.
    #[error("cannot start an actor")]
    Actor(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Owns agents, their runs and their names. Two runtimes in one process know nothing of each
/// other. Cheap to clone; the last clone that is dropped ends the runners.
#[derive(Clone, Debug)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    host: Arc<Host>,
    services: Arc<Services>,
    agents: Arc<Agents>,
    surroundings: Surroundings,
    /// What goes on with open runs; nothing where they are not recovered.
    recovery: OnceLock<AbortHandle>,
    /// What keeps the metrics right.
    measuring: OnceLock<AbortHandle>,
    /// The agents that stand for models which are asked directly.
    direct_models: DirectModels,
}

impl Runtime {
    /// Prepares a runtime.
    pub fn builder() -> RuntimeBuilder {
        // Nothing is ever sent.
        let (alive, ended) = mpsc::channel(1);
        RuntimeBuilder {
            ended,
            host: None,
            folders: Vec::new(),
            agents: Vec::new(),
            surroundings: Surroundings {
                allow_offline: false,
                progress: Arc::new(|_| ()),
                starts: Arc::new(Semaphore::new(1)),
                launchers: Launchers::default(),
                code: AgentCode::default(),
                tracer: Tracer::default(),
                alive,
                any_python: Arc::default(),
            },
            store: None,
            config: None,
            recovers: true,
            wrong: None,
        }
    }

    fn new(
        host: Arc<Host>,
        surroundings: Surroundings,
        store: Arc<dyn Store>,
        (config, recovers): (&Config, bool),
    ) -> Self {
        let meters = Arc::new(Meters::new());
        let events = Events::new(meters.clone());
        let services = Arc::new(Services {
            store,
            registry: Registry::new(),
            runs: Runs::new(),
            code: surroundings.code.clone(),
            tracer: surroundings.tracer.clone(),
            launchers: surroundings.launchers.clone(),
            conversations: Arc::default(),
            edges: Edges::default(),
            models: Models::new(
                (config.breaker, &config.rate_limits),
                events.clone(),
                meters.clone(),
            ),
            events,
            meters,
            budget: Budget::of_all(config.budget),
            recovers,
            drains: AtomicBool::new(false),
            agents: OnceLock::new(),
        });
        for group in config.groups.keys() {
            services.meters.supervises(group.as_str());
        }
        let groups = config.groups.iter();
        let groups = groups.map(|(name, group)| Group::new(name.clone(), group.clone())).collect();
        let agents = Agents::new(services.clone(), groups);
        // Set once: here. Weak, because the agents hold the services.
        let _first = services.agents.set(Arc::downgrade(&agents));
        let (recovery, measuring) = (OnceLock::new(), OnceLock::new());
        let direct_models = DirectModels::default();
        let inner =
            Inner { host, services, agents, surroundings, recovery, measuring, direct_models };
        Self { inner: Arc::new(inner) }
    }

    /// Returns what begins spans, for whoever answers requests that become runs.
    #[must_use]
    pub fn tracer(&self) -> &Tracer {
        &self.inner.services.tracer
    }

    /// Finds an agent by its name.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotFound`] with the nearest name.
    pub fn named(&self, name: &str) -> Result<AgentHandle, Refusal> {
        let registry = &self.inner.services.registry;
        registry.find(name).ok_or_else(|| Refusal::NotFound {
            name: name.to_owned(),
            nearest: registry.nearest(name),
        })
    }

    /// Finds the agent that was defined as `agent`, to ask it in its own types. That the runtime has
    /// no agent of this name is told by each run.
    #[must_use]
    pub fn agent<D, O>(&self, agent: &DefinedAgent<D, O>) -> TypedAgent<D, O> {
        let (registry, name) = (&self.inner.services.registry, agent.name());
        let found = registry.find(name.as_str());
        TypedAgent::new(found.ok_or_else(|| (name.clone(), registry.nearest(name.as_str()))))
    }

    pub(crate) fn direct_models(&self) -> &DirectModels {
        &self.inner.direct_models
    }

    /// Returns every agent, by name.
    #[must_use]
    pub fn agents(&self) -> Vec<AgentHandle> {
        self.inner.services.registry.all()
    }

    /// Returns who takes messages here, as data that can be watched.
    #[must_use]
    pub fn directory(&self) -> Directory {
        Directory::new(self.inner.services.clone())
    }

    /// Starts one more agent, and returns when its first runner is up or could not be launched: then
    /// it is parked, and [`AgentHandle::ready`] says why.
    ///
    /// # Errors
    ///
    /// [`StartError`] as for [`RuntimeBuilder::start`].
    pub async fn start_agent(
        &self,
        agent: impl Into<AgentDefinition>,
    ) -> Result<AgentHandle, StartError> {
        let definition = agent.into();
        self.check_others(&definition)?;
        let handle = self.enter(definition).await?;
        if let Err(error) = self.inner.agents.add(&handle.agent).await {
            self.inner.services.registry.remove(handle.name());
            return Err(StartError::Actor(error.into()));
        }
        self.settle(&handle).await?;
        Ok(handle)
    }

    /// Gives an agent another definition while it runs. Its name, its place in the tree and its
    /// conversations stay, and what counted against the agent is forgotten.
    ///
    /// Returns when the first runner is up with the new definition: runs from then on get that one,
    /// attempts under way finish in the old runners, and the other runners are replaced at once. So
    /// the agent serves all the time. An agent that has no runner up takes the definition as it is,
    /// and is launched, as by [`Runtime::start_agent`].
    ///
    /// # Errors
    ///
    /// [`StartError::Unknown`] if there is no such agent, otherwise [`StartError`] if no runner
    /// starts with the new definition. The agent is as it was then, and serves on.
    pub async fn reload_agent(
        &self,
        agent: impl Into<AgentDefinition>,
    ) -> Result<AgentHandle, StartError> {
        let definition = agent.into();
        let name = definition.spec.name.clone();
        let handle = self.named(name.as_str()).map_err(|_gone| StartError::Unknown(name))?;
        self.check_others(&definition)?;
        let launcher = self.prepare(definition).await?;
        let launcher = launcher.following(&handle.agent.launcher());
        if let Err(failure) = handle.reload(Arc::new(launcher)).await {
            let agent = handle.name().clone();
            return Err(StartError::Refused { agent, failure: Box::new(failure) });
        }
        match self.refused(&handle).await {
            Some(error) => Err(error),
            None => Ok(handle),
        }
    }

    /// Stops an agent, and returns when its runner has ended. Its name is free then.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotFound`] with the nearest name.
    pub async fn stop_agent(&self, name: &str) -> Result<(), Refusal> {
        let handle = self.named(name)?;
        self.inner.agents.remove(&handle.agent).await;
        self.inner.services.registry.remove(handle.name());
        Ok(())
    }

    /// Makes a budget that runs can share: see [`RunBuilder::budget`](crate::RunBuilder::budget).
    /// What is used of it is taken out of the budget of the whole process, too.
    #[must_use]
    pub fn budget(&self, allowance: Allowance) -> Budget {
        self.inner.services.budget.child(allowance)
    }

    /// Returns the store that keeps the runs and conversations.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.services.store
    }

    /// Returns the records of the runs, to read them and to decide about those that wait.
    #[must_use]
    pub fn records(&self) -> RunRecords {
        RunRecords::new(self.store().clone())
    }

    /// Goes on with a run that waits for nothing any more, or whose process has gone.
    pub fn resume(&self, run: impl Into<RunId>) -> Resume {
        Resume::new(self.inner.services.clone(), run.into())
    }

    /// Returns a handle of a run that is under way in this runtime; nothing if it is not. Its events
    /// begin with the oldest one that is still kept here.
    pub async fn under_way(&self, run: &RunId) -> Option<RunHandle> {
        let services = &self.inner.services;
        let live = services.runs.find(run).await?;
        Some(RunHandle::new(live, services.clone(), false))
    }

    /// Returns the events of `run` behind the event `after`, of which 0 is none: what is recorded,
    /// and then what comes, if the run is under way in this runtime. Text that was shown and is in no record is not
    /// repeated; the messages of the next checkpoint have it whole.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`], or what else the store says.
    pub async fn follow(&self, run: &RunId, after: u64) -> Result<RunEvents, StoreError> {
        let services = &self.inner.services;
        let live = services.runs.find(run).await;
        let Some(live) = live else {
            return Ok(RunEvents::recorded(services.store.records(run, after).await?));
        };
        RunHandle::new(live, services.clone(), false).follow(after).await
    }

    /// Returns the supervision tree as it is now.
    pub async fn tree(&self) -> Tree {
        Tree::of(&self.inner.agents, &self.inner.services).await
    }

    /// Returns what happens in the tree from now on. Nobody ever waits for whoever reads it.
    #[must_use]
    pub fn events(&self) -> RuntimeEvents {
        self.inner.services.events.listen()
    }

    /// Takes no new runs, lets those under way finish with all that they ask of others, at most until
    /// `deadline` has passed, and shuts down. Returns how many runs had to be stopped, those below
    /// others among them.
    pub async fn drain(&self, deadline: Duration) -> usize {
        let Inner { services, recovery, .. } = self.inner.as_ref();
        services.drains.store(true, Ordering::Relaxed);
        if let Some(recovery) = recovery.get() {
            recovery.abort();
        }
        let agents = self.agents();
        let inside = || agents.iter().map(|handle| handle.agent.gate.inside()).sum::<usize>();
        let all_gone = async {
            // A run may go on with another agent, whose last one had gone before.
            while inside() > 0 {
                join_all(agents.iter().map(|handle| handle.agent.gate.vacated())).await;
            }
        };
        let _in_time = tokio::time::timeout(deadline, all_gone).await;
        let left = inside();
        self.shutdown().await;
        left
    }

    /// Stops what is under way, and returns when every run and every runner has ended here. In a
    /// store that outlasts the process, runs under way stay open, for whoever opens it next; their
    /// callers get a pause, [`PauseReason::Interrupted`]. In memory they are cancelled.
    ///
    /// [`PauseReason::Interrupted`]: axon_kernel::event::PauseReason::Interrupted
    pub async fn shutdown(&self) {
        let Inner { services, agents, .. } = self.inner.as_ref();
        self.inner.abort_tasks();
        end(services, agents, "the runtime shuts down").await;
    }

    /// Registers the agents, or none of them.
    async fn enter_all(
        &self,
        agents: Vec<AgentDefinition>,
    ) -> Result<Vec<AgentHandle>, StartError> {
        let mut handles = Vec::new();
        for agent in agents {
            handles.push(self.enter(agent).await?);
        }
        Ok(handles)
    }

    async fn enter(&self, definition: AgentDefinition) -> Result<AgentHandle, StartError> {
        let name = definition.spec.name.clone();
        // A group has a place of its own in the tree, under its name.
        let is_group = |group: &Arc<Group>| group.name.as_str() == name.as_str();
        if self.named(name.as_str()).is_ok() || self.inner.agents.groups().iter().any(is_group) {
            return Err(StartError::Duplicate(name));
        }
        let launcher = self.prepare(definition).await?;
        let meters = self.inner.services.meters.of(&name);
        let agent = Arc::new(Agent::new(Arc::new(launcher), meters));
        let handle = AgentHandle { agent, services: self.inner.services.clone() };
        if self.inner.services.registry.enter(handle.clone()) {
            return Ok(handle);
        }
        Err(StartError::Duplicate(name))
    }

    async fn prepare(&self, definition: AgentDefinition) -> Result<Launcher, StartError> {
        let Inner { host, surroundings, .. } = self.inner.as_ref();
        let name = definition.spec.name.clone();
        let prepared = Launcher::prepare(definition, host.clone(), surroundings.clone()).await;
        prepared.map_err(|error| refused(&name, error))
    }

    /// Waits for the first launch. An agent whose answers nobody may take for real is stopped again.
    async fn settle(&self, handle: &AgentHandle) -> Result<(), StartError> {
        let Some(error) = self.refused(handle).await else { return Ok(()) };
        self.inner.agents.remove(&handle.agent).await;
        self.inner.services.registry.remove(handle.name());
        Err(error)
    }

    /// Waits for a launch, and returns why the agent cannot be had at all, if that is so. One that is
    /// parked can: later.
    async fn refused(&self, handle: &AgentHandle) -> Option<StartError> {
        // Whoever asks meanwhile waits for the runner within the deadline of the run.
        let limit = handle.spec().limits.timeout;
        let Ok(Err(failure)) = tokio::time::timeout(limit, handle.ready()).await else {
            return None;
        };
        let offline = failure.phase.as_deref() == Some(OFFLINE_PHASE);
        let agent = handle.name().clone();
        (offline || handle.agent.is_stopped())
            .then(|| StartError::Refused { agent, failure: Box::new(failure) })
    }

    /// Checks that a definition fits those that are there: all whom it names, and what it is told by
    /// them. Circles that come of it are stopped by their depth, and the others may be changed next.
    fn check_others(&self, definition: &AgentDefinition) -> Result<(), StartError> {
        let own = &definition.spec.name;
        let specs: Vec<Arc<AgentSpec>> = self.agents().iter().map(AgentHandle::spec).collect();
        let names: Vec<&AgentName> = specs.iter().map(|spec| &spec.name).chain([own]).collect();
        check_others(&definition.spec, &names)?;
        check_among(definition, &specs).map_err(FolderError::Spec)?;
        Ok(())
    }
}

/// Reads the settings that one of the folders has.
fn settings_of(folders: &[PathBuf], host: &Host) -> Result<Config, StartError> {
    let mut having = folders.iter().filter(|folder| config_file(folder).is_file());
    let Some(first) = having.next() else { return Ok(Config::default()) };
    if let Some(second) = having.next() {
        return Err(StartError::SecondSettings(config_file(first), config_file(second)));
    }
    Ok(load_config(first, host)?)
}

/// Checks that every agent is there that settings and other agents name.
fn check_names(agents: &[AgentDefinition], config: &Config) -> Result<(), StartError> {
    let names: Vec<&AgentName> = agents.iter().map(|agent| &agent.spec.name).collect();
    let checked = config.check_agents(names.iter().map(|name| name.as_str()));
    checked.map_err(FolderError::Spec)?;
    agents.iter().try_for_each(|AgentDefinition { spec, .. }| check_others(spec, &names))
}

fn check_others(spec: &AgentSpec, names: &[&AgentName]) -> Result<(), StartError> {
    let mut others = spec.others().into_iter();
    let Some((does, name)) = others.find(|(_, name)| !names.contains(&name)) else {
        return Ok(());
    };
    let message = format!("it {does} to the agent `{name}`, which is not there");
    let failure = Box::new(Failure::new(FailureKind::Config, message));
    Err(StartError::Refused { agent: spec.name.clone(), failure })
}

pub(crate) fn refused(agent: &AgentName, error: PrepareError) -> StartError {
    match error {
        PrepareError::Environment(error) => error.into(),
        PrepareError::Sources(error) => error.into(),
        PrepareError::Definition(failure) => {
            StartError::Refused { agent: agent.clone(), failure: Box::new(failure) }
        }
    }
}

/// Cancels what is under way, and resolves when every run and every runner has ended. The runs are
/// told at once, whether or not anybody waits for that.
fn end(
    services: &Arc<Services>,
    agents: &Arc<Agents>,
    reason: &str,
) -> impl Future<Output = ()> + Send + use<> {
    let handles = services.registry.all();
    for handle in &handles {
        handle.agent.stand(Standing::Draining);
    }
    let all_ended = services.runs.shutdown(reason);
    let (services, agents) = (services.clone(), agents.clone());
    async move {
        let _in_time = tokio::time::timeout(SHUTDOWN_DEADLINE, all_ended).await;
        agents.stop().await;
        for handle in &handles {
            handle.agent.close();
        }
        let living = handles.iter().map(|handle| handle.agent.launcher());
        let gone = join_all(living.map(|launcher| async move { launcher.living.none().await }));
        let _in_time = tokio::time::timeout(SHUTDOWN_DEADLINE, gone).await;
        for handle in &handles {
            handle.agent.launcher().close_sockets();
        }
        services.registry.clear();
    }
}

impl Inner {
    fn abort_tasks(&self) {
        for task in [&self.recovery, &self.measuring].into_iter().filter_map(OnceLock::get) {
            task.abort();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.abort_tasks();
        let ended = end(&self.services, &self.agents, "the runtime was dropped");
        // Agents hold the services, which hold the registry.
        self.services.registry.clear();
        // Without an executor nothing runs that could be stopped.
        if let Ok(executor) = tokio::runtime::Handle::try_current() {
            let alive = self.surroundings.alive.clone();
            executor.spawn(async move {
                ended.await;
                drop(alive);
            });
        }
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("agents", &self.services.registry).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

//! What a runtime is started with.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use axon_kernel::config::Config;
use axon_kernel::spec::PromptName;
use axon_kernel::store::Store;
use tokio::sync::{Semaphore, mpsc};

use super::{Runtime, StartError, check_names, settings_of};
use crate::agents_dir::{AgentDefinition, FolderError, check_together, load_agents};
use crate::define::{DefinitionError, IntoInstructions, PromptContext};
use crate::host::Host;
use crate::launch::{OnProgress, Surroundings};
use crate::memory::MemoryStore;
use crate::meters::{self, describe_metrics};
use crate::tools::{FromDeps, RustTool, Tool};
use crate::trace::Tracer;
use crate::{launchers, recovery};

/// Prepares a [`Runtime`].
#[must_use = "a runtime starts with `start`"]
pub struct RuntimeBuilder {
    pub(super) host: Option<Host>,
    pub(super) folders: Vec<PathBuf>,
    pub(super) agents: Vec<AgentDefinition>,
    pub(super) surroundings: Surroundings,
    pub(super) ended: mpsc::Receiver<Infallible>,
    pub(super) store: Option<Arc<dyn Store>>,
    pub(super) config: Option<Config>,
    pub(super) recovers: bool,
    /// The first tool or prompt that is wrong.
    pub(super) wrong: Option<DefinitionError>,
}

impl RuntimeBuilder {
    /// Starts every agent of the folder `path`.
    pub fn agents_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.folders.push(path.into());
        self
    }

    /// Starts `agent`: one that is defined in Rust ([`Agent`](crate::Agent)), a spec, or one read with
    /// [`load_agent`](crate::load_agent).
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

    /// Returns the settings that were given with [`RuntimeBuilder::config`].
    #[must_use]
    pub fn settings(&self) -> Option<&Config> {
        self.config.as_ref()
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
        self.store = Some(store);
        self
    }

    /// Tells the spans of runs to whoever exports them; by default nobody does.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use axon_runtime::Runtime;
    /// use axon_runtime::kernel::trace::Span;
    /// use axon_runtime::trace::{SpanSink, Tracer};
    ///
    /// #[derive(Debug)]
    /// struct Names;
    ///
    /// impl SpanSink for Names {
    ///     fn take(&self, span: Span) {
    ///         eprintln!("{} {}", span.context.trace, span.name);
    ///     }
    /// }
    ///
    /// let builder = Runtime::builder().tracer(Tracer::new(Arc::new(Names)));
    /// ```
    pub fn tracer(mut self, tracer: Tracer) -> Self {
        self.surroundings.tracer = tracer;
        self
    }

    /// Returns the store that was given with [`RuntimeBuilder::store`].
    #[must_use]
    pub fn own_store(&self) -> Option<&Arc<dyn Store>> {
        self.store.as_ref()
    }

    /// Brings a tool for all agents: those name it with `rust = "name"` in their files. What a file
    /// does not say of it, its description and its parameters, the tool says itself.
    ///
    /// ```no_run
    /// use axon_runtime::{Runtime, Tool, ToolContext, ToolError};
    /// use axon_runtime::kernel::spec::Effect;
    /// use axon_runtime::kernel::store::Write;
    /// use serde_json::{Value, json};
    ///
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// // Written in the transaction that records the call: so the effect is pure.
    /// let note = Tool::new("note", |ctx: ToolContext, note: Value| async move {
    ///     let sql = "INSERT INTO notes (note) VALUES (?)".to_owned();
    ///     ctx.write(Write { sql, parameters: vec![note], changes: Some(1) });
    ///     Ok::<_, ToolError>("noted")
    /// })?;
    /// let builder = Runtime::builder().tool(note.effect(Effect::Pure));
    /// # Ok(())
    /// # }
    /// ```
    pub fn tool(mut self, tool: impl RustTool) -> Self {
        match tool.into_tool() {
            Ok(tool) => self.surroundings.code.tools.add(tool),
            Err(error) => {
                self.wrong.get_or_insert(error);
            }
        }
        self
    }

    /// Gives the tools and prompts of all agents something to work with, as
    /// [`AgentBuilder::service`](crate::AgentBuilder::service) does for those of one; what an agent
    /// has of its own comes first.
    pub fn service<T: Send + Sync + 'static>(mut self, service: T) -> Self {
        self.surroundings.code.provided.add(service);
        self
    }

    /// Brings a function that gives instructions: agents name it with `{ rust = "name" }` among
    /// their instructions. It is called anew for each run.
    ///
    /// ```no_run
    /// use axon_runtime::{PromptContext, Runtime};
    ///
    /// let builder = Runtime::builder().prompt("who_asks", async |ctx: PromptContext| {
    ///     format!("The customer is {}.", ctx.deps().value()["customer_id"])
    /// });
    /// ```
    pub fn prompt<D, F, U, T>(mut self, name: &str, function: F) -> Self
    where
        D: FromDeps,
        F: Fn(PromptContext<D>) -> U + Send + Sync + 'static,
        U: Future<Output = T> + Send + 'static,
        T: IntoInstructions,
    {
        match PromptName::try_from(name) {
            Ok(name) => self.surroundings.code.prompts.add(name, function),
            Err(error) => {
                self.wrong.get_or_insert(error.into());
            }
        }
        self
    }

    /// Returns `agent` with the tools and prompts of the service, and with what its file leaves to
    /// those: as it is when it starts.
    #[must_use]
    pub fn equipped(&self, mut agent: AgentDefinition) -> AgentDefinition {
        agent.code.take_in(&self.surroundings.code);
        // What is missing is told when it is checked, or starts.
        let _told_later = agent.code.complete(&mut agent.spec, &self.surroundings.code);
        agent
    }

    /// Returns the tools that the service brings for all agents.
    pub fn tools(&self) -> impl Iterator<Item = &Tool> {
        self.surroundings.code.tools.all()
    }

    /// Says whether the runtime goes on with the open runs of the store that nobody drives any more:
    /// at its start, when another process goes that shares the store, and when the time of a pause is
    /// over in which nobody has decided. It does by default.
    pub fn recover(mut self, recovers: bool) -> Self {
        self.recovers = recovers;
        self
    }

    /// Calls `on_progress` while the Python environment is built, which can take a minute once.
    pub fn on_progress(mut self, on_progress: OnProgress) -> Self {
        self.surroundings.progress = on_progress;
        self
    }

    /// Takes these settings in place of those in the `axon.toml` of a folder of agents.
    pub fn config(mut self, config: Config) -> Self {
        self.config = Some(config);
        self
    }

    /// Returns what resolves when the runtime that this starts is gone, with everything that it had
    /// started: also when the start itself was dropped half way. The second that is asked for knows
    /// of nothing.
    pub fn ended(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = std::mem::replace(&mut self.ended, mpsc::channel(1).1);
        async move {
            let _ended = ended.recv().await;
        }
    }

    /// Starts the agents, and returns when each has a runner up, could have none, or took longer than
    /// a run of it may. Further runners of the same agent come up meanwhile.
    ///
    /// An agent whose runner cannot be had is no error here: it is parked, [`Runtime::tree`] and
    /// [`AgentHandle::ready`](crate::AgentHandle::ready) say why, and everything else serves.
    ///
    /// # Errors
    ///
    /// [`StartError`] of the first agent whose definition is wrong as it stands, or which would
    /// answer with an offline model although that was not allowed.
    pub async fn start(mut self) -> Result<Runtime, StartError> {
        if let Some(wrong) = self.wrong.take() {
            return Err(wrong.into());
        }
        let Self { host, folders, mut agents, mut surroundings, store, config, recovers, .. } =
            self;
        let host = host.map_or_else(Host::from_process, Ok).map_err(StartError::Host)?;
        let folders: Vec<PathBuf> =
            folders.into_iter().map(|folder| host.directory.join(folder)).collect();
        for folder in &folders {
            agents.extend(load_agents(folder, &host)?);
        }
        let config = match config {
            Some(config) => config,
            None => settings_of(&folders, &host)?,
        };
        surroundings.starts = Arc::new(Semaphore::new(config.starts.at_once.get() as usize));
        check_names(&agents, &config)?;
        check_together(&agents).map_err(FolderError::Spec)?;
        launchers::sweep(host.sockets.clone());
        if store.is_none() && config.store.url.is_some() && recovers {
            tracing::warn!(
                "axon.toml names a store, and this service was given none: runs are kept in memory; \
                 open it with `axon_store::open` and hand it to `RuntimeBuilder::store`"
            );
        }
        let store = store.unwrap_or_else(|| Arc::new(MemoryStore::default()));
        describe_metrics();
        let runtime = Runtime::new(Arc::new(host), surroundings, store, (&config, recovers));
        // On the heap: whoever awaits the start would have all of it in a future of their own.
        let handles = Box::pin(runtime.enter_all(agents)).await?;
        let started = runtime.inner.agents.start().await;
        started.map_err(|error| StartError::Actor(error.into()))?;
        for handle in handles {
            if let Err(refused) = runtime.settle(&handle).await {
                // The others have started: nothing of them is left for whoever is told.
                runtime.shutdown().await;
                return Err(refused);
            }
        }
        let measuring = tokio::spawn(meters::watch(Arc::downgrade(&runtime.inner.services)));
        let _first = runtime.inner.measuring.set(measuring.abort_handle());
        if recovers && runtime.inner.services.store.is_durable() {
            let services = Arc::downgrade(&runtime.inner.services);
            let task = tokio::spawn(recovery::recover(services, config.store.recoveries));
            let _first = runtime.inner.recovery.set(task.abort_handle());
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

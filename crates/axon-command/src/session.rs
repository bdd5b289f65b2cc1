//! What every verb works with: the surroundings, the agents that can be found, the signals.

mod service;
mod there;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axon_kernel::config::Config;
use axon_kernel::provider::PROVIDERS;
use axon_kernel::spec::{AgentName, AgentSpec, EnvName, NameError, PythonTarget};
use axon_kernel::store::Store;
use axon_runner::environment::Progress;
use axon_runtime::{
    AgentDefinition, AgentHandle, FolderError, Host, MemoryStore, Runtime, RuntimeBuilder,
    StartError, agent_names, check_together, load_agent, load_config, nearest,
};

use crate::args::GlobalArgs;
use crate::lines::Lines;
use crate::report::Report;
use crate::service::Service;
use crate::signals::{Signal, Signals};
use crate::store::{Choices, Place};
use crate::telemetry::Telemetry;
use crate::terminal;

/// How long what was started half way may take to end.
const HALF_STARTED: Duration = Duration::from_secs(8);

/// What every verb works with.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) host: Host,
    pub(crate) signals: Signals,
    pub(crate) lines: Lines,
    pub(crate) telemetry: Telemetry,
    /// Whether errors are told in full.
    pub(crate) verbose: bool,
    /// The folders of agents, as they are shown.
    folders: Vec<PathBuf>,
    /// The agents that the service around this command line defines in Rust.
    built_in: Vec<AgentDefinition>,
    builder: Option<RuntimeBuilder>,
    /// Where the store is, if `--store` or `AXON_STORE` says it.
    named_store: Option<String>,
    /// The store, once it is open.
    store: Option<Arc<dyn Store>>,
    /// Where the service is that is asked, if `--url` or `AXON_URL` says it.
    named_service: Option<String>,
    /// The file of that service's token, if it was typed.
    token_file: Option<PathBuf>,
    /// That service, for the verbs that ask it.
    service: Option<Service>,
}

impl Session {
    pub(crate) fn new(
        args: &GlobalArgs,
        host: Host,
        builder: RuntimeBuilder,
    ) -> Result<Self, Report> {
        let named = args.agents.clone().or_else(|| host.variable("AXON_AGENTS").map(PathBuf::from));
        let folders = match named {
            Some(folder) => vec![folder],
            None if builder.folders().is_empty() && builder.agents().is_empty() => {
                vec![PathBuf::from("agents")]
            }
            None => builder.folders().to_vec(),
        };
        let signals = Signals::listen().map_err(|error| {
            Report::failed("signals cannot be handled").because(error.to_string())
        })?;
        let built_in = builder.agents().to_vec();
        let verbose = args.verbose > 0;
        let named_store = args.store.clone().or_else(|| host.variable("AXON_STORE"));
        // A store that is typed wins over a service that the environment names.
        let of_variable = || host.variable("AXON_URL").filter(|url| !url.is_empty());
        let of_variable = || of_variable().filter(|_| args.store.is_none());
        let named_service = args.url.clone().or_else(of_variable);
        Ok(Self {
            signals,
            lines: Lines::default(),
            telemetry: Telemetry::default(),
            verbose,
            folders,
            built_in,
            builder: Some(builder),
            named_store,
            store: None,
            named_service,
            token_file: args.token_file.clone(),
            service: None,
            host,
        })
    }

    /// Does `work`, unless a signal calls it off: then that is returned. Within it, none comes.
    pub(crate) async fn unless_signalled<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Self) -> T,
    ) -> Result<T, Signal> {
        let mut signals = std::mem::replace(&mut self.signals, Signals::none());
        let done = tokio::select! {
            done = work(self) => Ok(done),
            signal = signals.next() => Err(signal),
        };
        self.signals = signals;
        done
    }

    /// Returns the settings that hold for all agents.
    pub(crate) fn settings(&self) -> Result<Config, Report> {
        match self.builder.as_ref().and_then(RuntimeBuilder::settings) {
            Some(settings) => Ok(settings.clone()),
            None => Ok(load_config(self.folder(), &self.host)?),
        }
    }

    /// Returns where the store is.
    pub(crate) fn place(&self) -> Result<Place, Report> {
        let settings = self.settings()?;
        let agents = self.host.directory.join(self.folder());
        let choices = Choices {
            named: self.named_store.clone().map(|url| (url, self.host.directory.as_path())),
            given: self.builder.as_ref().and_then(RuntimeBuilder::own_store).cloned(),
            configured: settings.store.url.as_deref(),
            home: agents.parent().unwrap_or(&self.host.directory),
            durability: settings.store.durability,
        };
        choices.decide()
    }

    /// Returns the store, and makes it if it is not there.
    pub(crate) async fn store(&mut self) -> Result<Arc<dyn Store>, Report> {
        if let Some(store) = &self.store {
            return Ok(store.clone());
        }
        let store = self.place()?.open().await?;
        self.store = Some(store.clone());
        Ok(store)
    }

    /// Returns the store, if there is one to read.
    pub(crate) async fn store_to_read(&mut self) -> Result<Option<Arc<dyn Store>>, Report> {
        if let Some(store) = &self.store {
            return Ok(Some(store.clone()));
        }
        let place = self.place()?;
        if !place.exists() {
            return Ok(None);
        }
        let store = place.open_to_read().await?;
        self.store = Some(store.clone());
        Ok(Some(store))
    }

    /// Returns who decides, if that is known.
    pub(crate) fn user(&self) -> String {
        ["USER", "LOGNAME"].iter().find_map(|name| self.host.variable(name)).unwrap_or_default()
    }

    /// Returns the folder that new agents are written to.
    pub(crate) fn folder(&self) -> &Path {
        self.folders.first().map_or(Path::new("agents"), PathBuf::as_path)
    }

    /// Returns the folders that Python code of the project is looked for in.
    pub(crate) fn python_path(&self) -> Vec<PathBuf> {
        let own = std::iter::once(self.host.directory.clone());
        own.chain(self.folders.iter().map(|folder| self.host.directory.join(folder))).collect()
    }

    /// Returns the names of all agents, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let built_in = self.built_in.iter().map(|agent| agent.spec.name.to_string());
        let mut names: Vec<String> =
            built_in.chain(self.folders.iter().flat_map(|folder| agent_names(folder))).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Returns the names of all agents; that there is none is an error.
    pub(crate) fn names_or_complain(&self) -> Result<Vec<String>, Report> {
        let names = self.names();
        if !names.is_empty() {
            return Ok(names);
        }
        let folder = self.folder();
        let report = Report::usage(format!("there are no agents in {}", folder.display()));
        Err(match folder.is_dir() {
            true => report.todo("axon new NAME"),
            false => report
                .because("there is no such folder")
                .todo("go to the project's folder, or name another one with --agents"),
        })
    }

    /// Reads the agent `name`.
    pub(crate) fn load(&self, name: &str) -> Result<AgentDefinition, Report> {
        if let Some(agent) = self.built_in.iter().find(|agent| agent.spec.name.as_str() == name) {
            return Ok(agent.clone());
        }
        for folder in &self.folders {
            match load_agent(folder, name, &self.host) {
                Err(FolderError::NotFound { .. }) => {}
                found => return Ok(self.equipped(found?)),
            }
        }
        Err(self.not_found(name))
    }

    /// Returns an agent with what the service around this command line has for all of them.
    fn equipped(&self, agent: AgentDefinition) -> AgentDefinition {
        match &self.builder {
            Some(builder) => builder.equipped(agent),
            None => agent,
        }
    }

    /// Reads the agent that `target` names: one of the agents, or a Python object.
    pub(crate) fn find(&self, target: &str) -> Result<AgentDefinition, Report> {
        if !target.contains(':') {
            return self.load(target);
        }
        let module = PythonTarget::try_from(target)?;
        let mut spec = AgentSpec::for_module(name_of(&module)?, module);
        spec.runner.pass_env = self.provider_variables();
        Ok(spec.into())
    }

    /// Returns the variables of every provider that are set. Without a file, nobody has said which
    /// provider the agent uses, and whoever runs the command has let its module have them all.
    fn provider_variables(&self) -> Vec<EnvName> {
        PROVIDERS
            .iter()
            .flat_map(|provider| [provider.keys, provider.urls, provider.others])
            .flatten()
            .filter(|name| self.host.variable(name).is_some())
            .filter_map(|name| EnvName::try_from(*name).ok())
            .collect()
    }

    fn not_found(&self, name: &str) -> Report {
        let names = self.names();
        let folder = self.folder().to_owned();
        let near = nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
        let is_missing = !folder.is_dir();
        let is_near = near.is_some();
        let error = FolderError::NotFound { name: name.to_owned(), folder, nearest: near };
        let report = Report::from(error);
        match names.as_slice() {
            _ if is_near => report,
            [] if is_missing => report
                .because("there is no such folder")
                .todo("go to the project's folder, or name another one with --agents"),
            [] => report.todo(format!("axon new {name}")),
            names => report.todo(format!("choose one of: {}", names.join(", "))),
        }
    }

    /// Starts `agent` and no other, and waits until it can be asked.
    pub(crate) async fn start(
        &mut self,
        agent: AgentDefinition,
    ) -> Result<(Runtime, AgentHandle), Report> {
        let name = agent.spec.name.to_string();
        self.check_flow(&agent)?;
        let others = self.others_of(&agent)?;
        let mut settings = self.settings()?;
        // One agent is no group.
        settings.groups.clear();
        let builder = self.builder.take().unwrap_or_else(Runtime::builder).only(agent);
        let builder = others.into_iter().fold(builder, RuntimeBuilder::agent).recover(false);
        // A verb that needs none has not opened the store.
        let builder = match &self.store {
            Some(store) => builder.store(store.clone()),
            None => builder.store(Arc::new(MemoryStore::default())),
        };
        let mut start = self
            .telemetry
            .start(builder, &self.host)
            .config(settings)
            .host(self.host.clone())
            .allow_offline()
            .on_progress(Arc::new(say_progress));
        let ended = start.ended();
        let start = Box::pin(start.start());
        let started = async {
            let runtime = start.await?;
            let agent = runtime.named(&name)?;
            // A runner that merely died is tried again; what cannot heal by itself is told at once.
            match tokio::time::timeout(agent.spec().limits.timeout, agent.ready()).await {
                Ok(Err(failure))
                    if !failure.kind.row().row.heals() && agent.spec().fallback.agent.is_none() =>
                {
                    runtime.shutdown().await;
                    let (agent, failure) = (agent.name().clone(), Box::new(failure));
                    Err(StartError::Refused { agent, failure }.into())
                }
                _ => Ok((runtime, agent)),
            }
        };
        let signal = tokio::select! {
            started = started => return started,
            signal = self.signals.next() => signal,
        };
        Err(cancelled(signal, ended).await)
    }

    /// Returns the agents that take over when `agent` cannot answer or do a part of its work, and
    /// those that do so for them.
    pub(crate) fn others_of(
        &self,
        agent: &AgentDefinition,
    ) -> Result<Vec<AgentDefinition>, Report> {
        let mut found: Vec<AgentDefinition> = Vec::new();
        let mut at = 0;
        let mut next = Some(agent);
        while let Some(by) = next {
            let (by, named) = (by.spec.name.clone(), by.spec.others());
            for (does, name) in named {
                if name == agent.spec.name || found.iter().any(|known| known.spec.name == name) {
                    continue;
                }
                found.push(self.load(name.as_str()).map_err(|missing| {
                    missing.about(format!("agent `{by}` {does} to an agent that cannot be had"))
                })?);
            }
            next = found.get(at);
            at += 1;
        }
        Ok(found)
    }

    /// Checks that a router or a pipeline fits together with all that it may ask.
    fn check_flow(&self, agent: &AgentDefinition) -> Result<(), Report> {
        if agent.spec.flow.is_none() {
            return Ok(());
        }
        let mut all = vec![agent.clone()];
        let mut at = 0;
        while let Some(by) = all.get(at) {
            for (_, name) in by.spec.others() {
                // One that cannot be read is told when it is needed; one that is not there, here.
                let is_known = all.iter().any(|known| known.spec.name == name);
                all.extend((!is_known).then(|| self.load(name.as_str()).ok()).flatten());
            }
            at += 1;
        }
        Ok(check_together(&all)?)
    }

    /// Starts every agent that is found.
    pub(crate) async fn start_all(&mut self) -> Result<Runtime, Report> {
        self.names_or_complain()?;
        let builder = self.builder.take().unwrap_or_else(Runtime::builder);
        let builder = match builder.folders().is_empty() && builder.agents().is_empty() {
            true => self.folders.iter().fold(builder, RuntimeBuilder::agents_dir),
            false => builder,
        };
        let mut start = builder
            .store(Arc::new(MemoryStore::default()))
            .recover(false)
            .host(self.host.clone())
            .allow_offline()
            .on_progress(Arc::new(say_progress));
        let ended = start.ended();
        let start = Box::pin(start.start());
        let signal = tokio::select! {
            started = start => return Ok(started?),
            signal = self.signals.next() => signal,
        };
        Err(cancelled(signal, ended).await)
    }
}

/// Waits until what was started half way has ended, and tells which signal called it off.
async fn cancelled(signal: Signal, ended: impl Future<Output = ()>) -> Report {
    // What has not ended by then is swept at the next start.
    let _in_time = tokio::time::timeout(HALF_STARTED, ended).await;
    Report::cancelled(signal)
}

/// Says how far the Python environment is.
pub(crate) fn say_progress(step: Progress) {
    match step {
        Progress::WaitingForLock => {
            terminal::say("waiting: another process sets up the Python environment");
        }
        Progress::CreatingVenv => terminal::say("setting up the Python environment, once:"),
        Progress::Installing { with } => {
            terminal::say(&format!("  installing pydantic-ai with {with}; this can take a minute"));
        }
        Progress::Done => terminal::say("  done"),
    }
}

/// Returns the name of an agent that only Python knows: its attribute's.
pub(crate) fn name_of(module: &PythonTarget) -> Result<AgentName, NameError> {
    let last = module.module().rsplit('.').next().unwrap_or_default();
    // Half of all agents are called `agent`, which says nothing.
    let source = if module.attribute() == "agent" { last } else { module.attribute() };
    let plain = source.to_ascii_lowercase();
    let plain = plain.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    let plain: String = plain.chars().take(64).collect();
    AgentName::try_from(if plain.is_empty() { "agent".to_owned() } else { plain })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_python_agent_is_called_like_its_attribute() {
        let name = |target| name_of(&PythonTarget::try_from(target).unwrap()).unwrap().to_string();
        assert_eq!(name("pkg.mod:support_agent"), "support_agent");
        assert_eq!(name("pkg.mod:SupportAgent"), "supportagent");
        assert_eq!(name("pkg.bank_support:agent"), "bank_support");
        assert_eq!(name("pkg:_1"), "agent");
    }
}

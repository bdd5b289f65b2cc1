//! How an agent's runner is launched: with which Python, which environment, which secrets.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::Generation;
use axon_kernel::json::RawJson;
use axon_kernel::provider;
use axon_kernel::spec::{AgentSpec, ModelName, RunnerProgram};
use axon_kernel::wire::{Launch, Validated};
use axon_runner::embedded::{self, LayDownError};
use axon_runner::environment::{self, Origin, Ready, Search, SyncError};
use axon_runner::{LaunchPlan, Living, Runner, StartingRunner};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::agents_dir::AgentDefinition;
use crate::definition;
use crate::host::Host;

/// How long a runner whose agent was refused may take to end.
const REFUSED_GRACE: Duration = Duration::from_secs(1);

/// The phase of the failure that an offline model is where none is allowed.
pub(crate) const OFFLINE_PHASE: &str = "offline";

/// Launches the runners of one agent, generation by generation.
#[derive(Debug)]
pub(crate) struct Launcher {
    pub(crate) spec: Arc<AgentSpec>,
    /// The spec as the runner gets it with each attempt.
    pub(crate) wire: RawJson,
    host: Arc<Host>,
    folder: Option<PathBuf>,
    path: Vec<PathBuf>,
    command: Vec<String>,
    pub(crate) allow_offline: bool,
    generations: Arc<AtomicU32>,
    pub(crate) living: Living,
    starts: Arc<Semaphore>,
}

/// Called with each step of building the Python environment.
pub type OnProgress = Arc<dyn Fn(environment::Progress) + Send + Sync>;

/// What a runtime says about all of its runners.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) allow_offline: bool,
    pub(crate) progress: OnProgress,
    /// How many runners may start at the same time: a storm of starts would make each of them too
    /// slow.
    pub(crate) starts: Arc<Semaphore>,
}

/// Why an agent's runner cannot be launched at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    #[error(transparent)]
    Definition(#[from] Failure),
    #[error(transparent)]
    Environment(#[from] SyncError),
    #[error(transparent)]
    Sources(#[from] LayDownError),
}

/// A runner that is ready and has built the agent.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) runner: Runner,
    pub(crate) model: String,
    pub(crate) offline: bool,
}

impl Launcher {
    /// Checks what can be checked without a process, and finds the program to start.
    pub(crate) async fn prepare(
        definition: AgentDefinition,
        host: Arc<Host>,
        surroundings: Surroundings,
    ) -> Result<Self, PrepareError> {
        let AgentDefinition { spec, folder, mut path } = definition;
        // Code of the project's own is no part of the agent's folder.
        if path.is_empty() || spec.runner.module.is_some() {
            path.push(host.directory.clone());
        }
        definition::check(&spec, &host, folder.as_deref())?;
        let command = match &spec.runner.program {
            RunnerProgram::Command(command) => command.clone(),
            // Refused by the check above.
            RunnerProgram::Url(_) => Vec::new(),
            RunnerProgram::Python { python } => {
                python_command(python.clone(), folder.clone(), &host, surroundings.progress.clone())
                    .await?
            }
        };
        let wire = Value::Object(spec.to_wire()).into();
        let Surroundings { allow_offline, starts, .. } = surroundings;
        let (generations, living) = (Arc::default(), Living::default());
        let spec = Arc::new(spec);
        Ok(Self {
            spec,
            wire,
            host,
            folder,
            path,
            command,
            allow_offline,
            generations,
            living,
            starts,
        })
    }

    /// Counts on where the agent's former definition was.
    pub(crate) fn following(mut self, before: &Self) -> Self {
        self.generations = before.generations.clone();
        self.living = before.living.clone();
        self
    }

    /// Returns the number of the next runner. No two runners of an agent have the same, not even
    /// when its actor was started again in between.
    pub(crate) fn next_generation(&self) -> Generation {
        Generation(self.generations.fetch_add(1, Ordering::Relaxed).saturating_add(1))
    }

    /// Launches a runner, waits until it is ready, and has it build the agent.
    pub(crate) async fn launch(&self, generation: Generation) -> Result<Launched, Failure> {
        let launched = self.try_launch(generation).await;
        launched.map_err(|failure| self.explain(failure))
    }

    async fn try_launch(&self, generation: Generation) -> Result<Launched, Failure> {
        // Nobody closes it: without a permit nothing would start at all.
        let _turn = self.starts.acquire().await;
        let plan = self.plan(generation);
        let timeout = self.spec.runner.start_timeout;
        let runner = async { StartingRunner::launch(plan)?.ready(timeout).await };
        let runner = runner.await.map_err(axon_runner::StartError::into_failure)?;
        match self.validate(&runner).await {
            Ok(Validated { model, offline }) => Ok(Launched { runner, model, offline }),
            Err(failure) => {
                runner.stop(REFUSED_GRACE).await;
                Err(failure)
            }
        }
    }

    /// Names the variable that a failure speaks of, if the runner was not given it.
    fn explain(&self, failure: Failure) -> Failure {
        // Only what Python said can be about a variable that it lacks.
        if failure.help.is_some() || failure.class.is_empty() {
            return failure;
        }
        let given = self.variables();
        let withheld = failure
            .message
            .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
            .find(|word| self.host.variable(word).is_some() && !given.contains_key(*word));
        match withheld {
            None => failure,
            Some(name) => {
                let help = format!(
                    "`{name}` is set, but a runner gets only what its agent names: add \
                     pass_env = [\"{name}\"] to [runner], or name the model in its agent.toml"
                );
                failure.with_help(help)
            }
        }
    }

    /// Has the runner build the agent, and refuses a model that nobody may take for real.
    async fn validate(&self, runner: &Runner) -> Result<Validated, Failure> {
        let validated = runner.client().validate(self.wire.clone()).await;
        let validated = validated.map_err(axon_runner::RequestError::into_failure)?;
        if validated.offline && !self.allow_offline {
            let message = format!(
                "agent `{}` would answer with the offline model `{}`, which only plays a model",
                self.spec.name, validated.model
            );
            let failure = Failure::new(FailureKind::Config, message).in_phase(OFFLINE_PHASE);
            return Err(failure.with_help(
                "name a real model (AXON_MODEL=openai:gpt-5), or allow offline models \
                 (`--offline`, `.allow_offline()`)",
            ));
        }
        Ok(validated)
    }

    fn plan(&self, generation: Generation) -> LaunchPlan {
        let token = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let mut launch = Launch::new(&self.spec, generation, token);
        launch.path = self.path.iter().map(|path| path.display().to_string()).collect();
        launch.package = self.package();
        launch.env = self.variables();
        LaunchPlan {
            command: self.command.clone(),
            env: self.host.allowed(),
            directory: self.host.directory.clone(),
            sockets: self.host.sockets.clone(),
            launch,
            living: self.living.clone(),
        }
    }

    fn package(&self) -> Option<String> {
        let folder = self.folder.as_ref()?;
        folder.join("__init__.py").is_file().then(|| self.spec.name.to_string())
    }

    /// Returns a number that tells the agent's credentials for `model`, and where it reaches that,
    /// from others.
    pub(crate) fn credential(&self, model: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        let model = ModelName::try_from(model).ok();
        let known = model.as_ref().filter(|_| self.spec.model.is_some());
        match known {
            Some(model) => {
                let spec = self.spec.provider_of(model);
                for name in provider::variables(model, spec) {
                    self.host.variable(&name).hash(&mut hasher);
                }
                spec.and_then(|spec| spec.base_url.as_ref()).hash(&mut hasher);
            }
            // What an agent that Python defines reaches its model with, only Python knows.
            None => self.variables().hash(&mut hasher),
        }
        hasher.finish()
    }

    /// Returns the variables that this agent's code may see, and nothing else.
    fn variables(&self) -> BTreeMap<String, String> {
        let spec = &self.spec;
        let mut variables = BTreeMap::new();
        for model in spec.model.iter().chain(&spec.fallback.model) {
            for name in provider::variables(model, spec.provider_of(model)) {
                if let Some(value) = self.host.variable(&name) {
                    variables.insert(name, value);
                }
            }
        }
        for name in &spec.runner.pass_env {
            if let Some(value) = self.host.variable(name.as_str()) {
                variables.insert(name.to_string(), value);
            }
        }
        variables
            .extend(spec.runner.env.iter().map(|(name, value)| (name.to_string(), value.clone())));
        variables
    }
}

async fn python_command(
    configured: Option<String>,
    folder: Option<PathBuf>,
    host: &Host,
    progress: OnProgress,
) -> Result<Vec<String>, PrepareError> {
    let search = Search { configured: configured.map(PathBuf::from), ..host.search(folder) };
    let found = tokio::task::spawn_blocking(move || {
        let Ready { choice, .. } = environment::sync(&search, progress.as_ref())?;
        let sources = embedded::lay_down(&search.cache_dir)?;
        let mut command = vec![choice.python.display().to_string(), "-I".to_owned()];
        if choice.origin != Origin::Managed {
            // A user's environment is never changed, not even by the interpreter's own caches.
            let caches = search.cache_dir.join("pycache").display().to_string();
            command.extend(["-X".to_owned(), format!("pycache_prefix={caches}")]);
        }
        command.push(sources.display().to_string());
        Ok(command)
    });
    let ended = |error: tokio::task::JoinError| {
        PrepareError::Definition(Failure::new(FailureKind::Internal, error.to_string()))
    };
    found.await.map_err(ended)?
}

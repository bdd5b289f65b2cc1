//! How an agent's runner is launched: with which Python, which environment, which secrets.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::Generation;
use axon_kernel::json::RawJson;
use axon_kernel::provider;
use axon_kernel::spec::{AgentSpec, ByteSize, ModelName, RunnerLimits, RunnerProgram, RunnerSpec};
use axon_kernel::wire::{Launch, Validated};
use axon_runner::embedded::LayDownError;
use axon_runner::environment::{self, SyncError};
use axon_runner::{
    AttachPlan, By, LaunchPlan, Living, ProcessLimits, Runner, Sockets, StartError, StartingRunner,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::sync::{OnceCell, Semaphore, mpsc};
use tokio::time::Instant;

use crate::agents_dir::AgentDefinition;
use crate::define::AgentCode;
use crate::definition;
use crate::host::Host;
use crate::launchers::Launchers;
use crate::meters::AgentMeters;
use crate::program::Program;
use crate::trace::Tracer;

/// How long a runner whose agent was refused may take to end.
const REFUSED_GRACE: Duration = Duration::from_secs(1);

/// How long the news of a runner's exit may take after its connection broke.
const EXIT_NEWS: Duration = Duration::from_millis(500);

/// How many launchers are asked for a runner, one after the other died.
const LAUNCHERS_TRIED: u32 = 3;

/// The phase of the failure that an offline model is where none is allowed.
pub(crate) const OFFLINE_PHASE: &str = "offline";

/// Launches the runners of one agent, generation by generation.
#[derive(Debug)]
pub(crate) struct Launcher {
    pub(crate) spec: Arc<AgentSpec>,
    /// The digest of the spec, which every run records.
    pub(crate) definition: String,
    /// The spec as the runner gets it with each attempt.
    pub(crate) wire: RawJson,
    /// The agent's Rust functions.
    pub(crate) code: AgentCode,
    host: Arc<Host>,
    folder: Option<PathBuf>,
    path: Vec<PathBuf>,
    program: Program,
    launchers: Launchers,
    sockets: Sockets,
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
    pub(crate) launchers: Launchers,
    /// The functions that the service has for all agents.
    pub(crate) code: AgentCode,
    pub(crate) tracer: Tracer,
    /// Held until everything has ended: see [`RuntimeBuilder::ended`](crate::RuntimeBuilder::ended).
    pub(crate) alive: mpsc::Sender<Infallible>,
    /// The interpreter that runs launchers of programs that are not Python's, once it was looked for.
    pub(crate) any_python: Arc<OnceCell<Option<PathBuf>>>,
}

impl Surroundings {
    /// Those of a runner that no runtime looks after.
    pub(crate) fn of_one_runner(progress: OnProgress) -> Self {
        Self {
            allow_offline: true,
            progress,
            starts: Arc::new(Semaphore::new(1)),
            launchers: Launchers::default(),
            code: AgentCode::default(),
            tracer: Tracer::default(),
            // Nobody asks when that has ended.
            alive: mpsc::channel(1).0,
            any_python: Arc::default(),
        }
    }
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

/// Returns what the runner is told of the agent with each attempt.
fn wire_of(spec: &AgentSpec, code: &AgentCode) -> RawJson {
    let mut wire = spec.to_wire();
    if let Some(schema) = &spec.deps.schema {
        wire.insert("deps_schema".to_owned(), schema.raw().clone());
    }
    if !code.validators.is_empty() {
        wire.insert("validate_output".to_owned(), true.into());
    }
    Value::Object(wire).into()
}

fn seats_of(spec: &AgentSpec) -> usize {
    if spec.flow.is_some() { 0 } else { spec.runner.replicas.get() as usize }
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
        let AgentDefinition { mut spec, folder, mut path, mut code } = definition;
        // Code of the project's own is no part of the agent's folder.
        if path.is_empty() || spec.runner.module.is_some() {
            path.push(host.directory.clone());
        }
        definition::check(&spec, &host, folder.as_deref())?;
        code.complete(&mut spec, &surroundings.code)?;
        code.provided.complete(&surroundings.code.provided);
        let program = match spec.flow {
            Some(_) => Program::none(),
            None => Program::find(&spec, folder.clone(), &host, &surroundings).await?,
        };
        let wire = wire_of(&spec, &code);
        let Surroundings { allow_offline, starts, launchers, .. } = surroundings;
        let (generations, living) = (Arc::default(), Living::default());
        let sockets = Sockets::below(&host.sockets, seats_of(&spec));
        let definition = spec.digest();
        Ok(Self {
            spec: Arc::new(spec),
            definition,
            wire,
            code,
            host,
            folder,
            path,
            program,
            launchers,
            sockets,
            allow_offline,
            generations,
            living,
            starts,
        })
    }

    /// Returns the folders that its Python modules are looked for in.
    pub(crate) fn python_path(&self) -> &[PathBuf] {
        &self.path
    }

    /// Returns how many runners the agent is to have; routers and pipelines have none.
    pub(crate) fn seats(&self) -> usize {
        seats_of(&self.spec)
    }

    /// Counts on where the agent's former definition was.
    pub(crate) fn following(mut self, before: &Self) -> Self {
        self.generations = before.generations.clone();
        self.living = before.living.clone();
        self.sockets = before.sockets.clone();
        self.sockets.keep(self.seats());
        self
    }

    /// Lets go of the sockets that no runner has.
    pub(crate) fn close_sockets(&self) {
        self.sockets.close();
    }

    /// Returns the number of the next runner. No two runners of an agent have the same, not even
    /// when its actor was started again in between.
    pub(crate) fn next_generation(&self) -> Generation {
        Generation(self.generations.fetch_add(1, Ordering::Relaxed).saturating_add(1))
    }

    /// Launches a runner, waits until it is ready, and has it build the agent.
    pub(crate) async fn launch(
        &self,
        generation: Generation,
        meters: &AgentMeters,
    ) -> Result<Launched, Failure> {
        let launched = self.try_launch(generation, meters).await;
        launched.map_err(|failure| self.explain(failure))
    }

    async fn try_launch(
        &self,
        generation: Generation,
        meters: &AgentMeters,
    ) -> Result<Launched, Failure> {
        if let RunnerProgram::Url(url) = &self.spec.runner.program {
            return self.built_by(self.attach(url).await?).await;
        }
        // Nobody closes it: without a permit nothing would start at all.
        let _turn = self.starts.acquire().await;
        let began = Instant::now();
        let runner = self.start(generation).await.map_err(StartError::into_failure)?;
        let built = self.built_by(runner).await?;
        meters.started_in(began.elapsed());
        Ok(built)
    }

    /// Has a runner build the agent; one that does not is let go.
    async fn built_by(&self, runner: Runner) -> Result<Launched, Failure> {
        match self.validate(&runner).await {
            Ok(Validated { model, offline }) => Ok(Launched { runner, model, offline }),
            Err(failure) => {
                // Its end says more than a connection that broke.
                let limit = if failure.kind == FailureKind::RunnerDied {
                    EXIT_NEWS
                } else {
                    Duration::ZERO
                };
                if let Ok(exit) = tokio::time::timeout(limit, runner.exited()).await {
                    return Err(StartError::Ended(exit).into_failure());
                }
                runner.stop(REFUSED_GRACE).await;
                Err(failure)
            }
        }
    }

    /// Attaches to the runner that somebody else has started.
    async fn attach(&self, url: &str) -> Result<Runner, Failure> {
        let RunnerSpec { token_env, heartbeat, start_timeout, .. } = &self.spec.runner;
        let name = token_env.as_ref().map(ToString::to_string).unwrap_or_default();
        let token = self.host.variable(&name).ok_or_else(|| {
            let message = format!("`{name}` is not set: it holds the token of the runner at {url}");
            Failure::new(FailureKind::Config, message)
                .with_help("put it into the environment or into `.env`")
        })?;
        let plan = AttachPlan { url: url.to_owned(), token: token.into(), heartbeat: *heartbeat };
        Runner::attach(&plan, *start_timeout).await.map_err(StartError::into_failure)
    }

    /// Starts a runner for callers elsewhere, at a socket of theirs and with their token, and with
    /// it the launcher that is to look after it.
    pub(crate) async fn host(
        mut self,
        sockets: Sockets,
        token: SecretString,
    ) -> Result<(Launched, Option<axon_runner::Launcher>), Failure> {
        self.sockets = sockets;
        let launcher = self.program.launcher.take();
        let launcher = launcher.map(|plan| axon_runner::Launcher::start(&plan)).transpose();
        let launcher = launcher
            .map_err(|source| StartError::Spawn { program: "launcher".to_owned(), source })
            .map_err(StartError::into_failure)?;
        // Its number tells one life from the next even where all have the same process id.
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let mut plan = self.plan(Generation(u32::try_from(now).unwrap_or_default())).await;
        plan.launch.token = token.expose_secret().to_owned();
        plan.launcher = launcher.clone();
        let runner = async {
            StartingRunner::launch(plan).await?.ready(self.spec.runner.start_timeout).await
        };
        let runner = runner.await.map_err(StartError::into_failure);
        let launched = match runner {
            Ok(runner) => self.built_by(runner).await,
            Err(failure) => Err(failure),
        };
        Ok((launched.map_err(|failure| self.explain(failure))?, launcher))
    }

    /// Starts a runner. A launcher that dies meanwhile has taken it along: the next one is asked.
    async fn start(&self, generation: Generation) -> Result<Runner, StartError> {
        let timeout = self.spec.runner.start_timeout;
        for _ in 0..LAUNCHERS_TRIED {
            match StartingRunner::launch(self.plan(generation).await).await {
                Err(StartError::LauncherGone) => {}
                Err(error) => return Err(error),
                Ok(starting) => match starting.ready(timeout).await {
                    Err(StartError::Ended(exit)) if exit.by == By::Launcher => {}
                    settled => return settled,
                },
            }
        }
        tracing::warn!(agent = %self.spec.name, "launchers die: a runner is started without one");
        let plan = LaunchPlan { launcher: None, ..self.plan(generation).await };
        StartingRunner::launch(plan).await?.ready(timeout).await
    }

    /// Names the variable that a failure speaks of, if the runner was not given it.
    fn explain(&self, failure: Failure) -> Failure {
        // Only what Python said can be about a variable that it lacks, and only here it was withheld.
        let is_elsewhere = matches!(self.spec.runner.program, RunnerProgram::Url(_));
        if is_elsewhere || failure.help.is_some() || failure.class.is_empty() {
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

    /// Returns how to start a runner; without a launcher only where there can be none.
    async fn plan(&self, generation: Generation) -> LaunchPlan {
        let token = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let mut launch = Launch::new(&self.spec, generation, token);
        launch.log_level = axon_runner::logs::wanted();
        launch.path = self.path.iter().map(|path| path.display().to_string()).collect();
        launch.package = self.package();
        launch.env = self.variables();
        let Program { command, launcher, fork } = self.program.clone();
        let launcher = match launcher {
            Some(plan) => {
                let launcher = self.launchers.get(plan).await;
                if launcher.is_none() {
                    tracing::warn!(
                        agent = %self.spec.name,
                        "no launcher can be had now: a runner is started directly and from nothing"
                    );
                }
                launcher
            }
            None => None,
        };
        LaunchPlan {
            command,
            env: self.host.for_runners(),
            directory: self.host.directory.clone(),
            sockets: self.sockets.clone(),
            launch,
            launcher,
            fork,
            providers: self.providers(),
            limits: self.limits(),
            living: self.living.clone(),
        }
    }

    fn limits(&self) -> ProcessLimits {
        let RunnerLimits { memory, cpu_time, open_files } = self.spec.runner.limits;
        ProcessLimits { memory: memory.map(ByteSize::bytes), cpu_time, open_files }
    }

    /// Returns the providers of the agent's models, as the models' names begin.
    fn providers(&self) -> Vec<String> {
        let models = self.spec.model.iter().chain(&self.spec.fallback.model);
        let provider = |model: &ModelName| Some(model.to_string().split_once(':')?.0.to_owned());
        models.filter_map(provider).filter(|provider| provider != "python").collect()
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

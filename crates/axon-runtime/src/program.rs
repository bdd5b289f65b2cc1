//! Which program an agent's runners are, and which launcher starts them.

use std::path::PathBuf;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::spec::{AgentSpec, LauncherMode, RunnerProgram};
use axon_runner::LauncherPlan;
use axon_runner::embedded;
use axon_runner::environment::{self, Origin, Ready, Search};

use crate::host::Host;
use crate::launch::{PrepareError, Surroundings};

/// The argument that makes the runner's sources a launcher.
const LAUNCHER: &str = "launcher";

/// What is started as a runner, and by whom.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
    /// The launcher that starts it; without one it is started directly.
    pub(crate) launcher: Option<LauncherPlan>,
    /// Whether the launcher is to fork it rather than to execute it.
    pub(crate) fork: bool,
}

impl Program {
    /// Returns that of those that have no runner.
    pub(crate) fn none() -> Self {
        Self { command: Vec::new(), launcher: None, fork: false }
    }

    /// Finds the program of an agent, building the Python environment if need be.
    pub(crate) async fn find(
        spec: &AgentSpec,
        folder: Option<PathBuf>,
        host: &Host,
        surroundings: &Surroundings,
    ) -> Result<Self, PrepareError> {
        let (command, python) = match &spec.runner.program {
            RunnerProgram::Command(command) => {
                (command.clone(), any_python(host, surroundings).await?)
            }
            // Refused by the check before.
            RunnerProgram::Url(_) => (Vec::new(), None),
            RunnerProgram::Python { python } => {
                let configured = python.as_ref().map(PathBuf::from);
                let search = Search { configured, ..host.search(folder) };
                let command = python_command(search, surroundings).await?;
                (command.clone(), Some(command))
            }
        };
        // Elsewhere no process can be told to adopt orphans, nor be signalled by a handle.
        let launcher = python.filter(|_| cfg!(target_os = "linux")).map(|mut command| {
            command.push(LAUNCHER.to_owned());
            LauncherPlan { command, env: host.allowed(), directory: host.directory.clone() }
        });
        let is_python = matches!(spec.runner.program, RunnerProgram::Python { .. });
        let fork = is_python && spec.runner.launcher == LauncherMode::Warm;
        Ok(Self { command, launcher, fork })
    }
}

async fn python_command(
    search: Search,
    surroundings: &Surroundings,
) -> Result<Vec<String>, PrepareError> {
    let progress = surroundings.progress.clone();
    blocking(move || {
        let Ready { choice, .. } = environment::sync(&search, progress.as_ref())?;
        let mut command = vec![choice.python.display().to_string(), "-I".to_owned()];
        if choice.origin != Origin::Managed {
            command.extend(caches_elsewhere(&search));
        }
        command.push(embedded::lay_down(&search.cache_dir)?.display().to_string());
        Ok(command)
    })
    .await
}

/// Returns the command of some interpreter with the runner's sources, for a launcher of programs
/// that need no Python themselves; `None` if there is no interpreter.
async fn any_python(
    host: &Host,
    surroundings: &Surroundings,
) -> Result<Option<Vec<String>>, PrepareError> {
    let search = host.search(None);
    let found = surroundings.any_python.get_or_init(|| async {
        let search = search.clone();
        tokio::task::spawn_blocking(move || environment::any_python(&search)).await.ok().flatten()
    });
    let Some(python) = found.await.clone() else {
        tracing::warn!("there is no python3: what a runner leaves behind is not looked after");
        return Ok(None);
    };
    blocking(move || {
        let mut command = vec![python.display().to_string(), "-I".to_owned()];
        command.extend(caches_elsewhere(&search));
        command.push(embedded::lay_down(&search.cache_dir)?.display().to_string());
        Ok(Some(command))
    })
    .await
}

/// A user's environment is never changed, not even by the interpreter's own caches.
fn caches_elsewhere(search: &Search) -> [String; 2] {
    let caches = search.cache_dir.join("pycache").display().to_string();
    ["-X".to_owned(), format!("pycache_prefix={caches}")]
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PrepareError> + Send + 'static,
) -> Result<T, PrepareError> {
    let ended = |error: tokio::task::JoinError| {
        PrepareError::Definition(Failure::new(FailureKind::Internal, error.to_string()))
    };
    tokio::task::spawn_blocking(work).await.map_err(ended)?
}

//! A runner for callers elsewhere: started here, with nothing but its process around it, and asked
//! by agents of other machines that name it as `[runner] url`.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axon_kernel::spec::RunnerProgram;
use axon_runner::{Exit, Runner, Sockets};
use secrecy::SecretString;

use crate::agents_dir::AgentDefinition;
use crate::host::Host;
use crate::launch::{Launched, Launcher, OnProgress, Surroundings};
use crate::runtime::{StartError, refused};

/// How long what the runner has left behind may take to end after it.
const LEFT_BEHIND: Duration = Duration::from_secs(7);

/// Where a hosted runner listens, and what it asks for.
#[derive(Debug)]
pub struct Door {
    /// The socket. What goes over it is not encrypted.
    pub listener: TcpListener,
    /// The bearer token that each request has to carry.
    pub token: SecretString,
}

/// A runner that serves whoever has its token. Nobody restarts it: that is up to whoever holds it.
#[derive(Debug)]
pub struct HostedRunner {
    launched: Launched,
    launcher: Option<axon_runner::Launcher>,
}

impl HostedRunner {
    /// Starts a runner for `agent`, waits until it is ready, and has it build the agent once. That
    /// the agent's own definition may say where it is to be found makes no difference here.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the agent is wrong, or its Python cannot be had.
    pub async fn start(
        mut agent: AgentDefinition,
        host: Host,
        (door, progress): (Door, OnProgress),
    ) -> Result<Self, StartError> {
        let name = agent.spec.name.clone();
        if matches!(agent.spec.runner.program, RunnerProgram::Url(_)) {
            agent.spec.runner.program = RunnerProgram::Python { python: None };
            agent.spec.runner.token_env = None;
        }
        let surroundings = Surroundings::of_one_runner(progress);
        let launcher = Launcher::prepare(agent, Arc::new(host), surroundings).await;
        let launcher = launcher.map_err(|error| refused(&name, error))?;
        let sockets = Sockets::given(door.listener).map_err(StartError::Host)?;
        let started = launcher.host(sockets, door.token).await;
        let (launched, launcher) = started
            .map_err(|failure| StartError::Refused { agent: name, failure: Box::new(failure) })?;
        Ok(Self { launched, launcher })
    }

    fn runner(&self) -> &Runner {
        &self.launched.runner
    }

    /// Returns the id of its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.runner().pid()
    }

    /// Returns the model that it uses, and whether that one only plays a model.
    #[must_use]
    pub fn model(&self) -> (&str, bool) {
        (&self.launched.model, self.launched.offline)
    }

    /// Returns a future that resolves when its process has ended.
    pub fn exited(&self) -> impl Future<Output = Exit> + Send + use<> {
        self.runner().exited()
    }

    /// Asks it to end, kills it after `grace`, and waits until nothing is left of it.
    pub async fn stop(self, grace: Duration) -> Exit {
        let exit = self.runner().stop(grace).await;
        if let Some(launcher) = &self.launcher {
            launcher.close();
            let _in_time = tokio::time::timeout(LEFT_BEHIND, launcher.exited()).await;
        }
        exit
    }
}

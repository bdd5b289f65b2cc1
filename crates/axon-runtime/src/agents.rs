//! Supervises the agents: one whose actor fails is started again under the same handle.
//!
//! This is the least that keeps an agent served. Strategies, intensity and ordered shutdown belong
//! to the supervisor proper, which takes this module's place.

use std::collections::HashMap;
use std::sync::Arc;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::{oneshot, watch};

use axon_kernel::failure::Failure;

use crate::agent::{AgentActor, AgentArguments, AgentMessage};
use crate::launch::Launcher;

/// How often one agent's actor is started again before it is given up: it only fails by a bug.
const MAX_RESTARTS: u32 = 3;

/// The current actor of an agent; handles follow it over restarts.
pub(crate) type Current = watch::Receiver<ActorRef<AgentMessage>>;

/// Tells how the last launch of an agent's runner ended.
pub(crate) type Settled = watch::Sender<Option<Result<(), Failure>>>;

/// Speaks to the supervisor of the agents. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Agents {
    actor: ActorRef<Start>,
}

/// Start one agent.
#[derive(Debug)]
pub(crate) struct Start {
    launcher: Arc<Launcher>,
    settled: Settled,
    started: oneshot::Sender<Result<Current, ractor::SpawnErr>>,
}

impl Agents {
    pub(crate) async fn start() -> Result<Self, ractor::SpawnErr> {
        let (actor, _task) = Actor::spawn(None, Supervisor, ()).await?;
        Ok(Self { actor })
    }

    /// Starts an agent under supervision.
    pub(crate) async fn spawn(
        &self,
        launcher: Arc<Launcher>,
        settled: Settled,
    ) -> Result<Current, ractor::SpawnErr> {
        let (started, answer) = oneshot::channel();
        let gone = || ractor::SpawnErr::StartupFailed("the supervisor has ended".into());
        self.actor.cast(Start { launcher, settled, started }).map_err(|_ended| gone())?;
        answer.await.map_err(|_ended| gone())?
    }

    /// Ends the supervisor; with it the agents that are left, and their runners.
    pub(crate) fn stop(&self) {
        self.actor.stop(None);
    }
}

#[derive(Debug)]
struct Supervisor;

#[derive(Debug)]
struct Child {
    arguments: AgentArguments,
    current: watch::Sender<ActorRef<AgentMessage>>,
    restarts: u32,
}

impl Actor for Supervisor {
    type Msg = Start;
    type State = HashMap<ActorId, Child>;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<Start>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(HashMap::new())
    }

    async fn handle(
        &self,
        myself: ActorRef<Start>,
        Start { launcher, settled, started }: Start,
        children: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let arguments = AgentArguments { launcher, settled };
        let spawned = spawn(&arguments, &myself).await.map(|actor| {
            let id = actor.get_id();
            let (current, handles) = watch::channel(actor);
            children.insert(id, Child { arguments, current, restarts: 0 });
            handles
        });
        // Whoever asked may have given up: then the agent stays unregistered, and ends with us.
        let _gave_up = started.send(spawned);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Start>,
        event: SupervisionEvent,
        children: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let (id, cause) = match event {
            SupervisionEvent::ActorFailed(actor, cause) => (actor.get_id(), cause.to_string()),
            // ractor tells of a killed actor as of one that ended well, but with this reason.
            SupervisionEvent::ActorTerminated(actor, _, Some(reason)) if reason == "killed" => {
                (actor.get_id(), reason)
            }
            SupervisionEvent::ActorTerminated(actor, ..) => {
                children.remove(&actor.get_id());
                return Ok(());
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {
                return Ok(());
            }
        };
        let Some(mut child) = children.remove(&id) else { return Ok(()) };
        let agent = child.arguments.launcher.spec.name.as_str();
        if child.restarts == MAX_RESTARTS {
            tracing::error!(agent, cause, "the agent's actor failed too often and is given up");
            return Ok(());
        }
        tracing::error!(agent, cause, "the agent's actor failed and is started again");
        child.restarts += 1;
        let actor = spawn(&child.arguments, &myself).await?;
        let id = actor.get_id();
        child.current.send_replace(actor);
        children.insert(id, child);
        Ok(())
    }
}

/// Starts the actor. It launches its runner in a task, so this takes no time.
async fn spawn(
    arguments: &AgentArguments,
    supervisor: &ActorRef<Start>,
) -> Result<ActorRef<AgentMessage>, ractor::SpawnErr> {
    let supervisor = supervisor.get_cell();
    let (actor, _task) =
        Actor::spawn_linked(None, AgentActor, arguments.clone(), supervisor).await?;
    Ok(actor)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axon_kernel::spec::{AgentSpec, RunnerProgram};

    use crate::agent::AgentState;
    use crate::runtime::Runtime;

    #[tokio::test]
    async fn a_killed_agent_is_started_again_under_the_same_handle() {
        let mut spec = AgentSpec::new("agent".parse().unwrap());
        spec.model = Some("test".parse().unwrap());
        spec.runner.program = RunnerProgram::Command(vec!["/bin/false".to_owned()]);
        spec.supervision.intensity.max_restarts = 0;
        let runtime = Runtime::builder().agent(spec).start().await.unwrap();
        let agent = runtime.named("agent").unwrap();
        let before = agent.actor.borrow().clone();
        before.kill();
        before.wait(None).await.unwrap();
        let again = async {
            while agent.status().await.is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), again).await.unwrap();
        assert_ne!(agent.actor.borrow().get_id(), before.get_id());
        let status = agent.status().await.unwrap();
        assert_ne!(status.state, AgentState::Up);
        runtime.shutdown().await;
    }
}

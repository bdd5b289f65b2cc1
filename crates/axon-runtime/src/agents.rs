//! The agents under their supervisors: who starts them again, and what happens when nobody does.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::spec::{AgentName, OnExhausted};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::agent::{Agent, AgentActor, AgentArguments, Standing};
use crate::events::RuntimeEvent;
use crate::group::Group;
use crate::launchers::Launchers;
use crate::services::Services;
use crate::supervisor::{
    BoxError, Child, ChildError, ChildId, ChildSpec, ChildStatus, Exit, Happening, StopSignal,
    SupervisionEvent, Supervisor, SupervisorHandle, SupervisorStartError,
};
use crate::tree::{LAUNCHERS, ROOT};

/// How long an agent may take to end: its runner's grace and the reaping of its processes.
const AGENT_SHUTDOWN: Duration = Duration::from_secs(6);

/// How many restarts of agents' actors are too many, for each agent. An actor fails by a bug, or
/// because its agent escalates outside of any group; the backoff between restarts keeps an agent
/// below this, so that it takes no other one down.
const AGENTS_INTENSITY: (u32, Duration) = (10, Duration::from_secs(60));

/// How many failures of its services end a runtime.
const ROOT_INTENSITY: (u32, Duration) = (3, Duration::from_secs(60));

/// The supervisors of a runtime.
///
/// The root restarts what comes after a failed child too, in this order: the runs, the launchers,
/// then the agents, which are under a supervisor of their own. A group of agents is a supervisor among them.
#[derive(Debug)]
pub(crate) struct Agents {
    services: Arc<Services>,
    groups: Vec<Arc<Group>>,
    supervisor: watch::Sender<Option<SupervisorHandle>>,
    root: OnceLock<SupervisorHandle>,
}

impl Agents {
    pub(crate) fn new(services: Arc<Services>, groups: Vec<Group>) -> Arc<Self> {
        let groups = groups.into_iter().map(Arc::new).collect();
        let (supervisor, root) = (watch::Sender::new(None), OnceLock::new());
        Arc::new(Self { services, groups, supervisor, root })
    }

    /// Starts the tree, with every agent that is registered.
    pub(crate) async fn start(self: &Arc<Self>) -> Result<(), SupervisorStartError> {
        let (restarts, within) = ROOT_INTENSITY;
        let (runs, agents) = (self.services.runs.clone(), Arc::downgrade(self));
        let launchers = self.services.launchers.clone();
        let root = Supervisor::rest_for_one()
            .named(ROOT)
            .intensity(restarts, within)
            .on_event(self.teller())
            .child(ChildSpec::permanent("runs", move || {
                let runs = runs.clone();
                async move {
                    let (actor, task) = runs.start().await?;
                    Ok::<_, BoxError>(Child::actor(actor, task))
                }
            }))
            .child(
                ChildSpec::permanent(LAUNCHERS, move || {
                    let launchers = launchers.clone();
                    async move {
                        let (actor, task) = launchers.start().await?;
                        Ok::<_, BoxError>(Child::actor(actor, task))
                    }
                })
                .shutdown(Launchers::SHUTDOWN),
            )
            .child(
                ChildSpec::permanent("agents", move || start_supervisor(agents.clone()))
                    .supervisor(),
            )
            .start()
            .await?;
        let ended = root.clone();
        // Set once: here.
        let _first = self.root.set(root);
        tokio::spawn(fall(Arc::downgrade(self), ended));
        Ok(())
    }

    /// Starts a registered agent under its supervisor.
    pub(crate) async fn add(self: &Arc<Self>, agent: &Arc<Agent>) -> Result<(), ChildError> {
        match self.group_of(&agent.name) {
            None => self.supervisor()?.start_child(self.spec_of(agent)).await.map(drop),
            // It starts with the next try of its group, which is now.
            Some(group) if group.is_parked() => {
                group.try_now();
                Ok(())
            }
            Some(group) => match group.supervisor() {
                Some(supervisor) => supervisor.start_child(self.spec_of(agent)).await.map(drop),
                // The first of its group: the group starts with every member that is registered.
                None => self.supervisor()?.start_child(self.spec_of_group(group)).await.map(drop),
            },
        }
    }

    /// Stops an agent and forgets it.
    pub(crate) async fn remove(&self, agent: &Agent) {
        agent.close();
        let id = ChildId::new(agent.name.as_str());
        if let Some(supervisor) = self.supervisor_of(&agent.name) {
            // It may have ended already; then its entry is all that there is to remove.
            let _ended = supervisor.terminate_child(&id).await;
            let _forgotten = supervisor.delete_child(&id).await;
        }
        let living = agent.launcher().living.clone();
        let _in_time = tokio::time::timeout(AGENT_SHUTDOWN, living.none()).await;
        agent.launcher().close_sockets();
    }

    /// Starts an agent again whose actor is not there, by hand.
    pub(crate) async fn restart(&self, agent: &Agent) -> Result<(), ChildError> {
        let name = &agent.name;
        if let Some(group) = self.group_of(name)
            && group.is_parked()
        {
            group.try_now();
            return Ok(());
        }
        let supervisor = self.supervisor_of(name).ok_or(ChildError::Stopped)?;
        match supervisor.restart_child(&ChildId::new(name.as_str())).await {
            // Somebody is at it.
            Ok(_) | Err(ChildError::Restarting | ChildError::Running) => Ok(()),
            Err(error) => {
                let failure = Failure::new(FailureKind::Config, error.to_string());
                self.park(agent, failure, None);
                Err(error)
            }
        }
    }

    /// Stops everything: agents first, each within its time.
    pub(crate) async fn stop(&self) {
        if let Some(root) = self.root.get() {
            root.stop().await;
        }
    }

    pub(crate) fn root(&self) -> Option<&SupervisorHandle> {
        self.root.get()
    }

    pub(crate) fn groups(&self) -> &[Arc<Group>] {
        &self.groups
    }

    pub(crate) fn group_of(&self, name: &AgentName) -> Option<&Arc<Group>> {
        self.groups.iter().find(|group| group.spec.agents.contains(name))
    }

    #[cfg(test)]
    pub(crate) fn kill_supervisor(&self) {
        self.supervisor().unwrap().kill();
    }

    fn supervisor(&self) -> Result<SupervisorHandle, ChildError> {
        self.supervisor.borrow().clone().ok_or(ChildError::Stopped)
    }

    fn supervisor_of(&self, name: &AgentName) -> Option<SupervisorHandle> {
        match self.group_of(name) {
            Some(group) => group.supervisor(),
            None => self.supervisor.borrow().clone(),
        }
    }

    fn spec_of(self: &Arc<Self>, agent: &Arc<Agent>) -> ChildSpec {
        let (name, agent) = (agent.name.as_str().to_owned(), agent.clone());
        let events = self.services.events.clone();
        ChildSpec::permanent(name, move || {
            let arguments = AgentArguments { agent: agent.clone(), events: events.clone() };
            let agent = agent.clone();
            async move {
                let (actor, child) = Child::spawn(AgentActor, arguments).await?;
                agent.has_actor(actor);
                Ok::<_, BoxError>(child)
            }
        })
        .shutdown(AGENT_SHUTDOWN)
    }

    fn spec_of_group(self: &Arc<Self>, group: &Arc<Group>) -> ChildSpec {
        let (name, agents) = (group.name.as_str().to_owned(), Arc::downgrade(self));
        let group = group.clone();
        ChildSpec::permanent(name, move || start_group(agents.clone(), group.clone())).infinity()
    }

    fn is_member(&self, id: &ChildId) -> bool {
        let is_it = |name: &AgentName| name.as_str() == id.as_str();
        self.groups.iter().any(|group| group.spec.agents.iter().any(is_it))
    }

    fn registered(&self, name: &AgentName) -> Option<Arc<Agent>> {
        Some(self.services.registry.find(name.as_str())?.agent)
    }

    /// Tells observers what supervisors do, and agents that they are not started again.
    fn teller(self: &Arc<Self>) -> Arc<dyn Fn(SupervisionEvent) + Send + Sync> {
        let agents = Arc::downgrade(self);
        Arc::new(move |event| {
            let Some(agents) = agents.upgrade() else { return };
            // Siblings in a group are stopped after the one that is given up, one by one.
            let given_up = matches!(event.happening, Happening::GivenUp { .. });
            let stopped = matches!(event.happening, Happening::Stopped);
            if given_up || stopped && event.child.as_ref().is_some_and(|id| agents.is_member(id)) {
                tokio::spawn(park_given_up(agents.clone()));
            }
            agents.services.events.tell(RuntimeEvent::Supervision(event));
        })
    }
}

/// Starts the supervisor of all agents, with those that are registered.
async fn start_supervisor(agents: Weak<Agents>) -> Result<Child, BoxError> {
    let agents = agents.upgrade().ok_or("the runtime is gone")?;
    let (restarts, within) = AGENTS_INTENSITY;
    let registered = agents.services.registry.all();
    let children = u32::try_from(registered.len()).unwrap_or(u32::MAX).saturating_add(1);
    let mut supervisor = Supervisor::one_for_one()
        .named("agents")
        .intensity(restarts.saturating_mul(children), within)
        .on_event(agents.teller());
    for group in agents.groups() {
        if group.spec.agents.iter().any(|name| agents.registered(name).is_some()) {
            supervisor = supervisor.child(agents.spec_of_group(group));
        }
    }
    for handle in registered {
        if agents.group_of(handle.name()).is_none() {
            supervisor = supervisor.child(agents.spec_of(&handle.agent));
        }
    }
    let handle = supervisor.start().await?;
    agents.supervisor.send_replace(Some(handle.clone()));
    // A child may have been given up before anybody could be asked about it.
    tokio::spawn(park_given_up(agents));
    Ok(Child::supervisor(handle))
}

async fn start_group(agents: Weak<Agents>, group: Arc<Group>) -> Result<Child, BoxError> {
    let started = start_members(&agents, &group).await?;
    Ok(Child::task(move |stop| keep(agents, group, started, stop)))
}

/// Starts the supervisor of a group, with its members in their order.
async fn start_members(
    agents: &Weak<Agents>,
    group: &Arc<Group>,
) -> Result<SupervisorHandle, BoxError> {
    let agents = agents.upgrade().ok_or("the runtime is gone")?;
    let mut supervisor = group.supervisor_of_members().on_event(agents.teller());
    for agent in group.spec.agents.iter().filter_map(|name| agents.registered(name)) {
        supervisor = supervisor.child(agents.spec_of(&agent));
    }
    let handle = supervisor.start().await?;
    group.has_supervisor(handle.clone());
    tokio::spawn(park_given_up(agents));
    Ok(handle)
}

/// Keeps a group: when its members have failed too often it is parked and tried again later, or
/// its end is the end of this child, and the supervisor above decides.
async fn keep(
    agents: Weak<Agents>,
    group: Arc<Group>,
    mut members: SupervisorHandle,
    mut stop: StopSignal,
) -> Exit {
    loop {
        // Should this task be aborted, the members end with it.
        let _guard = Child::supervisor(members.clone());
        let exit = tokio::select! {
            exit = members.exited() => exit,
            () = stop.stopped() => {
                members.stop().await;
                return Exit::Shutdown(None);
            }
        };
        if exit.is_clean() || group.spec.on_exhausted == OnExhausted::Escalate {
            return exit;
        }
        members = loop {
            park_group(&agents, &group, &exit);
            tokio::select! {
                () = group.next_try() => {}
                () = stop.stopped() => return Exit::Shutdown(None),
            }
            match start_members(&agents, &group).await {
                Ok(members) => break members,
                Err(error) => tracing::error!(group = %group.name, error, "a group did not start"),
            }
        };
    }
}

fn park_group(agents: &Weak<Agents>, group: &Group, exit: &Exit) {
    let Some(agents) = agents.upgrade() else { return };
    let retry_at = Instant::now() + group.spec.backoff.max;
    tracing::error!(group = %group.name, %exit, "a group has failed too often and is parked");
    let message = format!("its group `{}` has failed too often: {exit}", group.name);
    let cause = Failure::new(FailureKind::RunnerDied, message);
    group.park();
    for agent in group.spec.agents.iter().filter_map(|name| agents.registered(name)) {
        agents.park(&agent, cause.clone(), Some(retry_at));
    }
}

impl Agents {
    fn park(&self, agent: &Agent, cause: Failure, retry_at: Option<Instant>) {
        let wait = retry_at.map(|at| at.saturating_duration_since(Instant::now()));
        self.services.events.tell(RuntimeEvent::AgentParked {
            agent: agent.name.clone(),
            cause: cause.clone(),
            retry_in_ms: wait.map(axon_kernel::event::millis),
        });
        agent.settle(Err(cause.clone()));
        agent.park(cause, retry_at);
    }

    async fn park_stopped(&self, supervisor: &SupervisorHandle, group: Option<&Group>) {
        let Ok(children) = supervisor.which_children().await else { return };
        for child in children {
            let Ok(name) = AgentName::try_from(child.id.as_str()) else { continue };
            let untold = |agent: &Arc<Agent>| matches!(agent.standing(), Standing::Open);
            let Some(agent) = self.registered(&name).filter(untold) else { continue };
            let why = match (child.status, group) {
                (ChildStatus::GivenUp { cause }, _) => cause.to_string(),
                (ChildStatus::Stopped, Some(group)) => {
                    format!("its group `{}` waits for another of its agents", group.name)
                }
                _ => continue,
            };
            let known = agent.last_failure();
            let failure = known.unwrap_or_else(|| Failure::new(FailureKind::Config, why));
            self.park(&agent, failure, None);
        }
    }
}

/// Tells the agents that their supervisor has given up, and those that were stopped with them.
async fn park_given_up(agents: Arc<Agents>) {
    let supervisor = agents.supervisor.borrow().clone();
    if let Some(supervisor) = supervisor {
        agents.park_stopped(&supervisor, None).await;
    }
    for group in &agents.groups {
        if let Some(supervisor) = group.supervisor() {
            agents.park_stopped(&supervisor, Some(group)).await;
        }
    }
}

/// When the root itself has failed, nobody waits in vain: every run ends.
async fn fall(agents: Weak<Agents>, root: SupervisorHandle) {
    let exit = root.exited().await;
    let Some(agents) = agents.upgrade() else { return };
    if !exit.is_clean() {
        tracing::error!(%exit, "the runtime's supervision tree has fallen: it takes no runs any more");
    }
    let handles = agents.services.registry.all();
    for handle in &handles {
        handle.agent.close();
    }
    for handle in handles {
        let launcher = handle.agent.launcher();
        // Its runners were killed with their actors; the agent's sockets are held until they ended.
        launcher.living.none().await;
        launcher.close_sockets();
    }
}

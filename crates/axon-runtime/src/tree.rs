//! The supervision tree as data: for `axon tree`, consoles and tests.

use std::pin::Pin;

use axon_kernel::spec::{AgentName, Intensity};
use serde::{Deserialize, Serialize};

use crate::agent::AgentStatus;
use crate::agents::Agents;
use crate::group::Group;
use crate::launchers::LauncherStatus;
use crate::services::Services;
use crate::supervisor::{
    ChildSnapshot, ChildStatus, Restart, Strategy, SupervisorHandle, SupervisorSnapshot,
};

/// The label of the root supervisor; no group can have it.
pub(crate) const ROOT: &str = "root";

/// The child of the root that owns the launchers.
pub(crate) const LAUNCHERS: &str = "launchers";

/// The supervision tree of a runtime, as it was when it was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tree {
    /// The root supervisor.
    pub root: Branch,
    /// Runs under way, waiting ones included.
    pub runs: usize,
}

/// A supervisor and what is under it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Branch {
    /// Who is restarted with a child that ends.
    pub strategy: Strategy,
    /// How many restarts are allowed in which time.
    pub intensity: Intensity,
    /// How many more restarts are allowed now, before the supervisor gives up.
    pub restarts_left: u32,
    /// How many of its children have survived their kill.
    pub leaked: u64,
    /// Its children, in the order in which they start.
    pub children: Vec<TreeChild>,
}

/// A child of a supervisor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TreeChild {
    /// Its id: the name of an agent, a group or a service.
    pub id: String,
    /// When it is restarted.
    pub restart: Restart,
    /// Where its supervisor has it.
    #[serde(flatten)]
    pub status: ChildStatus,
    /// How often its supervisor has restarted it.
    pub restarts: u32,
    /// What it is.
    #[serde(flatten)]
    pub node: TreeNode,
}

/// What a child of a supervisor is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TreeNode {
    /// A supervisor itself.
    Supervisor(Box<Branch>),
    /// A group of agents: a supervisor that can be parked.
    Group {
        /// Whether it is parked.
        parked: bool,
        /// Its members, while its supervisor is there.
        members: Option<Box<Branch>>,
    },
    /// An agent.
    Agent(Box<AgentStatus>),
    /// The processes that runners are forked from.
    Launchers(Vec<LauncherStatus>),
    /// Something else that serves.
    Service {},
}

impl Tree {
    pub(crate) async fn of(agents: &Agents, services: &Services) -> Self {
        let root = match agents.root() {
            Some(root) => Branch::of(root.clone(), agents, services).await,
            None => None,
        };
        Self { root: root.unwrap_or_else(Branch::fallen), runs: services.runs.count().await }
    }

    /// Returns the agent called `name`, wherever it is in the tree.
    #[must_use]
    pub fn agent(&self, name: &str) -> Option<&AgentStatus> {
        self.root.agent(name)
    }
}

impl Branch {
    fn of<'a>(
        supervisor: SupervisorHandle,
        agents: &'a Agents,
        services: &'a Services,
    ) -> Pin<Box<dyn Future<Output = Option<Self>> + Send + 'a>> {
        Box::pin(async move {
            let snapshot = supervisor.snapshot().await.ok()?;
            let SupervisorSnapshot { strategy, intensity, restarts_left, leaked, .. } = snapshot;
            let mut children = Vec::new();
            // Names of agents and groups mean something below the root only.
            let below = supervisor.label() != ROOT;
            for child in snapshot.children {
                let node = match &child.nested {
                    Some(nested) => Self::of(nested.clone(), agents, services)
                        .await
                        .map(|branch| TreeNode::Supervisor(Box::new(branch))),
                    None if below => Some(TreeNode::of(&child, agents, services).await),
                    None if child.id.as_str() == LAUNCHERS => {
                        Some(TreeNode::Launchers(services.launchers.status().await))
                    }
                    None => None,
                };
                let node = node.unwrap_or(TreeNode::Service {});
                let ChildSnapshot { id, restart, status, restarts, .. } = child;
                children.push(TreeChild { id: id.to_string(), restart, status, restarts, node });
            }
            Some(Self { strategy, intensity, restarts_left, leaked, children })
        })
    }

    /// The root of a tree that has fallen, or was stopped.
    fn fallen() -> Self {
        Self {
            strategy: Strategy::RestForOne,
            intensity: Intensity::default(),
            restarts_left: 0,
            leaked: 0,
            children: Vec::new(),
        }
    }

    fn agent(&self, name: &str) -> Option<&AgentStatus> {
        self.children.iter().find_map(|child| match &child.node {
            TreeNode::Agent(status) => (status.name.as_str() == name).then_some(&**status),
            TreeNode::Supervisor(branch) => branch.agent(name),
            TreeNode::Group { members, .. } => members.as_ref()?.agent(name),
            TreeNode::Launchers(_) | TreeNode::Service {} => None,
        })
    }
}

impl TreeNode {
    async fn of(child: &ChildSnapshot, agents: &Agents, services: &Services) -> Self {
        if let Some(group) = group_called(agents, child.id.as_str()) {
            let members = match group.supervisor() {
                Some(supervisor) => Branch::of(supervisor, agents, services).await,
                None => None,
            };
            return Self::Group { parked: group.is_parked(), members: members.map(Box::new) };
        }
        let name = AgentName::try_from(child.id.as_str()).ok();
        match name.and_then(|name| services.registry.find(name.as_str())) {
            Some(handle) => Self::Agent(Box::new(handle.status_now().await)),
            None => Self::Service {},
        }
    }
}

fn group_called<'a>(agents: &'a Agents, id: &str) -> Option<&'a Group> {
    agents.groups().iter().find(|group| group.name.as_str() == id).map(|group| &**group)
}

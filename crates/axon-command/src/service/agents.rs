//! The agents of a service, and its supervision tree.

use std::time::Duration;

use axon_kernel::spec::AgentName;
use axon_runtime::{AgentStatus, Tree};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{PROMPTLY, Service, ServiceError};

/// How long an agent may take to start: its Python may have to be set up.
const START: Duration = Duration::from_secs(300);

/// How much longer than its deadline a drain may take to be answered.
const MARGIN: Duration = Duration::from_secs(30);

/// An agent of a service.
#[derive(Debug, Deserialize)]
pub(crate) struct AgentSeen {
    #[serde(flatten)]
    pub(crate) status: AgentStatus,
    #[serde(default)]
    pub(crate) description: Option<String>,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    #[serde(default)]
    pub(crate) tools: Vec<String>,
    /// The Python object that it is, if it is one.
    #[serde(default)]
    pub(crate) module: Option<String>,
    #[serde(default)]
    pub(crate) deps_schema: Option<Value>,
    #[serde(default)]
    pub(crate) output_schema: Option<Value>,
}

#[derive(Deserialize)]
struct Page {
    agents: Vec<AgentSeen>,
}

#[derive(Deserialize)]
struct Drained {
    cancelled: usize,
}

impl Service {
    /// Returns the agents, by name.
    pub(crate) async fn agents(&self) -> Result<Vec<AgentSeen>, ServiceError> {
        self.get(&["v1", "agents"]).await.map(|Page { agents }| agents)
    }

    /// Returns an agent.
    pub(crate) async fn agent(&self, name: &AgentName) -> Result<AgentSeen, ServiceError> {
        self.get(&["v1", "agents", name.as_str()]).await
    }

    /// Starts an agent: as it is defined here, or as its own folder has it.
    pub(crate) async fn start_agent(
        &self,
        name: &AgentName,
        definition: Option<Map<String, Value>>,
    ) -> Result<AgentSeen, ServiceError> {
        let mut body = json!({ "name": name });
        if let Some(definition) = definition {
            body["definition"] = definition.into();
        }
        let request = self.request(Method::POST, &["v1", "agents"], &[]);
        self.answer(request.json(&body), START).await
    }

    /// Stops an agent once its runs have finished, and returns how many had to be cancelled.
    pub(crate) async fn stop_agent(
        &self,
        name: &AgentName,
        deadline: Duration,
    ) -> Result<usize, ServiceError> {
        let path = ["v1", "agents", name.as_str()];
        self.drained((Method::DELETE, &path), deadline).await
    }

    /// Lets an agent's runs finish and takes no new ones; returns how many had to be cancelled.
    pub(crate) async fn drain_agent(
        &self,
        name: &AgentName,
        deadline: Duration,
    ) -> Result<usize, ServiceError> {
        let path = ["v1", "agents", name.as_str(), "drain"];
        self.drained((Method::POST, &path), deadline).await
    }

    async fn drained(
        &self,
        (method, path): (Method, &[&str]),
        deadline: Duration,
    ) -> Result<usize, ServiceError> {
        let query = [("deadline", humantime::format_duration(deadline).to_string())];
        let request = self.request(method, path, &query);
        let Drained { cancelled } = self.answer(request, deadline.saturating_add(MARGIN)).await?;
        Ok(cancelled)
    }

    /// Replaces an agent's runners.
    pub(crate) async fn restart_agent(&self, name: &AgentName) -> Result<(), ServiceError> {
        let path = ["v1", "agents", name.as_str(), "restart"];
        self.send(self.request(Method::POST, &path, &[]), PROMPTLY).await.map(drop)
    }

    /// Returns the supervision tree as it is now.
    pub(crate) async fn tree(&self) -> Result<Tree, ServiceError> {
        self.get(&["v1", "tree"]).await
    }
}

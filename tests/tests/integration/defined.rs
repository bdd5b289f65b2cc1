//! Agents that a service defines in Rust, asked in its own types: with real runners and the real
//! client of a scripted provider.

mod answers;
mod delegation;
mod handed;
mod lost;
mod models;
mod prompts;
mod secrets;
mod state;
mod tools;

use axon_runtime::{Runtime, RuntimeBuilder};
use axon_test::{Script, ScriptedModel};
use serde::{Deserialize, Serialize};

use crate::support::Project;

/// The model of every agent here.
pub(crate) const MODEL: &str = "openai-chat:scripted";

/// What the bank's agents are given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
struct Customer {
    /// The customer's number.
    id: u32,
}

/// What the bank's agents answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
struct Advice {
    text: String,
    #[schemars(range(max = 10))]
    risk: u8,
}

/// A provider, and a project whose agents ask it.
pub(crate) struct Scene {
    pub(crate) model: ScriptedModel,
    pub(crate) project: Project,
}

impl Scene {
    pub(crate) async fn new(script: impl Into<Script>) -> Self {
        let model = ScriptedModel::start(script).await;
        let project = Project::with_model(&model);
        Self { model, project }
    }

    pub(crate) fn runtime(&self) -> RuntimeBuilder {
        self.project.runtime()
    }

    pub(crate) async fn start(&self, builder: RuntimeBuilder) -> Runtime {
        builder.start().await.unwrap()
    }

    /// Returns everything that the provider was sent.
    pub(crate) fn sent(&self) -> String {
        let requests = self.model.requests();
        requests.iter().map(|request| request.body.to_string()).collect()
    }
}

//! Who answers when an agent's own model cannot.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::{AgentName, ModelName};

/// Who answers when an agent's own model cannot; nobody, unless one is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Fallback {
    /// Another model for the same run, which goes on from its last checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
    /// Another agent, which gets the prompt; asked where no other model is left to try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
}

impl Fallback {
    /// Returns whether nobody is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.model.is_none() && self.agent.is_none()
    }
}

//! A group: agents that only make sense together, under a supervisor of their own.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::spec::{AgentName, Backoff, Intensity, OnExhausted};

/// Agents that only make sense together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The agents, in the order in which they are started.
    #[schemars(length(min = 1))]
    pub agents: Vec<AgentName>,
    /// Who is restarted with an agent that ends (`one_for_one`).
    #[serde(default)]
    pub strategy: GroupStrategy,
    /// How many restarts of the group's agents are allowed in which time (1 in 5s).
    #[serde(default = "default_intensity", deserialize_with = "intensity")]
    #[schemars(with = "GroupIntensity")]
    pub intensity: Intensity,
    /// How long to wait before a restart.
    #[serde(default)]
    pub backoff: Backoff,
    /// What happens beyond the intensity.
    #[serde(default)]
    pub on_exhausted: OnExhausted,
}

/// Who is restarted with an agent that ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GroupStrategy {
    /// Nobody else.
    #[default]
    OneForOne,
    /// Every agent of the group.
    OneForAll,
    /// Those that the group names after it.
    RestForOne,
}

/// The intensity of a group, whose defaults are a supervisor's and not an agent's.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct GroupIntensity {
    /// The number of restarts that is still allowed.
    max_restarts: u32,
    /// The length of the window.
    #[serde(with = "crate::spec::duration")]
    #[schemars(schema_with = "crate::spec::duration::schema")]
    within: Duration,
}

impl Default for GroupIntensity {
    fn default() -> Self {
        let Intensity { max_restarts, within } = default_intensity();
        Self { max_restarts, within }
    }
}

fn default_intensity() -> Intensity {
    Intensity { max_restarts: 1, within: Duration::from_secs(5) }
}

fn intensity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Intensity, D::Error> {
    let GroupIntensity { max_restarts, within } = GroupIntensity::deserialize(deserializer)?;
    Ok(Intensity { max_restarts, within })
}

//! How runs and conversations are kept.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the store is kept: the `[store]` of `axon.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// Where it is: a path, `sqlite:PATH`, `postgres://…`, or `memory`. A path is taken from the
    /// folder that holds the folder of agents; `.axon/axon.db` there is the default.
    pub url: Option<String>,
    /// What SQLite waits for before something counts as recorded (`full`).
    pub durability: Durability,
    /// For how long ended runs are kept (30 days).
    #[serde(with = "crate::spec::duration")]
    #[schemars(schema_with = "crate::spec::duration::schema")]
    pub keep_runs: Duration,
    /// How often an open run is taken over without getting any further before it is left to a
    /// person, from 1 to 100 (3).
    #[schemars(range(min = 1, max = 100))]
    pub recoveries: u32,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            url: None,
            durability: Durability::default(),
            keep_runs: Duration::from_secs(30 * 24 * 60 * 60),
            recoveries: 3,
        }
    }
}

/// What SQLite waits for before something counts as recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The disk says that it has it: nothing is lost when the machine loses power.
    #[default]
    Full,
    /// The operating system has it: nothing is lost when a process dies, but the last moments may
    /// be when the machine loses power. Cheaper.
    Normal,
}

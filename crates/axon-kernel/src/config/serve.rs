//! How the agents are served over HTTP.

// `core`'s addresses are values: nothing here reaches a network.
use core::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How `axon serve` serves: the `[serve]` of `axon.toml`. What is typed, and what the environment
/// says, wins over it. Paths are taken from the folder that holds the folder of agents.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServeSettings {
    /// Where to listen (127.0.0.1:8700). Beyond this machine only with a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub listen: Option<SocketAddr>,
    /// Where to give the metrics, in place of `/metrics` of the service itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub metrics_listen: Option<SocketAddr>,
    /// The file that holds the token which every request has to carry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<String>,
    /// The file that holds a token with which one may only read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_token_file: Option<String>,
    /// Names by which the service is reached, beside those of the loopback.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_hosts: Vec<String>,
    /// Origins whose pages may ask, such as `https://console.example.com`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_origins: Vec<String>,
    /// How long runs under way may take to finish when the service is told to end (30s).
    #[serde(with = "crate::spec::duration::option", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::spec::duration::schema")]
    pub drain: Option<Duration>,
}

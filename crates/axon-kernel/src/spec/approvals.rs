//! How long a run waits for a person, and what happens when nobody decides.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::{Expiry, millis};
use crate::time::Timestamp;

/// How long a run waits for a decision about its tool calls, and what happens then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApprovalsSpec {
    /// How long it waits for an approval or an answer; without an end where this is missing.
    #[serde(with = "super::duration::option", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration::schema")]
    pub timeout: Option<Duration>,
    /// What happens when nobody has decided by then.
    #[serde(skip_serializing_if = "super::file::is_default")]
    pub on_timeout: OnTimeout,
}

/// What happens to calls that nobody has decided about in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnTimeout {
    /// They are not made; the model is told so, and the run goes on.
    #[default]
    Deny,
    /// The run fails.
    Fail,
}

impl ApprovalsSpec {
    /// Returns when a pause that begins at `now` is over.
    #[must_use]
    pub fn expiry(&self, now: Timestamp) -> Option<Expiry> {
        let timeout = self.timeout?;
        let (at, timeout_ms) = (now.after(timeout), millis(timeout));
        Some(Expiry { at, timeout_ms, then: self.on_timeout })
    }
}

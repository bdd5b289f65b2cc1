//! How an agent keeps the turns of one conversation apart.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an agent keeps the turns of one conversation apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConversationSpec {
    /// What a new turn does while another turn of the same conversation runs.
    pub when_busy: WhenBusy,
}

/// What a new turn does while another turn of the same conversation runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenBusy {
    /// It waits for its turn.
    #[default]
    Queue,
    /// It is refused as `busy`.
    Reject,
    /// It joins the turn under way, which reads it before its next model request.
    Steer,
}

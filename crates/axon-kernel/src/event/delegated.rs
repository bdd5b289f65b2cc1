//! What a run sees of the runs that it has handed a part of its work to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RunEvent;
use crate::ids::{ConversationId, RunId, ToolCallId};
use crate::spec::AgentPath;

/// Something happened in a run that answers a tool call of this one. That run has a record of its
/// own; here its events pass by, so that one stream shows everything below it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Delegated {
    /// The call of this run that the other one answers.
    pub tool_call_id: ToolCallId,
    /// The agents from the top-level run down to the one that it happened to.
    pub path: AgentPath,
    /// The run that it happened in.
    pub of_run: RunId,
    /// What happened there.
    pub inner: Box<RunEvent>,
}

/// The beginning of a conversation, which is kept there and not in each run that goes on from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Continues {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// How many of its messages.
    pub messages: usize,
}

/// Which run has handed its work to this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Parent {
    /// The run.
    pub run_id: RunId,
    /// Its tool call that this run answers.
    pub tool_call_id: ToolCallId,
    /// The agents from the top-level run down to this one's.
    pub path: AgentPath,
    /// What goes along with the message.
    #[serde(default)]
    pub envelope: Envelope,
}

/// What goes along with a message from run to run, beside its deadline and budget, which shrink on
/// the way: its number of hops only grows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Envelope {
    /// The top-level run, which is the name of the whole trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<RunId>,
    /// The conversation that the top-level run is a turn of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
    /// How often the message was handed on so far.
    pub hops: u32,
}

impl Envelope {
    /// Returns the envelope of a top-level run.
    #[must_use]
    pub fn of(run: &RunId) -> Self {
        Self { trace_id: Some(run.clone()), conversation_id: None, hops: 0 }
    }

    /// Returns the envelope one hop further.
    #[must_use]
    pub fn further(&self) -> Self {
        Self { hops: self.hops.saturating_add(1), ..self.clone() }
    }
}

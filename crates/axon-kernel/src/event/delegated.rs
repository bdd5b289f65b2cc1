//! What a run sees of the runs that it has handed a part of its work to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RunEvent;
use crate::ids::{RunId, ToolCallId};
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

/// Which run has handed its work to this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Parent {
    /// The run.
    pub run_id: RunId,
    /// Its tool call that this run answers.
    pub tool_call_id: ToolCallId,
    /// The agents from the top-level run down to this one's.
    pub path: AgentPath,
}

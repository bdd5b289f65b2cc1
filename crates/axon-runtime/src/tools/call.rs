//! One call of a Rust tool, as the run that makes it knows it.

use std::sync::{Mutex, PoisonError};

use axon_kernel::event::{RunEvent, StatePatch};
use axon_kernel::ids::{Attempt, ConversationId, RunId, ToolCallId};
use axon_kernel::json::RawJson;
use axon_kernel::spec::AgentName;
use axon_kernel::store::Write;
use axon_kernel::trace::TraceContext;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Provided;
use crate::budget::Budget;
use crate::carried::Carried;
use crate::run::Given;

/// One call of a Rust tool, as the run that makes it knows it.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) run_id: RunId,
    pub(crate) agent: AgentName,
    pub(crate) tool: String,
    pub(crate) attempt: Attempt,
    pub(crate) tool_call_id: ToolCallId,
    pub(crate) step: u32,
    pub(crate) args: RawJson,
    pub(crate) deps: Given,
    pub(crate) retry: u32,
    pub(crate) max_retries: u32,
    pub(crate) approved: bool,
    pub(crate) deadline: Instant,
    pub(crate) conversation: Option<ConversationId>,
    /// The call's span.
    pub(crate) traceparent: Option<TraceContext>,
    pub(crate) budget: Budget,
    pub(crate) cancelled: CancellationToken,
    /// Where it tells how far it is; nowhere outside of a run.
    pub(crate) told: Option<mpsc::Sender<Box<RunEvent>>>,
    pub(crate) state: Carried,
    pub(crate) provided: Provided,
    pub(crate) left: Mutex<Left>,
}

/// What a call leaves behind besides its result. Recorded in one transaction with that.
#[derive(Debug, Default)]
pub(crate) struct Left {
    pub(crate) writes: Vec<Write>,
    pub(crate) patches: Vec<StatePatch>,
}

impl Call {
    /// Takes what the call has left so far.
    pub(crate) fn take(&self) -> Left {
        std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn leave(&self, add: impl FnOnce(&mut Left)) {
        add(&mut self.left.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

//! The calls that a run makes in this process: each in a task of its own, which no panic leaves.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use axon_kernel::event::RunEvent;
use axon_kernel::failure::Failure;
use axon_kernel::ids::ToolCallId;
use axon_kernel::spec::{AgentName, AgentSpec, Effect};
use futures_util::FutureExt;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::spent::Spent;
use crate::tools::{Call, ToolError};

/// How many events of calls may wait until the run shows them; more are dropped, or wait.
const TOLD: usize = 64;

/// A call that is to be made.
#[derive(Clone, Debug)]
pub(super) struct Begun {
    pub(super) call: ToolCallId,
    pub(super) name: String,
    pub(super) by: By,
    /// When it has to have ended.
    pub(super) deadline: Instant,
    /// What tells it that it is called off.
    pub(super) cancelled: CancellationToken,
}

/// Who makes a call.
#[derive(Clone, Debug)]
pub(super) enum By {
    /// A Rust function.
    Tool { call: Arc<Call>, effect: Effect },
    /// Another agent.
    Agent,
    /// The validators of the answer.
    Validators,
}

/// A call that has ended.
#[derive(Debug)]
pub(super) struct Called {
    pub(super) call: ToolCallId,
    pub(super) name: String,
    pub(super) by: By,
    pub(super) end: Result<Value, Ended>,
    /// What the run has used that another agent made of it.
    pub(super) spent: Option<Spent>,
}

/// How a call ended that gave no result.
#[derive(Debug)]
pub(super) enum Ended {
    /// As it said itself.
    Tool(ToolError),
    /// The agent that it was handed to gave no answer.
    Other {
        /// Who.
        agent: AgentName,
        /// Why.
        failure: Box<Failure>,
    },
    /// The run that it was handed to waits for a person: what for.
    Waits(Value),
}

impl From<ToolError> for Ended {
    fn from(error: ToolError) -> Self {
        Self::Tool(error)
    }
}

/// What has come of the calls.
#[derive(Debug)]
pub(super) enum News {
    /// One has ended.
    Ended(Box<Called>),
    /// One tells how far it is.
    Told(Box<RunEvent>),
}

/// The calls under way, each in a task of its own.
#[derive(Debug)]
pub(super) struct Calls {
    tasks: JoinSet<Called>,
    /// Bounded by the tool calls of one response.
    under_way: Vec<UnderWay>,
    /// How many may be under way at once.
    room: usize,
    /// How long one that is called off may take to end.
    grace: Duration,
    told: (mpsc::Sender<Box<RunEvent>>, mpsc::Receiver<Box<RunEvent>>),
}

#[derive(Debug)]
struct UnderWay {
    begun: Begun,
    task: AbortHandle,
}

impl Calls {
    /// Makes the calls of one attempt of an agent.
    pub(super) fn of(agent: &AgentSpec) -> Self {
        Self {
            tasks: JoinSet::new(),
            under_way: Vec::new(),
            room: agent.limits.parallel_tools.get() as usize,
            grace: agent.runner.cancel_grace,
            told: mpsc::channel(TOLD),
        }
    }

    /// Returns whether one more call may be made now.
    pub(super) fn has_room(&self) -> bool {
        self.under_way.len() < self.room
    }

    /// Returns whether no call is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Returns where a call tells how far it is.
    pub(super) fn told(&self) -> mpsc::Sender<Box<RunEvent>> {
        self.told.0.clone()
    }

    /// Begins a call. One that is not over at its deadline is told so, and dropped if it has not
    /// ended within the grace.
    pub(super) fn begin<F>(&mut self, begun: Begun, work: F)
    where
        F: Future<Output = (Result<Value, Ended>, Option<Spent>)> + Send + 'static,
    {
        let (kept, grace) = (begun.clone(), self.grace);
        let work = async move {
            let Begun { call, name, by, deadline, cancelled } = begun;
            let mut made = pin!(AssertUnwindSafe(work).catch_unwind());
            let made = match tokio::time::timeout_at(deadline, &mut made).await {
                Ok(made) => Some(made),
                Err(_elapsed) => {
                    cancelled.cancel();
                    tokio::time::timeout(grace, made).await.ok()
                }
            };
            let (end, spent) = match made {
                Some(Ok(made)) => made,
                Some(Err(panic)) => {
                    let message = crate::panics::message(panic.as_ref());
                    let broken = ToolError::Broken(format!("the tool panicked: {message}").into());
                    (Err(broken.into()), None)
                }
                None => (Err(late().into()), None),
            };
            Called { call, name, by, end, spent }
        }
        .in_current_span();
        let task = self.tasks.spawn(work);
        self.under_way.push(UnderWay { begun: kept, task });
    }

    /// Waits until there is something new; for ever if there are no calls. What a call has told
    /// comes before its end.
    pub(super) async fn next(&mut self) -> News {
        if self.tasks.is_empty() {
            return std::future::pending().await;
        }
        tokio::select! {
            biased;
            // The sender lives in `self`, so the channel cannot close.
            Some(told) = self.told.1.recv() => News::Told(told),
            called = ended(&mut self.tasks, &mut self.under_way) => News::Ended(Box::new(called)),
        }
    }

    /// Calls a call off: it is told, and dropped if it has not ended within the grace.
    pub(super) fn call_off(&self, call: &ToolCallId) {
        for under_way in self.under_way.iter().filter(|under_way| under_way.begun.call == *call) {
            under_way.call_off(self.grace);
        }
    }

    /// Waits for the calls that must not be made again, until their own deadlines: what they return
    /// counts, whether or not somebody waits for it. The others are called off.
    pub(super) async fn see_out(&mut self) -> Vec<Called> {
        let once = |begun: &Begun| matches!(begun.by, By::Tool { effect: Effect::Once, .. });
        for under_way in self.under_way.iter().filter(|under_way| !once(&under_way.begun)) {
            under_way.call_off(self.grace);
        }
        let mut seen_out = Vec::new();
        while self.under_way.iter().any(|under_way| once(&under_way.begun)) {
            seen_out.push(ended(&mut self.tasks, &mut self.under_way).await);
        }
        seen_out
    }
}

impl UnderWay {
    fn call_off(&self, grace: Duration) {
        self.begun.cancelled.cancel();
        let task = self.task.clone();
        tokio::spawn(async move {
            tokio::time::sleep(grace).await;
            task.abort();
        });
    }
}

/// Calls off what is under way: nobody waits for it any more.
impl Drop for Calls {
    fn drop(&mut self) {
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        for under_way in &self.under_way {
            under_way.call_off(self.grace);
        }
        // Within the grace they may clean up.
        self.tasks.detach_all();
    }
}

/// Waits for the next end of a call.
async fn ended(tasks: &mut JoinSet<Called>, under_way: &mut Vec<UnderWay>) -> Called {
    loop {
        let Some(ended) = tasks.join_next_with_id().await else {
            return std::future::pending().await;
        };
        let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, _)| *id);
        let at = under_way.iter().position(|call| call.task.id() == id);
        let known = at.map(|at| under_way.swap_remove(at).begun);
        match (ended, known) {
            (Ok((_, called)), _) => return called,
            // Its panics are caught: so it was called off, and nobody waits for it.
            (Err(_aborted), Some(Begun { call, name, by, .. })) => {
                let off = ToolError::Failed("the call was called off".to_owned());
                return Called { call, name, by, end: Err(off.into()), spent: None };
            }
            (Err(_aborted), None) => {}
        }
    }
}

fn late() -> ToolError {
    ToolError::Failed("the tool gave no result in time".to_owned())
}

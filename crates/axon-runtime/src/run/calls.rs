//! The calls that a run makes in this process: each in a task of its own, which no panic leaves.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axon_kernel::event::RunEvent;
use axon_kernel::ids::ToolCallId;
use axon_kernel::json::RawJson;
use axon_kernel::spec::AgentSpec;
use futures_util::FutureExt;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use crate::tools::{Call, ToolError};

/// How many events of calls may wait until the run shows them; more are dropped, or wait.
const TOLD: usize = 64;

/// A call that has ended.
#[derive(Debug)]
pub(super) struct Called {
    pub(super) call: ToolCallId,
    pub(super) name: String,
    pub(super) end: Result<Value, Ended>,
    /// Who made it.
    pub(super) by: By,
}

/// How a call ended that gave no result.
#[derive(Debug)]
pub(super) enum Ended {
    /// As it said itself.
    Tool(ToolError),
    /// The run that it was handed to waits for a person: what for.
    Waits(Value),
}

impl From<ToolError> for Ended {
    fn from(error: ToolError) -> Self {
        Self::Tool(error)
    }
}

/// Who makes a call.
#[derive(Debug)]
pub(super) enum By {
    /// A Rust function.
    Tool(Arc<Call>),
    /// Another agent, in a run that has used this.
    Agent { usage: Option<RawJson> },
    /// The validators of the answer.
    Validators,
    /// It went before it could say what it leaves.
    Lost,
}

/// What has come of the calls.
#[derive(Debug)]
pub(super) enum News {
    /// One has ended.
    Ended(Called),
    /// One tells how far it is.
    Told(Box<RunEvent>),
}

/// The calls under way, each in a task of its own.
#[derive(Debug)]
pub(super) struct Calls {
    tasks: JoinSet<Called>,
    /// What calls it off, and which task makes it. Bounded by the tool calls of one response.
    under_way: Vec<UnderWay>,
    /// How many may be under way at once.
    room: Arc<Semaphore>,
    /// How long one that is called off may take to end.
    grace: Duration,
    told: (mpsc::Sender<RunEvent>, mpsc::Receiver<RunEvent>),
}

#[derive(Debug)]
struct UnderWay {
    call: ToolCallId,
    cancelled: CancellationToken,
    task: AbortHandle,
}

impl Calls {
    /// Makes the calls of one attempt of an agent.
    pub(super) fn of(agent: &AgentSpec) -> Self {
        let room = agent.limits.parallel_tools.get() as usize;
        let grace = agent.runner.cancel_grace;
        Self {
            tasks: JoinSet::new(),
            under_way: Vec::new(),
            room: Arc::new(Semaphore::new(room)),
            grace,
            told: mpsc::channel(TOLD),
        }
    }

    /// Returns where a call tells how far it is.
    pub(super) fn told(&self) -> mpsc::Sender<RunEvent> {
        self.told.0.clone()
    }

    /// Begins a call. It waits for room, and has until `deadline` for both.
    pub(super) fn begin<F>(
        &mut self,
        (call, name): (ToolCallId, String),
        cancelled: CancellationToken,
        deadline: Instant,
        work: F,
    ) where
        F: Future<Output = (Result<Value, Ended>, By)> + Send + 'static,
    {
        let (room, id) = (self.room.clone(), call.clone());
        let task = self.tasks.spawn(async move {
            let made = async {
                // Nobody closes it.
                let _place = room.acquire_owned().await;
                AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| {
                    let message = crate::panics::message(panic.as_ref());
                    let broken = ToolError::Broken(format!("the tool panicked: {message}").into());
                    (Err(broken.into()), By::Lost)
                })
            };
            let (end, by) = tokio::time::timeout_at(deadline, made)
                .await
                .unwrap_or_else(|_elapsed| (Err(late().into()), By::Lost));
            Called { call, name, end, by }
        });
        self.under_way.push(UnderWay { call: id, cancelled, task });
    }

    /// Waits until there is something new; for ever if there are no calls.
    pub(super) async fn next(&mut self) -> News {
        if self.tasks.is_empty() {
            return std::future::pending().await;
        }
        tokio::select! {
            biased;
            // The sender lives in `self`, so the channel cannot close.
            Some(told) = self.told.1.recv() => News::Told(Box::new(told)),
            Some(ended) = self.tasks.join_next_with_id() => match ended {
                Ok((id, called)) => {
                    self.under_way.retain(|under_way| under_way.task.id() != id);
                    News::Ended(called)
                }
                // Its panics are caught: so it was called off, and nobody waits for it.
                Err(error) => {
                    let at = self.under_way.iter().position(|call| call.task.id() == error.id());
                    let call = at.map(|at| self.under_way.swap_remove(at).call);
                    let call = call.unwrap_or_else(|| ToolCallId::new(""));
                    let end = Err(ToolError::Failed("the call was called off".to_owned()).into());
                    let (name, by) = (String::new(), By::Lost);
                    News::Ended(Called { call, name, end, by })
                }
            },
        }
    }

    /// Calls a call off: it is told, and dropped if it has not ended within the grace.
    pub(super) fn call_off(&self, call: &ToolCallId) {
        for under_way in self.under_way.iter().filter(|under_way| under_way.call == *call) {
            under_way.call_off(self.grace);
        }
    }
}

impl UnderWay {
    fn call_off(&self, grace: Duration) {
        self.cancelled.cancel();
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

fn late() -> ToolError {
    ToolError::Failed("the tool gave no result in time".to_owned())
}

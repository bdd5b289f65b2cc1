use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axon_kernel::supervision::{Answer, ChildId, Incarnation, Strategy};
use ractor::ActorRef;
use tokio::sync::{oneshot, watch};

use super::actor::{Call, Message};
use super::snapshot::{ChildSnapshot, Counts, Query, SupervisorSnapshot};
use super::{ChildSpec, Exit};

/// Speaks to a supervisor. Cheap to clone.
///
/// Dropping handles changes nothing: a supervisor under a parent ends when its parent stops it,
/// and a root supervisor runs until its owner calls [`SupervisorHandle::stop`] or the tokio runtime
/// ends. A call that is dropped before its answer has come is carried out all the same.
#[derive(Clone)]
pub struct SupervisorHandle {
    pub(super) actor: ActorRef<Message>,
    pub(super) label: Arc<str>,
    pub(super) strategy: Strategy,
    pub(super) exit: watch::Receiver<Option<Exit>>,
    pub(super) leaked: Arc<AtomicU64>,
}

/// Why a call failed.
#[derive(Clone, Debug)]
pub enum ChildError {
    /// There is no such child.
    NotFound,
    /// The child is running.
    Running,
    /// The child is waiting for its restart.
    Restarting,
    /// A child with this id is running already.
    AlreadyStarted,
    /// A child with this id exists already, but is not running.
    AlreadyPresent,
    /// The child could not be started; `Shutdown` if it was terminated meanwhile.
    Start(Exit),
    /// The supervisor is stopping or has ended.
    Stopped,
}

impl SupervisorHandle {
    /// Returns the label given by [`named`](super::Supervisor::named).
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Returns who is restarted with whom.
    #[must_use]
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// Adds a child at the end and starts it. If the start fails nothing is kept of it.
    ///
    /// # Errors
    ///
    /// `AlreadyStarted`, `AlreadyPresent`, `Start` or `Stopped`.
    pub async fn start_child(&self, spec: ChildSpec) -> Result<Incarnation, ChildError> {
        self.call(Call::Start(spec)).await.and_then(started)
    }

    /// Stops a child, or calls off its start or restart. Its spec stays, unless it is temporary.
    ///
    /// # Errors
    ///
    /// `NotFound` or `Stopped`.
    pub async fn terminate_child(&self, id: &ChildId) -> Result<(), ChildError> {
        self.call(Call::Terminate(id.clone())).await.map(drop)
    }

    /// Starts a child that is stopped or was given up; with the latter those that wait for it.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Running`, `Restarting`, `Start` or `Stopped`.
    pub async fn restart_child(&self, id: &ChildId) -> Result<Incarnation, ChildError> {
        self.call(Call::Restart(id.clone())).await.and_then(started)
    }

    /// Forgets a child that is stopped or was given up.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Running`, `Restarting` or `Stopped`.
    pub async fn delete_child(&self, id: &ChildId) -> Result<(), ChildError> {
        self.call(Call::Delete(id.clone())).await.map(drop)
    }

    /// Returns the children in their order.
    ///
    /// # Errors
    ///
    /// `Stopped`.
    pub async fn which_children(&self) -> Result<Vec<ChildSnapshot>, ChildError> {
        self.snapshot().await.map(|snapshot| snapshot.children)
    }

    /// Returns how many children there are, and of which kind.
    ///
    /// # Errors
    ///
    /// `Stopped`.
    pub async fn count_children(&self) -> Result<Counts, ChildError> {
        self.query(Query::Count).await
    }

    /// Returns the spec of a child.
    ///
    /// # Errors
    ///
    /// `NotFound` or `Stopped`.
    pub async fn get_spec(&self, id: &ChildId) -> Result<ChildSpec, ChildError> {
        let spec = self.query(|reply| Query::Spec(id.clone(), reply)).await?;
        spec.ok_or(ChildError::NotFound)
    }

    /// Returns the supervisor and its children as data.
    ///
    /// # Errors
    ///
    /// `Stopped`.
    pub async fn snapshot(&self) -> Result<SupervisorSnapshot, ChildError> {
        self.query(Query::Snapshot).await
    }

    /// Returns how many children did not end although they were killed.
    #[must_use]
    pub fn leaked(&self) -> u64 {
        self.leaked.load(Ordering::Relaxed)
    }

    /// Stops the children in reverse order, each within its own budget, then the supervisor, and
    /// waits for its end.
    pub async fn stop(&self) -> Exit {
        self.ask_to_stop();
        self.exited().await
    }

    /// Resolves when the supervisor has ended: after a kill its children may still be ending.
    pub async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
        ended.unwrap_or(Exit::Abnormal(super::Abnormal::Killed))
    }

    pub(super) fn ask_to_stop(&self) {
        let _ended = self.actor.cast(Message::Stop);
    }

    /// Ends the supervisor by force, and by force its children. Prefer [`SupervisorHandle::stop`].
    pub fn kill(&self) {
        self.actor.kill();
    }

    pub(super) async fn call(&self, call: Call) -> Result<Answer, ChildError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Call { call, reply })?;
        answer.await.map_err(|_ended| ChildError::Stopped)?
    }

    async fn query<T>(
        &self,
        query: impl FnOnce(oneshot::Sender<T>) -> Query,
    ) -> Result<T, ChildError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Query(query(reply)))?;
        answer.await.map_err(|_ended| ChildError::Stopped)
    }

    fn send(&self, message: Message) -> Result<(), ChildError> {
        self.actor.cast(message).map_err(|_ended| ChildError::Stopped)
    }
}

fn started(answer: Answer) -> Result<Incarnation, ChildError> {
    match answer {
        Answer::Started(incarnation) => Ok(incarnation),
        Answer::Done => Err(ChildError::Stopped),
    }
}

impl fmt::Debug for SupervisorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorHandle")
            .field("label", &self.label)
            .field("strategy", &self.strategy)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for ChildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "there is no such child",
            Self::Running => "the child is running",
            Self::Restarting => "the child is waiting for its restart",
            Self::AlreadyStarted => "a child with this id is running already",
            Self::AlreadyPresent => "a child with this id exists already, but is not running",
            Self::Start(Exit::Abnormal(_)) => "the child could not be started",
            Self::Start(Exit::Normal | Exit::Shutdown(_)) => {
                "the child was terminated before it had started"
            }
            Self::Stopped => "the supervisor is stopping or has ended",
        })
    }
}

impl Error for ChildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Start(exit) => exit.as_source(),
            Self::NotFound
            | Self::Running
            | Self::Restarting
            | Self::AlreadyStarted
            | Self::AlreadyPresent
            | Self::Stopped => None,
        }
    }
}

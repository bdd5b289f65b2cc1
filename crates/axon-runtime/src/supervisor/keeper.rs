//! One task per incarnation: it starts the child, waits for its end, and stops it when told to.
//! So no user code runs inside the supervisor, and no start, stop or wait holds it up.

use std::pin::Pin;
use std::time::Duration;

use axon_kernel::supervision::{ChildId, Incarnation, Shutdown};
use ractor::actor::messages::BoxedState;
use ractor::{ActorCell, ActorRef};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::actor::Message;
use super::child::{Controls, Exited, SUPERVISOR, panic_text};
use super::{Abnormal, BoxError, Child, ChildSpec, EndedUnwatched, Exit};

/// How long a child may take to end after it was killed, before it counts as leaked.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// The start of a child took longer than its spec allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the start took longer than {0:?}")]
pub struct StartTimedOut(pub Duration);

/// What ractor tells of the end of an actor.
pub(super) enum ActorEnd {
    Terminated { reason: Option<String>, state: Option<BoxedState> },
    Failed(BoxError),
}

/// Asks the supervisor to watch an actor.
pub(super) struct Watch {
    pub(super) cell: ActorCell,
    pub(super) end: oneshot::Sender<ActorEnd>,
}

pub(super) struct Keeper {
    pub(super) spec: ChildSpec,
    pub(super) incarnation: Incarnation,
    pub(super) supervisor: ActorRef<Message>,
    /// How to stop; dropped when the supervisor is gone.
    pub(super) order: oneshot::Receiver<Shutdown>,
}

/// What a keeper reports at last, whatever becomes of it.
struct Report {
    supervisor: ActorRef<Message>,
    id: ChildId,
    incarnation: Incarnation,
    done: bool,
}

enum Stopped {
    Exited(Exit),
    Leaked,
}

impl Keeper {
    pub(super) async fn keep(mut self) {
        let mut report = Report {
            supervisor: self.supervisor.clone(),
            id: self.spec.id().clone(),
            incarnation: self.incarnation,
            done: false,
        };
        let Some((child, order)) = self.start(&mut report).await else { return };
        let Child { mut controls, exited, nested } = child;
        let (watch, mut exited) = self.watch(exited);
        if order.is_none() {
            report.started(nested, watch);
        }
        let stopped = match order {
            Some(order) => stop(&mut controls, order, exited.as_mut()).await,
            None => tokio::select! {
                exit = &mut exited => Stopped::Exited(exit),
                order = &mut self.order => match order {
                    Ok(order) => stop(&mut controls, order, exited.as_mut()).await,
                    // The supervisor is gone: dropping the controls kills the child.
                    Err(_gone) => return,
                },
            },
        };
        match stopped {
            Stopped::Exited(exit) => {
                controls.disarm();
                drop(exited);
                report.exited(exit);
            }
            Stopped::Leaked => report.leaked(),
        }
    }

    /// Starts the child. It is returned with the order to stop it, if that came meanwhile.
    async fn start(&mut self, report: &mut Report) -> Option<(Child, Option<Shutdown>)> {
        let spec = self.spec.clone();
        let start = async move { spec.start().await };
        let start = SUPERVISOR.scope(self.supervisor.get_cell(), start);
        let mut task = AbortOnDrop(tokio::spawn(start));
        let limit = self.spec.timeout();
        let (called_off, order) = tokio::select! {
            biased;
            order = &mut self.order => {
                let order = order.ok()?;
                (call_off(task).await, Some(order))
            }
            started = within(limit, &mut task.0) => match started {
                Some(outcome) => (Some(start_outcome(outcome)), None),
                None => {
                    let timed_out = Abnormal::error(StartTimedOut(limit.unwrap_or_default()));
                    (self.too_late(task).await.then_some(Err(timed_out)), None)
                }
            },
        };
        match called_off {
            Some(Ok(child)) => return Some((child, order)),
            Some(Err(cause)) => report.start_failed(cause),
            None => report.leaked(),
        }
        None
    }

    /// Calls off a start that took too long, and returns whether nothing of it is left.
    async fn too_late(&self, task: AbortOnDrop) -> bool {
        let Some(outcome) = call_off(task).await else { return false };
        let Ok(Child { mut controls, exited, .. }) = outcome else { return true };
        let (_unwatched, mut exited) = self.watch(exited);
        match stop(&mut controls, Shutdown::BrutalKill, exited.as_mut()).await {
            Stopped::Exited(_) => {
                controls.disarm();
                true
            }
            Stopped::Leaked => false,
        }
    }

    /// Returns what the supervisor must watch for the end of the child, and that end.
    fn watch(&self, exited: Exited) -> (Option<Watch>, Pin<Box<dyn Future<Output = Exit> + Send>>) {
        match exited {
            Exited::Future(exited) => (None, exited),
            Exited::Actor { cell, task } => {
                let (end, mut ended) = oneshot::channel::<ActorEnd>();
                let supervisor = self.supervisor.clone();
                let actor = cell.get_id();
                let exited = async move {
                    let joined = task.await;
                    if let Ok(end) = ended.try_recv() {
                        return end.into();
                    }
                    // The event of the end, if there is one, is in the mailbox before this.
                    let _gone = supervisor.cast(Message::Unwatch(actor));
                    match ended.await {
                        Ok(end) => end.into(),
                        Err(_unknown) if joined.is_err() => Exit::Abnormal(Abnormal::Aborted),
                        Err(_unknown) => Exit::error(EndedUnwatched),
                    }
                };
                (Some(Watch { cell, end }), Box::pin(exited))
            }
        }
    }
}

/// Calls off a start and returns what became of it; `None` if it blocks.
async fn call_off(mut task: AbortOnDrop) -> Option<Result<Child, Abnormal>> {
    task.0.abort();
    timeout(KILL_GRACE, &mut task.0).await.ok().map(start_outcome)
}

fn start_outcome(
    joined: Result<Result<Child, BoxError>, tokio::task::JoinError>,
) -> Result<Child, Abnormal> {
    match joined {
        Ok(started) => started.map_err(Abnormal::error),
        Err(error) if error.is_panic() => Err(Abnormal::Panic(panic_text(&*error.into_panic()))),
        Err(_cancelled) => Err(Abnormal::Aborted),
    }
}

/// Asks, waits, kills, and waits for the end.
async fn stop(
    controls: &mut Controls,
    order: Shutdown,
    mut exited: Pin<&mut (dyn Future<Output = Exit> + Send)>,
) -> Stopped {
    match order {
        Shutdown::BrutalKill => {}
        Shutdown::Timeout(budget) => {
            controls.stop();
            if let Ok(exit) = timeout(budget, exited.as_mut()).await {
                return Stopped::Exited(exit);
            }
        }
        Shutdown::Infinity => {
            controls.stop();
            return Stopped::Exited(exited.await);
        }
    }
    controls.kill();
    timeout(KILL_GRACE, exited).await.map_or(Stopped::Leaked, Stopped::Exited)
}

async fn within<T>(limit: Option<Duration>, task: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => timeout(limit, task).await.ok(),
        None => Some(task.await),
    }
}

impl From<ActorEnd> for Exit {
    fn from(end: ActorEnd) -> Self {
        match end {
            ActorEnd::Terminated { reason, state } => {
                drop(state);
                match reason.as_deref() {
                    None => Self::Normal,
                    // ractor tells of a killed actor as of one that ended well, but with this.
                    Some("killed") => Self::Abnormal(Abnormal::Killed),
                    Some("actor_task_cancelled") => Self::Abnormal(Abnormal::Aborted),
                    Some(_) => Self::Shutdown(reason),
                }
            }
            ActorEnd::Failed(error) if is_text(&*error) => {
                Self::Abnormal(Abnormal::Panic(error.to_string()))
            }
            ActorEnd::Failed(error) => Self::error(error),
        }
    }
}

/// Returns whether an error is bare text, which is what ractor makes of a panic.
fn is_text(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.source().is_none() && format!("{error:?}") == format!("{:?}", error.to_string())
}

struct AbortOnDrop(JoinHandle<Result<Child, BoxError>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Report {
    fn started(&self, nested: Option<super::SupervisorHandle>, watch: Option<Watch>) {
        let (id, incarnation) = (self.id.clone(), self.incarnation);
        // If the supervisor is gone the order's channel is closed, which ends the child.
        let _gone = self.supervisor.cast(Message::Started { id, incarnation, nested, watch });
    }

    fn start_failed(&mut self, cause: Abnormal) {
        let (id, incarnation) = (self.id.clone(), self.incarnation);
        self.send(Message::StartFailed { id, incarnation, cause });
    }

    fn exited(&mut self, exit: Exit) {
        let (id, incarnation) = (self.id.clone(), self.incarnation);
        self.send(Message::Exited { id, incarnation, exit });
    }

    fn leaked(&mut self) {
        let (id, incarnation) = (self.id.clone(), self.incarnation);
        self.send(Message::Leaked { id, incarnation });
    }

    /// Sends the last word; later ones are not said.
    fn send(&mut self, message: Message) {
        if !self.done {
            self.done = true;
            let _gone = self.supervisor.cast(message);
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        // Only a panic of a closure that the child is made of comes here without a last word.
        self.exited(Exit::Abnormal(Abnormal::Panic("the child's stop or exited".to_owned())));
    }
}

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

use ractor::{Actor, ActorCell, ActorRef, SpawnErr};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Abnormal, Exit, SupervisorHandle};

tokio::task_local! {
    /// The supervisor on whose behalf a start runs.
    pub(super) static SUPERVISOR: ActorCell;
}

/// One running incarnation of a child: all that its supervisor sees of it.
///
/// A `Child` that is dropped before it has exited is killed.
pub struct Child {
    pub(super) controls: Controls,
    pub(super) exited: Exited,
    pub(super) nested: Option<SupervisorHandle>,
}

/// How to end a child. Each is used at most once.
pub(super) struct Controls {
    stop: Option<Box<dyn FnOnce() + Send>>,
    kill: Option<Box<dyn FnOnce() + Send>>,
}

/// Where the end of a child is learnt from.
pub(super) enum Exited {
    Future(Pin<Box<dyn Future<Output = Exit> + Send>>),
    Actor { cell: ActorCell, task: JoinHandle<()> },
}

impl Child {
    /// Makes a child of closures.
    ///
    /// `stop` asks it to end and returns at once, `kill` ends it by force and returns at once, and
    /// `exited` resolves when nothing of it is left. None of them may block.
    pub fn new<X: Into<Exit>>(
        stop: impl FnOnce() + Send + 'static,
        kill: impl FnOnce() + Send + 'static,
        exited: impl Future<Output = X> + Send + 'static,
    ) -> Self {
        let exited = Box::pin(async move { exited.await.into() });
        Self::with(stop, kill, Exited::Future(exited))
    }

    /// Makes a child of an actor that was spawned a moment ago, best in the start function itself.
    ///
    /// The supervisor becomes its ractor supervisor. It is stopped gracefully, and has exited when
    /// its task has ended, `post_stop` and the drop of its state included. A kill is abnormal. An
    /// error keeps its type; one that is bare text counts as a panic, because ractor makes the same
    /// of both. How an actor ended that ends before it is passed here is not known, and counts as
    /// abnormal: [`Child::spawn`] has no such gap.
    pub fn actor<M>(actor: ActorRef<M>, task: JoinHandle<()>) -> Self {
        let cell = actor.get_cell();
        let _outside_of_a_start = SUPERVISOR.try_with(|supervisor| cell.link(supervisor.clone()));
        let (stopped, killed) = (cell.clone(), cell.clone());
        Self::with(move || stopped.stop(None), move || killed.kill(), Exited::Actor { cell, task })
    }

    /// Spawns an unnamed actor under the supervisor on whose behalf the start runs.
    ///
    /// # Errors
    ///
    /// What its `pre_start` failed with.
    pub async fn spawn<A: Actor>(
        actor: A,
        arguments: A::Arguments,
    ) -> Result<(ActorRef<A::Msg>, Self), SpawnErr> {
        let (actor, task) = match SUPERVISOR.try_with(Clone::clone) {
            Ok(supervisor) => Actor::spawn_linked(None, actor, arguments, supervisor).await?,
            Err(_outside_of_a_start) => Actor::spawn(None, actor, arguments).await?,
        };
        Ok((actor.clone(), Self::actor(actor, task)))
    }

    /// Makes a child of a future, which runs in a task of its own.
    ///
    /// It is asked to stop by its [`StopSignal`], and killed by an abort. Its output says how it
    /// ended: `()`, a `Result<(), E>` or an [`Exit`].
    pub fn task<F, T>(run: F) -> Self
    where
        F: FnOnce(StopSignal) -> T,
        T: Future<Output: Into<Exit> + Send> + Send + 'static,
    {
        let (stop, signal) = watch::channel(false);
        let task = tokio::spawn(run(StopSignal(signal)));
        let abort = task.abort_handle();
        let exited = async move {
            match task.await {
                Ok(exit) => exit.into(),
                Err(error) if error.is_panic() => {
                    Exit::Abnormal(Abnormal::Panic(panic_text(&*error.into_panic())))
                }
                Err(_cancelled) => Exit::Abnormal(Abnormal::Aborted),
            }
        };
        let stop = move || {
            stop.send_replace(true);
        };
        Self::new(stop, move || abort.abort(), exited)
    }

    /// Makes a child of an OS process.
    ///
    /// `stop` asks it to end (`SIGTERM`), `kill` ends its whole process group (`SIGKILL`), and
    /// `exited` resolves when it has been reaped: `Ok` for a clean exit.
    pub fn process<E: Into<super::BoxError>>(
        stop: impl FnOnce() + Send + 'static,
        kill: impl FnOnce() + Send + 'static,
        exited: impl Future<Output = Result<(), E>> + Send + 'static,
    ) -> Self {
        Self::new(stop, kill, exited)
    }

    /// Makes a child of a supervisor: it is stopped in order, and counts as abnormal when its
    /// children failed too often.
    #[must_use]
    pub fn supervisor(handle: SupervisorHandle) -> Self {
        let (stopped, killed, ended) = (handle.clone(), handle.clone(), handle.clone());
        let child = Self::new(move || stopped.ask_to_stop(), move || killed.kill(), async move {
            ended.exited().await
        });
        Self { nested: Some(handle), ..child }
    }

    fn with(
        stop: impl FnOnce() + Send + 'static,
        kill: impl FnOnce() + Send + 'static,
        exited: Exited,
    ) -> Self {
        let controls = Controls { stop: Some(Box::new(stop)), kill: Some(Box::new(kill)) };
        Self { controls, exited, nested: None }
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child").finish_non_exhaustive()
    }
}

impl Controls {
    pub(super) fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop();
        }
    }

    pub(super) fn kill(&mut self) {
        if let Some(kill) = self.kill.take() {
            // It may run while a panic unwinds, where a second one would end the process.
            if catch_unwind(AssertUnwindSafe(kill)).is_err() {
                tracing::error!("the kill of a child panicked");
            }
        }
    }

    /// Forgets how to end it, because it has ended.
    pub(super) fn disarm(&mut self) {
        self.stop = None;
        self.kill = None;
    }
}

impl Drop for Controls {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Tells a task that it should end.
#[derive(Clone, Debug)]
pub struct StopSignal(watch::Receiver<bool>);

impl StopSignal {
    /// Resolves when the task should end.
    pub async fn stopped(&mut self) {
        if self.0.wait_for(|&stopped| stopped).await.is_err() {
            // Nobody is left who could ask: then the task is about to be aborted.
            std::future::pending::<()>().await;
        }
    }

    /// Returns whether the task should end.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }
}

/// Returns the text of a panic.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a value that is not text").to_owned()
}

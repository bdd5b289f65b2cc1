//! Owns one task per run, and sees to it that none ends without its terminal event.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axon_kernel::event::RunEvent;
use axon_kernel::ids::RunId;
use axon_kernel::store::Store;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{oneshot, watch};

use crate::agent::Admission;
use crate::log::RunLog;
use crate::run::{Driver, Refusal};

type Cancel = Arc<watch::Sender<Option<String>>>;

/// Speaks to the actor that owns the runs. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Runs {
    actor: ActorRef<RunsMessage>,
    store: Arc<dyn Store>,
}

#[derive(Debug)]
pub(crate) enum RunsMessage {
    Spawn(Box<NewRun>),
    Ended(RunId),
    /// Cancel what is under way, and answer when the last run has ended.
    Shutdown {
        reason: String,
        done: oneshot::Sender<()>,
    },
}

#[derive(Debug)]
pub(crate) struct NewRun {
    driver: Driver,
    admission: Admission,
    cancelled: watch::Receiver<Option<String>>,
    cancel: Cancel,
}

impl Runs {
    pub(crate) async fn start(store: Arc<dyn Store>) -> Result<Self, ractor::SpawnErr> {
        let (actor, _task) = Actor::spawn(None, RunsActor, ()).await?;
        Ok(Self { actor, store })
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Hands an accepted run over to its own task.
    pub(crate) fn spawn(
        &self,
        driver: Driver,
        admission: Admission,
        cancelled: watch::Receiver<Option<String>>,
        cancel: Cancel,
    ) -> Result<(), Refusal> {
        let agent = driver.agent_name().clone();
        let new = Box::new(NewRun { driver, admission, cancelled, cancel });
        self.actor.cast(RunsMessage::Spawn(new)).map_err(|_gone| Refusal::Stopped { agent })
    }

    /// Cancels every run and waits, at most `deadline`, until all have ended.
    pub(crate) async fn shutdown(&self, reason: &str, deadline: Duration) {
        let (done, all_ended) = oneshot::channel();
        let reason = reason.to_owned();
        if self.actor.cast(RunsMessage::Shutdown { reason, done }).is_ok() {
            let _in_time = tokio::time::timeout(deadline, all_ended).await;
        }
        self.end();
    }

    /// Cancels every run and waits for none.
    pub(crate) fn abandon(&self, reason: &str) {
        let (done, _nobody_waits) = oneshot::channel();
        let _ended = self.actor.cast(RunsMessage::Shutdown { reason: reason.to_owned(), done });
        self.end();
    }

    /// Takes no run any more; those that were handed over already are still taken care of.
    fn end(&self) {
        let _ended = self.actor.drain();
    }
}

#[derive(Debug)]
struct RunsActor;

#[derive(Debug, Default)]
struct Live {
    runs: HashMap<RunId, Cancel>,
    ending: Option<(String, oneshot::Sender<()>)>,
}

impl Actor for RunsActor {
    type Msg = RunsMessage;
    type State = Live;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<RunsMessage>,
        (): (),
    ) -> Result<Live, ActorProcessingErr> {
        Ok(Live::default())
    }

    async fn handle(
        &self,
        myself: ActorRef<RunsMessage>,
        message: RunsMessage,
        live: &mut Live,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RunsMessage::Spawn(new) => live.spawn(*new, myself),
            RunsMessage::Ended(run) => {
                live.runs.remove(&run);
            }
            RunsMessage::Shutdown { reason, done } => {
                for cancel in live.runs.values() {
                    cancel.send_replace(Some(reason.clone()));
                }
                live.ending = Some((reason, done));
            }
        }
        if live.runs.is_empty()
            && let Some((_, done)) = live.ending.take()
        {
            // Whoever waited may have given up.
            let _gone = done.send(());
        }
        Ok(())
    }
}

impl Live {
    fn spawn(&mut self, new: NewRun, myself: ActorRef<RunsMessage>) {
        let NewRun { driver, admission, cancelled, cancel } = new;
        if let Some((reason, _)) = &self.ending {
            cancel.send_replace(Some(reason.clone()));
        }
        let log = driver.log().clone();
        let run = log.run_id().clone();
        self.runs.insert(run.clone(), cancel);
        let store = driver.store().clone();
        let task = tokio::spawn(driver.drive(admission, cancelled));
        tokio::spawn(async move {
            if task.await.is_err() {
                record_end(store.as_ref(), &log).await;
            }
            // A runtime that is gone counts no runs.
            let _gone = myself.cast(RunsMessage::Ended(run));
        });
    }
}

/// Records the end of a run whose task died; for its followers the driver ended it as it went.
async fn record_end(store: &dyn Store, log: &RunLog) {
    let run = log.run_id();
    tracing::error!(%run, "the run's task died");
    let end = &log.settled().await.event;
    let recorded = async {
        let events = store.events(run).await?;
        if events.iter().any(RunEvent::is_terminal) {
            return Ok(());
        }
        let expected = events.len() as u64;
        store.append(run, expected, std::slice::from_ref(end)).await.map(drop)
    };
    if let Err(error) = recorded.await {
        tracing::error!(%run, %error, "the end was not recorded");
    }
}

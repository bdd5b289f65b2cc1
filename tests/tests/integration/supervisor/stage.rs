//! Children that do as they are told and write down what happens to them.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_runtime::supervisor::{
    BoxError, Child, ChildId, ChildSpec, ChildStatus, Happening, OnEvent, SupervisionEvent,
    Supervisor, SupervisorHandle,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// How an actor is made to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Normal,
    Shutdown,
    Error,
    Panic,
    Kill,
    Abort,
}

pub(super) const ALL_ENDS: [End; 6] =
    [End::Normal, End::Shutdown, End::Error, End::Panic, End::Kill, End::Abort];

#[derive(Debug, thiserror::Error)]
#[error("{0} broke")]
pub(super) struct Broken(pub(super) String);

pub(super) enum Order {
    Fail(BoxError),
    Panic,
    /// Hang in `post_stop`, for ever.
    HangOnStop,
    /// Block the thread until the other end of the second channel is gone.
    Block(oneshot::Sender<()>, std::sync::mpsc::Receiver<()>),
}

/// How the next start of a child goes.
pub(super) enum Start {
    Fail(BoxError),
    Hang,
}

type Future<T> = Pin<Box<dyn std::future::Future<Output = T> + Send>>;

/// The children of one test, by name, and what happened to them.
#[derive(Clone)]
pub(super) struct Stage {
    props: Arc<Mutex<Props>>,
    /// More than any test makes happen: a receiver that lags fails its test.
    events: broadcast::Sender<SupervisionEvent>,
}

#[derive(Default)]
struct Props {
    log: Vec<String>,
    actors: HashMap<String, (ActorRef<Order>, AbortHandle)>,
    starts: HashMap<String, VecDeque<Start>>,
}

struct Performer {
    stage: Stage,
    name: String,
}

struct Performance {
    hangs: bool,
    _drop: OnDrop,
}

/// Writes down that the state of an actor is gone.
struct OnDrop(Stage, String);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.write(format!("drop {}", self.1));
    }
}

impl Actor for Performer {
    type Msg = Order;
    type State = Performance;
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<Order>,
        (): (),
    ) -> Result<Performance, ActorProcessingErr> {
        self.stage.write(format!("start {}", self.name));
        Ok(Performance { hangs: false, _drop: OnDrop(self.stage.clone(), self.name.clone()) })
    }

    async fn handle(
        &self,
        _: ActorRef<Order>,
        order: Order,
        state: &mut Performance,
    ) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Fail(error) => return Err(error),
            Order::Panic => panic!("{} panics", self.name),
            Order::HangOnStop => state.hangs = true,
            Order::Block(entered, release) => {
                entered.send(()).unwrap();
                release.recv().unwrap_err();
            }
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Order>,
        state: &mut Performance,
    ) -> Result<(), ActorProcessingErr> {
        self.stage.write(format!("stop {}", self.name));
        if state.hangs {
            std::future::pending::<()>().await;
        }
        // Gives others a chance to be stopped too early.
        tokio::task::yield_now().await;
        Ok(())
    }
}

impl Stage {
    pub(super) fn new() -> Self {
        Self { props: Arc::default(), events: broadcast::channel(4096).0 }
    }

    pub(super) fn write(&self, line: impl Into<String>) {
        self.props.lock().unwrap().log.push(line.into());
    }

    /// Returns what was written since the last time, without the drops of states.
    pub(super) fn log(&self) -> Vec<String> {
        let mut lines = self.whole_log();
        lines.retain(|line| !line.starts_with("drop"));
        lines
    }

    pub(super) fn whole_log(&self) -> Vec<String> {
        std::mem::take(&mut self.props.lock().unwrap().log)
    }

    /// Makes the start function of an actor.
    pub(super) fn start(
        &self,
        name: &str,
    ) -> impl Fn() -> Future<Result<Child, BoxError>> + Send + Sync + use<> {
        let (stage, name) = (self.clone(), name.to_owned());
        move || Box::pin(stage.clone().perform(name.clone()))
    }

    async fn perform(self, name: String) -> Result<Child, BoxError> {
        let start = self.props.lock().unwrap().starts.get_mut(&name).and_then(VecDeque::pop_front);
        match start {
            Some(Start::Fail(error)) => {
                self.write(format!("fail {name}"));
                return Err(error);
            }
            Some(Start::Hang) => {
                self.write(format!("hang {name}"));
                std::future::pending::<()>().await;
            }
            None => {}
        }
        let performer = Performer { stage: self.clone(), name: name.clone() };
        let (actor, task) = Actor::spawn(None, performer, ()).await?;
        self.props.lock().unwrap().actors.insert(name, (actor.clone(), task.abort_handle()));
        Ok(Child::actor(actor, task))
    }

    pub(super) fn permanent(&self, name: &str) -> ChildSpec {
        ChildSpec::permanent(name, self.start(name))
    }

    pub(super) fn transient(&self, name: &str) -> ChildSpec {
        ChildSpec::transient(name, self.start(name))
    }

    pub(super) fn temporary(&self, name: &str) -> ChildSpec {
        ChildSpec::temporary(name, self.start(name))
    }

    /// Decides how the next start of a child goes, after those decided before.
    pub(super) fn next_start(&self, name: &str, start: Start) {
        self.props.lock().unwrap().starts.entry(name.to_owned()).or_default().push_back(start);
    }

    pub(super) fn actor(&self, name: &str) -> ActorRef<Order> {
        self.props.lock().unwrap().actors[name].0.clone()
    }

    pub(super) fn tell(&self, name: &str, order: Order) {
        self.actor(name).cast(order).unwrap();
    }

    pub(super) fn fail(&self, name: &str) {
        self.tell(name, Order::Fail(Broken(name.to_owned()).into()));
    }

    pub(super) fn end(&self, name: &str, end: End) {
        let actor = self.actor(name);
        match end {
            End::Normal => actor.stop(None),
            End::Shutdown => actor.stop(Some("going home".to_owned())),
            End::Error => self.fail(name),
            End::Panic => self.tell(name, Order::Panic),
            End::Kill => actor.kill(),
            End::Abort => self.props.lock().unwrap().actors[name].1.abort(),
        }
    }

    pub(super) fn on_event(&self) -> OnEvent {
        let events = self.events.clone();
        // Nobody may be listening.
        Arc::new(move |event| drop(events.send(event)))
    }

    /// Starts to listen to events; those before this are not heard.
    pub(super) fn listen(&self) -> Events {
        Events(self.events.subscribe())
    }

    /// Adds what every supervisor of these tests has.
    pub(super) fn dress(&self, supervisor: Supervisor) -> Supervisor {
        supervisor
            .named("stage")
            .backoff(None)
            .intensity(100, SECOND * 60)
            .on_event(self.on_event())
    }
}

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) struct Events(broadcast::Receiver<SupervisionEvent>);

impl Events {
    /// Waits for an event of a child, and returns it.
    pub(super) async fn until(
        &mut self,
        child: &str,
        wanted: impl Fn(&Happening) -> bool,
    ) -> SupervisionEvent {
        let wait = async {
            loop {
                let event = self.0.recv().await.unwrap();
                let its = event.child.as_ref().map(ChildId::as_str) == Some(child);
                if its && wanted(&event.happening) {
                    return event;
                }
            }
        };
        timeout(SECOND * 600, wait).await.expect("an event that does not come")
    }

    pub(super) async fn started(&mut self, child: &str) -> SupervisionEvent {
        self.until(child, |happening| matches!(happening, Happening::Started)).await
    }

    pub(super) async fn exited(&mut self, child: &str) -> String {
        self.until(child, |happening| matches!(happening, Happening::Exited { .. }))
            .await
            .happening
            .to_string()
    }

    pub(super) async fn given_up(&mut self, child: &str) -> String {
        self.until(child, |happening| matches!(happening, Happening::GivenUp { .. }))
            .await
            .happening
            .to_string()
    }
}

/// Returns an error that no restart heals.
pub(super) fn hopeless() -> BoxError {
    Failure::new(FailureKind::Config, "the schema is wrong").into()
}

/// Returns the states of all children, as `a:running b:stopped`.
pub(super) async fn states(supervisor: &SupervisorHandle) -> String {
    let children = supervisor.which_children().await.unwrap();
    let states = children.iter().map(|child| {
        let state = match child.status {
            ChildStatus::Starting => "starting",
            ChildStatus::Running => "running",
            ChildStatus::Restarting { .. } => "restarting",
            ChildStatus::Stopping => "stopping",
            ChildStatus::Stopped => "stopped",
            ChildStatus::GivenUp { .. } => "given_up",
        };
        format!("{}:{state}", child.id)
    });
    states.collect::<Vec<_>>().join(" ")
}

/// Waits, without a limit of its own, until a condition about the children holds.
pub(super) async fn until_states(supervisor: &SupervisorHandle, wanted: &str) {
    let wait = async {
        while states(supervisor).await != wanted {
            tokio::task::yield_now().await;
            tokio::time::advance(Duration::from_millis(1)).await;
        }
    };
    if timeout(SECOND * 600, wait).await.is_err() {
        panic!("{} is not {wanted}", states(supervisor).await);
    }
}

/// Makes a child that never ends, whatever is done to it, until its sender is dropped.
pub(super) fn immortal() -> (mpsc::Sender<()>, impl FnOnce() -> Child) {
    // Nothing is ever sent: one place is the least that there can be.
    let (life, mut ended) = mpsc::channel::<()>(1);
    let child = move || {
        Child::new(|| {}, || {}, async move {
            ended.recv().await;
        })
    };
    (life, child)
}

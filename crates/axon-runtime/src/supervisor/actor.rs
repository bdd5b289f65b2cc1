use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axon_kernel::supervision::{
    Answer, CallerId, ChildId, Effect, Event, ExitReason, Incarnation, Machine, Moment, Note,
    Refusal, Shutdown, Ticket,
};
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::keeper::{ActorEnd, Keeper, Watch};
use super::snapshot::Query;
use super::{
    Abnormal, ChildError, ChildSpec, Exit, Happening, OnEvent, SupervisionEvent, SupervisorHandle,
    SupervisorStartError,
};

/// What a supervisor is told.
///
/// ractor's mailbox has no bound of its own. What is in it is bounded by who sends: a caller waits
/// for its answer, an incarnation has at most three things to say, and a wait one.
pub(super) enum Message {
    /// A start succeeded.
    Started {
        id: ChildId,
        incarnation: Incarnation,
        nested: Option<SupervisorHandle>,
        watch: Option<Watch>,
    },
    /// A start failed.
    StartFailed { id: ChildId, incarnation: Incarnation, cause: Abnormal },
    /// An incarnation ended.
    Exited { id: ChildId, incarnation: Incarnation, exit: Exit },
    /// An incarnation survived its kill.
    Leaked { id: ChildId, incarnation: Incarnation },
    /// The task of an actor has ended: no event of it will come any more.
    Unwatch(ActorId),
    /// A wait is over.
    Due(Ticket),
    /// Somebody calls.
    Call { call: Call, reply: oneshot::Sender<Result<Answer, ChildError>> },
    /// Somebody wants to know.
    Query(Query),
    /// End, children first.
    Stop,
}

pub(super) enum Call {
    Start(ChildSpec),
    StartAnonymous(ChildSpec, oneshot::Sender<ChildId>),
    Terminate(ChildId),
    Restart(ChildId),
    Delete(ChildId),
}

/// What a supervisor starts with.
pub(super) struct Arguments {
    pub(super) label: Arc<str>,
    pub(super) machine: Machine,
    pub(super) children: Vec<ChildSpec>,
    pub(super) on_event: Option<OnEvent>,
    pub(super) begun: oneshot::Sender<Result<(), SupervisorStartError>>,
    pub(super) exit: watch::Sender<Option<Exit>>,
    pub(super) leaked: Arc<AtomicU64>,
}

/// How many ends of actors that nobody watches yet are kept, while starts are under way. Beyond it
/// the end of such an actor is not known, and counts as abnormal.
const MAX_EARLY: usize = 1024;

pub(super) const KILLED: Exit = Exit::Abnormal(Abnormal::Killed);

/// The supervisor's actor.
pub(super) struct SupervisorActor;

/// The state of a supervisor. Dropping it ends every child by force.
pub(super) struct State {
    myself: ActorRef<Message>,
    pub(super) label: Arc<str>,
    pub(super) machine: Machine,
    pub(super) entries: HashMap<ChildId, Entry>,
    on_event: Option<OnEvent>,
    epoch: Instant,
    callers: HashMap<CallerId, oneshot::Sender<Result<Answer, ChildError>>>,
    next_caller: u64,
    next_anonymous: u64,
    timers: HashMap<Ticket, AbortHandle>,
    /// Where the end of each linked actor is reported.
    watched: HashMap<ActorId, oneshot::Sender<ActorEnd>>,
    /// Ends of linked actors that nobody watches yet; kept while a start is under way.
    early: HashMap<ActorId, ActorEnd>,
    starting: usize,
    /// How the incarnation ended, or why the start failed, that was reported last.
    latest: Option<Exit>,
    begun: Option<oneshot::Sender<Result<(), SupervisorStartError>>>,
    exit: watch::Sender<Option<Exit>>,
    ended: Option<Exit>,
    pub(super) leaked: Arc<AtomicU64>,
}

/// What is known of a child beside the machine's table.
pub(super) struct Entry {
    pub(super) spec: ChildSpec,
    pub(super) nested: Option<SupervisorHandle>,
    /// How it ended, or why it did not start, the last time.
    pub(super) cause: Option<Exit>,
    live: Option<Live>,
}

/// The keeper of a live incarnation, which is ended with it.
struct Live {
    order: Option<oneshot::Sender<Shutdown>>,
    keeper: AbortHandle,
    starting: bool,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Actor for SupervisorActor {
    type Msg = Message;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        arguments: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let specs = arguments.children;
        let children = specs.iter().map(|spec| (spec.id().clone(), spec.terms())).collect();
        let mut state = State {
            myself,
            label: arguments.label,
            machine: arguments.machine,
            entries: specs.into_iter().map(|spec| (spec.id().clone(), Entry::new(spec))).collect(),
            on_event: arguments.on_event,
            epoch: Instant::now(),
            callers: HashMap::new(),
            next_caller: 0,
            next_anonymous: 0,
            timers: HashMap::new(),
            watched: HashMap::new(),
            early: HashMap::new(),
            starting: 0,
            latest: None,
            begun: Some(arguments.begun),
            exit: arguments.exit,
            ended: None,
            leaked: arguments.leaked,
        };
        state.happen(Event::Begin(children));
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Started { id, incarnation, nested, watch } => {
                if let Some(watch) = watch {
                    state.watch(watch);
                }
                state.started(&id, incarnation, nested);
                state.happen(Event::Started { id, incarnation });
            }
            Message::StartFailed { id, incarnation, cause } => {
                let hopeless = cause.is_hopeless();
                state.ended(&id, incarnation, Some(Exit::Abnormal(cause)));
                state.happen(Event::StartFailed { id, incarnation, hopeless });
            }
            Message::Exited { id, incarnation, exit } => {
                let ending = exit.ending();
                state.ended(&id, incarnation, Some(exit));
                state.happen(Event::Exited { id, incarnation, ending });
            }
            Message::Leaked { id, incarnation } => {
                state.ended(&id, incarnation, None);
                state.happen(Event::Leaked { id, incarnation });
            }
            Message::Unwatch(actor) => drop(state.watched.remove(&actor)),
            Message::Due(ticket) => {
                state.timers.remove(&ticket);
                state.happen(Event::Due(ticket));
            }
            Message::Call { call, reply } => state.called(call, reply),
            Message::Query(query) => state.answer(query),
            Message::Stop => state.happen(Event::Stop),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Message>,
        event: ractor::SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        use ractor::SupervisionEvent::{
            ActorFailed, ActorStarted, ActorTerminated, ProcessGroupChanged,
        };
        match event {
            ActorTerminated(cell, boxed, reason) => {
                state.actor_ended(cell.get_id(), ActorEnd::Terminated { reason, state: boxed });
            }
            ActorFailed(cell, error) => state.actor_ended(cell.get_id(), ActorEnd::Failed(error)),
            ActorStarted(_) | ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl State {
    pub(super) fn now(&self) -> Moment {
        Moment(self.epoch.elapsed())
    }

    fn started(
        &mut self,
        id: &ChildId,
        incarnation: Incarnation,
        nested: Option<SupervisorHandle>,
    ) {
        if self.is_current(id, incarnation)
            && let Some(entry) = self.entries.get_mut(id)
        {
            entry.nested = nested;
            if let Some(live) = &mut entry.live {
                live.starting = false;
            }
            self.start_ended();
        }
    }

    fn is_current(&self, id: &ChildId, incarnation: Incarnation) -> bool {
        self.machine.child(id).is_some_and(|child| child.incarnation == Some(incarnation))
    }

    /// Takes note of how an incarnation ended.
    fn ended(&mut self, id: &ChildId, incarnation: Incarnation, cause: Option<Exit>) {
        if self.is_current(id, incarnation)
            && let Some(entry) = self.entries.get_mut(id)
        {
            let was_starting = entry.live.take().is_some_and(|live| live.starting);
            entry.nested = None;
            entry.cause.clone_from(&cause);
            self.latest = cause;
            if was_starting {
                self.start_ended();
            }
        }
    }

    fn watch(&mut self, Watch { cell, end }: Watch) {
        let actor = cell.get_id();
        if let Some(ended) = self.early.remove(&actor) {
            // The keeper may be gone by now, then nobody waits for it.
            let _gone = end.send(ended);
            return;
        }
        self.watched.insert(actor, end);
        let myself = self.myself.get_cell();
        cell.link(myself.clone());
        if cell.try_get_supervisor().is_none_or(|supervisor| supervisor != myself) {
            // It is about to end, and takes no new supervisor: then a monitor's copy must do.
            myself.monitor(cell);
        }
    }

    fn actor_ended(&mut self, actor: ActorId, end: ActorEnd) {
        if let Some(watcher) = self.watched.remove(&actor) {
            let _gone = watcher.send(end);
        } else if self.starting > 0 && self.early.len() < MAX_EARLY {
            self.early.insert(actor, end);
        } else {
            // Not ours. Its state is dropped elsewhere: that may take time, or panic.
            tokio::spawn(async move { drop(end) });
        }
    }

    fn start_ended(&mut self) {
        self.starting = self.starting.saturating_sub(1);
        if self.starting == 0 && !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            tokio::spawn(async move { drop(early) });
        }
    }

    fn called(&mut self, call: Call, reply: oneshot::Sender<Result<Answer, ChildError>>) {
        use axon_kernel::supervision::Call as Kernel;
        let call = match call {
            Call::Start(spec) => self.add(spec),
            Call::StartAnonymous(spec, id) => {
                self.next_anonymous += 1;
                let spec = spec.with_id(ChildId::new(self.next_anonymous.to_string()));
                // Whoever asked may have given up: the child is started all the same.
                let _gave_up = id.send(spec.id().clone());
                self.add(spec)
            }
            Call::Terminate(id) => Kernel::Terminate(id),
            Call::Restart(id) => Kernel::Restart(id),
            Call::Delete(id) => Kernel::Delete(id),
        };
        let caller = CallerId(self.next_caller);
        self.next_caller += 1;
        self.callers.insert(caller, reply);
        self.happen(Event::Called { caller, call });
    }

    fn add(&mut self, spec: ChildSpec) -> axon_kernel::supervision::Call {
        let (id, terms) = (spec.id().clone(), spec.terms());
        self.entries.entry(id.clone()).or_insert_with(|| Entry::new(spec));
        axon_kernel::supervision::Call::Start(id, terms)
    }

    fn happen(&mut self, event: Event) {
        for effect in self.machine.handle(self.now(), event) {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Start { id, incarnation } => self.start(&id, incarnation),
            Effect::Stop { id, shutdown, .. } => self.order(&id, shutdown),
            Effect::WaitUntil { ticket, due } => self.wait(ticket, due),
            Effect::Reply { caller, answer } => self.reply(caller, answer),
            Effect::Forget(id) => drop(self.entries.remove(&id)),
            Effect::Note { id, incarnation, note } => self.note(id, incarnation, note),
            Effect::Begun => {
                self.tell(None, None, Happening::Started);
                if let Some(begun) = self.begun.take() {
                    // Whoever started it may have given up, and stops it then.
                    let _gave_up = begun.send(Ok(()));
                }
            }
            Effect::Exit(reason) => self.end(reason),
        }
    }

    fn start(&mut self, id: &ChildId, incarnation: Incarnation) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let (order, orders) = oneshot::channel();
        let (spec, supervisor) = (entry.spec.clone(), self.myself.clone());
        let keeper = Keeper { spec, incarnation, supervisor, order: orders };
        let keeper = tokio::spawn(keeper.keep()).abort_handle();
        entry.live = Some(Live { order: Some(order), keeper, starting: true });
        self.starting += 1;
    }

    fn order(&mut self, id: &ChildId, shutdown: Shutdown) {
        let live = self.entries.get_mut(id).and_then(|entry| entry.live.as_mut());
        if let Some(order) = live.and_then(|live| live.order.take()) {
            // If the keeper is gone its last word is in the mailbox.
            let _gone = order.send(shutdown);
        }
    }

    fn wait(&mut self, ticket: Ticket, due: Moment) {
        let (at, myself) = (self.epoch + due.0, self.myself.clone());
        let timer = tokio::spawn(async move {
            sleep_until(at).await;
            let _gone = myself.cast(Message::Due(ticket));
        });
        self.timers.insert(ticket, timer.abort_handle());
    }

    fn reply(&mut self, caller: CallerId, answer: Result<Answer, Refusal>) {
        let Some(reply) = self.callers.remove(&caller) else { return };
        // Whoever asked may have given up.
        let _gave_up = reply.send(answer.map_err(|refusal| self.error(refusal)));
    }

    fn error(&self, refusal: Refusal) -> ChildError {
        match refusal {
            Refusal::NotFound => ChildError::NotFound,
            Refusal::Running => ChildError::Running,
            Refusal::Restarting => ChildError::Restarting,
            Refusal::AlreadyStarted => ChildError::AlreadyStarted,
            Refusal::AlreadyPresent => ChildError::AlreadyPresent,
            Refusal::StartFailed => ChildError::Start(self.latest.clone().unwrap_or(KILLED)),
            Refusal::Cancelled => ChildError::Start(Exit::Shutdown(None)),
            Refusal::Stopped => ChildError::Stopped,
        }
    }

    fn cause(&self, id: &ChildId) -> Exit {
        let cause = self.entries.get(id).and_then(|entry| entry.cause.clone());
        cause.unwrap_or(KILLED)
    }

    fn note(&mut self, id: ChildId, incarnation: Option<Incarnation>, note: Note) {
        let happening = match note {
            Note::Started => Happening::Started,
            Note::Exited => Happening::Exited { cause: self.cause(&id) },
            Note::StartFailed => Happening::StartFailed { cause: self.cause(&id) },
            Note::RestartScheduled { after, restarts_left } => {
                Happening::RestartScheduled { after, restarts_left }
            }
            Note::GivenUp => Happening::GivenUp { cause: self.cause(&id) },
            Note::Exhausted => Happening::Exhausted { cause: self.cause(&id) },
            Note::Stopped => Happening::Stopped,
            Note::Leaked => {
                self.leaked.fetch_add(1, Ordering::Relaxed);
                Happening::Leaked
            }
        };
        self.tell(Some(id), incarnation, happening);
    }

    fn tell(&self, child: Option<ChildId>, incarnation: Option<Incarnation>, happening: Happening) {
        let event =
            SupervisionEvent { supervisor: self.label.clone(), child, incarnation, happening };
        super::event::log(&event);
        if let Some(on_event) = &self.on_event
            && catch_unwind(AssertUnwindSafe(|| on_event(event))).is_err()
        {
            tracing::error!(supervisor = &*self.label, "the receiver of its events panicked");
        }
    }

    fn end(&mut self, reason: ExitReason) {
        let (exit, error) = match reason {
            ExitReason::Stopped => (Exit::Shutdown(None), SupervisorStartError::Stopped),
            ExitReason::StartFailed(id) => {
                let cause = match self.cause(&id) {
                    Exit::Abnormal(cause) => cause,
                    Exit::Normal | Exit::Shutdown(_) => Abnormal::Aborted,
                };
                let error = || SupervisorStartError::Child { id: id.clone(), cause: cause.clone() };
                (Exit::error(error()), error())
            }
            ExitReason::Exhausted(child) => {
                let cause = Arc::new(self.cause(&child));
                let exhausted = Abnormal::Exhausted { child: child.clone(), cause };
                let error = SupervisorStartError::Child { id: child, cause: exhausted.clone() };
                (Exit::Abnormal(exhausted), error)
            }
        };
        self.tell(None, None, Happening::Stopped);
        self.ended = Some(exit);
        if let Some(begun) = self.begun.take() {
            let _gave_up = begun.send(Err(error));
        }
        self.myself.stop(None);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        for timer in self.timers.values() {
            timer.abort();
        }
        // By force: kill or panic. The children end with their entries.
        self.entries.clear();
        self.exit.send_replace(Some(self.ended.take().unwrap_or(KILLED)));
    }
}

impl Entry {
    fn new(spec: ChildSpec) -> Self {
        Self { spec, nested: None, cause: None, live: None }
    }
}

use std::collections::HashMap;

use super::child::{Child, ChildState, ChildView, Origin, Role, State, Then};
use super::cycle::Cycle;
use super::halt::Halt;
use super::table::{Rank, Table};
use super::{
    Answer, CallerId, ChildId, Delays, Effect, Ending, Event, ExitReason, Flags, Incarnation,
    Moment, Note, Refusal, Restart, Strategy, Ticket, Window,
};

/// One supervisor: its children, and what it does next.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(super) flags: Flags,
    pub(super) table: Table,
    pub(super) window: Window,
    pub(super) delays: Delays,
    pub(super) cycle: Option<Cycle>,
    pub(super) halt: Option<Halt>,
    pub(super) now: Moment,
    /// The children that wait for their own restart. Each ticket comes back, and leaves then.
    waits: HashMap<Ticket, Rank>,
    effects: Vec<Effect>,
    incarnations: u64,
    tickets: u64,
}

impl Machine {
    /// Makes a supervisor without children. `seed` decides the jitter of its waits.
    #[must_use]
    pub fn new(flags: Flags, seed: u64) -> Self {
        Self {
            flags,
            table: Table::default(),
            window: Window::new(flags.intensity),
            delays: Delays::new(flags.backoff, seed),
            cycle: None,
            halt: None,
            now: Moment::default(),
            waits: HashMap::new(),
            effects: Vec::new(),
            incarnations: 0,
            tickets: 0,
        }
    }

    /// Takes in what happened at `now` and returns what is to be done, in order.
    ///
    /// An event of an incarnation or a wait that is no longer current changes nothing.
    #[must_use]
    pub fn handle(&mut self, now: Moment, event: Event) -> Vec<Effect> {
        self.now = self.now.max(now);
        match event {
            Event::Begin(children) => self.begin(children),
            Event::Started { id, incarnation } => {
                self.current(&id, incarnation, Self::started);
            }
            Event::StartFailed { id, incarnation, hopeless } => {
                let ending = Ending::Abnormal { hopeless };
                self.current(&id, incarnation, |machine, rank| machine.ended(rank, ending));
            }
            Event::Exited { id, incarnation, ending } => {
                self.current(&id, incarnation, |machine, rank| machine.ended(rank, ending));
            }
            Event::Leaked { id, incarnation } => {
                self.current(&id, incarnation, |machine, rank| {
                    machine.note(rank, Note::Leaked);
                    machine.ended(rank, Ending::Shutdown);
                });
            }
            Event::Due(ticket) => self.due(ticket),
            Event::Called { caller, call } => self.called(caller, call),
            Event::Stop => self.halt(ExitReason::Stopped),
        }
        if self.halt.is_some() {
            self.advance_halt();
        } else {
            self.advance_cycle();
        }
        std::mem::take(&mut self.effects)
    }

    /// Returns the children in their order.
    pub fn children(&self) -> impl Iterator<Item = ChildView> + '_ {
        self.table.iter().map(|(_, child)| self.view(child))
    }

    /// Returns one child.
    #[must_use]
    pub fn child(&self, id: &ChildId) -> Option<ChildView> {
        self.table.get(self.table.rank(id)?).map(|child| self.view(child))
    }

    /// Returns how many more restarts are allowed at `now`.
    #[must_use]
    pub fn restarts_left(&self, now: Moment) -> u32 {
        self.window.left(now)
    }

    /// Returns how this supervisor works.
    #[must_use]
    pub fn flags(&self) -> Flags {
        self.flags
    }

    fn view(&self, child: &Child) -> ChildView {
        let queued = child.role == Role::Queued;
        let state = match child.state {
            State::Starting(_) => ChildState::Starting,
            State::Running { .. } => ChildState::Running,
            State::Stopping { .. } => ChildState::Stopping,
            State::Restarting { due, .. } => ChildState::Restarting { due: Some(due) },
            State::Stopped if queued => {
                self.cycle.as_ref().map_or(ChildState::Stopped, Cycle::state_of_queued)
            }
            State::Stopped => ChildState::Stopped,
            State::GivenUp => ChildState::GivenUp,
        };
        ChildView {
            id: child.id.clone(),
            terms: child.terms,
            state,
            incarnation: child.incarnation,
            restarts: child.restarts,
        }
    }

    /// Runs `then` for the child whose live incarnation this is.
    fn current(
        &mut self,
        id: &ChildId,
        incarnation: Incarnation,
        then: impl FnOnce(&mut Self, Rank),
    ) {
        if let Some(rank) = self.table.live(id, incarnation) {
            then(self, rank);
        }
    }

    fn started(&mut self, rank: Rank) {
        let Some(child) = self.table.get(rank) else { return };
        let (State::Starting(origin), Some(incarnation)) = (child.state, child.incarnation) else {
            return;
        };
        self.table.set(rank, State::Running { since: self.now });
        self.note(rank, Note::Started);
        if let Some(caller) = origin.caller() {
            self.reply(caller, Ok(Answer::Started(incarnation)));
            self.join_cycle(rank);
        }
        if origin == Origin::Cycle {
            self.table.change(rank, |child| child.role = Role::Free);
            self.started_in_cycle(rank, incarnation);
        }
    }

    fn ended(&mut self, rank: Rank, ending: Ending) {
        match self.table.get(rank).map(|child| child.state) {
            Some(State::Stopping { then }) => {
                self.note(rank, Note::Stopped);
                self.down(rank, then);
            }
            Some(State::Starting(origin)) => {
                self.note(rank, Note::StartFailed);
                self.start_failed(rank, origin, ending);
            }
            Some(State::Running { since }) => {
                self.note(rank, Note::Exited);
                if self.delays.is_healthy(since, self.now) {
                    self.table.change(rank, |child| child.failures = 0);
                }
                self.exited(rank, ending);
            }
            Some(State::Restarting { .. } | State::Stopped | State::GivenUp) | None => {}
        }
    }

    /// Applies OTP's restart types to a child that ended by itself.
    fn exited(&mut self, rank: Rank, ending: Ending) {
        let Some(child) = self.table.get(rank) else { return };
        let (restart, role) = (child.terms.restart, child.role);
        let template = self.flags.strategy == Strategy::Template;
        let clean = matches!(ending, Ending::Normal | Ending::Shutdown);
        let hopeless = ending == Ending::Abnormal { hopeless: true };
        match restart {
            Restart::Temporary => self.down(rank, Then::Remove),
            Restart::Permanent | Restart::Transient
                if self.halt.is_some() || role != Role::Free =>
            {
                self.down(rank, Then::Keep);
            }
            Restart::Transient if clean && template => self.down(rank, Then::Remove),
            Restart::Transient if clean => self.down(rank, Then::Keep),
            Restart::Permanent | Restart::Transient if hopeless => self.give_up(rank),
            Restart::Permanent | Restart::Transient => self.failed(rank),
        }
    }

    fn start_failed(&mut self, rank: Rank, origin: Origin, ending: Ending) {
        let hopeless = ending == Ending::Abnormal { hopeless: true };
        match origin {
            Origin::Added(_) => self.down(rank, Then::Remove),
            Origin::Asked(_) => self.down(rank, Then::Keep),
            Origin::Revived(_) => {
                self.down(rank, Then::Keep);
                self.table.set(rank, State::GivenUp);
            }
            Origin::Restart | Origin::Cycle if self.halt.is_some() => self.down(rank, Then::Keep),
            Origin::Cycle if self.start_failed_in_cycle(rank) => {}
            Origin::Restart | Origin::Cycle if hopeless => self.give_up(rank),
            Origin::Restart | Origin::Cycle => self.failed(rank),
        }
        if let Some(caller) = origin.caller() {
            self.reply(caller, Err(Refusal::StartFailed));
        }
    }

    /// Counts a failure and arranges for the restart, or ends.
    fn failed(&mut self, rank: Rank) {
        self.table.set(rank, State::Stopped);
        let Some(child) = self.table.get(rank) else { return };
        let (id, failures) = (child.id.clone(), child.failures);
        if self.is_held_back(rank) {
            self.hold(rank);
            return;
        }
        if !self.window.count(self.now) {
            self.note(rank, Note::Exhausted);
            self.halt(ExitReason::Exhausted(id));
            return;
        }
        let after = self.delays.next(failures);
        self.table.change(rank, |child| child.failures = failures.saturating_add(1));
        let restarts_left = self.window.left(self.now);
        self.note(rank, Note::RestartScheduled { after, restarts_left });
        let due = self.now.after(after);
        if self.flags.strategy.is_group() {
            self.restart_with_others(rank, due);
        } else if after.is_zero() {
            self.start(rank, Origin::Restart);
        } else {
            let ticket = self.wait_until(due);
            self.waits.insert(ticket, rank);
            self.table.set(rank, State::Restarting { due, ticket });
        }
    }

    fn due(&mut self, ticket: Ticket) {
        if self.due_in_cycle(ticket) {
            return;
        }
        let Some(rank) = self.waits.remove(&ticket) else { return };
        let state = self.table.get(rank).map(|child| child.state);
        if matches!(state, Some(State::Restarting { ticket: its, .. }) if its == ticket) {
            self.start(rank, Origin::Restart);
        }
    }

    pub(super) fn start(&mut self, rank: Rank, origin: Origin) {
        self.incarnations += 1;
        let incarnation = Incarnation(self.incarnations);
        let restart = match origin {
            Origin::Restart => true,
            Origin::Cycle => {
                let began = self.table.get(rank).is_some_and(|child| child.incarnation.is_some());
                began && !self.cycle.as_ref().is_some_and(Cycle::is_asked_for)
            }
            Origin::Added(_) | Origin::Asked(_) | Origin::Revived(_) => false,
        };
        self.table.set(rank, State::Starting(origin));
        self.table.change(rank, |child| {
            child.incarnation = Some(incarnation);
            child.restarts = child.restarts.saturating_add(u32::from(restart));
            if origin.caller().is_some() {
                child.failures = 0;
            }
        });
        if let Some(child) = self.table.get(rank) {
            self.effects.push(Effect::Start { id: child.id.clone(), incarnation });
        }
    }

    /// Stops a child that is starting or running.
    pub(super) fn stop(&mut self, rank: Rank, then: Then) {
        let Some(child) = self.table.get(rank) else { return };
        let Some(incarnation) = child.incarnation else { return };
        let (id, shutdown, state) = (child.id.clone(), child.terms.shutdown, child.state);
        let never_ran = matches!(state, State::Starting(Origin::Added(_)));
        let drops = never_ran || child.terms.restart == Restart::Temporary;
        let then = if drops { Then::Remove } else { then };
        self.table.set(rank, State::Stopping { then });
        self.effects.push(Effect::Stop { id, incarnation, shutdown });
        if let State::Starting(origin) = state
            && let Some(caller) = origin.caller()
        {
            self.reply(caller, Err(Refusal::Cancelled));
        }
    }

    /// Takes note that nothing of a child runs any longer.
    pub(super) fn down(&mut self, rank: Rank, then: Then) {
        self.table.set(rank, State::Stopped);
        let mut waiting = Vec::new();
        self.table.change(rank, |child| waiting = std::mem::take(&mut child.terminators));
        if then == Then::Remove {
            self.remove(rank);
        }
        for caller in waiting {
            self.reply(caller, Ok(Answer::Done));
        }
    }

    pub(super) fn remove(&mut self, rank: Rank) {
        if let Some(child) = self.table.remove(rank) {
            self.effects.push(Effect::Forget(child.id));
        }
    }

    pub(super) fn wait_until(&mut self, due: Moment) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.effects.push(Effect::WaitUntil { ticket, due });
        ticket
    }

    pub(super) fn reply(&mut self, caller: CallerId, answer: Result<Answer, Refusal>) {
        self.effects.push(Effect::Reply { caller, answer });
    }

    pub(super) fn note(&mut self, rank: Rank, note: Note) {
        if let Some(child) = self.table.get(rank) {
            let (id, incarnation) = (child.id.clone(), child.incarnation);
            self.effects.push(Effect::Note { id, incarnation, note });
        }
    }

    pub(super) fn emit(&mut self, effect: Effect) {
        self.effects.push(effect);
    }
}

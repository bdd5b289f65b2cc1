//! A supervisor whose starts, stops and waits end when a test says so, and what must always hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::supervision::{
    Call, CallerId, ChildId, Effect, Ending, Event, Flags, Incarnation, Machine, Moment, Note,
    Refusal, Strategy, Ticket,
};

pub(super) struct World {
    pub(super) machine: Machine,
    pub(super) now: Moment,
    pub(super) starting: BTreeMap<ChildId, Incarnation>,
    pub(super) running: BTreeMap<ChildId, Incarnation>,
    pub(super) stopping: BTreeMap<ChildId, Incarnation>,
    pub(super) waits: BTreeSet<Ticket>,
    pub(super) callers: BTreeSet<CallerId>,
    pub(super) next_caller: u64,
    pub(super) ended: bool,
    /// The child that is being stopped because the supervisor ends.
    last_stopped: Option<ChildId>,
    halted: bool,
}

impl World {
    pub(super) fn new(flags: Flags) -> Self {
        Self {
            machine: Machine::new(flags, 3),
            now: Moment::default(),
            starting: BTreeMap::new(),
            running: BTreeMap::new(),
            stopping: BTreeMap::new(),
            waits: BTreeSet::new(),
            callers: BTreeSet::new(),
            next_caller: 0,
            ended: false,
            last_stopped: None,
            halted: false,
        }
    }

    pub(super) fn feed(&mut self, event: Event) {
        self.halted |= event == Event::Stop;
        for effect in self.machine.handle(self.now, event) {
            let refused = matches!(effect, Effect::Reply { answer: Err(Refusal::Stopped), .. });
            assert!(!self.ended || refused, "{effect:?} after the end");
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Start { id, incarnation } => {
                assert!(!self.is_live(&id), "{id} is started twice");
                self.starting.insert(id, incarnation);
            }
            Effect::Stop { id, incarnation, .. } => {
                let live = self.starting.remove(&id).or_else(|| self.running.remove(&id));
                assert_eq!(live, Some(incarnation), "{id} is stopped but not live");
                if self.halted && self.machine.flags().strategy != Strategy::Template {
                    let before = self.last_stopped.replace(id.clone());
                    let waits = before.is_some_and(|before| self.stopping.contains_key(&before));
                    assert!(!waits, "{id} is stopped before the one after it has ended");
                }
                self.stopping.insert(id, incarnation);
            }
            Effect::WaitUntil { ticket, due } => {
                assert!(due > self.now);
                self.waits.insert(ticket);
            }
            Effect::Reply { caller, .. } => {
                assert!(self.callers.remove(&caller), "{caller:?} is answered twice");
            }
            Effect::Forget(id) => assert!(!self.is_live(&id), "{id} is forgotten alive"),
            Effect::Exit(_) => {
                self.ended = true;
                let live = [&self.starting, &self.running, &self.stopping];
                assert!(live.iter().all(|children| children.is_empty()), "a child is left");
            }
            Effect::Note { note: Note::RestartScheduled { after, .. }, .. } => {
                assert!(after >= Duration::from_millis(500));
            }
            Effect::Note { .. } | Effect::Begun => {}
        }
    }

    fn is_live(&self, id: &ChildId) -> bool {
        [&self.starting, &self.running, &self.stopping].iter().any(|live| live.contains_key(id))
    }

    pub(super) fn start_ends(&mut self, id: ChildId, ending: Ending) {
        let Some(incarnation) = self.starting.remove(&id) else { return };
        match ending {
            Ending::Abnormal { hopeless } => {
                self.feed(Event::StartFailed { id, incarnation, hopeless });
            }
            Ending::Normal | Ending::Shutdown => {
                self.running.insert(id.clone(), incarnation);
                self.feed(Event::Started { id, incarnation });
            }
        }
    }

    pub(super) fn stop_ends(&mut self, id: ChildId) {
        let Some(incarnation) = self.stopping.remove(&id) else { return };
        self.feed(Event::Exited { id, incarnation, ending: Ending::Shutdown });
    }

    pub(super) fn call(&mut self, call: Call) -> CallerId {
        self.next_caller += 1;
        let caller = CallerId(self.next_caller);
        self.callers.insert(caller);
        self.feed(Event::Called { caller, call });
        caller
    }

    pub(super) fn exits(&mut self, id: ChildId, ending: Ending) {
        let incarnation = self.running.remove(&id).unwrap();
        self.feed(Event::Exited { id, incarnation, ending });
    }

    /// Lets everything that is under way succeed, until nothing is.
    pub(super) fn settle(&mut self) {
        loop {
            let starting = self.starting.keys().next().cloned();
            let stopping = self.stopping.keys().next().cloned();
            if let Some(id) = stopping {
                self.stop_ends(id);
            } else if let Some(id) = starting {
                self.start_ends(id, Ending::Normal);
            } else if let Some(ticket) = self.waits.pop_first() {
                self.now = self.now.after(Duration::from_secs(60));
                self.feed(Event::Due(ticket));
            } else {
                return;
            }
        }
    }
}

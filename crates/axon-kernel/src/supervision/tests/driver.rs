//! Carries out effects at once, so that a machine behaves as OTP's supervisor does, which waits
//! inside each start and stop.

use std::collections::VecDeque;
use std::time::Duration;

use crate::spec::Intensity;
use crate::supervision::{
    Answer, Call, CallerId, ChildId, ChildState, Effect, Ending, Event, ExitReason, Flags, Machine,
    Moment, Refusal, Restart, Shutdown, Strategy, Terms,
};

/// What a supervisor was seen to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Start(ChildId),
    FailedStart(ChildId),
    Stop(ChildId),
    Answer(Result<(), Refusal>),
    Begun,
    Exit(ExitReason),
}

/// Says which starts fail: the same for the machine and the model.
#[derive(Clone, Debug)]
pub(super) struct Luck {
    fails: Vec<bool>,
    next: usize,
}

impl Luck {
    pub(super) fn new(fails: Vec<bool>) -> Self {
        Self { fails, next: 0 }
    }

    pub(super) fn next_start_fails(&mut self) -> bool {
        self.next += 1;
        self.fails.get(self.next - 1).copied().unwrap_or(false)
    }
}

pub(super) const WITHIN: Duration = Duration::from_secs(5);

pub(super) struct Driver {
    pub(super) machine: Machine,
    pub(super) now: Moment,
    pub(super) luck: Luck,
    pub(super) steps: Vec<Step>,
    callers: u64,
}

pub(super) fn terms(restart: Restart) -> Terms {
    Terms { restart, shutdown: Shutdown::default() }
}

pub(super) fn flags(strategy: Strategy, max_restarts: u32) -> Flags {
    Flags { strategy, intensity: Intensity { max_restarts, within: WITHIN }, backoff: None }
}

impl Driver {
    pub(super) fn new(strategy: Strategy, max_restarts: u32) -> Self {
        Self {
            machine: Machine::new(flags(strategy, max_restarts), 1),
            now: Moment::default(),
            luck: Luck::new(Vec::new()),
            steps: Vec::new(),
            callers: 0,
        }
    }

    pub(super) fn call(&mut self, call: Call) {
        self.callers += 1;
        self.feed(Event::Called { caller: CallerId(self.callers), call });
    }

    pub(super) fn exit(&mut self, id: &ChildId, ending: Ending) {
        let child = self.machine.child(id).unwrap();
        let incarnation = child.incarnation.unwrap();
        self.feed(Event::Exited { id: id.clone(), incarnation, ending });
    }

    /// Feeds an event and everything that follows from it.
    pub(super) fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.machine.handle(self.now, event) {
                events.extend(self.carry_out(effect));
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Start { id, incarnation } if self.luck.next_start_fails() => {
                self.steps.push(Step::FailedStart(id.clone()));
                return Some(Event::StartFailed { id, incarnation, hopeless: false });
            }
            Effect::Start { id, incarnation } => {
                self.steps.push(Step::Start(id.clone()));
                return Some(Event::Started { id, incarnation });
            }
            Effect::Stop { id, incarnation, .. } => {
                self.steps.push(Step::Stop(id.clone()));
                return Some(Event::Exited { id, incarnation, ending: Ending::Shutdown });
            }
            Effect::WaitUntil { ticket, .. } => return Some(Event::Due(ticket)),
            Effect::Reply { answer, .. } => {
                self.steps.push(Step::Answer(answer.map(|_: Answer| ())));
            }
            Effect::Begun => self.steps.push(Step::Begun),
            Effect::Exit(reason) => self.steps.push(Step::Exit(reason)),
            Effect::Forget(_) | Effect::Note { .. } => {}
        }
        None
    }

    /// Returns each child and whether it runs. No child is in between.
    pub(super) fn children(&self) -> Vec<(ChildId, bool)> {
        let running = |state| match state {
            ChildState::Running => true,
            ChildState::Stopped => false,
            between @ (ChildState::Starting
            | ChildState::Restarting { .. }
            | ChildState::Stopping
            | ChildState::GivenUp) => {
                panic!("a child is {between:?} although nothing is under way")
            }
        };
        self.machine.children().map(|child| (child.id, running(child.state))).collect()
    }
}

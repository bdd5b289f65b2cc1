use super::child::{Origin, Role, State, Then};
use super::cycle::Cycle;
use super::machine::Machine;
use super::table::Rank;
use super::{Effect, ExitReason, Refusal, Strategy};

/// The end of a supervisor: its children are stopped in reverse order, one at a time.
#[derive(Clone, Debug)]
pub(super) struct Halt {
    reason: ExitReason,
    /// The children from here on are down.
    cursor: Rank,
    done: bool,
}

impl Machine {
    /// Begins to end; the first reason stands.
    pub(super) fn halt(&mut self, reason: ExitReason) {
        if self.halt.is_some() {
            return;
        }
        self.halt = Some(Halt { reason, cursor: self.table.end(), done: false });
        if let Some(caller) = self.cycle.take().as_ref().and_then(Cycle::caller) {
            self.reply(caller, Err(Refusal::Stopped));
        }
        let ranks: Vec<Rank> = self.table.iter().map(|(rank, _)| rank).collect();
        for rank in ranks {
            self.table.change(rank, |child| child.role = Role::Free);
            match self.table.get(rank).map(|child| child.state) {
                Some(State::Restarting { .. }) => self.table.set(rank, State::Stopped),
                Some(State::Starting(origin)) => {
                    if let Some(caller) = origin.caller() {
                        self.table.set(rank, State::Starting(Origin::Cycle));
                        self.reply(caller, Err(Refusal::Stopped));
                    }
                }
                _ => {}
            }
        }
    }

    /// Stops the next child, or ends when all are down.
    pub(super) fn advance_halt(&mut self) {
        let together = self.flags.strategy == Strategy::Template;
        while let Some(Halt { cursor, done: false, .. }) = self.halt {
            let Some((rank, child)) = self.table.before(cursor) else {
                self.end_when_down();
                return;
            };
            match child.state {
                State::Starting(_) | State::Running { .. } => {
                    self.stop(rank, Then::Keep);
                    if !together {
                        return;
                    }
                }
                State::Stopping { .. } if !together => return,
                State::Stopping { .. }
                | State::Restarting { .. }
                | State::Stopped
                | State::GivenUp => {}
            }
            if let Some(halt) = &mut self.halt {
                halt.cursor = rank;
            }
        }
    }

    fn end_when_down(&mut self) {
        if self.table.any_live() {
            return;
        }
        if let Some(halt) = &mut self.halt {
            halt.done = true;
            let reason = halt.reason.clone();
            self.emit(Effect::Exit(reason));
        }
    }
}

use super::child::{Child, Origin, Role, State, Then};
use super::machine::Machine;
use super::{Answer, Call, CallerId, ChildId, Refusal, Restart, Strategy, Terms};

impl Machine {
    pub(super) fn called(&mut self, caller: CallerId, call: Call) {
        let answer = match call {
            _ if self.halt.is_some() => Some(Err(Refusal::Stopped)),
            Call::Start(id, terms) => self.start_child(caller, id, terms),
            Call::Terminate(id) => self.terminate_child(caller, &id),
            Call::Restart(id) => self.restart_child(caller, &id),
            Call::Delete(id) => Some(self.delete_child(&id)),
        };
        if let Some(answer) = answer {
            self.reply(caller, answer);
        }
    }

    fn start_child(
        &mut self,
        caller: CallerId,
        id: ChildId,
        terms: Terms,
    ) -> Option<Result<Answer, Refusal>> {
        let present = self.table.rank(&id).and_then(|rank| self.table.get(rank));
        match present.map(|child| child.state) {
            None => {
                let rank = self.table.push(Child::new(id, terms));
                self.start(rank, Origin::Added(caller));
                None
            }
            Some(State::Running { .. } | State::Starting(_)) => Some(Err(Refusal::AlreadyStarted)),
            Some(
                State::Stopping { .. } | State::Restarting { .. } | State::Stopped | State::GivenUp,
            ) => Some(Err(Refusal::AlreadyPresent)),
        }
    }

    fn terminate_child(
        &mut self,
        caller: CallerId,
        id: &ChildId,
    ) -> Option<Result<Answer, Refusal>> {
        let Some(rank) = self.table.rank(id) else { return Some(Err(Refusal::NotFound)) };
        let child = self.table.get(rank)?;
        let state = child.state;
        let anonymous = self.flags.strategy == Strategy::Template;
        let drops = anonymous || child.terms.restart == Restart::Temporary;
        let then = if drops { Then::Remove } else { Then::Keep };
        self.forget_revival(rank);
        self.table.change(rank, |child| child.role = Role::Free);
        match state {
            State::Running { .. } | State::Starting(_) => self.stop(rank, then),
            State::Stopping { then: Then::Keep } => self.table.set(rank, State::Stopping { then }),
            State::Stopping { then: Then::Remove } => {}
            State::Restarting { .. } | State::Stopped | State::GivenUp => {
                if state == State::GivenUp {
                    self.release_held(rank);
                }
                self.down(rank, then);
                return Some(Ok(Answer::Done));
            }
        }
        self.table.change(rank, |child| child.terminators.push(caller));
        None
    }

    fn restart_child(&mut self, caller: CallerId, id: &ChildId) -> Option<Result<Answer, Refusal>> {
        let Some(rank) = self.table.rank(id) else { return Some(Err(Refusal::NotFound)) };
        let child = self.table.get(rank)?;
        let refusal = match (child.state, child.role) {
            (State::Restarting { .. } | State::Starting(Origin::Restart | Origin::Cycle), _)
            | (State::Stopped, Role::Queued) => Refusal::Restarting,
            (State::Running { .. } | State::Starting(_) | State::Stopping { .. }, _) => {
                Refusal::Running
            }
            (State::GivenUp, _) if self.cycle.is_some() => Refusal::Restarting,
            (State::GivenUp, _) => {
                self.revive(rank, caller);
                return None;
            }
            (State::Stopped, Role::Free | Role::Held) => {
                self.table.change(rank, |child| child.role = Role::Free);
                self.start(rank, Origin::Asked(caller));
                return None;
            }
        };
        Some(Err(refusal))
    }

    fn delete_child(&mut self, id: &ChildId) -> Result<Answer, Refusal> {
        let rank = self.table.rank(id).ok_or(Refusal::NotFound)?;
        let child = self.table.get(rank).ok_or(Refusal::NotFound)?;
        match (child.state, child.role) {
            (State::Restarting { .. }, _) | (State::Stopped, Role::Queued) => {
                return Err(Refusal::Restarting);
            }
            (State::Running { .. } | State::Starting(_) | State::Stopping { .. }, _) => {
                return Err(Refusal::Running);
            }
            (State::GivenUp, _) => self.release_held(rank),
            (State::Stopped, Role::Free | Role::Held) => {}
        }
        self.remove(rank);
        Ok(Answer::Done)
    }
}

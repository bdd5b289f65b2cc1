//! Several children started in order: the first start of a supervisor, the restart of a group, and
//! the revival of a child that was given up together with those that wait for it.

use super::child::{Child, ChildState, Origin, Role, State, Then};
use super::machine::Machine;
use super::table::Rank;
use super::{
    Answer, CallerId, ChildId, Effect, ExitReason, Incarnation, Moment, Note, Refusal, Strategy,
    Terms, Ticket,
};

/// Stops its members in reverse order, waits, and starts them in order: one at a time.
#[derive(Clone, Debug)]
pub(super) struct Cycle {
    purpose: Purpose,
    /// In their order. Those whose role is free by now are passed over.
    members: Vec<Rank>,
    /// When the starts may begin.
    due: Moment,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// The first start: a failure ends the supervisor.
    Begin,
    Restart,
    /// A failure before `target` runs puts everything back.
    Revive {
        target: Rank,
        caller: CallerId,
    },
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The members before this index are still to be looked at, from the last one.
    Stop(usize),
    Wait(Ticket),
    /// The members from this index on are still to be looked at.
    Start(usize),
}

impl Cycle {
    fn new(purpose: Purpose, members: Vec<Rank>, due: Moment) -> Self {
        Self { purpose, members, due, phase: Phase::Start(0) }
    }

    /// Returns whether somebody asked for the starts in it.
    pub(super) fn is_asked_for(&self) -> bool {
        matches!(self.purpose, Purpose::Revive { .. })
    }

    /// Returns how a member that is down and will be started is seen.
    pub(super) fn state_of_queued(&self) -> ChildState {
        match (self.purpose, self.phase) {
            (Purpose::Begin, _) => ChildState::Starting,
            (_, Phase::Stop(_) | Phase::Wait(_)) => ChildState::Restarting { due: Some(self.due) },
            (_, Phase::Start(_)) => ChildState::Restarting { due: None },
        }
    }

    pub(super) fn caller(&self) -> Option<CallerId> {
        match self.purpose {
            Purpose::Revive { caller, .. } => Some(caller),
            Purpose::Begin | Purpose::Restart => None,
        }
    }
}

impl Machine {
    pub(super) fn begin(&mut self, children: Vec<(ChildId, Terms)>) {
        let members = children
            .into_iter()
            .map(|(id, terms)| {
                let child = Child { role: Role::Queued, ..Child::new(id, terms) };
                self.table.push(child)
            })
            .collect();
        self.cycle = Some(Cycle::new(Purpose::Begin, members, self.now));
    }

    /// Returns the first child that shares the fate of this one.
    fn scope(&self, rank: Rank) -> Rank {
        match self.flags.strategy {
            Strategy::OneForAll => Rank(0),
            Strategy::RestForOne | Strategy::OneForOne | Strategy::Template => rank,
        }
    }

    /// Returns the first child of a scope that waits for one that was given up.
    fn barrier(&self, first: Rank, except: Option<Rank>) -> Rank {
        let given_up =
            |&(rank, child): &(Rank, &Child)| child.state == State::GivenUp && Some(rank) != except;
        match self.table.from(first).find(given_up) {
            Some(_) if self.flags.strategy == Strategy::OneForAll => first,
            Some((rank, _)) => rank,
            None => self.table.end(),
        }
    }

    /// Restarts a group because of one of its children, which is down.
    pub(super) fn restart_with_others(&mut self, rank: Rank, due: Moment) {
        let first = self.scope(rank);
        let barrier = self.barrier(first, None);
        let scope: Vec<Rank> = self.table.from(first).map(|(rank, _)| rank).collect();
        for member in scope {
            self.table
                .change(member, |child| child.role = role_in_restart(child, member < barrier));
        }
        let cycle = self
            .cycle
            .get_or_insert_with(|| Cycle::new(Purpose::Restart, Vec::new(), Moment::default()));
        cycle.due = cycle.due.max(due);
        self.stop_members(first);
    }

    /// Collects the members anew, and stops those that run.
    fn stop_members(&mut self, first: Rank) {
        self.give_up_revival();
        let Some(cycle) = &mut self.cycle else { return };
        let first = cycle.members.first().map_or(first, |&member| member.min(first));
        let wanted = |child: &Child| match child.role {
            Role::Free => false,
            Role::Queued => true,
            Role::Held => child.is_live(),
        };
        cycle.members = self
            .table
            .from(first)
            .filter(|(_, child)| wanted(child))
            .map(|(rank, _)| rank)
            .collect();
        cycle.phase = Phase::Stop(cycle.members.len());
    }

    /// Takes a child that was started by hand into the restart of its group, if there is one that
    /// has not begun to start.
    pub(super) fn join_cycle(&mut self, rank: Rank) {
        let Some(cycle) = &self.cycle else { return };
        let Some(&first) = cycle.members.first() else { return };
        let stopping = !matches!(cycle.phase, Phase::Start(_));
        if stopping && (rank > first || self.flags.strategy == Strategy::OneForAll) {
            self.table.change(rank, |child| child.role = Role::Queued);
            self.stop_members(first);
        }
    }

    pub(super) fn started_in_cycle(&mut self, rank: Rank, incarnation: Incarnation) {
        let Some(cycle) = &mut self.cycle else { return };
        if let Purpose::Revive { target, caller } = cycle.purpose
            && target == rank
        {
            cycle.purpose = Purpose::Restart;
            self.reply(caller, Ok(Answer::Started(incarnation)));
        }
    }

    /// Deals with a failed start if the purpose of the cycle has its own way to.
    pub(super) fn start_failed_in_cycle(&mut self, rank: Rank) -> bool {
        let Some(cycle) = &self.cycle else { return false };
        match cycle.purpose {
            Purpose::Begin => {
                self.down(rank, Then::Keep);
                if let Some(child) = self.table.get(rank) {
                    self.halt(ExitReason::StartFailed(child.id.clone()));
                }
                true
            }
            Purpose::Revive { target, caller } => {
                self.down(rank, Then::Keep);
                self.call_off_revival(target, caller);
                true
            }
            Purpose::Restart => false,
        }
    }

    /// Puts everything back as it was before somebody asked for `target`.
    fn call_off_revival(&mut self, target: Rank, caller: CallerId) {
        let members = self.cycle.as_ref().map_or_else(Vec::new, |cycle| cycle.members.clone());
        for member in members.into_iter().filter(|&member| member != target) {
            self.table.change(member, |child| child.role = Role::Held);
        }
        self.table.set(target, State::GivenUp);
        self.table.change(target, |child| child.role = Role::Free);
        self.note(target, Note::GivenUp);
        self.reply(caller, Err(Refusal::StartFailed));
        if let Some(cycle) = &mut self.cycle {
            cycle.purpose = Purpose::Restart;
        }
        self.stop_members(target);
    }

    /// Leaves a child down whose error will not heal, and those that would be restarted with it.
    pub(super) fn give_up(&mut self, rank: Rank) {
        self.table.set(rank, State::GivenUp);
        self.table.change(rank, |child| child.role = Role::Free);
        self.note(rank, Note::GivenUp);
        if self.flags.strategy.is_group() {
            self.hold(rank);
        }
    }

    /// Returns whether a child cannot be restarted because its group waits for another one.
    pub(super) fn is_held_back(&self, rank: Rank) -> bool {
        let first = self.scope(rank);
        self.flags.strategy.is_group() && self.barrier(first, None) <= rank
    }

    /// Stops those that would be restarted with a child that is down, and leaves all of them down.
    pub(super) fn hold(&mut self, rank: Rank) {
        let first = self.scope(rank);
        let scope: Vec<Rank> = self.table.from(first).map(|(rank, _)| rank).collect();
        for member in scope {
            self.table.change(member, |child| {
                child.role = role_when_held(child, member == rank);
            });
        }
        self.cycle
            .get_or_insert_with(|| Cycle::new(Purpose::Restart, Vec::new(), Moment::default()));
        self.stop_members(first);
    }

    /// Starts a child that was given up, with those that wait for it.
    pub(super) fn revive(&mut self, rank: Rank, caller: CallerId) {
        if !self.flags.strategy.is_group() {
            self.start(rank, Origin::Revived(caller));
            return;
        }
        let first = self.scope(rank);
        let barrier = self.barrier(first, Some(rank));
        let joins = |&(member, child): &(Rank, &Child)| {
            member == rank
                || (member < barrier && child.role == Role::Held && child.state == State::Stopped)
        };
        let members: Vec<Rank> =
            self.table.from(first).filter(joins).map(|(member, _)| member).collect();
        for &member in &members {
            self.table.change(member, |child| child.role = Role::Queued);
        }
        self.table.set(rank, State::Stopped);
        let purpose = Purpose::Revive { target: rank, caller };
        self.cycle = Some(Cycle::new(purpose, members, self.now));
    }

    /// Lets go of those that wait for a child which will not be revived.
    pub(super) fn release_held(&mut self, rank: Rank) {
        let first = self.scope(rank);
        let barrier = self.barrier(first, Some(rank));
        let held: Vec<Rank> = self
            .table
            .from(first)
            .filter(|&(member, child)| member < barrier && child.role == Role::Held)
            .map(|(member, _)| member)
            .collect();
        for member in held {
            self.table.change(member, |child| child.role = Role::Free);
        }
    }

    /// Ends the revival whose target somebody terminated.
    pub(super) fn forget_revival(&mut self, rank: Rank) {
        let Some(cycle) = &mut self.cycle else { return };
        if let Purpose::Revive { target, caller } = cycle.purpose
            && target == rank
        {
            cycle.purpose = Purpose::Restart;
            self.reply(caller, Err(Refusal::Cancelled));
        }
    }

    /// Ends the revival whose target waits for another child by now.
    fn give_up_revival(&mut self) {
        let Some(cycle) = &mut self.cycle else { return };
        if let Purpose::Revive { target, caller } = cycle.purpose
            && self.table.get(target).is_some_and(|child| child.role == Role::Held)
        {
            cycle.purpose = Purpose::Restart;
            self.reply(caller, Err(Refusal::StartFailed));
        }
    }

    pub(super) fn due_in_cycle(&mut self, ticket: Ticket) -> bool {
        let Some(cycle) = &mut self.cycle else { return false };
        let waited = matches!(cycle.phase, Phase::Wait(its) if its == ticket);
        if waited {
            cycle.phase = Phase::Start(0);
        }
        waited
    }

    /// Takes the next steps until one has to be waited for.
    pub(super) fn advance_cycle(&mut self) {
        while let Some(cycle) = &self.cycle {
            let go_on = match cycle.phase {
                Phase::Stop(0) => self.wait_or_start(),
                Phase::Stop(left) => self.stop_last(left),
                Phase::Wait(_) => false,
                Phase::Start(next) => self.start_next(next),
            };
            if !go_on {
                return;
            }
        }
    }

    fn stop_last(&mut self, left: usize) -> bool {
        let Some(cycle) = &mut self.cycle else { return false };
        let rank = cycle.members[left - 1];
        match self.table.get(rank).map(|child| (child.role, child.state)) {
            Some((Role::Queued | Role::Held, State::Stopping { .. })) => return false,
            Some((Role::Queued | Role::Held, State::Starting(_) | State::Running { .. })) => {
                self.stop(rank, Then::Keep);
                return false;
            }
            _ => cycle.phase = Phase::Stop(left - 1),
        }
        true
    }

    fn wait_or_start(&mut self) -> bool {
        let Some(cycle) = &self.cycle else { return false };
        let due = cycle.due;
        let queued =
            |rank: &Rank| self.table.get(*rank).is_some_and(|child| child.role == Role::Queued);
        let phase = if due > self.now && cycle.members.iter().any(queued) {
            Phase::Wait(self.wait_until(due))
        } else {
            Phase::Start(0)
        };
        if let Some(cycle) = &mut self.cycle {
            cycle.phase = phase;
        }
        matches!(phase, Phase::Start(_))
    }

    fn start_next(&mut self, next: usize) -> bool {
        let Some(cycle) = &mut self.cycle else { return false };
        let Some(&rank) = cycle.members.get(next) else {
            let purpose = cycle.purpose;
            self.cycle = None;
            if purpose == Purpose::Begin {
                self.emit(Effect::Begun);
            }
            return true;
        };
        match self.table.get(rank).map(|child| (child.role, child.state)) {
            Some((Role::Queued, State::Starting(_))) => return false,
            Some((Role::Queued, State::Stopped)) => {
                self.start(rank, Origin::Cycle);
                return false;
            }
            _ => cycle.phase = Phase::Start(next + 1),
        }
        true
    }
}

/// Says what the restart of its group wants of a child; nothing if somebody is starting or
/// stopping it by hand.
fn role_in_restart(child: &Child, allowed: bool) -> Role {
    let wanted = if allowed { Role::Queued } else { Role::Held };
    match child.state {
        State::GivenUp => Role::Free,
        State::Starting(origin) if origin.caller().is_some() => child.role,
        State::Stopping { .. } if child.role == Role::Free => Role::Free,
        State::Stopped if !allowed => child.role,
        State::Starting(_)
        | State::Running { .. }
        | State::Stopping { .. }
        | State::Restarting { .. }
        | State::Stopped => wanted,
    }
}

/// Says what becomes of a child whose group waits for one that was given up.
fn role_when_held(child: &Child, failed: bool) -> Role {
    match child.state {
        State::GivenUp | State::Restarting { .. } => Role::Free,
        State::Starting(origin) if origin.caller().is_some() => child.role,
        State::Stopping { .. } | State::Stopped if child.role == Role::Free && !failed => {
            Role::Free
        }
        State::Starting(_) | State::Running { .. } | State::Stopping { .. } | State::Stopped => {
            Role::Held
        }
    }
}

//! Who waits for a runner, and who gets which: first come, first served; the runner with the least
//! runs in it; and one alone for a run under suspicion.

use std::sync::Arc;
use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::{Generation, RunId};
use tokio::sync::oneshot;

use super::AgentMessage;
use super::actor::{Mode, State, unavailable};
use super::tenancy::{Lease, Tenancy};

/// How long a run under suspicion waits for another runner than the last one that others share.
const SOON: Duration = Duration::from_secs(1);

/// An attempt that wants a runner.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) run: RunId,
    /// The generation that it does not want: there is evidence against it.
    pub(crate) but: Option<Generation>,
    /// Whether it has to be alone in its runner.
    pub(crate) alone: bool,
    /// Where the runner goes. If nobody is there any more, dropping the lease gives it back.
    pub(crate) reply: oneshot::Sender<Result<Lease, Failure>>,
}

impl Waiter {
    fn refuse(self, failure: Failure) {
        // Whoever asked may have gone.
        let _gone = self.reply.send(Err(failure));
    }

    fn takes(&self, tenancy: &Tenancy) -> bool {
        self.but != Some(tenancy.generation)
    }
}

impl State {
    pub(super) fn lease(&mut self, waiter: Waiter) {
        match &self.mode {
            Mode::Parked { cause, .. } | Mode::Probing { cause } => {
                waiter.refuse(unavailable(self.name(), cause));
            }
            Mode::Resting => {
                waiter.refuse(Failure::new(FailureKind::Cancelled, "the agent was drained"));
            }
            Mode::Serving => {
                self.waiting.push_back(waiter);
                self.serve();
            }
        }
    }

    /// Gives what there is to those who wait, in the order in which they came.
    pub(super) fn serve(&mut self) {
        for waiter in std::mem::take(&mut self.waiting) {
            if waiter.reply.is_closed() {
                continue;
            }
            let left = if waiter.alone { self.isolate(waiter) } else { self.share(waiter) };
            self.waiting.extend(left);
        }
    }

    /// Sends away everybody who waits.
    pub(super) fn refuse_all(&mut self, failure: &Failure) {
        for waiter in std::mem::take(&mut self.waiting) {
            waiter.refuse(failure.clone());
        }
    }

    /// Lends the runner that has the least runs in it, if there is one; of equals, the next in
    /// turn.
    fn share(&mut self, waiter: Waiter) -> Option<Waiter> {
        let Some(index) = self.least(&waiter) else { return Some(waiter) };
        self.lend(index, waiter);
        None
    }

    fn least(&self, waiter: &Waiter) -> Option<usize> {
        let count = self.seats.len();
        (0..count)
            .map(|step| (self.next + step) % count)
            .filter_map(|index| Some((index, self.seats[index].open()?)))
            .filter(|(_, tenancy)| waiter.takes(tenancy))
            .min_by_key(|(_, tenancy)| tenancy.in_flight())
            .map(|(index, _)| index)
    }

    fn lend(&mut self, index: usize, waiter: Waiter) -> bool {
        let Some(tenancy) = self.seats[index].tenancy() else { return false };
        let lent = waiter.reply.send(Ok(Lease::new(tenancy.clone(), waiter.run))).is_ok();
        self.next = (index + 1) % self.seats.len();
        self.recycle_used_up();
        lent
    }

    /// Reserves the runner with the least runs in it, and lends it when those have left. The others
    /// serve on: the last open one is not reserved while there will soon be another.
    fn isolate(&mut self, waiter: Waiter) -> Option<Waiter> {
        let open = self.seats.iter().filter(|seat| seat.open().is_some()).count();
        let last = open == 1 && self.seats.iter().any(|seat| seat.is_soon_open(SOON));
        let (false, Some(index)) = (last, self.least(&waiter)) else { return Some(waiter) };
        self.seats[index].reserve(true);
        let Some(tenancy) = self.seats[index].tenancy().cloned() else { return Some(waiter) };
        if tenancy.in_flight() == 0 {
            self.lend_alone(&tenancy, waiter);
            return None;
        }
        let myself = self.myself.clone();
        tokio::spawn(async move {
            let mut waiter = waiter;
            tokio::select! {
                () = tenancy.vacated() => {}
                () = tenancy.retired() => {}
                _exit = tenancy.exited() => {}
                () = waiter.reply.closed() => {}
            }
            let _ended = myself.cast(AgentMessage::Emptied { tenancy, waiter });
        });
        None
    }

    /// Lends a reserved runner that has become empty. One that is not there any more leaves its
    /// waiter where it was: before everybody else.
    pub(super) fn emptied(&mut self, tenancy: &Arc<Tenancy>, waiter: Waiter) {
        let there = self.seats.iter().any(|seat| seat.holds(tenancy)) && tenancy.is_fit();
        if waiter.reply.is_closed() {
            return self.returned(tenancy);
        }
        if there && tenancy.in_flight() == 0 {
            return self.lend_alone(tenancy, waiter);
        }
        match &self.mode {
            Mode::Serving => {
                self.waiting.push_front(waiter);
                self.returned(tenancy);
            }
            Mode::Parked { .. } | Mode::Probing { .. } | Mode::Resting => self.lease(waiter),
        }
    }

    fn lend_alone(&mut self, tenancy: &Arc<Tenancy>, waiter: Waiter) {
        let Some(index) = self.seats.iter().position(|seat| seat.holds(tenancy)) else { return };
        if !self.lend(index, waiter) {
            return self.returned(tenancy);
        }
        let (vacated, myself) = (tenancy.vacated(), self.myself.clone());
        let tenancy = Arc::downgrade(tenancy);
        tokio::spawn(async move {
            vacated.await;
            if let Some(tenancy) = tenancy.upgrade() {
                let _ended = myself.cast(AgentMessage::Returned(tenancy));
            }
        });
    }

    /// Opens a runner to all again that was reserved.
    pub(super) fn returned(&mut self, tenancy: &Arc<Tenancy>) {
        if let Some(seat) = self.seats.iter_mut().find(|seat| seat.holds(tenancy)) {
            seat.reserve(false);
        }
        self.serve();
    }
}

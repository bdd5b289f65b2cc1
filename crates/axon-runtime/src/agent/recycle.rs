//! Replacing runners that are well: those that are old, used up or too large. The replacement is up
//! first, so nobody waits, and what is under way in the old one finishes there.

use std::sync::Arc;
use std::time::Duration;

use axon_kernel::spec::Backoff;
use tokio::time::Instant;

use super::AgentMessage;
use super::actor::{Mode, State};
use super::seat::Seat;
use super::tenancy::Tenancy;
use crate::events::{RecycleReason, RuntimeEvent};

/// How often the age and the memory of runners are looked at, where either is limited.
const INSPECTION: Duration = Duration::from_secs(1);

/// What an agent remembers of the replacements of runners that are well.
#[derive(Debug, Default)]
pub(super) struct Recycling {
    /// How many replacements in a row could not be launched.
    failures: u32,
    /// When the next is tried, after one that failed.
    not_before: Option<Instant>,
    /// Whether a look at the runners is due already.
    inspecting: bool,
}

impl Recycling {
    /// Puts the next replacement off: the one just tried could not be launched.
    pub(super) fn failed(&mut self, backoff: &Backoff) {
        let wait = backoff.min.saturating_mul(1 << self.failures.min(16)).min(backoff.max);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(Instant::now() + wait);
    }

    fn succeeded(&mut self) {
        self.failures = 0;
        self.not_before = None;
    }

    fn waits(&self) -> bool {
        self.not_before.is_some_and(|at| Instant::now() < at)
    }
}

impl State {
    /// Looks at the age and the memory of the runners, and again after a while.
    pub(super) fn inspect(&mut self) {
        self.recycling.inspecting = false;
        self.recycle(due);
        self.inspect_later();
    }

    /// Sees to it that the runners are looked at, if there is anything to look for.
    pub(super) fn inspect_later(&mut self) {
        let recycle = self.agent.launcher().spec.runner.recycle;
        let limited = recycle.age.is_some() || recycle.memory.is_some();
        if limited && self.is_up() && !std::mem::replace(&mut self.recycling.inspecting, true) {
            self.myself.send_after(INSPECTION, || AgentMessage::Inspect);
        }
    }

    /// Replaces a runner that was lent as often as it may be.
    pub(super) fn recycle_used_up(&mut self) {
        self.recycle(|tenancy| is_used_up(tenancy).then_some(RecycleReason::Requests));
    }

    /// Launches a replacement for the first runner that is due: one at a time, so that a slow start
    /// never costs the agent more than one of its seats.
    fn recycle(&mut self, due: impl Fn(&Tenancy) -> Option<RecycleReason>) {
        let serving = matches!(self.mode, Mode::Serving) && self.reload.is_none();
        let under_way = |seat: &Seat| seat.tenancy().is_some() && seat.is_launching();
        if !serving || self.recycling.waits() || self.seats.iter().any(under_way) {
            return;
        }
        let due = |(index, seat): (usize, &Seat)| {
            let tenancy = seat.tenancy().filter(|tenancy| tenancy.is_fit())?;
            Some((index, due(tenancy)?))
        };
        if let Some((index, reason)) = self.seats.iter().enumerate().find_map(due) {
            self.launch(index, Some(reason));
        }
    }

    /// Lets a runner retire whose replacement is up.
    pub(super) fn recycled(&mut self, before: Arc<Tenancy>, reason: Option<RecycleReason>) {
        self.recycling.succeeded();
        if let Some(reason) = reason {
            let (generation, served) = (before.generation, before.served());
            tracing::info!(agent = self.name(), %generation, ?reason, served, "a runner is recycled");
            let agent = self.agent.name.clone();
            self.events.tell(RuntimeEvent::RunnerRecycled { agent, generation, reason });
        }
        self.retire(before);
    }
}

fn is_used_up(tenancy: &Tenancy) -> bool {
    let requests = tenancy.launcher.spec.runner.recycle.requests;
    requests.is_some_and(|requests| tenancy.served() >= requests)
}

fn due(tenancy: &Tenancy) -> Option<RecycleReason> {
    if is_used_up(tenancy) {
        return Some(RecycleReason::Requests);
    }
    if tenancy.is_aged() {
        return Some(RecycleReason::Age);
    }
    // One that has done nothing yet is as small as it gets: another would be no better.
    let limit = tenancy.launcher.spec.runner.recycle.memory.filter(|_| tenancy.served() > 0)?;
    let usage = tenancy.usage()?;
    (usage.resident_bytes >= limit.bytes()).then_some(RecycleReason::Memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_replacement_that_fails_is_put_off_longer_each_time_and_forgotten_by_the_first_that_succeeds()
     {
        let backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(3) };
        let mut recycling = Recycling::default();
        for wait in [1, 2, 3, 3] {
            assert!(!recycling.waits());
            recycling.failed(&backoff);
            tokio::time::advance(Duration::from_millis(wait * 1000 - 1)).await;
            assert!(recycling.waits());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        recycling.failed(&backoff);
        recycling.succeeded();
        assert!(!recycling.waits());
    }
}

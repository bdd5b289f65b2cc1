//! Admission: how many runs of an agent are under way, how many wait, and who is next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use axon_kernel::event::millis;
use axon_kernel::spec::Limits;
use metrics::Gauge;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Duration, Instant};

use crate::meters::Shown;

/// The shortest and the longest time after which a caller is asked to try again.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// How long it may take until there is room for a run that was accepted long ago.
const STUCK: Duration = Duration::from_secs(10);

/// Counts the runs of one agent. It outlives the agent's actor, so that no restart of it loses or
/// doubles a place.
#[derive(Debug)]
pub(crate) struct Gate {
    slots: Arc<Semaphore>,
    concurrency: AtomicU32,
    queue: AtomicUsize,
    /// Runs that were let in and have not left: under way or waiting.
    inside: Arc<watch::Sender<usize>>,
    /// Those of them that were accepted long ago.
    recovered: Arc<watch::Sender<usize>>,
    /// The line of those that were accepted long ago: its first one waits for room.
    line: Mutex<()>,
    /// How long a place is held, in milliseconds: a mean in which recent runs weigh most.
    held_ms: Arc<AtomicU64>,
    gauges: Gauges,
}

/// Where it is shown how full it is.
#[derive(Clone, Debug)]
pub(crate) struct Gauges {
    pub(crate) in_flight: Gauge,
    pub(crate) queued: Gauge,
}

/// The agent is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) in_flight: usize,
    pub(crate) queued: usize,
    /// When a place is likely to be free.
    pub(crate) retry_after: Duration,
}

/// The agent was stopped.
#[derive(Debug)]
pub(crate) struct Closed;

impl Gate {
    pub(crate) fn new(limits: &Limits, gauges: Gauges) -> Self {
        let concurrency = limits.concurrency.get();
        Self {
            slots: Arc::new(Semaphore::new(concurrency as usize)),
            concurrency: AtomicU32::new(concurrency),
            queue: AtomicUsize::new(limits.queue as usize),
            inside: Arc::default(),
            recovered: Arc::default(),
            line: Mutex::new(()),
            held_ms: Arc::default(),
            gauges,
        }
    }

    /// Lets a run in, at once or into the queue.
    pub(crate) fn admit(&self) -> Result<Admission, Full> {
        let room = self.concurrency() + self.queue.load(Ordering::Relaxed);
        let entered = self.inside.send_if_modified(|inside| {
            let fits = *inside < room;
            *inside += usize::from(fits);
            fits
        });
        if !entered {
            return Err(self.full());
        }
        let counted = Counted(self.inside.clone());
        let (slots, held_ms) = (self.slots.clone(), self.held_ms.clone());
        Ok(self.let_in(slots, counted, held_ms))
    }

    /// Lets a run in beside all others: it takes no place, and is not counted against the limits.
    pub(crate) fn beside(&self) -> Admission {
        let counted = Counted(Arc::new(watch::Sender::new(1)));
        self.let_in(Arc::new(Semaphore::new(1)), counted, Arc::default())
    }

    fn let_in(
        &self,
        slots: Arc<Semaphore>,
        counted: Counted,
        held_ms: Arc<AtomicU64>,
    ) -> Admission {
        let (gauges, queued) = (self.gauges.clone(), Shown::in_gauge(&self.gauges.queued));
        Admission { slots, counted, recovered: None, held_ms, gauges, queued }
    }

    /// Waits until there is room for a run that was accepted long ago: such runs take half of the
    /// places, so that new ones find room beside them. Where none gets on, because they wait for
    /// each other, one more is let in from time to time.
    pub(crate) async fn room_for_recovered(&self) -> Recovered {
        let _first = self.line.lock().await;
        let mut recovered = self.recovered.subscribe();
        let room = recovered.wait_for(|count| *count < self.concurrency().div_ceil(2));
        // The sender lives in `self`, so the channel cannot close. What it lends is a lock on the
        // count, which is changed next.
        drop(tokio::time::timeout(STUCK, room).await);
        self.recovered.send_modify(|count| *count += 1);
        Recovered(Counted(self.recovered.clone()))
    }

    /// Says how full it is. There is room again when one run has ended, of as many as are under way.
    fn full(&self) -> Full {
        let mean = Duration::from_millis(self.held_ms.load(Ordering::Relaxed));
        let next = mean / self.concurrency.load(Ordering::Relaxed).max(1);
        let retry_after = next.clamp(RETRY_AFTER.0, RETRY_AFTER.1);
        Full { in_flight: self.in_flight(), queued: self.queued(), retry_after }
    }

    /// Takes other limits from now on. Runs under way keep their places.
    pub(crate) fn change(&self, limits: &Limits) {
        self.queue.store(limits.queue as usize, Ordering::Relaxed);
        let concurrency = limits.concurrency.get();
        let before = self.concurrency.swap(concurrency, Ordering::AcqRel);
        if concurrency >= before {
            self.slots.add_permits((concurrency - before) as usize);
            return;
        }
        let (slots, surplus) = (self.slots.clone(), before - concurrency);
        tokio::spawn(async move {
            // Closed: nobody is let in any more, so there is nothing to take away.
            if let Ok(taken) = slots.acquire_many_owned(surplus).await {
                taken.forget();
            }
        });
    }

    /// Sends everybody away who waits, for good.
    pub(crate) fn close(&self) {
        self.slots.close();
    }

    pub(crate) fn concurrency(&self) -> usize {
        self.concurrency.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.concurrency().saturating_sub(self.slots.available_permits()).min(self.inside())
    }

    pub(crate) fn queued(&self) -> usize {
        self.inside().saturating_sub(self.in_flight())
    }

    /// Waits until no run is under way and none waits.
    pub(crate) async fn vacated(&self) {
        // The sender lives in `self`, so the channel cannot close.
        let mut inside = self.inside.subscribe();
        let _empty = inside.wait_for(|inside| *inside == 0).await;
    }

    /// Returns how many runs are under way or wait.
    pub(crate) fn inside(&self) -> usize {
        *self.inside.borrow()
    }
}

/// Room for a run that was accepted long ago. It has it until this is dropped.
#[derive(Debug)]
pub(crate) struct Recovered(#[expect(dead_code, reason = "it counts until it goes")] Counted);

#[derive(Debug)]
struct Counted(Arc<watch::Sender<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|inside| *inside -= 1);
    }
}

/// A run that was let in. Dropping it leaves the queue.
#[derive(Debug)]
pub(crate) struct Admission {
    slots: Arc<Semaphore>,
    counted: Counted,
    recovered: Option<Recovered>,
    held_ms: Arc<AtomicU64>,
    gauges: Gauges,
    queued: Shown,
}

/// A place among the runs under way. Dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct Slot {
    // The place first: whoever is let in then finds the count right.
    _place: OwnedSemaphorePermit,
    _counted: Counted,
    _recovered: Option<Recovered>,
    _shown: Shown,
    since: Instant,
    held_ms: Arc<AtomicU64>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let held = millis(self.since.elapsed());
        let mean = |before: u64| if before == 0 { held } else { (before * 7 + held) / 8 };
        // It cannot fail: the closure always returns a value.
        let _ = self
            .held_ms
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| Some(mean(before)));
    }
}

impl Admission {
    /// Keeps the room of a run that was accepted long ago for as long as the run is let in.
    pub(crate) fn in_room(self, recovered: Recovered) -> Self {
        Self { recovered: Some(recovered), ..self }
    }

    /// Waits for a place: first come, first served.
    pub(crate) async fn slot(self) -> Result<Slot, Closed> {
        let Self { slots, counted, recovered, held_ms, gauges, queued } = self;
        let place = slots.acquire_owned().await.map_err(|_closed| Closed)?;
        let since = Instant::now();
        drop(queued);
        Ok(Slot {
            _place: place,
            _counted: counted,
            _recovered: recovered,
            _shown: Shown::in_gauge(&gauges.in_flight),
            since,
            held_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use futures_util::FutureExt;

    use super::*;

    fn gate(concurrency: u32, queue: u32) -> Gate {
        let concurrency = NonZeroU32::new(concurrency).unwrap();
        let gauges = Gauges { in_flight: Gauge::noop(), queued: Gauge::noop() };
        Gate::new(&Limits { concurrency, queue, ..Limits::default() }, gauges)
    }

    #[tokio::test]
    async fn a_full_gate_refuses_and_a_place_that_is_left_is_given_on() {
        let gate = gate(1, 1);
        let first = gate.admit().unwrap().slot().await.unwrap();
        let second = gate.admit().unwrap();
        let Full { in_flight, queued, .. } = gate.admit().unwrap_err();
        assert_eq!((in_flight, queued), (1, 1));
        drop(first);
        let third = gate.admit().unwrap();
        let _second = second.slot().await.unwrap();
        assert_eq!((gate.in_flight(), gate.queued()), (1, 1));
        drop(third);
        assert_eq!((gate.in_flight(), gate.queued()), (1, 0));
    }

    #[tokio::test]
    async fn a_closed_gate_sends_away_who_waits() {
        let gate = gate(1, 1);
        let _first = gate.admit().unwrap().slot().await.unwrap();
        let second = tokio::spawn(gate.admit().unwrap().slot());
        gate.close();
        assert!(second.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn runs_that_were_accepted_long_ago_leave_half_of_the_places_to_new_ones() {
        let gate = gate(4, 0);
        let mut slots = Vec::new();
        for _ in 0..2 {
            let room = gate.room_for_recovered().await;
            slots.push(gate.admit().unwrap().in_room(room).slot().await.unwrap());
        }
        assert!(gate.room_for_recovered().now_or_never().is_none());
        assert_eq!(gate.in_flight(), 2);
        slots.pop();
        assert!(gate.room_for_recovered().now_or_never().is_some());
    }

    #[tokio::test]
    async fn limits_change_under_way() {
        let gate = gate(1, 0);
        let _first = gate.admit().unwrap().slot().await.unwrap();
        assert!(gate.admit().is_err());
        let two = NonZeroU32::new(2).unwrap();
        gate.change(&Limits { concurrency: two, queue: 0, ..Limits::default() });
        let _second = gate.admit().unwrap().slot().await.unwrap();
        assert_eq!(gate.in_flight(), 2);
    }
}

//! How much of what a runner writes is passed on, and the count of what is not.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

/// How much is passed on, in cells: a line costs one, and another one for each KiB of it. That is
/// 500 lines or half a MiB a second.
const CELLS_PER_SECOND: u32 = 500;

/// How many cells a runner that was silent may spend at once: a start with much to tell.
const BURST: u32 = 2_000;

const CELL_BYTES: usize = 1024;

/// How long drops are counted before they are told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// The limit of one runner.
#[derive(Debug)]
pub(super) struct Flood {
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Nanos>>,
    /// How many lines were dropped and not told yet.
    untold: Mutex<u64>,
}

/// tokio's clock, which tests can stop.
#[derive(Clone, Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.elapsed().into()
    }
}

impl Flood {
    pub(super) fn new() -> Self {
        let rate = NonZeroU32::new(CELLS_PER_SECOND).unwrap_or(NonZeroU32::MIN);
        let burst = NonZeroU32::new(BURST).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(rate).allow_burst(burst);
        let limiter = RateLimiter::direct_with_clock(quota, TokioClock(Instant::now()));
        Self { limiter, untold: Mutex::default() }
    }

    /// Returns whether a line of so many bytes may be passed on.
    pub(super) fn admits(&self, bytes: usize) -> bool {
        let cells = u32::try_from(bytes / CELL_BYTES).unwrap_or(BURST).saturating_add(1).min(BURST);
        let cells = NonZeroU32::new(cells).unwrap_or(NonZeroU32::MIN);
        matches!(self.limiter.check_n(cells), Ok(Ok(())))
    }

    /// Counts what was dropped. Returns when it is to be told, to whom it falls to see to that: the
    /// first who says so.
    pub(super) fn count(&self, lines: u64) -> Option<Instant> {
        let mut untold = self.untold();
        let is_first = *untold == 0;
        *untold = untold.saturating_add(lines);
        (is_first && lines > 0).then(|| Instant::now() + TELL_EVERY)
    }

    /// Returns how many lines were dropped since the last call.
    pub(super) fn take(&self) -> u64 {
        std::mem::take(&mut *self.untold())
    }

    fn untold(&self) -> std::sync::MutexGuard<'_, u64> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(flood: &Flood, lines: usize, bytes: usize) -> usize {
        (0..lines).filter(|_| flood.admits(bytes)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_so_many_lines_a_second() {
        let flood = Flood::new();
        assert_eq!(admitted(&flood, 5_000, 10), 2_000);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(admitted(&flood, 5_000, 10), 500);
    }

    #[tokio::test(start_paused = true)]
    async fn long_lines_count_for_more() {
        let flood = Flood::new();
        assert_eq!(admitted(&flood, 5_000, 7 * 1024), 250);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_dropped_is_due_a_second_after_the_first() {
        let flood = Flood::new();
        let due = Some(Instant::now() + TELL_EVERY);
        assert_eq!((flood.count(0), flood.count(1), flood.count(2)), (None, due, None));
        assert_eq!((flood.take(), flood.take()), (3, 0));
        assert_eq!(flood.count(1), due);
    }
}

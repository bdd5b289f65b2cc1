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
    untold: Mutex<Untold>,
}

/// What was dropped and not told yet, and when it is to be told.
#[derive(Debug, Default)]
struct Untold {
    lines: u64,
    due: Option<Instant>,
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

    /// Returns whether a line of so many bytes may be passed on. One that may not is counted.
    pub(super) fn admits(&self, bytes: usize) -> bool {
        let cells = u32::try_from(bytes / CELL_BYTES).unwrap_or(BURST).saturating_add(1).min(BURST);
        let cells = NonZeroU32::new(cells).unwrap_or(NonZeroU32::MIN);
        if matches!(self.limiter.check_n(cells), Ok(Ok(()))) {
            return true;
        }
        let mut untold = self.untold();
        untold.lines += 1;
        untold.due.get_or_insert_with(|| Instant::now() + TELL_EVERY);
        false
    }

    /// Returns when it is time to tell what was dropped, if anything was.
    pub(super) fn due(&self) -> Option<Instant> {
        self.untold().due
    }

    /// Returns how many lines were dropped since the last call.
    pub(super) fn take(&self) -> u64 {
        std::mem::take(&mut *self.untold()).lines
    }

    fn untold(&self) -> std::sync::MutexGuard<'_, Untold> {
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
        assert_eq!((flood.take(), flood.take()), (7_500, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn long_lines_count_for_more() {
        let flood = Flood::new();
        assert_eq!(admitted(&flood, 5_000, 7 * 1024), 250);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_dropped_is_due_a_second_after_the_first() {
        let flood = Flood::new();
        assert_eq!(flood.due(), None);
        admitted(&flood, 2_001, 10);
        let due = flood.due().unwrap();
        assert_eq!(due, Instant::now() + TELL_EVERY);
        tokio::time::advance(Duration::from_millis(1)).await;
        admitted(&flood, 10, 10);
        assert_eq!(flood.due(), Some(due));
        flood.take();
        assert_eq!(flood.due(), None);
    }
}

use std::time::Duration;

use super::Moment;
use crate::spec::Backoff;

/// The waits before restarts: they double with each failure in a row, and are jittered so that
/// children that fell together do not rise together.
#[derive(Clone, Debug)]
pub struct Delays {
    bounds: Option<Backoff>,
    random: u64,
}

impl Delays {
    /// Makes the waits within `bounds`; `None`: no wait at all. The same `seed` gives the same
    /// jitter.
    #[must_use]
    pub fn new(bounds: Option<Backoff>, seed: u64) -> Self {
        Self { bounds, random: seed }
    }

    /// Returns the wait after `failures` earlier failures in a row: between half of the doubled
    /// minimum and the whole of it, and never more than the maximum.
    pub fn next(&mut self, failures: u32) -> Duration {
        let Some(Backoff { min, max }) = self.bounds else { return Duration::ZERO };
        let doubled = min.saturating_mul(2_u32.saturating_pow(failures)).min(max);
        doubled.mul_f64(0.5 + self.jitter() / 2.0)
    }

    /// Returns whether a child that ran from `since` to `now` counts as healthy again: it outlived
    /// the longest wait.
    #[must_use]
    pub fn is_healthy(&self, since: Moment, now: Moment) -> bool {
        self.bounds.is_none_or(|bounds| now.since(since) >= bounds.max)
    }

    /// Returns the next number in `0.0..1.0` (splitmix64).
    fn jitter(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
        let fraction = (mixed >> 11) as f64;
        fraction / (1_u64 << 53) as f64
    }
}

use std::collections::VecDeque;

use super::Moment;
use crate::spec::Intensity;

/// The restarts of all children of one supervisor within its sliding window.
#[derive(Clone, Debug)]
pub struct Window {
    intensity: Intensity,
    /// At most one more than the intensity allows.
    restarts: VecDeque<Moment>,
}

impl Window {
    /// Makes an empty window.
    #[must_use]
    pub fn new(intensity: Intensity) -> Self {
        Self { intensity, restarts: VecDeque::new() }
    }

    /// Counts one more restart and returns whether it is still allowed.
    pub fn count(&mut self, now: Moment) -> bool {
        while self.restarts.front().is_some_and(|&then| !self.holds(then, now)) {
            self.restarts.pop_front();
        }
        let allowed = self.restarts.len() < self.limit();
        if allowed {
            self.restarts.push_back(now);
        }
        allowed
    }

    /// Returns how many more restarts are allowed at `now`.
    #[must_use]
    pub fn left(&self, now: Moment) -> u32 {
        let counted = self.restarts.iter().filter(|&&then| self.holds(then, now)).count();
        self.intensity.max_restarts.saturating_sub(u32::try_from(counted).unwrap_or(u32::MAX))
    }

    fn holds(&self, then: Moment, now: Moment) -> bool {
        now.since(then) <= self.intensity.within
    }

    fn limit(&self) -> usize {
        usize::try_from(self.intensity.max_restarts).unwrap_or(usize::MAX)
    }
}

//! The runs that were begun lately: what they have shown is kept a little beyond their end.
//!
//! Text that streams is on no record. A reader that is cut off just before the end of a run, and
//! comes back just behind it, finds the rest here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axon_kernel::ids::RunId;
use axon_runtime::{Outcome, RunHandle};
use futures_util::FutureExt;

/// How many runs are kept. What each has shown is bounded, and mostly a few kilobytes.
const KEPT: usize = 256;

/// The runs that were begun lately, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<VecDeque<Arc<RunHandle>>>);

impl Recent {
    /// Keeps a run, and forgets the oldest one in its place.
    pub(crate) fn keep(&self, run: Arc<RunHandle>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(run);
    }

    /// Returns a run that is kept and has ended here, so that its events are all that it has.
    pub(crate) fn ended(&self, run: &RunId) -> Option<Arc<RunHandle>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().rev().find(|kept| kept.id() == run)?;
        let outcome = found.outcome().now_or_never()?.outcome;
        (!matches!(outcome, Outcome::Paused(_))).then(|| found.clone())
    }
}

//! The runs that were begun lately: what they have shown is kept a little beyond their end.
//!
//! Text that streams is on no record. A reader that is cut off just before the end of a run, and
//! comes back just behind it, finds the rest here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axon_kernel::ids::RunId;
use axon_runtime::{Outcome, RunHandle};
use futures_util::FutureExt;

/// How many runs are kept. What each has shown is bounded, and mostly a few kilobytes.
const KEPT: usize = 256;

/// How long one is kept beyond its end: as long as a client may need to come back.
const LINGERS: Duration = Duration::from_secs(30);

/// The runs that were begun lately, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<VecDeque<Arc<RunHandle>>>);

impl Recent {
    /// Keeps a run until some time after its end, and forgets the oldest one if there are too many.
    pub(crate) fn keep(self: &Arc<Self>, run: Arc<RunHandle>) {
        let mut kept = self.kept();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(run.clone());
        drop(kept);
        let recent = Arc::downgrade(self);
        tokio::spawn(async move {
            run.outcome().await;
            let run = Arc::downgrade(&run);
            tokio::time::sleep(LINGERS).await;
            if let Some(recent) = recent.upgrade() {
                recent.kept().retain(|kept| !std::ptr::eq(Arc::as_ptr(kept), run.as_ptr()));
            }
        });
    }

    /// Returns a run that is kept and has ended here, so that its events are all that it has.
    pub(crate) fn ended(&self, run: &RunId) -> Option<Arc<RunHandle>> {
        let kept = self.kept();
        let found = kept.iter().rev().find(|kept| kept.id() == run)?;
        let outcome = found.outcome().now_or_never()?.outcome;
        (!matches!(outcome, Outcome::Paused(_))).then(|| found.clone())
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<RunHandle>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

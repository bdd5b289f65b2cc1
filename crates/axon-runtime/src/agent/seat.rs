//! One seat of an agent: the place of one of its runners, whichever generation is in it.

use std::sync::Arc;
use std::time::Duration;

use axon_kernel::ids::Generation;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::tenancy::Tenancy;
use crate::events::RecycleReason;

#[derive(Debug)]
pub(super) struct Seat {
    /// The generation that is in the seat; in a vacant one, the last that was launched for it.
    pub(super) generation: Generation,
    pub(super) condition: Condition,
    /// The launch that is under way for the seat.
    pub(super) launch: Option<Launch>,
}

/// Who is in a seat.
#[derive(Debug)]
pub(super) enum Condition {
    /// Nobody; somebody will be, if a launch is under way.
    Vacant,
    /// A runner that takes runs.
    Up {
        tenancy: Arc<Tenancy>,
        /// Whether it takes none but the one that is to be alone in it.
        reserved: bool,
    },
    /// Nobody, until the next launch.
    Waiting { cause: String, until: Instant },
}

/// A launch that is under way. Dropping it kills what it has started.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) generation: Generation,
    /// Why the runner that is in the seat is replaced, if one is.
    pub(super) replaces: Option<RecycleReason>,
    pub(super) task: JoinHandle<()>,
}

impl Drop for Launch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Seat {
    pub(super) fn vacant() -> Self {
        Self { generation: Generation(0), condition: Condition::Vacant, launch: None }
    }

    pub(super) fn tenancy(&self) -> Option<&Arc<Tenancy>> {
        match &self.condition {
            Condition::Up { tenancy, .. } => Some(tenancy),
            Condition::Vacant | Condition::Waiting { .. } => None,
        }
    }

    /// Returns the runner if it takes runs that share it.
    pub(super) fn open(&self) -> Option<&Arc<Tenancy>> {
        match &self.condition {
            Condition::Up { tenancy, reserved: false } if tenancy.is_fit() => Some(tenancy),
            Condition::Up { .. } | Condition::Vacant | Condition::Waiting { .. } => None,
        }
    }

    pub(super) fn holds(&self, other: &Arc<Tenancy>) -> bool {
        self.tenancy().is_some_and(|tenancy| Arc::ptr_eq(tenancy, other))
    }

    /// Reserves the runner for one run, or opens it to all again.
    pub(super) fn reserve(&mut self, reserve: bool) {
        if let Condition::Up { reserved, .. } = &mut self.condition {
            *reserved = reserve;
        }
    }

    pub(super) fn is_launching(&self) -> bool {
        self.launch.is_some()
    }

    /// Returns whether the seat is not open, and will be before much more than `soon` has passed.
    pub(super) fn is_soon_open(&self, soon: Duration) -> bool {
        match &self.condition {
            Condition::Vacant => self.is_launching(),
            Condition::Up { .. } => self.open().is_none(),
            Condition::Waiting { until, .. } => *until <= Instant::now() + soon,
        }
    }
}

//! Attempts that a runner did not take: they were not executed, and go to another one at once.

use axon_kernel::failure::{Failure, FailureKind};
use axon_runner::RequestError;

use super::driver::Driver;
use crate::agent::Lease;

/// How often one attempt is sent elsewhere before its runner is to blame.
pub(super) const MAX_ELSEWHERE: u32 = 10;

/// Why a runner did not take an attempt.
#[derive(Debug)]
pub(super) enum NotTaken {
    /// It is not the runner that was meant: the token is of another generation.
    Mistaken(Box<Failure>),
    /// It is about to end.
    Ending(Box<Failure>),
}

impl NotTaken {
    /// Reads a refusal of an attempt; gives back what is none of these.
    pub(super) fn of(error: RequestError, lease: &Lease) -> Result<Self, RequestError> {
        let RequestError::Refused { status, failure } = error else { return Err(error) };
        match status {
            401 => Ok(Self::Mistaken(failure)),
            503 => Ok(Self::Ending(failure)),
            409 if !lease.tenancy.is_fit() => Ok(Self::Ending(failure)),
            _ => Err(RequestError::Refused { status, failure }),
        }
    }

    /// Returns the failure of a runner that takes no attempt at all.
    pub(super) fn into_failure(self) -> Failure {
        let (Self::Mistaken(failure) | Self::Ending(failure)) = self;
        let message = format!("the runner takes no attempt: {}", failure.message);
        Failure::new(FailureKind::RunnerDied, message)
    }
}

impl Driver {
    /// Gets the attempt ready for another runner. It costs neither a try nor a request.
    pub(super) fn go_elsewhere(&mut self, not_taken: &NotTaken, lease: &Lease) {
        tracing::debug!(
            run = %self.log().run_id(), generation = %lease.generation(), ?not_taken,
            "a runner did not take an attempt, which goes to another one"
        );
        self.not_asked();
        self.lease = None;
        if matches!(not_taken, NotTaken::Ending(_)) {
            self.sick = Some(lease.generation());
            self.agent.replace(lease.tenancy.clone(), "it takes nothing new");
        }
    }
}

//! A run under way, wherever it is driven.

use axon_kernel::event::Resolution;
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::{RunId, ToolCallId};
use axon_kernel::run::Replay;
use axon_runtime::{RecordError, ResumeError, RunHandle, RunOutcome, RunUpdate};

use crate::report::Report;
use crate::service::{Afterwards, RemoteRun, Said, Service, ServiceError};

/// A run under way.
#[derive(Debug)]
pub(crate) enum UnderWay {
    /// In this process.
    Here(Box<RunHandle>),
    /// In a service.
    There(Box<RemoteRun>),
}

/// Why a decision was not taken.
pub(crate) enum NotTaken {
    /// Another one can be.
    Otherwise(Report),
    /// Nothing can be decided here.
    AtAll(Report),
}

impl UnderWay {
    /// Follows a run of a service that goes on, from behind what `replay` has of it.
    pub(crate) fn again(service: Service, run: &RunId, replay: &Replay) -> Self {
        let mut run = RemoteRun::behind(service, run.clone(), replay.seq);
        run.goes_on();
        Self::There(Box::new(run))
    }

    pub(crate) fn id(&self) -> &RunId {
        match self {
            Self::Here(run) => run.id(),
            Self::There(run) => run.id(),
        }
    }

    /// Returns the next update; nothing once the run has ended or paused.
    pub(crate) async fn next(&mut self) -> Result<Option<RunUpdate>, Report> {
        match self {
            Self::Here(run) => Ok(run.events().next().await),
            Self::There(run) => run.next().await,
        }
    }

    /// Cancels the run; it still ends with its terminal event.
    pub(crate) async fn cancel(&self, reason: &str) {
        match self {
            Self::Here(run) => run.cancel(reason),
            Self::There(run) => {
                // That it is not cancelled is seen by its end that does not come.
                if let Err(error) = run.cancel(reason).await {
                    tracing::debug!(%error, "the run was not cancelled");
                }
            }
        }
    }

    /// Waits for the end, or for the pause that the run waits in.
    pub(crate) async fn outcome(&self) -> Result<RunOutcome, Report> {
        match self {
            Self::Here(run) => Ok(run.outcome().await),
            Self::There(run) => run.outcome().ok_or_else(|| {
                let failure = Failure::new(FailureKind::Internal, "the run's end was not seen");
                failure.into()
            }),
        }
    }

    /// Goes on with the paused run, and follows it from there on.
    pub(crate) async fn resume(&mut self) -> Result<(), Report> {
        match self {
            Self::Here(run) => Ok(run.resume().await?),
            Self::There(run) => {
                run.service().resume(run.id(), false, None).await?;
                run.goes_on();
                Ok(())
            }
        }
    }

    /// Decides about a call that the paused run waits with, and returns the calls that still want a
    /// decision. Once there is none, the run goes on and is followed from there on.
    pub(crate) async fn resolve(
        &mut self,
        call: &ToolCallId,
        resolution: Resolution,
        by: &str,
    ) -> Result<Vec<ToolCallId>, NotTaken> {
        match self {
            Self::Here(run) => Ok(run.resolve_as(call, resolution, by).await?),
            Self::There(run) => {
                let said = Said { by, then: Afterwards::Resume };
                let taken = run.service().decide(run.id(), (call, &resolution), said).await?;
                if let Some(problem) = taken.refused {
                    return Err(NotTaken::AtAll(problem.into()));
                }
                if taken.undecided.is_empty() {
                    run.goes_on();
                }
                Ok(taken.undecided)
            }
        }
    }
}

impl From<ResumeError> for NotTaken {
    fn from(error: ResumeError) -> Self {
        let otherwise = matches!(
            error,
            ResumeError::Record(
                RecordError::InvalidArgs { .. }
                    | RecordError::Decided { .. }
                    | RecordError::Expired { .. }
            )
        );
        if otherwise { Self::Otherwise(error.into()) } else { Self::AtAll(error.into()) }
    }
}

impl From<ServiceError> for NotTaken {
    fn from(error: ServiceError) -> Self {
        match error.code() {
            Some("invalid_arguments" | "already_decided" | "decision_too_late") => {
                Self::Otherwise(error.into())
            }
            _ => Self::AtAll(error.into()),
        }
    }
}

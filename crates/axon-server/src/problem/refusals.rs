//! The runtime's refusals as HTTP: which status each has.

use axon_kernel::store::StoreError;
use axon_runtime::{RecordError, Refusal, ResumeError, SteerError};
use axum::http::StatusCode;

use super::Problem;

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (code, detail) = (refusal.code(), refusal.to_string());
        let of = |status| Self::new(status, code, detail);
        match refusal {
            Refusal::NotFound { nearest, .. } => {
                let problem = of(StatusCode::NOT_FOUND);
                match nearest {
                    Some(nearest) => problem.with("nearest", nearest),
                    None => problem,
                }
            }
            Refusal::Invalid { .. } => of(StatusCode::UNPROCESSABLE_ENTITY),
            Refusal::Ending => Self::draining(),
            Refusal::Overloaded { retry_after, .. } => {
                of(StatusCode::TOO_MANY_REQUESTS).retry_after(Some(retry_after))
            }
            Refusal::Unavailable { retry_after, .. } => {
                of(StatusCode::SERVICE_UNAVAILABLE).retry_after(retry_after)
            }
            Refusal::Draining { .. } | Refusal::Stopped { .. } => {
                of(StatusCode::SERVICE_UNAVAILABLE)
            }
            Refusal::ConversationBusy { by, .. } => {
                let problem = of(StatusCode::CONFLICT);
                match by {
                    Some(by) => problem.with("run_id", by.run_id.as_str()),
                    None => problem,
                }
            }
            Refusal::Store(error) => Self { status: status_of(&error), ..of(StatusCode::OK) },
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::new(status_of(&error), error.code(), error.to_string())
    }
}

/// Returns the status that an error of the store has.
fn status_of(error: &StoreError) -> StatusCode {
    match error {
        StoreError::NotFound(_) => StatusCode::NOT_FOUND,
        StoreError::Conflict { .. }
        | StoreError::Fenced { .. }
        | StoreError::Owned { .. }
        | StoreError::Ended { .. } => StatusCode::CONFLICT,
        StoreError::Unfit { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        StoreError::Full { .. } => StatusCode::INSUFFICIENT_STORAGE,
        StoreError::Unavailable { .. } | StoreError::ReadOnly { .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        StoreError::Damaged { .. }
        | StoreError::Newer { .. }
        | StoreError::Changes { .. }
        | StoreError::Write { .. }
        | StoreError::Stopped { .. }
        | StoreError::Backend(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<RecordError> for Problem {
    fn from(error: RecordError) -> Self {
        let (code, detail) = (error.code(), with_causes(&error));
        let status = match error {
            RecordError::Store(error) => return error.into(),
            RecordError::Unreadable { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            RecordError::NotAsked { undecided, .. } => {
                let undecided: Vec<&str> = undecided.iter().map(|call| call.as_str()).collect();
                return Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
                    .with("undecided", undecided);
            }
            RecordError::OtherKind { .. }
            | RecordError::Several { .. }
            | RecordError::InvalidArgs { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            RecordError::Decided { .. }
            | RecordError::Expired { .. }
            | RecordError::Unwanted { .. } => StatusCode::CONFLICT,
        };
        Self::new(status, code, detail)
    }
}

impl From<ResumeError> for Problem {
    fn from(error: ResumeError) -> Self {
        let (code, detail) = (error.code(), error.to_string());
        let status = match error {
            ResumeError::Record(error) => return error.into(),
            ResumeError::Refused(refusal) => return refusal.into(),
            ResumeError::Undecided { .. }
            | ResumeError::Changed { .. }
            | ResumeError::Quarantined { .. } => StatusCode::CONFLICT,
            ResumeError::Secrets { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, code, detail)
    }
}

impl From<SteerError> for Problem {
    fn from(error: SteerError) -> Self {
        match error {
            SteerError::Over => Self::new(StatusCode::CONFLICT, "run_ended", error.to_string()),
        }
    }
}

/// Returns the message of an error with those behind it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // What passes an error on says the same as that.
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

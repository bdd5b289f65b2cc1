//! The runtime's refusals as HTTP: which status each has.

use axon_kernel::failure::FailureKind;
use axon_kernel::spec::{Problem as SpecProblem, SpecError};
use axon_kernel::store::StoreError;
use axon_runtime::{
    FolderError, NewcomerError, RecordError, Refusal, ResumeError, StartError, SteerError,
};
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
            Refusal::Unavailable { retry_after, cause, .. } => of(StatusCode::SERVICE_UNAVAILABLE)
                .retry_after(retry_after)
                .with("kind", cause.kind.label()),
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

/// A definition is refused as what it is: data of the caller's.
fn of_definition(detail: String, problems: Vec<String>) -> Problem {
    let code = FailureKind::Config.label();
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail).with("problems", problems)
}

impl From<SpecError> for Problem {
    fn from(error: SpecError) -> Self {
        let problem = |problem: &SpecProblem| match problem.key.as_str() {
            "" => problem.what.to_string(),
            key => format!("{key}: {}", problem.what),
        };
        let problems: Vec<String> = error.problems.iter().map(problem).collect();
        of_definition(format!("{}: {}", error.path, problems.join("; ")), problems)
    }
}

impl From<NewcomerError> for Problem {
    fn from(error: NewcomerError) -> Self {
        let detail = error.to_string();
        match error {
            NewcomerError::Wrong(error) => error.into(),
            NewcomerError::NotAllowed { reasons, .. } => {
                let code = "definition_not_allowed";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail).with("problems", reasons)
            }
            NewcomerError::Start(error) => error.into(),
        }
    }
}

impl From<FolderError> for Problem {
    fn from(error: FolderError) -> Self {
        match error {
            FolderError::NotFound { name, nearest, .. } => {
                Refusal::NotFound { name, nearest }.into()
            }
            FolderError::Spec(error) => error.into(),
            FolderError::Read { .. } | FolderError::Several { .. } => {
                of_definition(with_causes(&error), Vec::new())
            }
        }
    }
}

impl From<StartError> for Problem {
    fn from(error: StartError) -> Self {
        let detail = with_causes(&error);
        match error {
            StartError::Folder(error) => error.into(),
            StartError::Refused { failure, .. } => {
                let row = failure.kind.row();
                let status = match failure.kind == FailureKind::Config {
                    true => StatusCode::UNPROCESSABLE_ENTITY,
                    false => {
                        StatusCode::from_u16(row.http_status).unwrap_or(StatusCode::BAD_GATEWAY)
                    }
                };
                Self::new(status, row.label, detail)
            }
            StartError::Duplicate(_) => Self::new(StatusCode::CONFLICT, "agent_exists", detail),
            StartError::Definition(_) | StartError::Unknown(_) | StartError::SecondSettings(..) => {
                of_definition(detail, Vec::new())
            }
            StartError::Environment(_) | StartError::Sources(_) | StartError::Host(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "environment", detail)
            }
            StartError::Actor(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
            }
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

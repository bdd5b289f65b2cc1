//! What can go wrong with a service, and what its refusals are here: the codes and exit codes of the
//! same errors in this process.

use axon_kernel::failure::{Failure, FailureKind, KIND_TABLE};
use serde::Deserialize;

use crate::exit::Exit;
use crate::report::Report;
use crate::terminal::printable;

/// The code of a service that is not there, or is none.
const NO_SERVICE: &str = "no_service";

/// Why a service did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    /// Nobody answers there.
    #[error("no service answers at {url}: {why}")]
    Unreachable {
        url: String,
        why: String,
        /// Whether nothing was sent at all.
        never_sent: bool,
    },
    /// Somebody answers who is no service of ours.
    #[error("what answers at {url} is no axon service: {why}")]
    Foreign { url: String, why: String },
    /// It has other routes than those that are known here.
    #[error("the service at {url} speaks version {theirs} of its interface")]
    Version { url: String, theirs: String },
    /// It refused.
    #[error("{}", problem.detail)]
    Refused { status: u16, problem: Problem },
}

/// A refusal, as the service writes it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Problem {
    pub(crate) code: String,
    pub(crate) detail: String,
    /// The kind of the failure behind it, of an agent that cannot be had.
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    retry_after: Option<u64>,
}

impl ServiceError {
    /// Returns whether it may be otherwise in a moment: the service is being started again.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Foreign { .. } => true,
            Self::Refused { status, .. } => matches!(status, 429 | 503),
            Self::Version { .. } => false,
        }
    }

    /// Returns whether what was asked may have been done all the same: it was sent, and no service
    /// answered.
    pub(crate) fn leaves_open(&self) -> bool {
        match self {
            Self::Unreachable { never_sent, .. } => !never_sent,
            Self::Foreign { .. } => true,
            Self::Version { .. } | Self::Refused { .. } => false,
        }
    }

    /// Returns the code of a refusal.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { problem, .. } => Some(&problem.code),
            Self::Unreachable { .. } | Self::Foreign { .. } | Self::Version { .. } => None,
        }
    }
}

/// What a refusal is here: its code, the exit code, and the kind of failure that programs read.
struct Known {
    code: &'static str,
    exit: Exit,
    kind: FailureKind,
}

const fn known(code: &'static str, exit: Exit, kind: FailureKind) -> Known {
    Known { code, exit, kind }
}

/// What services refuse with, beside the kinds of failures.
const CODES: [Known; 42] = [
    known("unknown_agent", Exit::USAGE, FailureKind::Config),
    known("invalid_request", Exit::USAGE, FailureKind::Config),
    known("invalid_json", Exit::USAGE, FailureKind::Config),
    known("overloaded", Exit::FAILED, FailureKind::Busy),
    known("agent_unavailable", Exit::FAILED, FailureKind::RunnerDied),
    known("agent_draining", Exit::FAILED, FailureKind::Cancelled),
    known("agent_stopped", Exit::FAILED, FailureKind::Cancelled),
    known("agent_exists", Exit::USAGE, FailureKind::Config),
    known("agent_in_use", Exit::USAGE, FailureKind::Config),
    known("definition_not_allowed", Exit::CONFIG, FailureKind::Config),
    known("definition_changed", Exit::CONFIG, FailureKind::Config),
    known("conversation_busy", Exit::FAILED, FailureKind::Busy),
    known("unknown_conversation", Exit::USAGE, FailureKind::Config),
    known("draining", Exit::FAILED, FailureKind::Cancelled),
    known("environment", Exit::ENVIRONMENT, FailureKind::Config),
    known("unknown_run", Exit::USAGE, FailureKind::Config),
    known("run_conflict", Exit::FAILED, FailureKind::Internal),
    known("run_owned", Exit::FAILED, FailureKind::Internal),
    known("run_ended", Exit::USAGE, FailureKind::Config),
    known("run_not_under_way", Exit::FAILED, FailureKind::Internal),
    known("run_quarantined", Exit::FAILED, FailureKind::Internal),
    known("run_undecided", Exit::UNDECIDED, FailureKind::Config),
    known("record_unfit", Exit::USAGE, FailureKind::Config),
    known("secrets_needed", Exit::USAGE, FailureKind::Config),
    known("invalid_decision", Exit::USAGE, FailureKind::Config),
    known("invalid_arguments", Exit::USAGE, FailureKind::Config),
    known("already_decided", Exit::USAGE, FailureKind::Config),
    known("decision_too_late", Exit::USAGE, FailureKind::Config),
    known("idempotency_conflict", Exit::USAGE, FailureKind::Config),
    known("storage_full", Exit::ENVIRONMENT, FailureKind::Internal),
    known("storage_unavailable", Exit::ENVIRONMENT, FailureKind::Internal),
    known("storage_read_only", Exit::ENVIRONMENT, FailureKind::Internal),
    known("storage_damaged", Exit::ENVIRONMENT, FailureKind::Internal),
    known("storage_newer", Exit::ENVIRONMENT, FailureKind::Internal),
    known("storage_failed", Exit::ENVIRONMENT, FailureKind::Internal),
    known("body_too_large", Exit::USAGE, FailureKind::Config),
    known("too_many_streams", Exit::FAILED, FailureKind::Busy),
    known("request_timeout", Exit::ENVIRONMENT, FailureKind::Internal),
    known("unauthorized", Exit::CREDENTIALS, FailureKind::Config),
    known("read_only_token", Exit::CREDENTIALS, FailureKind::Config),
    known("host_not_allowed", Exit::ENVIRONMENT, FailureKind::Config),
    known("invalid_host", Exit::ENVIRONMENT, FailureKind::Config),
];

/// A refusal by a name that is not known here.
const OTHER: Known = known("refused", Exit::FAILED, FailureKind::Internal);

impl Problem {
    fn known(&self) -> Known {
        let of_code = CODES.into_iter().find(|known| known.code == self.code);
        let Known { code, exit, kind } = of_code.unwrap_or_else(|| of_kind(&self.code));
        match self.kind.as_deref().map(of_kind) {
            // What an agent is not there for.
            Some(behind) => Known { code, exit: behind.exit, kind: behind.kind },
            None => Known { code, exit, kind },
        }
    }

    fn report(&self) -> Report {
        let Known { code, exit, kind } = self.known();
        let text = printable(&self.detail);
        let (what, near) = match text.split_once("; did you mean") {
            Some((what, near)) => (what.to_owned(), Some(format!("did you mean{near}"))),
            None => (text, None),
        };
        let mut failure = Failure::new(kind, what.clone());
        failure.class = code.to_owned();
        failure.retry_after =
            self.retry_after.and_then(|wait| u32::try_from(wait).ok()).map(f64::from);
        let mut report = Report::new(code, exit, what).with_failure(failure);
        if code == OTHER.code && self.code != code {
            report = report.because(format!("the service calls it {}", printable(&self.code)));
        }
        if let Some(near) = near {
            report = report.todo(near);
        }
        match todo(code) {
            Some(todo) => report.todo(todo),
            None => report,
        }
    }
}

/// Returns what a failure of a run of this name is.
fn of_kind(label: &str) -> Known {
    let row = KIND_TABLE.iter().find(|row| row.label == label);
    row.map_or(OTHER, |row| Known {
        code: row.label,
        exit: Exit::of_failure(row.kind),
        kind: row.kind,
    })
}

/// Returns what helps against a refusal, where something does.
fn todo(code: &str) -> Option<&'static str> {
    Some(match code {
        "unauthorized" => "give the token of the service: --token-file FILE, or AXON_TOKEN_FILE",
        "read_only_token" => "use the other token: --token-file FILE, or AXON_TOKEN_FILE",
        "host_not_allowed" => "ask it by a name that it goes by, or start it with --allowed-host",
        "unknown_run" => "`axon runs` lists them",
        "overloaded" | "too_many_streams" | "draining" => "try again later",
        "agent_draining" => "axon agents restart NAME",
        "agent_exists" => {
            "one that is drained or parked is started again with: axon agents restart NAME"
        }
        "run_owned" => "ask the service that drives it, or wait until that has ended",
        "storage_full" => "make room on the disk of the service's store: runs under way go on then",
        "definition_changed" => "axon runs resume ID --allow-changed",
        _ => return None,
    })
}

impl From<Problem> for Report {
    fn from(problem: Problem) -> Self {
        problem.report()
    }
}

impl From<ServiceError> for Report {
    fn from(error: ServiceError) -> Self {
        let at = |url: &str, what: &str, why: &str| {
            Self::new(NO_SERVICE, Exit::ENVIRONMENT, format!("{what} {url}"))
                .because(printable(why))
        };
        match error {
            ServiceError::Unreachable { url, why, .. } => at(&url, "no service answers at", &why)
                .todo("start one: axon serve")
                .todo("or say where it is: --url URL, or AXON_URL"),
            ServiceError::Foreign { url, why } => at(&url, "there is no axon service at", &why)
                .todo("say where it is: --url URL, or AXON_URL"),
            ServiceError::Version { url, theirs } => {
                let why = format!("it speaks version {theirs} of its interface, and this is for 1");
                at(&url, "this command cannot speak with the service at", &why)
                    .todo("use the axon of the same version as the service")
            }
            ServiceError::Refused { problem, .. } => problem.report(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(json: &str, status: u16) -> Report {
        let problem = serde_json::from_str(json).unwrap();
        ServiceError::Refused { status, problem }.into()
    }

    #[test]
    fn a_refusal_is_the_error_that_it_is_here() {
        let near =
            r#"{"code":"unknown_agent","detail":"there is no agent `x`; did you mean `y`?"}"#;
        let report = report(near, 404);
        assert_eq!(report.exit(), Exit::USAGE);
        assert_eq!(report.in_a_line(), "there is no agent `x`");
        assert_eq!(report.first_todo(), Some("did you mean `y`?"));
    }

    #[test]
    fn an_agent_that_is_not_there_ends_with_the_code_of_its_cause() {
        let json = r#"{"code":"agent_unavailable","detail":"no","kind":"model_auth"}"#;
        assert_eq!(report(json, 503).exit(), Exit::of_failure(FailureKind::ModelAuth));
        let json = r#"{"code":"model_auth","detail":"no"}"#;
        assert_eq!(report(json, 502).exit(), Exit::CREDENTIALS);
    }

    #[test]
    fn what_nobody_knows_is_still_a_refusal_and_controls_no_terminal() {
        let report = report(r#"{"code":"\u001b[2J","detail":"\u001b[2J"}"#, 418);
        assert_eq!(report.exit(), Exit::FAILED);
        assert!(!report.in_a_line().contains('\u{1b}'));
    }
}

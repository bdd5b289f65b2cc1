//! Failures: one closed set of kinds, and the one table that says what each kind means.
//!
//! The same kinds name a failure on the runner's wire, in the command line's exit code, in HTTP
//! answers and on metric labels. [`KIND_TABLE`] is where they meet.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::ToolCallId;

/// A row of the failure ladder: how a class of failures is answered by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Row {
    /// The provider will probably answer later: retry from the last checkpoint, with backoff, and
    /// then the fallback.
    Transient,
    /// The model broke the contract although it was asked again: one fresh attempt, and then the
    /// fallback.
    Behavior,
    /// The runner process is at fault: it is replaced, the run resumes from its last checkpoint.
    Process,
    /// An exception that nobody mapped: one fresh attempt.
    Unmapped,
    /// A tool failed: its own policy has already decided.
    Tool,
    /// The same request will fail again: never a blind retry, but the fallback at once.
    Deterministic,
    /// Cannot heal itself: a person must act on the account or the model's name.
    Credentials,
    /// The definition is wrong: refused until it is changed.
    Configuration,
    /// Ended on purpose or by its deadline.
    Stopped,
}

impl Row {
    /// Returns whether such a failure can go away without anybody changing a definition, a key or
    /// an account.
    #[must_use]
    pub fn heals(self) -> bool {
        !matches!(self, Self::Credentials | Self::Configuration)
    }
}

/// What one kind of failure means at every door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindRow {
    /// The kind.
    pub kind: FailureKind,
    /// Its row in the failure ladder.
    pub row: Row,
    /// The exit code of the command line.
    pub exit_code: u8,
    /// The HTTP status where the failure refuses a request.
    pub http_status: u16,
    /// The name on the wire, in errors and on metric labels.
    pub label: &'static str,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $label:literal $row:ident $exit:literal $http:literal;)*) => {
        /// The closed set of failure kinds.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
            JsonSchema,
        )]
        #[serde(rename_all = "snake_case")]
        pub enum FailureKind {
            $($(#[$doc])* $kind,)*
        }

        /// Every kind with its row, exit code, HTTP status and label.
        pub const KIND_TABLE: &[KindRow] = &[
            $(KindRow {
                kind: FailureKind::$kind,
                row: Row::$row,
                exit_code: $exit,
                http_status: $http,
                label: $label,
            },)*
        ];
    };
}

kinds! {
    /// The provider's rate limit was hit.
    ModelRateLimited "model_rate_limited" Transient 5 429;
    /// The account's quota or credit is used up.
    ModelQuota "model_quota" Credentials 5 502;
    /// The provider says that it is overloaded.
    ModelOverloaded "model_overloaded" Transient 5 503;
    /// The provider is unavailable.
    ModelUnavailable "model_unavailable" Transient 5 503;
    /// The provider failed inside.
    ModelServer "model_server" Transient 5 502;
    /// The provider could not be reached, or the connection broke.
    ModelConnection "model_connection" Transient 5 502;
    /// The provider did not answer in time.
    ModelTimeout "model_timeout" Transient 5 504;
    /// Another HTTP status from the provider.
    ModelHttp "model_http" Transient 5 502;
    /// The conversation is longer than the model's context.
    ContextWindow "context_window" Deterministic 1 422;
    /// The provider refused the credentials.
    ModelAuth "model_auth" Credentials 5 502;
    /// The provider knows no such model.
    ModelNotFound "model_not_found" Credentials 5 502;
    /// The provider refused the request.
    ModelRejected "model_rejected" Credentials 5 502;
    /// The provider's content filter stopped the answer.
    ContentFilter "content_filter" Deterministic 1 422;
    /// The answer was cut at the output token limit.
    OutputTokenLimit "output_token_limit" Deterministic 1 422;
    /// The output broke its schema, after every re-ask.
    OutputInvalid "output_invalid" Behavior 6 502;
    /// The model behaved in a way that cannot be used.
    ModelBehavior "model_behavior" Behavior 6 502;
    /// A usage limit of the run was reached.
    UsageLimit "usage_limit" Deterministic 1 422;
    /// Too much work is under way already.
    Busy "busy" Transient 1 429;
    /// The run's deadline passed.
    RunTimeout "run_timeout" Stopped 124 504;
    /// Somebody cancelled the run.
    Cancelled "cancelled" Stopped 130 499;
    /// The definition of the agent, or the request, is wrong.
    Config "config" Configuration 3 400;
    /// A tool failed and its policy ends the run.
    Tool "tool" Tool 1 502;
    /// A set of tools could not be reached.
    Toolset "toolset" Tool 1 502;
    /// Every model of a fallback chain failed.
    FallbackExhausted "fallback_exhausted" Deterministic 5 502;
    /// The two ends of a link disagree on what was said.
    Decode "decode" Process 1 502;
    /// The runner process died.
    RunnerDied "runner_died" Process 1 503;
    /// An exception that nobody mapped.
    Internal "internal" Unmapped 1 500;
}

impl FailureKind {
    /// Returns what this kind means at every door.
    #[must_use]
    pub fn row(self) -> &'static KindRow {
        &KIND_TABLE[self as usize]
    }

    /// Returns the name used on the wire, in errors and on metric labels.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.row().label
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// One failure, the same object on the wire, in logs, in the store and in answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own on the wire")]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: FailureKind,
    /// The class of the exception or error behind it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub class: String,
    /// What happened, for a person.
    pub message: String,
    /// Whether the same attempt may succeed without a change.
    #[serde(default)]
    pub retryable: bool,
    /// How long the provider asks to wait, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<f64>,
    /// The provider's HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    /// The phase in which it happened (`connect`, `read`, `start`, …).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Whether the answer had begun to stream.
    #[serde(default)]
    pub in_stream: bool,
    /// Whether a tool that acts once may have acted in the run below another one that failed so. Then
    /// nobody is asked the same again but by a person. It is the asking run that says it: of a run
    /// that nobody's call has begun, its record tells.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub acted: bool,
    /// The tool that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<FailedTool>,
    /// What caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The Python traceback, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceback: Option<String>,
    /// What to do about it, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// The tool call behind a failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FailedTool {
    /// The call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<ToolCallId>,
    /// The tool's name.
    pub name: String,
}

/// The error that caused another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// Its class.
    pub class: String,
    /// Its message.
    pub message: String,
}

impl Failure {
    /// Makes a failure of `kind`; it is retryable where the kind's row is.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            class: String::new(),
            message: message.into(),
            retryable: matches!(kind.row().row, Row::Transient | Row::Process),
            retry_after: None,
            status_code: None,
            phase: None,
            in_stream: false,
            acted: false,
            tool: None,
            cause: None,
            traceback: None,
            help: None,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the phase in which it happened.
    #[must_use]
    pub fn in_phase(mut self, phase: impl Into<String>) -> Self {
        self.phase = Some(phase.into());
        self
    }

    /// Returns whether the model's provider did no work for the request: it said so, or the request
    /// never reached it. One that timed out may have been worked on, and billed.
    #[must_use]
    pub fn was_turned_away(&self) -> bool {
        let refused = matches!(
            self.kind,
            FailureKind::ModelRateLimited
                | FailureKind::ModelOverloaded
                | FailureKind::ModelUnavailable
                | FailureKind::Busy
        );
        let never_sent = self.kind == FailureKind::ModelConnection
            && matches!(self.phase.as_deref(), Some("connect" | "pool"));
        never_sent || refused && !self.in_stream
    }

    /// Returns how long the provider asks to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
            .filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)?;
        if let Some(tool) = &self.tool {
            write!(f, " (tool {})", tool.name)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_and_enum_agree() {
        for row in KIND_TABLE {
            assert_eq!(row.kind.row(), row);
            let wire = serde_json::to_value(row.kind).unwrap();
            assert_eq!(wire, serde_json::json!(row.label));
        }
    }

    #[test]
    fn unknown_kind_is_refused() {
        assert!(serde_json::from_str::<FailureKind>("\"teapot\"").is_err());
    }

    #[test]
    fn only_what_was_surely_not_worked_on_was_turned_away() {
        let mut failure = Failure::new(FailureKind::ModelOverloaded, "later");
        assert!(failure.was_turned_away());
        failure.in_stream = true;
        assert!(!failure.was_turned_away());
        let lost = Failure::new(FailureKind::ModelConnection, "lost");
        assert!(lost.clone().in_phase("connect").was_turned_away());
        assert!(!lost.in_phase("read").was_turned_away());
        assert!(!Failure::new(FailureKind::ModelTimeout, "late").was_turned_away());
    }

    #[test]
    fn hostile_retry_after_is_ignored() {
        let mut failure = Failure::new(FailureKind::ModelRateLimited, "slow down");
        for seconds in [-1.0, f64::NAN, f64::INFINITY, 1e300] {
            failure.retry_after = Some(seconds);
            assert_eq!(failure.retry_after(), None);
        }
        failure.retry_after = Some(1.5);
        assert_eq!(failure.retry_after(), Some(Duration::from_millis(1500)));
    }
}

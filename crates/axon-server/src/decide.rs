//! Decides about the calls that a paused run waits with, and goes on with it.

use std::sync::Arc;
use std::time::Duration;

use axon_kernel::event::Resolution;
use axon_kernel::ids::{RunId, ToolCallId};
use axon_kernel::json::RawJson;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ask::{TimeoutSchema, timeout};
use crate::body::{Json, Segment};
use crate::problem::Problem;
use crate::shared::Shared;

/// Who decided, as the record has it, where nobody says it.
const BY: &str = "http";

/// The longest name of who decided, in bytes.
const MAX_BY_BYTES: usize = 128;

/// What comes with a decision.
#[derive(Debug, Deserialize)]
struct Manner {
    by: Option<String>,
    resume: Option<bool>,
}

impl Manner {
    /// Returns who decided: a name that is fit to be shown.
    fn by(&self) -> Result<&str, Problem> {
        let by = self.by.as_deref().filter(|by| !by.is_empty()).unwrap_or(BY);
        if by.len() > MAX_BY_BYTES || by.chars().any(char::is_control) {
            let detail = format!("`by` has to be a name of at most {MAX_BY_BYTES} bytes");
            return Err(Problem::invalid(detail));
        }
        Ok(by)
    }
}

/// A decision that was read.
type Decided = (ToolCallId, Resolution, Manner);

/// A decision about a call that wants an approval or an answer: either `approve` or `answer`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApprovalRequest {
    /// The call.
    #[schema(value_type = String)]
    tool_call_id: ToolCallId,
    /// Whether it may be made.
    approve: Option<bool>,
    /// The arguments in place of the model's, of an approved call.
    #[schema(value_type = Option<Object>)]
    args: Option<RawJson>,
    /// Whether further calls of the tool in this run are approved, too.
    always: Option<bool>,
    /// What the model is told of a call that may not be made.
    message: Option<String>,
    /// What a question has for an answer, or what a call that was made elsewhere returned.
    #[schema(value_type = Option<Value>)]
    answer: Option<RawJson>,
    /// Who decides, for the record; `http` by default. It is taken on trust.
    by: Option<String>,
    /// Whether the run goes on once nothing is left to decide; it does by default.
    resume: Option<bool>,
}

impl ApprovalRequest {
    fn resolution(self) -> Result<Decided, Problem> {
        let Self { tool_call_id, approve, args, always, message, answer, by, resume } = self;
        let resolution = match (approve, answer) {
            (Some(true), None) if message.is_none() => {
                Resolution::Approve { args, always: always.unwrap_or(false) }
            }
            (Some(false), None) if args.is_none() && always.is_none() => {
                Resolution::Deny { message }
            }
            (None, Some(result)) if args.is_none() && always.is_none() && message.is_none() => {
                Resolution::Answer { result }
            }
            (Some(_), None) => {
                let detail = "`args` and `always` go with `approve: true`, `message` with \
                              `approve: false`";
                return Err(Problem::invalid(detail));
            }
            (Some(_), Some(_)) | (None, _) => {
                let detail = "a decision is either `approve` (true or false) or `answer`";
                return Err(Problem::invalid(detail));
            }
        };
        Ok((tool_call_id, resolution, Manner { by, resume }))
    }
}

/// A decision about a call of which nobody knows whether it took effect.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResolveRequest {
    /// The call.
    #[schema(value_type = String)]
    tool_call_id: ToolCallId,
    /// What is known of it.
    verdict: Verdict,
    /// What it returned, as far as anybody knows; with `skip`.
    #[schema(value_type = Option<Value>)]
    result: Option<RawJson>,
    /// Why the run ends; with `fail`.
    message: Option<String>,
    /// Who decides, for the record; `http` by default. It is taken on trust.
    by: Option<String>,
    /// Whether the run goes on once nothing is left to decide; it does by default.
    resume: Option<bool>,
}

/// What is known of a call.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// It took effect, and is not made again.
    Skip,
    /// It did not, and is made again.
    Retry,
    /// The run ends.
    Fail,
}

impl ResolveRequest {
    fn resolution(self) -> Result<Decided, Problem> {
        let Self { tool_call_id, verdict, result, message, by, resume } = self;
        let resolution = match (verdict, result, message) {
            (Verdict::Skip, result, None) => {
                Resolution::Skip { result: result.unwrap_or_else(RawJson::null) }
            }
            (Verdict::Retry, None, None) => Resolution::Retry,
            (Verdict::Fail, None, message) => Resolution::Fail { message },
            (Verdict::Skip | Verdict::Retry | Verdict::Fail, _, _) => {
                let detail = "`result` goes with the verdict `skip`, `message` with `fail`";
                return Err(Problem::invalid(detail));
            }
        };
        Ok((tool_call_id, resolution, Manner { by, resume }))
    }
}

/// What came of a decision. It is recorded, whatever else is said here.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DecisionTaken {
    /// The run.
    #[schema(value_type = String)]
    run_id: RunId,
    /// The calls that still want a decision.
    #[schema(value_type = Vec<String>)]
    undecided: Vec<ToolCallId>,
    /// Whether the run goes on.
    resumed: bool,
    /// Why it does not, although everything is decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    refused: Option<NotResumed>,
}

/// Why a run does not go on.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NotResumed {
    /// The name of the refusal.
    code: &'static str,
    /// What happened, for a person.
    detail: String,
}

/// Approves or refuses a call that a paused run waits with, or answers its question. When nothing
/// is left to decide, the run goes on. The first decision about a call stands.
#[utoipa::path(
    post, path = "/v1/runs/{id}/approvals", tag = "runs", operation_id = "approve_call",
    params(("id" = String, Path, description = "The run.")),
    request_body = ApprovalRequest,
    responses(
        (status = 200, description = "It is recorded.", body = DecisionTaken),
        Problem,
    ),
)]
pub(crate) async fn approve(
    State(shared): State<Arc<Shared>>,
    Segment(run): Segment,
    Json(request): Json<ApprovalRequest>,
) -> Result<axum::Json<DecisionTaken>, Problem> {
    decide(&shared, RunId::new(run), request.resolution()?).await
}

/// Says what is known of a call that may have taken effect, and goes on with the run.
#[utoipa::path(
    post, path = "/v1/runs/{id}/resolve", tag = "runs", operation_id = "resolve_call",
    params(("id" = String, Path, description = "The run.")),
    request_body = ResolveRequest,
    responses(
        (status = 200, description = "It is recorded.", body = DecisionTaken),
        Problem,
    ),
)]
pub(crate) async fn resolve(
    State(shared): State<Arc<Shared>>,
    Segment(run): Segment,
    Json(request): Json<ResolveRequest>,
) -> Result<axum::Json<DecisionTaken>, Problem> {
    decide(&shared, RunId::new(run), request.resolution()?).await
}

/// How a run goes on.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResumeRequest {
    /// Go on although the agent's definition has changed since the run was accepted.
    allow_changed: Option<bool>,
    /// How long it may take from now on: text like `30s`, or seconds.
    #[serde(default, deserialize_with = "timeout")]
    #[schema(value_type = Option<TimeoutSchema>, example = "30s")]
    timeout: Option<Duration>,
}

/// A run that goes on.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ResumedRun {
    /// The run.
    #[schema(value_type = String)]
    run_id: RunId,
}

/// Goes on with a run about which everything is decided, or whose process has gone.
#[utoipa::path(
    post, path = "/v1/runs/{id}/resume", tag = "runs", operation_id = "resume_run",
    params(("id" = String, Path, description = "The run.")),
    request_body = ResumeRequest,
    responses(
        (status = 202, description = "It goes on.", body = ResumedRun),
        Problem,
    ),
)]
pub(crate) async fn resume(
    State(shared): State<Arc<Shared>>,
    Segment(run): Segment,
    Json(request): Json<ResumeRequest>,
) -> Result<(StatusCode, axum::Json<ResumedRun>), Problem> {
    shared.check_serving()?;
    let mut resume = shared.runtime.resume(RunId::new(run));
    if request.allow_changed == Some(true) {
        resume = resume.allow_changed();
    }
    if let Some(timeout) = request.timeout {
        resume = resume.timeout(timeout);
    }
    let goes_on = resume.start().await?;
    let run_id = goes_on.id().clone();
    shared.recent.keep(Arc::new(goes_on));
    Ok((StatusCode::ACCEPTED, axum::Json(ResumedRun { run_id })))
}

async fn decide(
    shared: &Shared,
    run_id: RunId,
    (call, resolution, manner): Decided,
) -> Result<axum::Json<DecisionTaken>, Problem> {
    let records = shared.runtime.records();
    let undecided = records.resolve(&run_id, &call, resolution, manner.by()?).await?;
    let mut decision = DecisionTaken { run_id, undecided, resumed: false, refused: None };
    if decision.undecided.is_empty() && manner.resume.unwrap_or(true) {
        match shared.runtime.resume(decision.run_id.clone()).start().await {
            Ok(goes_on) => {
                decision.resumed = true;
                shared.recent.keep(Arc::new(goes_on));
            }
            Err(error) => {
                let (code, detail) = (error.code(), error.to_string());
                decision.refused = Some(NotResumed { code, detail });
            }
        }
    }
    Ok(axum::Json(decision))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn approval(body: &str) -> Option<Resolution> {
        let request: ApprovalRequest = serde_json::from_str(body).unwrap();
        request.resolution().ok().map(|(_, resolution, _)| resolution)
    }

    #[test]
    fn a_decision_is_one_thing() {
        let yes = approval(r#"{"tool_call_id":"c","approve":true,"args":{"a":1},"always":true}"#);
        assert!(matches!(yes, Some(Resolution::Approve { args: Some(_), always: true })));
        let no = approval(r#"{"tool_call_id":"c","approve":false,"message":"no"}"#);
        assert!(matches!(no, Some(Resolution::Deny { message: Some(_) })));
        let answer = approval(r#"{"tool_call_id":"c","answer":42}"#);
        assert!(matches!(answer, Some(Resolution::Answer { .. })));
        for wrong in [
            r#"{"tool_call_id":"c"}"#,
            r#"{"tool_call_id":"c","approve":true,"answer":1}"#,
            r#"{"tool_call_id":"c","approve":true,"message":"m"}"#,
            r#"{"tool_call_id":"c","approve":false,"args":{}}"#,
            r#"{"tool_call_id":"c","answer":1,"always":true}"#,
        ] {
            assert_eq!(approval(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_verdict_takes_what_goes_with_it() {
        let verdict = |body: &str| {
            let request: ResolveRequest = serde_json::from_str(body).unwrap();
            request.resolution().ok().map(|(_, resolution, _)| resolution.label())
        };
        let skip = r#"{"tool_call_id":"c","verdict":"skip","result":null}"#;
        assert_eq!(verdict(skip), Some("skip"));
        assert_eq!(verdict(r#"{"tool_call_id":"c","verdict":"retry"}"#), Some("retry"));
        assert_eq!(verdict(r#"{"tool_call_id":"c","verdict":"retry","result":1}"#), None);
        assert_eq!(verdict(r#"{"tool_call_id":"c","verdict":"fail","message":"m"}"#), Some("fail"));
    }
}

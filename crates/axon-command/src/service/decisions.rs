//! What is asked of a service about a run: decisions, to go on, to end.

use std::time::Duration;

use axon_kernel::event::Resolution;
use axon_kernel::ids::{RunId, ToolCallId};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{PROMPTLY, Service, ServiceError};

/// How long a run may take to be taken on again: its agent may have to be started.
const RESUME: Duration = Duration::from_secs(120);

/// Who decides, and whether the run goes on then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said<'a> {
    pub(crate) by: &'a str,
    pub(crate) then: Afterwards,
}

/// What becomes of a run once everything is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Afterwards {
    /// It goes on.
    Resume,
    /// It waits until somebody goes on with it.
    Wait,
}

/// What came of a decision.
#[derive(Debug, Deserialize)]
pub(crate) struct Taken {
    /// The calls that still want one.
    pub(crate) undecided: Vec<ToolCallId>,
    /// Why the run does not go on, although everything is decided.
    #[serde(default)]
    pub(crate) refused: Option<super::error::Problem>,
}

impl Service {
    /// Decides about a call that a run waits with.
    pub(crate) async fn decide(
        &self,
        run: &RunId,
        (call, resolution): (&ToolCallId, &Resolution),
        said: Said<'_>,
    ) -> Result<Taken, ServiceError> {
        let (route, mut body) = body(resolution);
        body["tool_call_id"] = call.as_str().into();
        body["resume"] = (said.then == Afterwards::Resume).into();
        if !said.by.is_empty() {
            body["by"] = said.by.into();
        }
        let path = ["v1", "runs", run.as_str(), route];
        let request = self.request(Method::POST, &path, &[]);
        self.answer(request.json(&body), RESUME).await
    }

    /// Goes on with a run.
    pub(crate) async fn resume(
        &self,
        run: &RunId,
        allow_changed: bool,
        timeout: Option<Duration>,
    ) -> Result<(), ServiceError> {
        let mut body = json!({ "allow_changed": allow_changed });
        if let Some(timeout) = timeout {
            body["timeout"] = timeout.as_secs_f64().into();
        }
        let path = ["v1", "runs", run.as_str(), "resume"];
        let request = self.request(Method::POST, &path, &[]);
        self.send(request.json(&body), RESUME).await.map(drop)
    }

    /// Has a run cancelled.
    pub(crate) async fn cancel(&self, run: &RunId, reason: &str) -> Result<(), ServiceError> {
        let query = [("reason", reason.to_owned())];
        let request = self.request(Method::DELETE, &["v1", "runs", run.as_str()], &query);
        self.send(request, PROMPTLY).await.map(drop)
    }
}

/// Returns where a decision is sent, and what says it.
fn body(resolution: &Resolution) -> (&'static str, Value) {
    match resolution {
        Resolution::Approve { args, always } => {
            let mut body = json!({ "approve": true });
            if let Some(args) = args {
                body["args"] = json!(args);
            }
            if *always {
                body["always"] = true.into();
            }
            ("approvals", body)
        }
        Resolution::Deny { message } => {
            ("approvals", json!({ "approve": false, "message": message }))
        }
        Resolution::Answer { result } => ("approvals", json!({ "answer": result })),
        Resolution::Retry => ("resolve", json!({ "verdict": "retry" })),
        Resolution::Skip { result } => ("resolve", json!({ "verdict": "skip", "result": result })),
        Resolution::Fail { message } => {
            ("resolve", json!({ "verdict": "fail", "message": message }))
        }
    }
}

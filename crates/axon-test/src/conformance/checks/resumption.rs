//! Checks of attempts that go on from what an earlier one recorded.

use serde_json::{Value, json};

use super::Subject;
use crate::conformance::agent::request;
use crate::conformance::report::{Disagreement, Verdict, expected, same};
use crate::scripted_runner::message;

checks! {
    resumed_attempt_does_not_repeat_a_recorded_call
    resumed_attempt_repeats_a_call_that_is_not_recorded
    step_counts_requests_that_stand_side_by_side_once
    checkpoint_before_a_pause_has_the_call_that_waits
    approved_call_is_made_with_the_arguments_of_whoever_approved
    denied_call_is_not_made_and_the_model_is_told
}

/// Makes an attempt up to the start of its `once` tool, and returns the request that resumes it.
async fn interrupted(subject: &Subject<'_>) -> Result<Value, Disagreement> {
    let mut resumed = request("once tool");
    let mut first = subject.link().open(&resumed).await?;
    first.until("tool_started").await?;
    resumed["message_history"] = Value::Array(first.recorded(&[]));
    resumed["attempt"] = json!(2);
    resumed["prompt"] = Value::Null;
    Ok(resumed)
}

async fn resumed_attempt_does_not_repeat_a_recorded_call(subject: &Subject<'_>) -> Verdict {
    let mut resumed = interrupted(subject).await?;
    resumed["recorded"] = json!({"call-1": "transferred long ago"});
    let mut events = subject.link().open(&resumed).await?;
    events.output("The result is transferred long ago.").await?;
    same("starts of tools", events.count("tool_started"), 0)?;
    let mut finished = events.seen.iter().filter(|event| event.kind == "tool_finished");
    let finished = finished.next().ok_or_else(|| expected("tool_finished", events.kinds()))?;
    same("recorded", &finished.data["recorded"], &json!(true))?;
    same("result", &finished.data["result"], &json!("transferred long ago"))
}

async fn resumed_attempt_repeats_a_call_that_is_not_recorded(subject: &Subject<'_>) -> Verdict {
    let resumed = interrupted(subject).await?;
    let mut events = subject.link().open(&resumed).await?;
    let started = events.until("tool_started").await?;
    same("events before the tool", events.count("checkpoint"), 0)?;
    same("step", &started.data["step"], &json!(1))?;
    events.permit_if_wanted(&started).await?;
    events.output("The result is transferred 7.").await
}

async fn step_counts_requests_that_stand_side_by_side_once(subject: &Subject<'_>) -> Verdict {
    let transfer = |call| message::tool_call(call, "transfer", json!({"amount": 7}));
    let mut resumed = request("once tool");
    resumed["prompt"] = Value::Null;
    resumed["message_history"] = json!([
        message::user("once tool"),
        transfer("call-0"),
        message::tool_return("call-0", "transfer", json!("transferred 7")),
        message::user("later tool"),
        transfer("call-1"),
    ]);
    let mut events = subject.link().open(&resumed).await?;
    let started = events.until("tool_started").await?;
    same("call", &started.data["tool_call_id"], &json!("call-1"))?;
    same("step", &started.data["step"], &json!(3))?;
    events.permit_if_wanted(&started).await?;
    events.output("The result is transferred 7.").await
}

/// Makes an attempt up to its pause, and returns the request that goes on with `decision`.
async fn decided(subject: &Subject<'_>, decision: Value) -> Result<Value, Disagreement> {
    let mut resumed = request("approval");
    let mut first = subject.link().open(&resumed).await?;
    first.end("attempt_paused").await?;
    resumed["message_history"] = Value::Array(first.recorded(&[]));
    resumed["attempt"] = json!(2);
    resumed["prompt"] = Value::Null;
    resumed["deferred_tool_results"] = json!({"approvals": {"call-1": decision}});
    Ok(resumed)
}

async fn checkpoint_before_a_pause_has_the_call_that_waits(subject: &Subject<'_>) -> Verdict {
    let resumed = decided(subject, Value::Null).await?;
    let last = resumed["message_history"].as_array().and_then(|history| history.last());
    let last = last.ok_or_else(|| expected("a recorded history", &resumed))?;
    same("kind", &last["kind"], &json!("response"))?;
    same("call", &last["parts"][0]["tool_call_id"], &json!("call-1"))
}

async fn approved_call_is_made_with_the_arguments_of_whoever_approved(
    subject: &Subject<'_>,
) -> Verdict {
    let decision = json!({"kind": "tool-approved", "override_args": {"amount": 5}});
    let resumed = decided(subject, decision).await?;
    let mut events = subject.link().open(&resumed).await?;
    let asked = events.until("tool_request").await?.data;
    same("call", &asked["tool_call_id"], &json!("call-1"))?;
    same("args", &asked["args"], &json!({"amount": 5}))?;
    same("approved", &asked["approved"], &json!(true))?;
    same("step", &asked["step"], &json!(1))?;
    let answer = json!({"attempt": 2, "status": "ok", "content": "refunded 5"});
    subject.link().tool_result(&events.run, "call-1", answer).await?.says(204)?;
    events.output("The result is refunded 5.").await
}

async fn denied_call_is_not_made_and_the_model_is_told(subject: &Subject<'_>) -> Verdict {
    let decision = json!({"kind": "tool-denied", "message": "Not today."});
    let resumed = decided(subject, decision).await?;
    let mut events = subject.link().open(&resumed).await?;
    events.output("The result is Not today..").await?;
    same("calls that were made", events.count("tool_request"), 0)
}

//! Checks of attempts that go on from what an earlier one recorded.

use serde_json::{Value, json};

use super::Subject;
use crate::conformance::agent::request;
use crate::conformance::report::{Verdict, expected, same};

checks! {
    resumed_attempt_does_not_repeat_a_recorded_call
    resumed_attempt_repeats_a_call_that_is_not_recorded
}

/// Makes an attempt up to the start of its `once` tool, and returns the request that resumes it.
async fn interrupted(subject: &Subject<'_>) -> Result<Value, crate::conformance::Disagreement> {
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

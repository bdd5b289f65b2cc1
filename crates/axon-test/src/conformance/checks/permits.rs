//! Checks of checkpoints and permits: nothing is used before it is recorded.

use serde_json::{Value, json};

use super::Subject;
use crate::conformance::agent::request;
use crate::conformance::report::{Verdict, expected, same};

checks! {
    checkpoint_waits_for_its_permit
    once_tool_waits_for_its_permit
    each_once_tool_of_a_response_waits_for_its_own_permit
    other_tool_does_not_wait
    attempt_that_waits_for_a_permit_can_be_cancelled
    checkpoints_record_every_new_message
}

async fn checkpoint_waits_for_its_permit(subject: &Subject<'_>) -> Verdict {
    let link = subject.link();
    let mut events = link.open(&request("python tool")).await?;
    let tools = events.until("checkpoint").await?;
    same("before", &tools.data["before"], &json!("tools"))?;
    // A permit for something else is none for this.
    link.permit(&events.run, 1, 1).await?.says(204)?;
    events.is_silent().await?;
    link.permit(&events.run, 1, tools.id).await?.says(204)?;
    let model = events.until("checkpoint").await?;
    same("before", &model.data["before"], &json!("model"))?;
    events.is_silent().await?;
    link.permit(&events.run, 1, model.id).await?.says(204)?;
    events.output("The result is 5.").await
}

async fn once_tool_waits_for_its_permit(subject: &Subject<'_>) -> Verdict {
    let mut events = subject.link().open(&request("once tool")).await?;
    let started = events.until("tool_started").await?;
    same("effect", &started.data["effect"], &json!("once"))?;
    same("permit", &started.data["permit"], &json!(true))?;
    events.is_silent().await?;
    events.permit_if_wanted(&started).await?;
    let finished = events.next().await?;
    same("next event", finished.as_ref().map(|event| event.kind.as_str()), Some("tool_finished"))?;
    events.output("The result is transferred 7.").await
}

async fn each_once_tool_of_a_response_waits_for_its_own_permit(subject: &Subject<'_>) -> Verdict {
    let mut events = subject.link().open(&request("once tools")).await?;
    let first = events.until("tool_started").await?;
    // The other one may have begun too, and waits as well.
    let begun = events.until_silent().await?;
    same("calls that were made", events.count("tool_finished"), 0)?;
    for started in [&first].into_iter().chain(&begun) {
        same("permit", &started.data["permit"], &json!(true))?;
        events.permit_if_wanted(started).await?;
    }
    events.output("The result is transferred 7 and transferred 7.").await?;
    same("calls that were begun", events.count("tool_started"), 2)
}

async fn other_tool_does_not_wait(subject: &Subject<'_>) -> Verdict {
    let mut events = subject.link().open(&request("python tool")).await?;
    let started = events.until("tool_started").await?;
    same("permit", &started.data["permit"], &json!(false))?;
    events.output("The result is 5.").await
}

async fn attempt_that_waits_for_a_permit_can_be_cancelled(subject: &Subject<'_>) -> Verdict {
    let mut events = subject.link().open(&request("python tool")).await?;
    events.until("checkpoint").await?;
    subject.link().cancel(&events.run).await?.says(202)?;
    let cancelled = events.next().await?.ok_or_else(|| expected("an end", "none"))?;
    same("next event", cancelled.kind.as_str(), "attempt_cancelled")
}

async fn checkpoints_record_every_new_message(subject: &Subject<'_>) -> Verdict {
    let history = vec![
        json!({"kind": "request", "parts": [{"part_kind": "user-prompt", "content": "before"}]}),
        json!({"kind": "response", "parts": [{"part_kind": "text", "content": "You said before."}]}),
    ];
    let mut request = request("python tool");
    request["message_history"] = json!(history);
    let mut events = subject.link().open(&request).await?;
    let ended = events.end("attempt_completed").await?;
    let recorded = events.recorded(&history);
    same("the recorded history", &recorded[..history.len()], &history[..])?;
    let new_messages = Value::Array(recorded[history.len()..].to_vec());
    same("new messages", &ended.data["new_messages"], &new_messages)?;
    let kinds: Vec<&Value> = recorded.iter().map(|message| &message["kind"]).collect();
    same(
        "kinds",
        json!(kinds),
        json!(["request", "response", "request", "response", "request", "response"]),
    )
}

//! Checks of messages to a live attempt: each that is taken is recorded once, or told as lost.

use serde_json::{Value, json};

use super::Subject;
use crate::conformance::agent::request;
use crate::conformance::events::Events;
use crate::conformance::report::{Verdict, expected, same};

checks! {
    message_to_a_live_attempt_is_recorded_once
    message_that_was_taken_and_is_not_recorded_is_told_at_the_end
    message_without_what_it_needs_is_refused
}

/// Returns the ids of the messages that the checkpoints so far deliver.
fn delivered(events: &Events) -> Vec<Value> {
    let checkpoints = events.seen.iter().filter(|event| event.kind == "checkpoint");
    checkpoints.filter_map(|event| event.data["delivered"].as_array()).flatten().cloned().collect()
}

async fn message_to_a_live_attempt_is_recorded_once(subject: &Subject<'_>) -> Verdict {
    let link = subject.link();
    let mut events = link.open(&request("rust tool")).await?;
    events.until("tool_request").await?;
    for _the_same in 0..2 {
        link.steer(&events.run, 1).await?.says(202)?;
    }
    let answer = json!({"status": "ok", "content": "sunny"});
    link.tool_result(&events.run, "call-1", answer).await?.says(204)?;
    let end = events.end("attempt_completed").await?;
    same("delivered", delivered(&events), vec![json!("message-1")])?;
    same("undelivered", end.data.get("undelivered").unwrap_or(&json!([])), &json!([]))?;
    let recorded = Value::Array(events.recorded(&[])).to_string();
    same("times that it is recorded", recorded.matches("\"content\":\"hurry\"").count(), 1)
}

async fn message_that_was_taken_and_is_not_recorded_is_told_at_the_end(
    subject: &Subject<'_>,
) -> Verdict {
    let link = subject.link();
    let mut events = link.open(&request("hang")).await?;
    events.until("part_start").await?;
    link.steer(&events.run, 1).await?.says(202)?;
    link.cancel(&events.run).await?.says(202)?;
    let end = events.end("attempt_cancelled").await?;
    same("undelivered", &end.data["undelivered"], &json!(["message-1"]))?;
    same("delivered", delivered(&events), Vec::<Value>::new())
}

async fn message_without_what_it_needs_is_refused(subject: &Subject<'_>) -> Verdict {
    let link = subject.link();
    let mut events = link.open(&request("hang")).await?;
    events.until("part_start").await?;
    let run = events.run.as_str().ok_or_else(|| expected("a run", &events.run))?;
    let path = format!("/v1/runs/{run}/messages");
    for missing in ["attempt", "message_id", "content"] {
        let mut body = json!({"attempt": 1, "message_id": "message-1", "content": "hurry"});
        if let Value::Object(fields) = &mut body {
            fields.remove(missing);
        }
        link.post(&path, &body).await?.refuses(400, "config")?;
    }
    let wrong =
        json!({"attempt": 1, "message_id": "m", "content": "hurry", "priority": "tomorrow"});
    link.post(&path, &wrong).await?.refuses(400, "config")
}

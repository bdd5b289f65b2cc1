//! Checks of attempts without tools: their events, and their ends.

use std::time::Duration;

use serde_json::{Value, json};

use super::Subject;
use crate::conformance::agent::request;
use crate::conformance::events::Event;
use crate::conformance::launched::LIMITS;
use crate::conformance::report::{Verdict, expected, holds, same};

checks! {
    attempt_tells_who_answers_and_ends_with_the_output
    text_is_streamed_in_pieces
    attempt_without_a_listener_has_the_same_end
    concurrent_attempts_are_kept_apart
    failure_of_the_model_is_the_end_of_the_attempt
    delete_cancels_the_attempt
    disconnect_cancels_the_attempt
    timeout_fails_the_attempt
    quiet_stream_shows_that_the_runner_is_alive
}

async fn attempt_tells_who_answers_and_ends_with_the_output(subject: &Subject<'_>) -> Verdict {
    let request = request("hello");
    let mut events = subject.link().open(&request).await?;
    let started = events.next().await?.map(|event| event.data).unwrap_or_default();
    same("attempt", &started["attempt"], &json!(1))?;
    same("generation", &started["generation"], &json!(subject.ready.generation))?;
    same("offline", &started["offline"], &json!(true))?;
    holds(started["model"].is_string(), "the model's name", &started)?;
    let completed = events.end("attempt_completed").await?;
    same("output", &completed.data["output"], &json!("You said hello."))?;
    holds(completed.data["usage"].is_object(), "usage", &completed.data)?;
    holds(completed.data["model"].is_string(), "the model that answered", &completed.data)?;
    let last_but_one = events.seen.iter().rev().nth(1);
    let before = last_but_one.map(|event| (event.kind.as_str(), event.data["before"].clone()));
    same("event before the end", before, Some(("checkpoint", json!("end"))))?;
    same("new messages", &completed.data["new_messages"], &Value::Array(events.recorded(&[])))
}

fn delta(event: &Event) -> Option<&str> {
    let delta = event.data.pointer("/part/content").or(event.data.pointer("/delta/content_delta"));
    delta
        .and_then(Value::as_str)
        .filter(|_| ["part_start", "part_delta"].contains(&event.kind.as_str()))
}

async fn text_is_streamed_in_pieces(subject: &Subject<'_>) -> Verdict {
    let mut events = subject.link().open(&request("hello")).await?;
    events.end("attempt_completed").await?;
    let pieces: Vec<&str> = events.seen.iter().filter_map(delta).collect();
    holds(pieces.len() > 1, "more than one piece", format!("{pieces:?}"))?;
    holds("You said hello.".starts_with(&pieces.concat()), "its pieces", format!("{pieces:?}"))
}

async fn attempt_without_a_listener_has_the_same_end(subject: &Subject<'_>) -> Verdict {
    let mut request = request("hello");
    request["stream"] = json!(false);
    let mut events = subject.link().open(&request).await?;
    events.output("You said hello.").await?;
    same("pieces of text", events.seen.iter().filter_map(delta).count(), 0)
}

async fn concurrent_attempts_are_kept_apart(subject: &Subject<'_>) -> Verdict {
    let mut open = Vec::new();
    for prompt in ["one", "two", "three"] {
        open.push((prompt, subject.link().open(&request(prompt)).await?));
    }
    for (prompt, events) in &mut open {
        events.output(&format!("You said {prompt}.")).await?;
    }
    Ok(())
}

async fn failure_of_the_model_is_the_end_of_the_attempt(subject: &Subject<'_>) -> Verdict {
    let mut events = subject.link().open(&request("fail")).await?;
    let error = events.end("attempt_failed").await?.data["error"].clone();
    same("kind", &error["kind"], &json!("model_rate_limited"))?;
    same("retryable", &error["retryable"], &json!(true))?;
    same("retry_after", &error["retry_after"], &json!(3.0))?;
    same("status_code", &error["status_code"], &json!(429))
}

async fn delete_cancels_the_attempt(subject: &Subject<'_>) -> Verdict {
    let mut events = subject.link().open(&request("hang")).await?;
    events.until("part_start").await?;
    subject.link().cancel(&events.run).await?.says(202)?;
    events.end("attempt_cancelled").await.map(drop)
}

async fn disconnect_cancels_the_attempt(subject: &Subject<'_>) -> Verdict {
    let mut events = subject.link().open(&request("hang")).await?;
    events.until("part_start").await?;
    same("attempts under way", subject.link().attempts().await?, 1)?;
    drop(events);
    subject.link().idle(Duration::from_secs(1)).await
}

async fn timeout_fails_the_attempt(subject: &Subject<'_>) -> Verdict {
    let mut request = request("hang");
    request["timeout"] = json!(0.3);
    let mut events = subject.link().open(&request).await?;
    let ended = tokio::time::timeout(Duration::from_secs(3), events.end("attempt_failed")).await;
    let ended = ended.map_err(|_elapsed| expected("an end after 0.3 s", "none after 3 s"))??;
    same("kind", &ended.data["error"]["kind"], &json!("run_timeout"))
}

async fn quiet_stream_shows_that_the_runner_is_alive(subject: &Subject<'_>) -> Verdict {
    let mut events = subject.link().open(&request("rust tool")).await?;
    events.until("tool_request").await?;
    // The stream counts as broken after one heartbeat without even a comment.
    events.is_silent_for(LIMITS.heartbeat() + Duration::from_millis(500)).await
}

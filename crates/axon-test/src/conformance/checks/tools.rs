//! Checks of tools, in Rust and in the runner.

use std::time::Duration;

use serde_json::{Value, json};

use super::Subject;
use crate::conformance::agent::request;
use crate::conformance::events::{Event, Events};
use crate::conformance::report::{Disagreement, Verdict, holds, same};

checks! {
    rust_tool_is_asked_for_and_its_result_used
    rust_tools_of_one_response_are_asked_for_together
    rust_tool_that_wants_another_try_is_told_to_the_model
    rust_tool_that_failed_is_told_to_the_model
    rust_tool_that_broke_ends_the_attempt
    result_for_an_unknown_call_is_not_found
    cancelled_attempt_withdraws_its_tool_requests
    tool_call_waits_as_long_as_it_takes
    python_tool_tells_its_start_and_its_end
    python_tool_that_broke_ends_the_attempt
    python_tool_that_outlives_its_attempt_is_told_until_it_ends
    tool_that_needs_approval_pauses_the_attempt
}

async fn asked(subject: &Subject<'_>) -> Result<(Events, Event), Disagreement> {
    let mut events = subject.link().open(&request("rust tool")).await?;
    let asked = events.until("tool_request").await?;
    Ok((events, asked))
}

async fn answer(subject: &Subject<'_>, run: &Value, answer: Value) -> Verdict {
    subject.link().tool_result(run, "call-1", answer).await?.says(204)
}

async fn rust_tool_is_asked_for_and_its_result_used(subject: &Subject<'_>) -> Verdict {
    let (mut events, asked) = asked(subject).await?;
    same("call", &asked.data["tool_call_id"], &json!("call-1"))?;
    same("name", &asked.data["name"], &json!("lookup"))?;
    same("args", &asked.data["args"], &json!({"key": "a"}))?;
    same("step", &asked.data["step"], &json!(1))?;
    same("retry", &asked.data["retry"], &json!(0))?;
    same("approved", &asked.data["approved"], &json!(false))?;
    answer(subject, &events.run, json!({"status": "ok", "content": "sunny"})).await?;
    events.output("The result is sunny.").await
}

async fn rust_tools_of_one_response_are_asked_for_together(subject: &Subject<'_>) -> Verdict {
    let mut events = subject.link().open(&request("rust tools")).await?;
    events.until("tool_request").await?;
    events.until("tool_request").await?;
    for (call, content) in [("call-2", "two"), ("call-1", "one")] {
        let answer = json!({"status": "ok", "content": content});
        subject.link().tool_result(&events.run, call, answer).await?.says(204)?;
    }
    events.output("The result is one and two.").await
}

async fn rust_tool_that_wants_another_try_is_told_to_the_model(subject: &Subject<'_>) -> Verdict {
    let (mut events, _) = asked(subject).await?;
    answer(subject, &events.run, json!({"status": "retry", "message": "ask me later"})).await?;
    events.output("The result is ask me later.").await
}

async fn rust_tool_that_failed_is_told_to_the_model(subject: &Subject<'_>) -> Verdict {
    let (mut events, _) = asked(subject).await?;
    answer(subject, &events.run, json!({"status": "failed", "message": "we are closed"})).await?;
    events.output("The result is we are closed.").await
}

async fn rust_tool_that_broke_ends_the_attempt(subject: &Subject<'_>) -> Verdict {
    let (mut events, _) = asked(subject).await?;
    let broken = json!({
        "status": "error", "message": "no database", "kind": "ConnectionLost", "retryable": true,
    });
    answer(subject, &events.run, broken).await?;
    let error = events.end("attempt_failed").await?.data["error"].clone();
    same("kind", &error["kind"], &json!("tool"))?;
    same("class", &error["class"], &json!("ConnectionLost"))?;
    same("message", &error["message"], &json!("no database"))?;
    same("retryable", &error["retryable"], &json!(true))?;
    same("tool", &error["tool"], &json!({"tool_call_id": "call-1", "name": "lookup"}))
}

async fn result_for_an_unknown_call_is_not_found(subject: &Subject<'_>) -> Verdict {
    let (mut events, _) = asked(subject).await?;
    let result = json!({"status": "ok", "content": "sunny"});
    let unknown = subject.link().tool_result(&events.run, "call-9", result.clone()).await?;
    unknown.refuses(404, "config")?;
    answer(subject, &events.run, result.clone()).await?;
    events.until("checkpoint").await?;
    // The same call is answered already.
    let again = subject.link().tool_result(&events.run, "call-1", result).await?;
    again.refuses(404, "config")
}

async fn cancelled_attempt_withdraws_its_tool_requests(subject: &Subject<'_>) -> Verdict {
    let (mut events, _) = asked(subject).await?;
    subject.link().cancel(&events.run).await?.says(202)?;
    let withdrawn = events.until("tool_request_cancelled").await?;
    same("call", &withdrawn.data["tool_call_id"], &json!("call-1"))?;
    events.end("attempt_cancelled").await.map(drop)
}

async fn tool_call_waits_as_long_as_it_takes(subject: &Subject<'_>) -> Verdict {
    let (mut events, _) = asked(subject).await?;
    events.is_silent().await?;
    answer(subject, &events.run, json!({"status": "ok", "content": null})).await?;
    events.end("attempt_completed").await.map(drop)
}

async fn python_tool_tells_its_start_and_its_end(subject: &Subject<'_>) -> Verdict {
    let mut events = subject.link().open(&request("python tool")).await?;
    let started = events.until("tool_started").await?.data;
    same("call", &started["tool_call_id"], &json!("call-1"))?;
    same("name", &started["name"], &json!("add"))?;
    same("effect", &started["effect"], &json!("pure"))?;
    same("step", &started["step"], &json!(1))?;
    let finished = events.until("tool_finished").await?.data;
    same("call", &finished["tool_call_id"], &json!("call-1"))?;
    same("outcome", &finished["outcome"], &json!("ok"))?;
    same("result", &finished["result"], &json!(5))?;
    holds(finished["recorded"] != true, "a result of its own", &finished)?;
    events.output("The result is 5.").await
}

async fn python_tool_that_broke_ends_the_attempt(subject: &Subject<'_>) -> Verdict {
    let mut events = subject.link().open(&request("broken tool")).await?;
    let error = events.end("attempt_failed").await?.data["error"].clone();
    same("kind", &error["kind"], &json!("tool"))?;
    same("class", &error["class"], &json!("ValueError"))?;
    same("message", &error["message"], &json!("the tool is broken"))?;
    same("tool", &error["tool"], &json!({"tool_call_id": "call-1", "name": "broken"}))
}

async fn python_tool_that_outlives_its_attempt_is_told_until_it_ends(
    subject: &Subject<'_>,
) -> Verdict {
    let link = subject.link();
    let mut events = link.open(&request("slow tool")).await?;
    events.until("tool_started").await?;
    same("unfinished", link.unfinished().await?, Vec::<Value>::new())?;
    link.cancel(&events.run).await?.says(202)?;
    events.end("attempt_cancelled").await?;
    let left = link.unfinished().await?;
    let told: Vec<(&Value, &str)> =
        left.iter().map(|left| (&left["run_id"], left["tool"].as_str().unwrap_or(""))).collect();
    same("unfinished", told, vec![(&events.run, "linger")])?;
    holds(left[0]["seconds"].is_number(), "for how long it has been running", &left[0])?;
    link.finished(Duration::from_secs(20)).await
}

async fn tool_that_needs_approval_pauses_the_attempt(subject: &Subject<'_>) -> Verdict {
    let mut events = subject.link().open(&request("approval")).await?;
    let paused = events.end("attempt_paused").await?;
    same("calls that were made", events.count("tool_request"), 0)?;
    let call = paused.data["requests"][0].clone();
    same("call", &call["tool_call_id"], &json!("call-1"))?;
    same("name", &call["name"], &json!("refund"))?;
    same("args", &call["args"], &json!({"amount": 7}))
}

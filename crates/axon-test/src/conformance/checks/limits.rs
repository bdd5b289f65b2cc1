//! Checks of how many attempts a runner has at once, and which of a run's.

use serde_json::json;

use super::Subject;
use crate::conformance::agent::request;
use crate::conformance::launched::LIMITS;
use crate::conformance::report::{Verdict, same};

checks! {
    attempts_over_the_limit_are_refused
    attempt_that_is_not_higher_is_refused
    higher_attempt_cancels_the_lower
    posts_of_a_lower_attempt_are_stale
    posts_for_an_unknown_run_are_not_found
    posts_for_an_attempt_that_is_over_are_gone
}

async fn attempts_over_the_limit_are_refused(subject: &Subject<'_>) -> Verdict {
    let mut open = Vec::new();
    for _ in 0..LIMITS.attempts {
        let mut events = subject.link().open(&request("hang")).await?;
        events.next().await?;
        open.push(events);
    }
    let reply = subject.link().post("/v1/runs", &request("hello")).await?;
    reply.refuses(429, "busy")?;
    same("retryable", &reply.body["error"]["retryable"], &json!(true))?;
    same("attempts under way", subject.link().attempts().await?, u64::from(LIMITS.attempts))
}

async fn attempt_that_is_not_higher_is_refused(subject: &Subject<'_>) -> Verdict {
    let mut live = request("hang");
    live["attempt"] = json!(2);
    let mut events = subject.link().open(&live).await?;
    events.next().await?;
    let again = async || {
        for attempt in [1, 2] {
            let mut request = live.clone();
            request["attempt"] = json!(attempt);
            subject.link().refuses(&request, 409, "config").await?;
        }
        Ok(())
    };
    again().await?;
    subject.link().cancel(&live["run_id"]).await?.says(202)?;
    events.end("attempt_cancelled").await?;
    again().await
}

async fn higher_attempt_cancels_the_lower(subject: &Subject<'_>) -> Verdict {
    let mut request = request("hang");
    let mut lower = subject.link().open(&request).await?;
    lower.next().await?;
    request["attempt"] = json!(2);
    request["prompt"] = json!("hello");
    let mut higher = subject.link().open(&request).await?;
    let started = higher.next().await?;
    same("attempt", started.map(|event| event.data["attempt"].clone()), Some(json!(2)))?;
    lower.end("attempt_cancelled").await?;
    higher.output("You said hello.").await
}

async fn posts_of_a_lower_attempt_are_stale(subject: &Subject<'_>) -> Verdict {
    let mut request = request("rust tool");
    let link = subject.link();
    let mut lower = link.open(&request).await?;
    let checkpoint = lower.until("checkpoint").await?;
    link.permit(&lower.run, 1, checkpoint.id).await?.says(204)?;
    lower.until("tool_request").await?;
    request["attempt"] = json!(2);
    let mut higher = link.open(&request).await?;
    higher.until("tool_request").await?;
    link.permit(&lower.run, 1, checkpoint.id).await?.refuses(409, "config")?;
    link.steer(&lower.run, 1).await?.refuses(409, "config")?;
    let answer = json!({"status": "ok", "content": "stale"});
    link.tool_result(&lower.run, "call-1", answer).await?.refuses(409, "config")
}

async fn posts_for_an_unknown_run_are_not_found(subject: &Subject<'_>) -> Verdict {
    let (link, run) = (subject.link(), json!("never-seen"));
    link.permit(&run, 1, 1).await?.refuses(404, "config")?;
    link.steer(&run, 1).await?.refuses(404, "config")?;
    let answer = json!({"status": "ok", "content": 1});
    link.tool_result(&run, "call-1", answer).await?.refuses(404, "config")?;
    link.cancel(&run).await?.refuses(404, "config")
}

async fn posts_for_an_attempt_that_is_over_are_gone(subject: &Subject<'_>) -> Verdict {
    let link = subject.link();
    let mut events = link.open(&request("python tool")).await?;
    let checkpoint = events.until("checkpoint").await?;
    events.permit_if_wanted(&checkpoint).await?;
    events.end("attempt_completed").await?;
    link.permit(&events.run, 1, checkpoint.id).await?.refuses(410, "config")?;
    link.steer(&events.run, 1).await?.refuses(410, "config")?;
    let answer = json!({"status": "ok", "content": 1});
    link.tool_result(&events.run, "call-1", answer).await?.refuses(410, "config")?;
    link.cancel(&events.run).await?.refuses(410, "config")
}

//! Checks of the process: its launch, and its ends.

use std::time::Duration;

use axon_kernel::failure::FailureKind;
use axon_kernel::wire::{ControlRecord, PROTOCOL};

use super::Subject;
use crate::conformance::agent::request;
use crate::conformance::launched::{Launched, launch_data};
use crate::conformance::report::{Verdict, expected, same};

checks! {
    ready_record_says_protocol_generation_and_process
    launch_data_of_another_protocol_is_refused
    launch_data_that_is_none_is_refused
    closed_lifeline_ends_the_process_within_a_second
    lifeline_that_was_closed_before_ready_ends_the_process
    sigterm_gives_every_attempt_its_end_and_exits_with_0
    drain_of_an_idle_runner_exits_with_0
    drain_refuses_new_attempts_and_finishes_the_live_ones
}

async fn ready_record_says_protocol_generation_and_process(subject: &Subject<'_>) -> Verdict {
    let launch = launch_data(subject.target);
    same("protocol", subject.ready.protocol, PROTOCOL)?;
    same("generation", subject.ready.generation, launch.generation)?;
    same("pid", subject.ready.pid, subject.shared.pid())
}

async fn launch_data_of_another_protocol_is_refused(subject: &Subject<'_>) -> Verdict {
    let mut launch = launch_data(subject.target);
    launch.protocol = PROTOCOL + 1;
    is_refused(Launched::start(subject.target, &launch).await?).await
}

async fn launch_data_that_is_none_is_refused(subject: &Subject<'_>) -> Verdict {
    is_refused(Launched::start_with(subject.target, "{\"launch\"".to_owned(), "token").await?).await
}

async fn is_refused(mut launched: Launched) -> Verdict {
    match launched.first_record().await? {
        ControlRecord::Failed { error } => same("kind", error.kind, FailureKind::Config)?,
        other @ (ControlRecord::Ready(_) | ControlRecord::Log(_)) => {
            return Err(expected("a failed record", format!("{other:?}")));
        }
    }
    let status = launched.exit(Duration::from_secs(10)).await?;
    same("the exit code", status.code(), Some(1))
}

async fn closed_lifeline_ends_the_process_within_a_second(subject: &Subject<'_>) -> Verdict {
    let mut launched = subject.launch().await?;
    let mut events = launched.link().open(&request("hang")).await?;
    events.next().await?;
    launched.close_lifeline();
    launched.exit(Duration::from_secs(1)).await.map(drop)
}

async fn lifeline_that_was_closed_before_ready_ends_the_process(subject: &Subject<'_>) -> Verdict {
    let mut launched = Launched::start(subject.target, &launch_data(subject.target)).await?;
    launched.close_lifeline();
    // A runner may be in the middle of its start, but not for long.
    launched.exit(Duration::from_secs(5)).await.map(drop)
}

async fn sigterm_gives_every_attempt_its_end_and_exits_with_0(subject: &Subject<'_>) -> Verdict {
    let mut launched = subject.launch().await?;
    let mut one = launched.link().open(&request("hang")).await?;
    let mut other = launched.link().open(&request("rust tool")).await?;
    one.next().await?;
    other.until("tool_request").await?;
    launched.terminate();
    one.end("attempt_cancelled").await?;
    other.end("attempt_cancelled").await?;
    launched.exits_well().await
}

async fn drain_of_an_idle_runner_exits_with_0(subject: &Subject<'_>) -> Verdict {
    let mut launched = subject.launch().await?;
    launched.link().call(reqwest::Method::POST, "/v1/drain", Vec::new()).await?.says(202)?;
    launched.exits_well().await
}

async fn drain_refuses_new_attempts_and_finishes_the_live_ones(subject: &Subject<'_>) -> Verdict {
    let mut launched = subject.launch().await?;
    let link = launched.link().clone();
    let mut events = link.open(&request("rust tool")).await?;
    events.until("tool_request").await?;
    link.call(reqwest::Method::POST, "/v1/drain", Vec::new()).await?.says(202)?;
    link.refuses(&request("hello"), 503, "busy").await?;
    same("attempts under way", link.attempts().await?, 1)?;
    let answer = serde_json::json!({"status": "ok", "content": "sunny"});
    link.tool_result(&events.run, "call-1", answer).await?.says(204)?;
    events.output("The result is sunny.").await?;
    launched.exits_well().await
}

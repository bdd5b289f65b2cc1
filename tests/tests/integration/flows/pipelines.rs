//! Pipelines in Rust: what one step makes is what the next one gets.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axon_kernel::event::RunEvent;
use axon_kernel::failure::FailureKind;
use axon_runtime::{Pipeline, Runtime, ToolError, named};
use serde_json::json;

use super::{answering, ask, failing, paths, start};
use crate::support::follow;

#[tokio::test]
async fn the_output_of_a_step_is_the_input_of_the_next() {
    let shout = answering("shout", |text| text.to_uppercase());
    let flow = Pipeline::new("flow")
        .apply(|text: String| text.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .map(|words| words, &shout)
        .max_concurrency(2)
        .apply(|words: Vec<String>| words.join("-"))
        .build()
        .unwrap();
    let runtime = start(Runtime::builder().agent(&flow).agent(&shout)).await;
    assert_eq!(ask(&runtime, "flow", "a b c").await.unwrap(), json!("A-B-C"));
    let mut run = runtime.agent(&flow).run("x y").start().await.unwrap();
    let seen = follow(&mut run).await;
    assert_eq!(paths(&seen), ["flow/shout"]);
    runtime.shutdown().await;
}

#[tokio::test]
async fn only_what_failed_is_made_again() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let flaky = Pipeline::new("flaky").try_apply(move |text: String| {
        // The functions of a step are called as often as it is asked what comes next.
        if text == "bad" && counted.fetch_add(1, Ordering::Relaxed) == 0 {
            return Err(ToolError::Failed("not yet".to_owned()));
        }
        Ok(text)
    });
    let flaky = flaky.build().unwrap();
    let flow = Pipeline::new("flow")
        .map(|text: String| text.split(' ').map(str::to_owned).collect(), &flaky)
        .retry(1)
        .build()
        .unwrap();
    let runtime = start(Runtime::builder().agent(&flow).agent(&flaky)).await;
    let mut run = runtime.agent(&flow).run("a bad c").start().await.unwrap();
    let seen = follow(&mut run).await;
    assert_eq!(run.outcome().await.completed().unwrap().output.get(), r#"["a","bad","c"]"#);
    let call = |event: &RunEvent| {
        let RunEvent::ToolCalled(called) = event else { return None };
        Some(called.tool_call_id.to_string())
    };
    let called: Vec<String> = seen.iter().filter_map(call).collect();
    assert_eq!(called, ["flaky.0", "flaky.1", "flaky.2", "flaky.1#2"]);
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_failure_goes_up_with_its_place_and_its_causes() {
    let (bad, good) = (failing("bad"), answering("good", |text| text));
    let flow = |name: &str| Pipeline::new(name).then(&named::<String>("bad"));
    let outer = Pipeline::new("outer").then(&named::<String>("strict")).build().unwrap();
    let strict = flow("strict").build().unwrap();
    let lenient = flow("lenient").fallback(good.name().clone()).build().unwrap();
    let last = flow("last").on_failure(good.name().clone()).build().unwrap();
    let builder = Runtime::builder().agent(&bad).agent(&good).agent(&outer);
    let runtime = start(builder.agent(&strict).agent(&lenient).agent(&last)).await;
    let failure = ask(&runtime, "outer", "hi").await.unwrap_err();
    for part in ["step `strict`", "step `bad`", "it never works"] {
        assert!(failure.message.contains(part), "{failure}");
    }
    assert_eq!(ask(&runtime, "lenient", "hi").await.unwrap(), json!("hi"));
    assert_eq!(ask(&runtime, "last", "hi").await.unwrap(), json!("hi"));
    runtime.shutdown().await;
}

#[tokio::test]
async fn items_that_fail_are_left_out_as_long_as_enough_succeed() {
    let picky = Pipeline::new("picky").try_apply(|text: String| match text.as_str() {
        "bad" => Err(ToolError::Failed("bad".to_owned())),
        _ => Ok(text),
    });
    let picky = picky.build().unwrap();
    let flow = |name: &str, need| {
        Pipeline::new(name)
            .map(|text: String| text.split(' ').map(str::to_owned).collect(), &picky)
            .skip_failed(need)
            .build()
            .unwrap()
    };
    let (one, two) = (flow("one", 1), flow("two", 2));
    let runtime = start(Runtime::builder().agent(&picky).agent(&one).agent(&two)).await;
    assert_eq!(ask(&runtime, "one", "bad b").await.unwrap(), json!(["b"]));
    let failure = ask(&runtime, "two", "bad b").await.unwrap_err();
    assert!(failure.message.contains("1 of 2 failed, and 2 are needed"), "{failure}");
    runtime.shutdown().await;
}

#[tokio::test]
async fn races_joins_and_loops_do_what_they_say() {
    let (up, bad) = (answering("up", |text| text.to_uppercase()), failing("bad"));
    let more = answering("more", |text| format!("{text}!"));
    let race = Pipeline::new("race").race(&[&bad, &up]).build().unwrap();
    let both = Pipeline::new("both").both(&up, &more).build().unwrap();
    let two = NonZeroU32::new(2).unwrap();
    let quorum = Pipeline::new("quorum").quorum(two, &[&bad, &up, &more]).build().unwrap();
    let five = NonZeroU32::new(5).unwrap();
    let again = Pipeline::new("again").then(&more).repeat(five, |last: &String| last.len() > 3);
    let again = again.build().unwrap();
    let builder = Runtime::builder().agent(&up).agent(&bad).agent(&more).agent(&race);
    let runtime = start(builder.agent(&both).agent(&quorum).agent(&again)).await;
    assert_eq!(ask(&runtime, "race", "a").await.unwrap(), json!("A"));
    assert_eq!(ask(&runtime, "both", "a").await.unwrap(), json!(["A", "a!"]));
    assert_eq!(ask(&runtime, "quorum", "a").await.unwrap(), json!(["A", "a!"]));
    assert_eq!(ask(&runtime, "again", "a").await.unwrap(), json!("a!!!"));
    runtime.shutdown().await;
}

#[tokio::test]
async fn nothing_is_asked_for_ever() {
    let echo = Pipeline::new("echo").then(&named::<String>("echo")).build().unwrap();
    // Whoever starts with such a thing is refused; what is changed later is stopped by its depth.
    let refused = Runtime::builder().agent(&echo).start().await.unwrap_err();
    assert!(refused.to_string().contains("it asks itself: echo -> echo"), "{refused}");
    let runtime = start(Runtime::builder().agent(answering("echo", |text| text))).await;
    runtime.reload_agent(&echo).await.unwrap();
    let failure = ask(&runtime, "echo", "again").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Config);
    assert!(failure.message.contains("as deep as work is handed on"), "{failure}");
    runtime.shutdown().await;
}

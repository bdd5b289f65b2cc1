//! Routers: who gets a message, and who answers when that one cannot.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use axon_kernel::breaker::BreakerSettings;
use axon_kernel::event::PauseReason;
use axon_kernel::flow::{Balance, Join};
use axon_kernel::spec::Kind;
use axon_kernel::wire::DeferredRequest;
use axon_runtime::{Outcome, Pipeline, Router, Runtime};
use serde_json::{Value, json};

use super::{answering, ask, failing, start};
use crate::support::output;

#[tokio::test]
async fn rules_are_asked_in_their_order_and_somebody_answers_where_none_holds() {
    let desk = Router::new("desk")
        .matches("/kind", "(?i)stolen", "fraud")
        .rule("input.amount is defined and input.amount > 1000", "large")
        .rule_fn(|message: Value| message == "hello", "hello")
        .fallback("other")
        .build()
        .unwrap();
    let strict = Router::new("strict").rule("input == 'a'", "fraud").build().unwrap();
    let mut builder = Runtime::builder().agent(&desk).agent(&strict);
    for name in ["fraud", "large", "hello", "other"] {
        builder = builder.agent(answering(name, move |_| name.to_owned()));
    }
    let runtime = start(builder).await;
    for (message, answer) in [
        (r#"{"kind": "Stolen card", "amount": 5000}"#, "fraud"),
        (r#"{"kind": "loan", "amount": 5000}"#, "large"),
        ("hello", "hello"),
        (r#"{"kind": "loan"}"#, "other"),
        ("plain words", "other"),
    ] {
        assert_eq!(ask(&runtime, "desk", message).await.unwrap(), json!(answer), "{message}");
    }
    let failure = ask(&runtime, "strict", "b").await.unwrap_err();
    assert!(failure.message.contains("rule"), "{failure}");
    runtime.shutdown().await;
}

#[tokio::test]
async fn an_agent_chooses_and_a_choice_that_is_none_is_asked_again() {
    let by = Pipeline::new("by").apply(|text: String| match text.contains("cannot be chosen") {
        true => json!({ "to": "one", "reason": "it was asked again" }),
        false => json!({ "to": text }),
    });
    let desk = Router::new("desk").by_agent("by").to(["one", "two"]).build().unwrap();
    let builder = Runtime::builder().agent(by.build().unwrap()).agent(&desk);
    let builder = builder.agent(answering("one", |text| format!("one: {text}")));
    let runtime = start(builder.agent(answering("two", |text| format!("two: {text}")))).await;
    assert_eq!(ask(&runtime, "desk", "two").await.unwrap(), json!("two: two"));
    assert_eq!(ask(&runtime, "desk", "nowhere").await.unwrap(), json!("one: nowhere"));
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_person_answers_when_nobody_else_can() {
    let desk = Router::new("desk").rule("true", "bad").fallback("worse").on_escalate("human");
    let desk = desk.build().unwrap();
    // Routers hand messages to routers as to anybody else.
    let outer = Router::new("outer").rule("true", "desk").build().unwrap();
    let builder = Runtime::builder().agent(&desk).agent(&outer);
    let runtime = start(builder.agent(failing("bad")).agent(failing("worse"))).await;
    let mut run = runtime.agent(&outer).run("help").start().await.unwrap();
    let Outcome::Paused(paused) = run.outcome().await.outcome else { panic!("a person is asked") };
    let PauseReason::Approval { requests } = &paused.reason else { panic!("{paused:?}") };
    let requests: Vec<DeferredRequest> = requests.decode().unwrap();
    let question = requests[0].asked().question().unwrap();
    assert!(question.starts_with("help") && question.contains("it never works"), "{question}");
    run.answer(&requests[0].tool_call_id, "I see to it").await.unwrap();
    assert_eq!(output(&run.outcome().await.outcome), json!("I see to it"));
    runtime.shutdown().await;
}

#[tokio::test]
async fn messages_are_spread_as_the_router_says() {
    let three = ["one", "two", "three"];
    let turns = Router::new("turns").balance(Balance::RoundRobin).to(three).build().unwrap();
    let same = Router::new("same").balance(Balance::Conversation).to(three).build().unwrap();
    let least = Router::new("least").balance(Balance::LeastInFlight).to(three).build().unwrap();
    let mut builder = Runtime::builder().agent(&turns).agent(&same).agent(&least);
    for name in three {
        builder = builder.agent(answering(name, move |_| name.to_owned()));
    }
    let runtime = start(builder).await;
    let mut answers: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..6 {
        let answer = ask(&runtime, "turns", "hi").await.unwrap();
        *answers.entry(answer.as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(answers.len() == 3 && answers.values().all(|count| *count == 2), "{answers:?}");
    for conversation in ["c1", "c2", "c3", "c4"] {
        let mut answers = Vec::new();
        for _ in 0..3 {
            let run = runtime.named("same").unwrap().run("hi").conversation(conversation);
            answers.push(output(&run.wait().await.unwrap().outcome));
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "one conversation goes to one of them");
    }
    assert!(ask(&runtime, "least", "hi").await.is_ok());
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_broadcast_waits_for_as_many_as_it_says() {
    let (good, bad) = (["one", "two", "bad"], ["bad", "one"]);
    let two = Join::Quorum(NonZeroU32::new(2).unwrap());
    let quorum = Router::new("quorum").broadcast(two).to(good).build().unwrap();
    let first = Router::new("first").broadcast(Join::First).to(bad).build().unwrap();
    let all = Router::new("all").broadcast(Join::All).to(bad).build().unwrap();
    let builder = Runtime::builder().agent(&quorum).agent(&first).agent(&all);
    let builder = builder.agent(answering("one", |_| "1".to_owned())).agent(failing("bad"));
    let runtime = start(builder.agent(answering("two", |_| "2".to_owned()))).await;
    let both = json!({ "one": "1", "two": "2" });
    assert_eq!(ask(&runtime, "quorum", "hi").await.unwrap(), both);
    assert_eq!(ask(&runtime, "first", "hi").await.unwrap(), json!("1"));
    assert!(ask(&runtime, "all", "hi").await.is_err());
    runtime.shutdown().await;
}

#[tokio::test]
async fn one_that_keeps_failing_is_left_alone() {
    let (failures, open) = (NonZeroU32::new(2).unwrap(), Duration::from_secs(60));
    let settings = BreakerSettings { failures, open, max_open: open };
    let desk = Router::new("desk").rule("true", "bad").breaker(settings).build().unwrap();
    let runtime = start(Runtime::builder().agent(&desk).agent(failing("bad"))).await;
    for _ in 0..2 {
        let failure = ask(&runtime, "desk", "hi").await.unwrap_err();
        assert!(failure.message.contains("it never works"), "{failure}");
    }
    let failure = ask(&runtime, "desk", "hi").await.unwrap_err();
    assert!(failure.message.contains("is left alone for another"), "{failure}");
    runtime.shutdown().await;
}

#[tokio::test]
async fn the_directory_knows_who_takes_messages_and_tells_of_changes() {
    let desk = Router::new("desk").rule("true", "one").configure(|spec| {
        spec.tags.insert("bank".parse().unwrap());
    });
    let builder = Runtime::builder().agent(desk.build().unwrap());
    let runtime = start(builder.agent(answering("one", |_| "1".to_owned()))).await;
    let directory = runtime.directory();
    let mut watch = directory.watch();
    let names = |entries: &[axon_runtime::Entry]| -> Vec<(String, Kind)> {
        entries.iter().map(|entry| (entry.name.to_string(), entry.kind)).collect()
    };
    let first = watch.next().await.unwrap();
    let (desk, one) = (("desk".to_owned(), Kind::Router), ("one".to_owned(), Kind::Pipeline));
    assert_eq!(names(&first), [desk.clone(), one.clone()]);
    assert_eq!(directory.tagged(&["bank"]).len(), 1);
    assert!(directory.tagged(&["bank", "cards"]).is_empty());
    runtime.start_agent(answering("two", |_| "2".to_owned())).await.unwrap();
    let second = watch.next().await.unwrap();
    assert_eq!(names(&second), [desk, one, ("two".to_owned(), Kind::Pipeline)]);
    runtime.named("one").unwrap().drain(Duration::from_secs(1)).await.unwrap();
    let third = watch.next().await.unwrap();
    assert!(third != second, "a drained one is seen");
    assert!(ask(&runtime, "desk", "hi").await.is_err());
    runtime.shutdown().await;
}

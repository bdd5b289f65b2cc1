//! Instructions in parts: templates and Rust functions, worked out for each run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axon_runtime::{Agent, PromptContext, ToolError};
use axon_test::Reply;
use serde_json::json;

use super::{Customer, MODEL, Scene};

#[tokio::test]
async fn static_and_dynamic_parts_come_in_order_and_anew_for_each_run() {
    let scene = Scene::new(Reply::text("ok")).await;
    let day = Arc::new(AtomicU32::new(0));
    let desk = Agent::<Customer>::builder("desk")
        .model(MODEL)
        .instructions("Help customer {{ deps.id }}.")
        .instructions_fn("today", move |ctx: PromptContext<Customer>| {
            let day = day.fetch_add(1, Ordering::Relaxed) + 1;
            async move { format!("It is day {day} of {} for {}.", ctx.deps().id, ctx.prompt()) }
        })
        .instructions_fn("silent", async |_| None::<String>)
        .instructions("Be brief, {{ agent }}.")
        .build()
        .unwrap();
    let runtime = scene.start(scene.runtime().agent(&desk)).await;
    let ask = || runtime.agent(&desk).run("Hi").deps(&Customer { id: 7 });
    ask().await.unwrap();
    ask().await.unwrap();
    let system = |at: usize| scene.model.requests()[at].body["messages"][0]["content"].clone();
    for at in 0..2 {
        let expected =
            format!("Help customer 7.\n\nIt is day {} of 7 for \"Hi\".\n\nBe brief, desk.", at + 1);
        assert_eq!(system(at), json!(expected));
    }
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_prompt_function_that_fails_or_panics_refuses_the_run_and_nothing_was_asked() {
    let scene = Scene::new(Reply::text("ok")).await;
    let build = |name: &str, panics: bool| {
        Agent::<()>::builder(name)
            .model(MODEL)
            .instructions_fn("moody", move |_| async move {
                assert!(!panics, "out of ideas");
                Err::<String, _>(ToolError::Failed("no idea".into()))
            })
            .build()
            .unwrap()
    };
    let (fails, panics) = (build("fails", false), build("panics", true));
    let runtime = scene.start(scene.runtime().agent(&fails).agent(&panics)).await;
    let refused = runtime.agent(&fails).run("Hi").await.unwrap_err().to_string();
    assert!(refused.contains("`moody` failed: no idea"), "{refused}");
    let refused = runtime.agent(&panics).run("Hi").await.unwrap_err().to_string();
    assert!(refused.contains("out of ideas"), "{refused}");
    assert!(scene.model.requests().is_empty());
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_file_names_a_prompt_function_of_the_service() {
    let scene = Scene::new(Reply::text("ok")).await;
    let toml = "model = 'openai-chat:scripted'\ninstructions = ['A', { rust = 'who' }, 'B']\n";
    scene.project.write("agents/desk/agent.toml", toml);
    let without = scene.runtime().agents_dir("agents").start().await.unwrap_err();
    assert!(without.to_string().contains("`who`, which is not registered here"), "{without}");
    let with = scene.runtime().agents_dir("agents");
    let with = with.prompt("who", async |ctx: PromptContext| ctx.deps().value().to_string());
    let runtime = scene.start(with).await;
    let desk = runtime.named("desk").unwrap();
    let run = desk.run("Hi").deps(&json!({ "id": 7 }));
    assert_eq!(run.instructions().await.unwrap().unwrap(), "A\n\n{\"id\":7}\n\nB");
    run.wait().await.unwrap();
    assert!(scene.sent().contains(r#"{\"id\":7}"#), "{}", scene.sent());
    runtime.shutdown().await;
}

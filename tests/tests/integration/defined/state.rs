//! The state that travels with a run: read and changed by tools of both languages.

use axon_kernel::spec::Effect;
use axon_runtime::{Agent, Outcome, Pipeline, Router, Tool, ToolContext, ToolError};
use axon_test::scripted_model::ChatRequest;
use axon_test::{Reply, Script};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{MODEL, Scene};

const TOOLS: &str = r#"
import os
import pathlib
from axon_runner import run_state

def look() -> list[str]:
    return list(run_state()["seen"])

def tick() -> int:
    state = run_state()
    state["ticks"] = state.get("ticks", 0) + 1
    state.pop("draft", None)
    return state["ticks"]

def dies_once() -> str:
    run_state()["lost"] = True
    if not pathlib.Path("died").exists():
        pathlib.Path("died").touch()
        os.kill(os.getpid(), 9)
    return "alive"
"#;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Basket {
    #[serde(default)]
    seen: Vec<String>,
    #[serde(default)]
    ticks: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    draft: Option<String>,
    #[serde(default)]
    lost: bool,
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
struct See {
    item: String,
}

/// Calls these tools one after the other, and then says what they returned.
fn one_by_one(tools: &'static [(&'static str, &'static str)]) -> Script {
    Script::function(move |body| {
        let request = ChatRequest::new(body);
        let returned: Vec<&str> = request
            .messages()
            .iter()
            .filter(|message| message["role"] == "tool")
            .filter_map(|message| message["content"].as_str())
            .collect();
        match tools.get(returned.len()) {
            Some((tool, args)) => {
                Reply::tool_calls([(*tool, serde_json::from_str(args).expect("it is JSON"))])
            }
            None => Reply::text(returned.join("|")),
        }
    })
}

fn shop(name: &str) -> Agent<(), String> {
    let see = Tool::new("see", async |ctx: ToolContext, See { item }| {
        ctx.update_state(|basket: &mut Basket| {
            basket.seen.push(item);
            basket.seen.len()
        })
    });
    let tool = |name: &str| (name.to_owned(), format!("shop_tools:{name}"));
    let mut shop = Agent::<(), String>::builder(name).model(MODEL);
    shop = shop.tool(see.unwrap().effect(Effect::Pure));
    for (name, target) in [tool("look"), tool("tick"), tool("dies_once")] {
        shop = shop.python_tool(&name, &target, Effect::Pure);
    }
    shop.build().unwrap()
}

#[tokio::test]
async fn tools_of_both_languages_change_one_state_which_comes_back_with_the_outcome() {
    let calls = &[
        ("see", r#"{"item":"a"}"#),
        ("tick", "{}"),
        ("see", r#"{"item":"b"}"#),
        ("look", "{}"),
        ("tick", "{}"),
    ];
    let scene = Scene::new(one_by_one(calls)).await;
    scene.project.write("shop_tools.py", TOOLS);
    let shop = shop("shop");
    let runtime = scene.start(scene.runtime().agent(&shop)).await;
    let begin = Basket { draft: Some("x".into()), ..Basket::default() };
    let answer = runtime.agent(&shop).run("Shop").state(&begin).await.unwrap();
    assert_eq!(answer.output, r#"1|1|2|["a","b"]|2"#);
    let basket: Basket = answer.state().unwrap();
    let seen = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(basket, Basket { seen, ticks: 2, ..Basket::default() });
    let replay = runtime.records().replay(&answer.run_id).await.unwrap();
    assert_eq!(json!(replay.state), json!({ "seen": ["a", "b"], "lost": false, "ticks": 2 }));
    runtime.shutdown().await;
}

#[tokio::test]
async fn what_a_finished_call_changed_outlives_its_runner_and_nothing_else_does() {
    let calls = &[("see", r#"{"item":"a"}"#), ("dies_once", "{}"), ("look", "{}")];
    let scene = Scene::new(one_by_one(calls)).await;
    scene.project.write("shop_tools.py", TOOLS);
    let shop = shop("shop");
    let runtime = scene.start(scene.runtime().agent(&shop)).await;
    let answer = runtime.agent(&shop).run("Shop").state(&Basket::default()).await.unwrap();
    assert_eq!((answer.output.as_str(), answer.attempts), (r#"1|alive|["a"]"#, 2));
    assert_eq!(answer.state["lost"], true);
    runtime.shutdown().await;
}

#[tokio::test]
async fn calls_side_by_side_lose_no_change() {
    let script = Script::function(|body| {
        let done = ChatRequest::new(body).messages().iter().any(|m| m["role"] == "tool");
        let call = |at: usize| match at % 2 {
            0 => ("see", json!({ "item": at.to_string() })),
            _ => ("tick", json!({})),
        };
        if done { Reply::text("done") } else { Reply::tool_calls((0..10).map(call)) }
    });
    let scene = Scene::new(script).await;
    scene.project.write("shop_tools.py", TOOLS);
    let shop = shop("shop");
    let runtime = scene.start(scene.runtime().agent(&shop)).await;
    let answer = runtime.agent(&shop).run("Shop").state(&Basket::default()).await.unwrap();
    let basket: Basket = answer.state().unwrap();
    assert_eq!((basket.seen.len(), basket.ticks), (5, 5), "{basket:?}");
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_state_that_is_no_object_is_refused_and_one_of_another_shape_breaks_the_tool() {
    let scene = Scene::new(one_by_one(&[("see", r#"{"item":"a"}"#)])).await;
    scene.project.write("shop_tools.py", TOOLS);
    let shop = shop("shop");
    let runtime = scene.start(scene.runtime().agent(&shop)).await;
    let refused = runtime.agent(&shop).run("Shop").state(&[1]).await.unwrap_err();
    assert!(refused.to_string().contains("has to be an object"), "{refused}");
    let run = runtime.agent(&shop).run("Shop").state(&json!({ "seen": 7 })).start().await.unwrap();
    let outcome = run.outcome().await;
    let Outcome::Failed(failed) = &outcome.outcome else { panic!("{outcome:?}") };
    assert!(failed.failure.to_string().contains("no such thing"), "{failed:?}");
    assert_eq!(json!(outcome.state), json!({ "seen": 7 }));
    runtime.shutdown().await;
}

/// A clerk sends the customer to the shop, looks what was seen there, and says so; the shop sees to
/// what it is asked.
fn clerk_and_shop() -> Script {
    Script::function(|body| {
        let request = ChatRequest::new(body);
        let system = body["messages"][0]["content"].as_str().unwrap_or_default();
        if !system.contains("clerk") {
            return match request.tool_return("see") {
                None => Reply::tool_calls([("see", json!({ "item": request.user_prompt() }))]),
                Some(_) => Reply::text("seen to"),
            };
        }
        match (request.tool_return("shop"), request.tool_return("look")) {
            (None, _) => Reply::tool_calls([("shop", json!({ "prompt": "a" }))]),
            (_, None) => Reply::tool_calls([("look", json!({}))]),
            (_, Some(seen)) => Reply::text(seen),
        }
    })
}

#[tokio::test]
async fn the_state_goes_along_with_the_work_and_comes_back_changed() {
    let scene = Scene::new(clerk_and_shop()).await;
    scene.project.write("shop_tools.py", TOOLS);
    let (shop, other) = (shop("shop"), shop("other"));
    let clerk = Agent::<(), String>::builder("clerk")
        .model(MODEL)
        .instructions("You are the clerk.")
        .delegate("shop", "Sees to it.")
        .python_tool("look", "shop_tools:look", Effect::Pure)
        .build()
        .unwrap();
    let day = Pipeline::new("day").then(&clerk).then(&other).build().unwrap();
    let desk = Router::new("desk").rule("true", "day").build().unwrap();
    let agents = scene.runtime().agent(&shop).agent(&other).agent(&clerk);
    let runtime = scene.start(agents.agent(&day).agent(&desk)).await;
    let run = runtime.agent(&desk).run("b").state(&json!({ "draft": "x", "kept": 1 }));
    let answer = run.await.unwrap();
    // The clerk's Python tool saw what the Rust tool of the shop had changed, and so it was told on.
    let seen = json!(["a", r#"["a"]"#]);
    let left = json!({ "draft": "x", "kept": 1, "seen": seen, "ticks": 0, "lost": false });
    assert_eq!(Value::Object(answer.state), left);
    let replay = runtime.records().replay(&answer.run_id).await.unwrap();
    assert_eq!(Value::Object(replay.state), left);
    runtime.shutdown().await;
}

#[test]
fn a_tool_is_tested_without_any_run() {
    let ctx = ToolContext::detached(());
    ctx.update_state(|basket: &mut Basket| basket.seen.push("a".into())).unwrap();
    assert_eq!(ctx.state::<Basket>().unwrap().seen, ["a"]);
    let wrong = ctx.update_state(|_: &mut u32| ()).unwrap_err();
    assert!(matches!(wrong, ToolError::Broken(_)), "{wrong}");
}

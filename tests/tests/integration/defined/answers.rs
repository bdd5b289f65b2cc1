//! Answers in the service's own type, and the validators that look at them.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axon_kernel::failure::FailureKind;
use axon_kernel::spec::{AgentSpec, Effect, FileText};
use axon_runtime::{Agent, DefinitionError, OutputContext, Refusal, RunError, Tool, ToolContext};
use axon_test::{Reply, Script};
use serde_json::json;

use super::{Advice, Customer, MODEL, Scene};

fn advice(text: &str, risk: u8) -> Reply {
    Reply::final_result(json!({ "text": text, "risk": risk }))
}

#[tokio::test]
async fn an_agent_in_rust_is_asked_and_answers_in_its_own_types() {
    let scene = Scene::new(advice("Block it.", 8)).await;
    let support = Agent::<Customer, Advice>::builder("support")
        .model(MODEL)
        .instructions("You help customer {{ deps.id }}.")
        .build()
        .unwrap();
    let runtime = scene.start(scene.runtime().agent(&support)).await;
    let answer = runtime.agent(&support).run("I lost my card").deps(&Customer { id: 7 }).await;
    let answer = answer.unwrap();
    assert_eq!(answer.output, Advice { text: "Block it.".into(), risk: 8 });
    assert!(!answer.offline && answer.attempts == 1);
    assert!(scene.sent().contains("You help customer 7."));
    // The model sees the type, docs and bounds included.
    assert!(scene.sent().contains(r#""maximum":10"#), "{}", scene.sent());
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_rejected_answer_goes_back_to_the_model_within_its_retries() {
    let scene = Scene::new([advice("no", 1), advice("well", 2), advice("", 3)]).await;
    let asked = Arc::new(AtomicU32::new(0));
    let counted = asked.clone();
    let support = Agent::<Customer, Advice>::builder("support")
        .model(MODEL)
        .retries(1, 1)
        .validate(move |advice: &Advice, ctx: &OutputContext<Customer>| {
            let retry = counted.fetch_add(1, Ordering::Relaxed);
            assert_eq!((ctx.deps().id, ctx.max_retries()), (7, 1));
            assert_eq!(ctx.retry(), retry % 2);
            if advice.text.len() < 3 { Err("say more than that".into()) } else { Ok(()) }
        })
        .build()
        .unwrap();
    let runtime = scene.start(scene.runtime().agent(&support)).await;
    let ask = || runtime.agent(&support).run("Help").deps(&Customer { id: 7 });
    assert_eq!(ask().await.unwrap().output.text, "well");
    assert!(scene.sent().contains("say more than that"));
    let Err(RunError::Failed { failed, .. }) = ask().await else { panic!("it has no answer") };
    assert_eq!(failed.failure.kind, FailureKind::OutputInvalid, "{failed:?}");
    assert!(asked.load(Ordering::Relaxed) >= 4);
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_validator_that_panics_ends_the_run_and_hurts_nobody() {
    let scene = Scene::new(advice("well", 2)).await;
    let support = Agent::<(), Advice>::builder("support")
        .model(MODEL)
        .validate(|_, _| panic!("a validator's own"))
        .build()
        .unwrap();
    let other = Agent::<(), Advice>::builder("other").model(MODEL).build().unwrap();
    let runtime = scene.start(scene.runtime().agent(&support).agent(&other)).await;
    let Err(RunError::Failed { failed, .. }) = runtime.agent(&support).run("Help").await else {
        panic!("it has no answer")
    };
    assert_eq!(failed.failure.kind, FailureKind::Tool);
    assert!(failed.failure.to_string().contains("a validator's own"), "{failed:?}");
    assert_eq!(runtime.agent(&other).run("Help").await.unwrap().output.risk, 2);
    runtime.shutdown().await;
}

#[tokio::test]
async fn text_is_a_string_and_validators_see_it() {
    let scene = Scene::new(Script::from(Reply::text("hi")).then(|_| Reply::text("hello"))).await;
    let plain = Agent::<(), String>::builder("plain")
        .model(MODEL)
        .validate(|text, _| if text == "hi" { Err("be polite".into()) } else { Ok(()) })
        .build()
        .unwrap();
    let runtime = scene.start(scene.runtime().agent(&plain)).await;
    assert_eq!(runtime.agent(&plain).run("Greet").await.unwrap().output, "hello");
    runtime.shutdown().await;
}

#[tokio::test]
async fn deps_of_another_shape_and_agents_that_are_not_there_are_refused() {
    let scene = Scene::new(Reply::text("no")).await;
    let support = Agent::<Customer>::builder("support").model(MODEL).build().unwrap();
    let absent = Agent::<Customer>::builder("supporter").model(MODEL).build().unwrap();
    let runtime = scene.start(scene.runtime().agent(&support)).await;
    let refused = runtime.agent(&support).run("Help").await.unwrap_err();
    assert!(refused.to_string().contains("needs deps"), "{refused}");
    let wrong = runtime.named("support").unwrap().run("Help").deps(&json!({ "id": "x" })).wait();
    let wrong = wrong.await.unwrap_err();
    assert!(matches!(wrong, Refusal::Invalid { .. }) && wrong.to_string().contains("/id"));
    let gone = runtime.agent(&absent).run("Help").await.unwrap_err();
    assert!(gone.to_string().contains("did you mean `support`"), "{gone}");
    assert!(scene.model.requests().is_empty());
    runtime.shutdown().await;
}

#[test]
fn what_is_wrong_with_an_agent_is_told_when_it_is_built() {
    let build = |name: &str| Agent::<()>::builder(name);
    let error = build("No Name").model(MODEL).build().unwrap_err();
    assert!(matches!(error, DefinitionError::Name(_)), "{error}");
    let error = build("a").build().unwrap_err();
    assert!(error.to_string().contains("has no model"), "{error}");
    let error = build("a").model(MODEL).instructions("{{ deps.").build().unwrap_err();
    assert!(matches!(error, DefinitionError::Prompt(_)), "{error}");
    let note = || {
        Tool::new("note", async |_: ToolContext, _: Customer| Ok::<_, axon_runtime::ToolError>(1))
    };
    let twice = build("a").model(MODEL).tool(note().unwrap()).tool(note().unwrap()).build();
    assert!(twice.unwrap_err().to_string().contains("names of tools must differ"));
}

#[test]
fn an_agent_in_rust_and_its_file_are_the_same_and_print_as_each_other() -> Result<(), Box<dyn Error>>
{
    let note = Tool::new("note", async |_: ToolContext<Customer>, args: Customer| {
        Ok::<_, axon_runtime::ToolError>(args.id)
    })?;
    let built = Agent::<Customer, Advice>::builder("support")
        .description("Helps")
        .model("openai:gpt-5")
        .instructions("Help {{ deps.id }}.")
        .instructions_fn("today", async |_| "It is Monday.")
        .tool(note.described("Notes a customer.").effect(Effect::Pure))
        .python_tool("look_up", "bank.tools:look_up", Effect::Idempotent)
        .delegate("fraud", "Asks the fraud desk.")
        .retries(2, 3)
        .build()?;
    let printed = built.spec().to_toml()?;
    let file = FileText { path: "agent.toml", text: &printed };
    let read =
        AgentSpec::from_toml("support".parse()?, file, &|_| None, &|_| Err("no file".into()))?;
    assert_eq!(&read, built.spec());
    assert_eq!(read.digest(), built.spec().digest());
    assert_eq!(read.to_toml()?, printed);
    Ok(())
}

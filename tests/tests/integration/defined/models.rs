//! Models asked directly, whole and streamed.

use axon_kernel::budget::Allowance;
use axon_kernel::failure::FailureKind;
use axon_runtime::{ModelError, RunError};
use axon_test::scripted_model::ChatRequest;
use axon_test::{Reply, Script};

use super::{MODEL, Scene};

fn echo() -> Script {
    Script::function(|body| {
        let prompt = ChatRequest::new(body).user_prompt();
        Reply::text(format!("you said: {prompt}")).chunks(6)
    })
}

#[tokio::test]
async fn a_model_is_asked_directly_whole_or_streamed_through_one_runner() {
    let scene = Scene::new(echo()).await;
    let runtime = scene.start(scene.runtime()).await;
    let model = runtime.model(MODEL);
    let (first, second) = tokio::join!(model.complete("one"), model.complete("two"));
    assert_eq!(first.unwrap().text, "you said: one");
    assert_eq!(second.unwrap().text, "you said: two");
    let mut stream = model.stream("three").await.unwrap();
    let mut pieces = Vec::new();
    while let Some(piece) = stream.next().await {
        pieces.push(piece);
    }
    let whole = stream.completion().await.unwrap();
    assert!(pieces.len() > 1, "{pieces:?}");
    assert_eq!((pieces.concat().as_str(), whole.offline), ("you said: three", false));
    assert_eq!(pieces.concat(), whole.text);
    // Two questions at once did not start two of them, and it is an agent like any other.
    let agents = runtime.agents();
    assert_eq!(agents.len(), 1, "{agents:?}");
    assert!(agents[0].name().as_str().starts_with("model_openai_chat_scripted_"));
    runtime.shutdown().await;
}

#[tokio::test]
async fn limits_and_failures_of_a_model_are_those_of_runs() {
    let script = Script::from(Reply::error(401, "invalid_api_key")).then(|_| Reply::text("ok"));
    let scene = Scene::new(script).await;
    let runtime = scene.start(scene.runtime()).await;
    let model = runtime.model(MODEL);
    let failed = |error: ModelError| {
        let ModelError::Run(RunError::Failed { failed, .. }) = error else { panic!("{error}") };
        failed.failure.kind
    };
    assert_eq!(failed(model.complete("one").await.unwrap_err()), FailureKind::ModelAuth);
    let none = runtime.budget(Allowance { requests: Some(0), ..Allowance::default() });
    let run = model.run("two").await.unwrap().budget(&none).wait().await.unwrap();
    assert_eq!(run.completed().unwrap_err().kind, FailureKind::UsageLimit);
    assert_eq!(model.complete("three").await.unwrap().text, "ok");
    let odd = runtime.model("no model").complete("four").await.unwrap_err();
    assert!(matches!(odd, ModelError::Name(_)), "{odd}");
    let unknown = runtime.model("nobody:gpt").complete("five").await.unwrap_err();
    assert!(matches!(unknown, ModelError::Start(_)), "{unknown}");
    runtime.shutdown().await;
}

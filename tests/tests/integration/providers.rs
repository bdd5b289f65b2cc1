//! What the provider does wrong, and what a run does about it.

use std::time::Duration;

use axon_kernel::event::RunEvent;
use axon_kernel::failure::FailureKind;
use axon_kernel::schema::Schema;
use axon_kernel::spec::{OutputSpec, PolicyRule};
use axon_runtime::{Outcome, RunHandle, Runtime};
use axon_test::{Reply, Script, ScriptedModel};
use serde_json::json;

use crate::support::{Project, failure, follow, kill_9, names, output, scripted_agent};

struct Scene {
    model: ScriptedModel,
    runtime: Runtime,
    _project: Project,
}

impl Scene {
    async fn new(script: impl Into<Script>) -> Self {
        let model = ScriptedModel::start(script).await;
        let project = Project::with_model(&model);
        let mut spec = scripted_agent("agent");
        let impatient = PolicyRule { retry: Some(1), ..PolicyRule::default() };
        spec.policy.insert(FailureKind::ModelUnavailable, impatient);
        let runtime = project.runtime().agent(spec).start().await.unwrap();
        Self { model, runtime, _project: project }
    }

    async fn run(&self) -> (Vec<RunEvent>, Outcome) {
        let mut run = self.start().await;
        let seen = follow(&mut run).await;
        (seen, run.outcome().await.outcome)
    }

    async fn start(&self) -> RunHandle {
        self.runtime.named("agent").unwrap().run("hello").start().await.unwrap()
    }
}

#[tokio::test]
async fn a_rate_limit_is_waited_out_and_the_run_completes() {
    let limited = Reply::rate_limited().retry_after(Duration::from_millis(300));
    let scene = Scene::new([limited, Reply::text("at last")]).await;
    let began = tokio::time::Instant::now();
    let (seen, outcome) = scene.run().await;
    assert_eq!(output(&outcome), json!("at last"));
    assert!(began.elapsed() >= Duration::from_millis(300));
    let seen = names(&seen);
    assert!(seen.contains(&"attempt_failed") && seen.contains(&"decided"), "{seen:?}");
    assert_eq!(scene.model.requests().len(), 2, "the provider's client retries nothing itself");
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn bad_credentials_are_given_up_at_once() {
    for (reply, kind) in [
        (Reply::error(401, "invalid_api_key"), FailureKind::ModelAuth),
        (Reply::quota_exceeded(), FailureKind::ModelQuota),
        (Reply::error(404, "model_not_found"), FailureKind::ModelNotFound),
        (Reply::context_length_exceeded(), FailureKind::ContextWindow),
    ] {
        let scene = Scene::new(reply).await;
        let (_, outcome) = scene.run().await;
        assert_eq!(failure(&outcome).kind, kind);
        assert_eq!(scene.model.requests().len(), 1, "{kind}");
        let status = scene.runtime.named("agent").unwrap().status().await.unwrap();
        assert_eq!(status.generation.0, 1, "nothing is restarted for {kind}");
        scene.runtime.shutdown().await;
    }
}

#[tokio::test]
async fn a_retry_limit_of_the_definition_is_kept_and_told() {
    let scene = Scene::new(Reply::status(503, json!({"error": {"message": "away"}}))).await;
    let (_, outcome) = scene.run().await;
    let Outcome::Failed(failed) = &outcome else { panic!("{outcome:?}") };
    assert_eq!(failed.failure.kind, FailureKind::ModelUnavailable);
    assert_eq!(failed.failure.status_code, Some(503));
    assert_eq!(scene.model.requests().len(), 2);
    assert_eq!(failed.history.len(), 2, "{:?}", failed.history);
    assert!(failed.history[0].contains("retried"), "{:?}", failed.history);
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn text_of_a_lost_attempt_is_retracted() {
    let cut = Reply::text("never mind this").chunks(4).cut_after(2);
    let scene = Scene::new([cut, Reply::text("but this")]).await;
    let (seen, outcome) = scene.run().await;
    assert_eq!(output(&outcome), json!("but this"));
    let retracted = seen.iter().position(|event| event.name() == "retracted").unwrap();
    let text_of = |events: &[RunEvent]| -> String {
        let text = |event: &RunEvent| {
            if let RunEvent::TextDelta(delta) = event { Some(delta.text.clone()) } else { None }
        };
        events.iter().filter_map(text).collect()
    };
    assert!(!text_of(&seen[..retracted]).is_empty());
    assert_eq!(text_of(&seen[retracted..]), "but this");
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn a_killed_runner_is_replaced_and_the_run_still_completes() {
    let first = Reply::text("half of it").chunks(4).hang_after(2);
    let scene = Scene::new([first, Reply::text("all of it")]).await;
    let agent = scene.runtime.named("agent").unwrap();
    let pid = agent.status().await.unwrap().pid.unwrap();
    let mut run = scene.start().await;
    while let Some(axon_runtime::RunUpdate::Event(event)) = run.events().next().await {
        if event.event.name() == "text_delta" {
            kill_9(pid);
            break;
        }
    }
    let Outcome::Completed(completed) = run.outcome().await.outcome else { panic!() };
    assert_eq!((completed.output.get(), completed.attempts), ("\"all of it\"", 2));
    let status = agent.status().await.unwrap();
    assert_eq!(status.generation.0, 2);
    assert_ne!(status.pid, Some(pid));
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn an_idle_runner_that_is_killed_is_replaced_too() {
    let scene = Scene::new(Reply::text("fine")).await;
    let agent = scene.runtime.named("agent").unwrap();
    kill_9(agent.status().await.unwrap().pid.unwrap());
    let (_, outcome) = scene.run().await;
    assert_eq!(output(&outcome), json!("fine"));
    scene.runtime.shutdown().await;
}

#[tokio::test]
async fn an_answer_that_breaks_the_schema_is_asked_again_and_then_fails_with_details() {
    let schema = json!({
        "type": "object",
        "properties": {"risk": {"type": "integer", "maximum": 10}},
        "required": ["risk"]
    });
    let script: Script = [
        Reply::final_result(json!({"risk": 11})),
        Reply::final_result(json!({"risk": 7})),
        Reply::final_result(json!({"risk": "high"})),
    ]
    .into();
    let model = ScriptedModel::start(script).await;
    let mut spec = scripted_agent("risk");
    spec.retries.output = Some(1);
    spec.output = Some(OutputSpec::new(Schema::new(schema).unwrap()));
    spec.policy
        .insert(FailureKind::ModelBehavior, PolicyRule { retry: Some(0), ..Default::default() });
    spec.policy
        .insert(FailureKind::OutputInvalid, PolicyRule { retry: Some(0), ..Default::default() });
    let project = Project::with_model(&model);
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let agent = runtime.named("risk").unwrap();
    let asked_again = agent.run("how risky?").wait().await.unwrap();
    assert_eq!(output(&asked_again.outcome), json!({"risk": 7}));
    let exhausted = agent.run("how risky?").wait().await.unwrap();
    let failure = failure(&exhausted.outcome);
    assert_eq!(failure.kind, FailureKind::OutputInvalid, "{failure:?}");
    let told = format!("{failure:?}");
    assert!(told.contains("risk"), "{told}");
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_key_reaches_the_provider_and_no_environment() {
    let scene = Scene::new(Reply::text("fine")).await;
    let agent = scene.runtime.named("agent").unwrap();
    let pid = agent.status().await.unwrap().pid.unwrap();
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    for place in [environment, arguments] {
        assert!(!String::from_utf8_lossy(&place).contains("sk-scripted"));
    }
    scene.run().await;
    let request = &scene.model.requests()[0];
    assert_eq!(request.header("authorization"), Some("Bearer sk-scripted"));
    scene.runtime.shutdown().await;
}

//! The failure ladder with real Python: retry, fall back, leave alone, escalate, fail.

use std::time::Duration;

use axon_kernel::budget::Allowance;
use axon_kernel::config::Config;
use axon_kernel::event::RunEvent;
use axon_kernel::failure::FailureKind;
use axon_kernel::policy::{Decision, FallbackTo};
use axon_kernel::schema::Schema;
use axon_kernel::spec::{
    AgentSpec, Backoff, Effect, FileText, ModelName, OutputSpec, PolicyRule, ProviderSpec, Then,
};
use axon_runtime::{Outcome, Runtime, RuntimeEvent};
use axon_test::scripted_model::ChatRequest;
use axon_test::{Reply, Script, ScriptedModel};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::command_line;
use crate::scene::{Told, agent, tooled};
use crate::support::{Project, failure, follow, names, output, scripted_agent, until};

const TOOLS: &str = r#"
def note() -> str:
    with open("noted", "a") as noted:
        noted.write("x")
    return "noted"
"#;

fn away() -> Reply {
    Reply::status(503, json!({"error": {"message": "away"}}))
}

fn model(name: &str) -> ModelName {
    format!("openai-chat:{name}").parse().unwrap()
}

fn asks(name: &str, model_name: &str) -> AgentSpec {
    let mut spec = scripted_agent(name);
    spec.model = Some(model(model_name));
    spec
}

fn retries(count: u32) -> PolicyRule {
    let (min, max) = (Duration::from_millis(1), Duration::from_millis(5));
    PolicyRule { retry: Some(count), backoff: Some(Backoff { min, max }), then: None }
}

/// Answers by the name of the model: one reply each, again and again.
fn by_model<const N: usize>(replies: [(&'static str, Reply); N]) -> Script {
    Script::function(move |body| {
        let asked = ChatRequest::new(body).model();
        let found = replies.iter().find(|(name, _)| *name == asked);
        found.map_or_else(|| Reply::error(404, "model_not_found"), |(_, reply)| reply.clone())
    })
}

fn asked(model: &ScriptedModel, name: &str) -> usize {
    let requests = model.requests();
    requests.iter().filter(|request| ChatRequest::new(&request.body).model() == name).count()
}

/// Calls the tool `note`, and fails when it has returned.
fn notes_and_then(failing: Reply) -> Script {
    Script::function(move |body| match ChatRequest::new(body).tool_return("note") {
        None => Reply::tool_calls([("note", json!({}))]),
        Some(_) => failing.clone(),
    })
}

#[tokio::test]
async fn a_wait_that_the_provider_asks_for_is_kept_over_text_that_was_shown() {
    let limited = Reply::rate_limited().retry_after(Duration::from_millis(700));
    let cut = Reply::text("never mind this").chunks(4).cut_after(2);
    let model = ScriptedModel::start([cut, limited, Reply::text("but this")]).await;
    let project = Project::with_model(&model);
    let runtime = project.runtime().agent(scripted_agent("agent")).start().await.unwrap();
    let began = Instant::now();
    let mut run = agent(&runtime, "agent").run("hello").start().await.unwrap();
    let seen = follow(&mut run).await;
    assert_eq!(output(&run.outcome().await.outcome), json!("but this"));
    assert!(began.elapsed() >= Duration::from_millis(700));
    let retracted = names(&seen).iter().filter(|name| **name == "retracted").count();
    assert_eq!(retracted, 1, "nothing was shown the second time: {:?}", names(&seen));
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_fallback_model_of_another_provider_goes_on_from_the_last_checkpoint_with_its_own_key() {
    let first = ScriptedModel::start(notes_and_then(away())).await;
    let second = ScriptedModel::start(Reply::text("instead")).await;
    let mut project = Project::with_model(&first);
    project.set("OLLAMA_BASE_URL", &second.base_url());
    project.set("OLLAMA_API_KEY", "sk-second");
    project.write("tools.py", TOOLS);
    let mut spec = tooled("agent", [("tools:note", Effect::Once)]);
    spec.fallback.model = Some("ollama:second".parse().unwrap());
    spec.policy.insert(FailureKind::ModelUnavailable, retries(1));
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let mut run = agent(&runtime, "agent").run("hello").start().await.unwrap();
    let seen = follow(&mut run).await;
    let Outcome::Completed(completed) = run.outcome().await.outcome else { panic!("{seen:#?}") };
    assert_eq!(completed.output.get(), "\"instead\"");
    assert!(
        completed.model.contains("second") || completed.model.contains("ollama"),
        "{completed:?}"
    );
    let requests = second.requests();
    assert_eq!((first.requests().len(), requests.len()), (3, 1));
    assert_eq!(requests[0].header("authorization"), Some("Bearer sk-second"));
    let body = ChatRequest::new(&requests[0].body);
    assert_eq!(body.tool_return("note").as_deref(), Some("noted"), "it has the tool's result");
    assert_eq!(std::fs::read_to_string(project.path().join("noted")).unwrap(), "x");
    let fell_back = |event: &RunEvent| matches!(event, RunEvent::Decided(decided) if decided.decision == Decision::Fallback { to: FallbackTo::Model("ollama:second".parse().unwrap()) });
    assert_eq!(seen.iter().filter(|event| fell_back(event)).count(), 1);
    runtime.shutdown().await;
}

fn advice() -> OutputSpec {
    let schema = json!({"type": "object", "properties": {"advice": {"type": "string"}}, "required": ["advice"]});
    OutputSpec::new(Schema::new(schema).unwrap())
}

/// An agent that falls back to another one, which has an output schema of its own.
async fn with_a_second(first: Reply, effect: Option<Effect>) -> (ScriptedModel, Project, Runtime) {
    let noting = effect.is_some();
    let script = Script::function(move |body| {
        let request = ChatRequest::new(body);
        match request.model() {
            "second" => Reply::final_result(json!({"advice": "wait"})),
            _ if noting && request.tool_return("note").is_none() => {
                Reply::tool_calls([("note", json!({}))])
            }
            _ => first.clone(),
        }
    });
    let model = ScriptedModel::start(script).await;
    let project = Project::with_model(&model);
    project.write("tools.py", TOOLS);
    let mut first = tooled("first", effect.map(|effect| ("tools:note", effect)));
    first.model = Some(self::model("first"));
    first.fallback.agent = Some("second".parse().unwrap());
    first.policy.insert(FailureKind::ModelUnavailable, retries(0));
    let mut second = asks("second", "second");
    second.output = Some(advice());
    let runtime = project.runtime().agent(first).agent(second).start().await.unwrap();
    (model, project, runtime)
}

#[tokio::test]
async fn a_fallback_agent_gets_the_prompt_again_and_answers_by_its_own_schema() {
    let (model, _project, runtime) = with_a_second(away(), Some(Effect::Pure)).await;
    let run = agent(&runtime, "first").run("What now?").wait().await.unwrap();
    assert_eq!(output(&run.outcome), json!({"advice": "wait"}));
    let last = model.requests().pop().unwrap();
    let messages = ChatRequest::new(&last.body).messages();
    assert_eq!(messages.len(), 1, "it begins with the prompt: {messages:?}");
    assert_eq!(messages[0]["content"], json!("What now?"));
    for name in ["first", "second"] {
        let status = crate::scene::status(&runtime, name).await;
        assert_eq!((status.generation.0, status.in_flight, status.queued), (1, 0, 0), "{name}");
    }
    runtime.shutdown().await;
}

#[tokio::test]
async fn no_other_agent_begins_anew_what_has_taken_effect_once() {
    let (model, project, runtime) = with_a_second(away(), Some(Effect::Once)).await;
    let run = agent(&runtime, "first").run("pay").wait().await.unwrap();
    let Outcome::Failed(failed) = &run.outcome else { panic!("{run:?}") };
    assert_eq!(failed.failure.kind, FailureKind::ModelUnavailable);
    assert_eq!((asked(&model, "first"), asked(&model, "second")), (2, 0));
    assert_eq!(std::fs::read_to_string(project.path().join("noted")).unwrap(), "x");
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_fallback_agent_that_cannot_be_asked_is_told_with_the_failure() {
    let (_model, _project, runtime) = with_a_second(away(), None).await;
    agent(&runtime, "second").drain(Duration::from_secs(5)).await.unwrap();
    let run = agent(&runtime, "first").run("What now?").wait().await.unwrap();
    let Outcome::Failed(failed) = &run.outcome else { panic!("{run:?}") };
    assert_eq!(failed.failure.kind, FailureKind::ModelUnavailable, "the first failure counts");
    let told = failed.history.join(", then ");
    assert!(told.contains("`second` could not be asked") && told.contains("drained"), "{told}");
    runtime.shutdown().await;
}

#[tokio::test]
async fn what_was_tried_is_told_in_order_by_the_outcome_and_by_the_command() {
    let script = by_model([
        ("first", away()),
        ("second", away()),
        ("third", Reply::error(500, "server_error")),
    ]);
    let model = ScriptedModel::start(script).await;
    let project = Project::with_model(&model);
    let policy = "[policy.model_unavailable]\nretry = 2\nbackoff = { min = \"1ms\" }\n\
                  [policy.model_server]\nretry = 0\n";
    let first = format!(
        "model = \"openai-chat:first\"\n[fallback]\nmodel = \"openai-chat:second\"\nagent = \"third\"\n{policy}"
    );
    project.write("agents/first/agent.toml", &first);
    project.write("agents/third/agent.toml", &format!("model = \"openai-chat:third\"\n{policy}"));
    let runtime = project.runtime().agents_dir("agents").start().await.unwrap();
    let run = agent(&runtime, "first").run("hello").wait().await.unwrap();
    runtime.shutdown().await;
    let Outcome::Failed(failed) = &run.outcome else { panic!("{run:?}") };
    assert_eq!(failed.failure.kind, FailureKind::ModelServer);
    let starts = [
        "retried 2 of 2 after model_unavailable (503)",
        "fell back to model `openai-chat:second` after model_unavailable (503)",
        "retried 2 of 2 after model_unavailable (503)",
        "fell back to agent `third` after model_unavailable (503)",
        "failed with model_server (500): ",
    ];
    assert_eq!(failed.history.len(), starts.len(), "{:#?}", failed.history);
    for (told, start) in failed.history.iter().zip(starts) {
        assert!(told.starts_with(start), "{told}");
    }
    let asked_each = || ["first", "second", "third"].map(|name| asked(&model, name));
    assert_eq!(asked_each(), [3, 3, 1]);

    let (code, _, stderr) = command_line::run(&project, &["run", "first", "hello"]).await;
    assert_eq!(code, 5, "{stderr}");
    let chain = stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut rest = chain.as_str();
    for start in starts {
        let (_, after) =
            rest.split_once(start.trim()).unwrap_or_else(|| panic!("{start}: {chain}"));
        rest = after;
    }
    assert_eq!(asked_each(), [6, 6, 2]);
}

#[tokio::test]
async fn a_breaker_opens_after_five_failures_for_its_credential_and_a_probe_closes_it() {
    let well = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let healed = well.clone();
    let script =
        Script::function(move |_| match healed.load(std::sync::atomic::Ordering::Relaxed) {
            true => Reply::text("back"),
            false => Reply::error(500, "server_error"),
        });
    let model = ScriptedModel::start(script).await;
    let mut project = Project::with_model(&model);
    project.set("OTHER_KEY", "sk-other");
    let strict = |name: &str| {
        let mut spec = scripted_agent(name);
        for kind in [FailureKind::ModelServer, FailureKind::ModelUnavailable] {
            spec.policy.insert(kind, retries(0));
        }
        spec
    };
    let mut other = strict("other");
    other.provider =
        Some(ProviderSpec { base_url: None, api_key_env: Some("OTHER_KEY".parse().unwrap()) });
    let file = FileText { path: "axon.toml", text: "[breaker]\nopen = '1s'\nmax_open = '2s'" };
    let config = Config::from_toml(file, &|_| None).unwrap();
    let builder = project.runtime().config(config);
    let builder = builder.agent(strict("one")).agent(strict("two")).agent(other);
    let runtime = builder.start().await.unwrap();
    let mut told = Told::by(&runtime);
    let fails = async |name: &str| {
        let run = agent(&runtime, name).run("hello").wait().await.unwrap();
        failure(&run.outcome).clone()
    };
    for name in ["one", "two", "one", "two", "one"] {
        assert_eq!(fails(name).await.kind, FailureKind::ModelServer);
    }
    for name in ["one", "two"] {
        let refused = fails(name).await;
        assert_eq!(refused.phase.as_deref(), Some("breaker"), "{refused:?}");
        assert!(refused.retry_after.is_some_and(|wait| wait > 0.0 && wait <= 1.0), "{refused:?}");
    }
    assert_eq!(model.requests().len(), 5, "an open breaker asks nobody");
    assert_eq!(fails("other").await.kind, FailureKind::ModelServer, "another key, another breaker");
    well.store(true, std::sync::atomic::Ordering::Relaxed);
    until("a probe gets through", async || {
        let run = agent(&runtime, "two").run("hello").wait().await.unwrap();
        matches!(run.outcome, Outcome::Completed(_))
    })
    .await;
    assert_eq!(model.requests().len(), 7);
    let run = agent(&runtime, "one").run("hello").wait().await.unwrap();
    assert_eq!(output(&run.outcome), json!("back"));
    let states: Vec<&str> = told
        .all()
        .iter()
        .filter_map(|event| {
            if let RuntimeEvent::Breaker { state, .. } = event { Some(*state) } else { None }
        })
        .collect();
    assert_eq!((states.first(), states.last()), (Some(&"open"), Some(&"closed")), "{states:?}");
    runtime.shutdown().await;
}

#[tokio::test]
async fn an_open_breaker_is_waited_out_by_a_run_that_has_tries_left() {
    let failing = std::iter::repeat_with(|| Reply::error(500, "server_error")).take(5);
    let script: Script = failing.collect::<Vec<_>>().into();
    let model = ScriptedModel::start(script.then(|_| Reply::text("back"))).await;
    let project = Project::with_model(&model);
    let mut spec = scripted_agent("agent");
    spec.policy.insert(FailureKind::ModelServer, retries(5));
    let file = FileText { path: "axon.toml", text: "[breaker]\nopen = '600ms'\nmax_open = '2s'" };
    let config = Config::from_toml(file, &|_| None).unwrap();
    let runtime = project.runtime().config(config).agent(spec).start().await.unwrap();
    let began = Instant::now();
    let run = agent(&runtime, "agent").run("hello").wait().await.unwrap();
    assert_eq!(output(&run.outcome), json!("back"));
    assert!(began.elapsed() >= Duration::from_millis(600), "{:?}", began.elapsed());
    assert_eq!(model.requests().len(), 6);
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_probe_that_is_called_off_or_has_no_budget_makes_way_for_the_next_one() {
    let script: Script = vec![Reply::error(500, "server_error"), Reply::hang()].into();
    let model = ScriptedModel::start(script.then(|_| Reply::text("back"))).await;
    let project = Project::with_model(&model);
    let mut spec = scripted_agent("agent");
    for kind in [FailureKind::ModelServer, FailureKind::ModelUnavailable] {
        spec.policy.insert(kind, retries(0));
    }
    let text = "[breaker]\nfailures = 1\nopen = '100ms'";
    let config = Config::from_toml(FileText { path: "axon.toml", text }, &|_| None).unwrap();
    let runtime = project.runtime().config(config).agent(spec).start().await.unwrap();
    let agent = agent(&runtime, "agent");
    let failed = agent.run("hello").wait().await.unwrap();
    assert_eq!(failure(&failed.outcome).kind, FailureKind::ModelServer);
    let nothing = runtime.budget(Allowance { requests: Some(0), ..Allowance::default() });
    until("a probe is let through that nobody pays for", async || {
        let run = agent.run("hello").budget(&nothing).wait().await.unwrap();
        failure(&run.outcome).kind == FailureKind::UsageLimit
    })
    .await;
    let probing = agent.run("hello").start().await.unwrap();
    model.wait_until(|traffic| traffic.requests().len() == 2).await;
    probing.cancel("enough");
    assert!(matches!(probing.outcome().await.outcome, Outcome::Cancelled(_)));
    let next = agent.run("hello").wait().await.unwrap();
    assert_eq!(output(&next.outcome), json!("back"));
    runtime.shutdown().await;
}

#[tokio::test]
async fn the_same_failure_is_answered_as_each_agents_policy_says() {
    let script = by_model([("limited", Reply::rate_limited()), ("spare", Reply::text("instead"))]);
    let model = ScriptedModel::start(script).await;
    let project = Project::with_model(&model);
    let rules = [
        ("by_default", None),
        ("patient", Some(retries(2))),
        ("failing", Some(PolicyRule { then: Some(Then::Fail), ..retries(0) })),
        ("escalating", Some(PolicyRule { then: Some(Then::Escalate), ..retries(0) })),
        ("falling_back", Some(PolicyRule { then: Some(Then::Fallback), ..retries(1) })),
    ];
    let mut config = Config::default();
    config.breaker.failures = 1000.try_into().unwrap();
    let mut builder = project.runtime().config(config);
    for (name, rule) in rules {
        let mut spec = asks(name, "limited");
        spec.policy.extend(rule.map(|rule| (FailureKind::ModelRateLimited, rule)));
        if name == "falling_back" {
            spec.fallback.model = Some(self::model("spare"));
        }
        builder = builder.agent(spec);
    }
    let runtime = builder.start().await.unwrap();
    let mut before = 0;
    for (name, requests, expected) in [
        ("by_default", 4, json!(["failed", false])),
        ("patient", 3, json!(["failed", false])),
        ("failing", 1, json!(["failed", false])),
        ("escalating", 1, json!(["failed", true])),
        ("falling_back", 2, json!("instead")),
    ] {
        let run = agent(&runtime, name).run("hello").wait().await.unwrap();
        let ended: Value = if let Outcome::Failed(failed) = &run.outcome {
            json!(["failed", failed.escalated])
        } else {
            output(&run.outcome)
        };
        assert_eq!(ended, expected, "{name}");
        let now = asked(&model, "limited");
        assert_eq!(now - before, requests, "{name}");
        before = now;
    }
    runtime.shutdown().await;
}

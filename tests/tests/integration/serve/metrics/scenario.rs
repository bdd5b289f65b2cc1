//! A service in which much happens, and exactly that is counted: tools, retries, refusals, an approval,
//! a death, a router, a breaker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axon_kernel::metric::{ALL, MetricKind};
use axon_kernel::spec::AgentSpec;
use axon_test::scripted_model::ChatRequest;
use axon_test::scripted_model::Usage;
use axon_test::scripted_runner::{Death, Life, Step, When};
use axon_test::{Reply, Script, ScriptedModel};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::super::service::{Service, id_of, ok, refused, sent};
use super::super::write_agent;
use super::scrape::Scrape;
use crate::support::{Project, kill_9, until};

const CLERK: &str = r#"
model = "openai-chat:gpt-4o"
[[tools]]
name = "look_up"
python = "clerk.tools:look_up"
effect = "pure"
[[tools]]
name = "pay"
python = "clerk.tools:pay"
requires_approval = true
[[tools]]
name = "crash"
python = "clerk.tools:crash"
[[tools]]
name = "stumble"
python = "clerk.tools:stumble"
effect = "pure"
[[tools]]
name = "ask_flaky"
agent = "flaky"
description = "Asks somebody else."
[supervision]
backoff = { min = "1ms" }
"#;

const TOOLS: &str = r#"
import os

from pydantic_ai import ModelRetry

def look_up(what: str) -> str:
    if what == "again":
        raise ModelRetry("say what")
    return f"{what} is 7"

def pay() -> str:
    return "paid"

def stumble() -> str:
    raise ValueError("over a stone")

def crash() -> str:
    os.kill(os.getpid(), 9)
    return "never"
"#;

/// Every response takes this.
const USAGE: Usage = Usage { input_tokens: 1000, output_tokens: 10 };

/// Plays the models: `gpt-4o` calls the tool that the prompt names, `flaky` fails once, `broken` always
/// and `locked` lets nobody in.
fn models() -> Script {
    let failed = AtomicBool::new(false);
    Script::function(move |body| {
        let request = ChatRequest::new(body);
        let reply = match request.model() {
            "flaky" if !failed.swap(true, Ordering::Relaxed) => Reply::error(500, "down"),
            "broken" => Reply::error(500, "down"),
            "locked" => Reply::error(401, "invalid_api_key"),
            "gpt-4o" => clerk(request),
            _ => Reply::text("fine"),
        };
        reply.usage(USAGE)
    })
}

fn clerk(request: ChatRequest<'_>) -> Reply {
    let prompt = request.user_prompt();
    let last = request.messages().last().map(|message| message["role"].clone());
    let returned = request.messages().iter().filter(|message| message["role"] == "tool").count();
    match (prompt.as_str(), returned) {
        ("look", 0) => Reply::tool_calls([("look_up", json!({ "what": "again" }))]),
        ("look", 1) => Reply::tool_calls([("look_up", json!({ "what": "it" }))]),
        ("pay", 0) => Reply::tool_calls([("pay", json!({}))]),
        ("stumble", 0) => Reply::tool_calls([("stumble", json!({}))]),
        ("crash", 0) => Reply::tool_calls([("crash", json!({}))]),
        ("ask", 0) => Reply::tool_calls([("ask_flaky", json!({ "prompt": "hello" }))]),
        _ => Reply::text(format!("done after {last:?}")),
    }
}

/// A service, with what it is made of.
pub(super) struct Scene {
    project: Project,
    pub(super) service: Service,
    _model: ScriptedModel,
}

impl Scene {
    pub(super) async fn start() -> Self {
        let model = ScriptedModel::start(models()).await;
        let project = Project::with_model(&model);
        project.write("agents/axon.toml", "[breaker]\nfailures = 2\nopen = '60s'\n");
        project.write("agents/clerk/agent.toml", CLERK);
        project.write("agents/clerk/__init__.py", "");
        project.write("agents/clerk/tools.py", TOOLS);
        for name in ["flaky", "broken", "locked"] {
            let policy =
                "[policy]\nmodel_server = { retry = 1 }\nmodel_unavailable = { retry = 0 }\n";
            let text = format!("model = 'openai-chat:{name}'\n{policy}");
            project.write(&format!("agents/{name}/agent.toml"), &text);
        }
        let strict = "model = 'openai-chat:strict'\nretries = { output = 0 }\n[output]\nschema = { type = 'object' }\n[policy]\noutput_invalid = { retry = 0 }\n";
        project.write("agents/strict/agent.toml", strict);
        let desk = "[[rules]]\nwhen = '\"person\" in prompt'\nto = 'human'\n[[rules]]\nwhen = 'true'\nto = 'clerk'\n";
        project.write("agents/desk/router.toml", desk);
        let waits = Life::default()
            .on(When::prompt("hang"), [Step::Hang])
            .on(When::prompt("die"), [Step::Die(Death::signal(9))])
            .always([Step::complete("here")]);
        write_agent(&project, "narrow", waits.clone(), |spec: &mut AgentSpec| {
            spec.limits.concurrency = std::num::NonZeroU32::MIN;
            spec.limits.queue = 1;
        });
        let stillborn =
            "[runner]\ncommand = ['false']\n[supervision]\nintensity = { max_restarts = 0 }\n";
        project.write("agents/stillborn/agent.toml", &format!("model = 'test'\n{stillborn}"));
        write_agent(&project, "killer", waits.clone(), |spec| {
            spec.supervision.intensity.max_restarts = 20;
        });
        write_agent(&project, "short", waits, |spec| {
            spec.runner.recycle.requests = Some(1);
        });
        let service = Service::start(&project, &[]).await;
        Self { project, service, _model: model }
    }

    pub(super) async fn ask(&self, agent: &str, prompt: &str) -> Value {
        ok(self.service.post(&format!("/v1/agents/{agent}/runs"), &json!({ "prompt": prompt })))
            .await
    }

    async fn begin(&self, agent: &str, prompt: &str) -> String {
        let body = json!({ "prompt": prompt });
        let ask = self.service.post(&format!("/v1/agents/{agent}/runs"), &body);
        id_of(&sent(ask.header("Prefer", "respond-async")).await.2)
    }

    pub(super) async fn pid(&self, agent: &str) -> u32 {
        let shown = ok(self.service.get(&format!("/v1/agents/{agent}"))).await;
        u32::try_from(shown["pid"].as_u64().unwrap_or_default()).unwrap()
    }

    /// Has everything happen that is counted.
    pub(super) async fn everything(&self) {
        assert_eq!(self.ask("clerk", "look").await["outcome"], "completed");
        assert_eq!(self.ask("desk", "ask").await["outcome"], "completed");
        assert_eq!(self.ask("broken", "hello").await["outcome"], "failed");
        assert_eq!(self.ask("broken", "hello").await["outcome"], "failed");
        assert_eq!(self.ask("locked", "hello").await["outcome"], "failed");
        assert_eq!(self.ask("killer", "die").await["outcome"], "failed");
        for _ in 0..2 {
            assert_eq!(self.ask("short", "hello").await["outcome"], "completed");
        }
        let restarted = "axon_agent_restarts_total{agent=\"clerk\",reason=\"runner_died\"}";
        kill_9(self.pid("clerk").await);
        Scrape::until(&self.service, "the clerk's death is counted", restarted, 1.0).await;
        until("the clerk is up again", async || self.pid("clerk").await != 0).await;
    }
}

#[tokio::test]
async fn everything_that_happens_is_counted_as_it_was() {
    let scene = Scene::start().await;
    scene.everything().await;
    let scrape = Scrape::of(&scene.service).await;
    for (series, value) in [
        ("axon_runs_total{agent=\"clerk\",outcome=\"completed\"}", 2.0),
        ("axon_runs_total{agent=\"clerk\",outcome=\"failed\"}", 0.0),
        ("axon_runs_total{agent=\"desk\",outcome=\"completed\"}", 1.0),
        ("axon_runs_total{agent=\"flaky\",outcome=\"completed\"}", 1.0),
        ("axon_runs_total{agent=\"broken\",outcome=\"failed\"}", 2.0),
        ("axon_run_duration_seconds_count{agent=\"clerk\"}", 2.0),
        ("axon_run_queue_seconds_count{agent=\"clerk\"}", 2.0),
        ("axon_run_retries_total{agent=\"flaky\",kind=\"model_server\"}", 1.0),
        ("axon_run_retries_total{agent=\"broken\",kind=\"model_server\"}", 1.0),
        ("axon_run_escalations_total{agent=\"locked\",reason=\"model_auth\"}", 1.0),
        ("axon_run_quarantines_total{agent=\"killer\"}", 1.0),
        ("axon_routed_total{router=\"desk\",target=\"clerk\"}", 1.0),
        ("axon_breaker_state{provider=\"openai-chat\",model=\"broken\"}", 2.0),
        ("axon_breaker_state{provider=\"openai-chat\",model=\"gpt-4o\"}", 0.0),
        ("axon_agent_info{agent=\"clerk\",model=\"gpt-4o\"}", 1.0),
        ("axon_build_info{version=\"0.1.0\"}", 1.0),
    ] {
        assert_eq!(scrape.value(series), value, "{series}");
    }
    let models = "axon_model_requests_total{agent=";
    for (rest, value) in [
        ("\"clerk\",provider=\"openai-chat\",model=\"gpt-4o\",kind=\"ok\"}", 5.0),
        ("\"flaky\",provider=\"openai-chat\",model=\"flaky\",kind=\"ok\"}", 1.0),
        ("\"flaky\",provider=\"openai-chat\",model=\"flaky\",kind=\"model_server\"}", 1.0),
        ("\"broken\",provider=\"openai-chat\",model=\"broken\",kind=\"model_server\"}", 2.0),
        ("\"locked\",provider=\"openai-chat\",model=\"locked\",kind=\"model_auth\"}", 1.0),
    ] {
        assert_eq!(scrape.value(&format!("{models}{rest}")), value, "{rest}");
    }
    for (tool, host, outcome) in
        [("look_up", "python", "retry"), ("look_up", "python", "ok"), ("ask_flaky", "agent", "ok")]
    {
        let labels =
            format!("agent=\"clerk\",tool=\"{tool}\",host=\"{host}\",outcome=\"{outcome}\"");
        assert_eq!(scrape.value(&format!("axon_tool_calls_total{{{labels}}}")), 1.0, "{labels}");
    }
    let took = "axon_tool_duration_seconds_count{agent=\"clerk\",tool=\"look_up\"}";
    assert_eq!(scrape.value(took), 2.0);
    // The second run may have come before the replacement.
    let recycled = "axon_runner_recycled_total{agent=\"short\",reason=\"requests\"}";
    assert!(scrape.value(recycled) >= 1.0);
    the_bill_is_right(&scrape);
}

/// Five responses of `gpt-4o` were paid for, those of the agent that was asked not among them.
fn the_bill_is_right(scrape: &Scrape) {
    let usage = "gen_ai_client_token_usage";
    let labels = |kind: &str| format!("{{agent=\"clerk\",model=\"gpt-4o\",type=\"{kind}\"}}");
    assert_eq!(scrape.value(&format!("{usage}_count{}", labels("input"))), 5.0);
    assert_eq!(scrape.value(&format!("{usage}_sum{}", labels("input"))), 5000.0);
    assert_eq!(scrape.value(&format!("{usage}_sum{}", labels("output"))), 50.0);
    let cost = scrape.value("gen_ai_client_cost_usd_total{agent=\"clerk\",model=\"gpt-4o\"}");
    assert!(cost > 0.001 && cost < 1.0, "{cost}");
    assert_eq!(scrape.types()["gen_ai_client_cost_usd_total"], "counter");
}

#[tokio::test]
async fn every_metric_of_the_table_is_shown_and_no_other_and_each_as_what_it_is() {
    let scene = Scene::start().await;
    scene.everything().await;
    let memory = "axon_runner_resident_memory_bytes{agent=\"clerk\"}";
    until("the runners were looked at", async || {
        Scrape::of(&scene.service).await.get(memory).is_some_and(|bytes| bytes > 1e6)
    })
    .await;
    let scrape = Scrape::of(&scene.service).await;
    let shown = scrape.types();
    for metric in ALL {
        let expected = match metric.kind {
            MetricKind::Counter | MetricKind::Sum => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram(_) => "histogram",
        };
        assert_eq!(shown.get(metric.name), Some(&expected), "{}", metric.name);
        let help = format!("# HELP {} {}\n", metric.name, metric.help);
        assert!(scrape.text().contains(&help), "{help}");
        for series in scrape.series(&format!("{}{{", metric.name)) {
            let labels = series.split_once('{').unwrap().1.split("=\"").count() - 1;
            assert_eq!(labels, metric.labels.len(), "{series}");
        }
    }
    let known: Vec<&str> = ALL.iter().map(|metric| metric.name).collect();
    let unknown: Vec<_> = shown.keys().filter(|name| !known.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(scrape.value("axon_runner_cpu_seconds_total{agent=\"clerk\"}") > 0.0);
    // A router has no runner, and an alert on those that are not up must not see it.
    assert_eq!(scrape.get("axon_runner_up{agent=\"desk\"}"), None);
    assert_eq!(scrape.value("axon_agent_state{agent=\"desk\",state=\"up\"}"), 1.0);
}

#[tokio::test]
async fn who_waits_for_a_person_is_shown_also_by_the_process_that_comes_next() {
    let scene = Scene::start().await;
    let pending = "axon_approvals_pending{agent=\"clerk\"}";
    let waits = scene.ask("clerk", "pay").await;
    assert_eq!(waits["outcome"], "paused");
    Scrape::until(&scene.service, "it is shown", pending, 1.0).await;
    assert_eq!(scene.ask("desk", "a person, please").await["outcome"], "paused");
    let of_desk = "axon_approvals_pending{agent=\"desk\"}";
    let scrape = Scrape::until(&scene.service, "the router waits, too", of_desk, 1.0).await;
    assert_eq!(scrape.value("axon_routed_total{router=\"desk\",target=\"human\"}"), 1.0);
    let Scene { project, service, _model } = scene;
    assert_eq!(service.stop().await, 0);
    let service = Service::start(&project, &[]).await;
    Scrape::until(&service, "the next process shows it", pending, 1.0).await;
    let run = id_of(&waits);
    let requests = &waits["pause"]["reason"]["approval"]["requests"];
    let decision = json!({ "tool_call_id": requests[0]["tool_call_id"], "approve": true });
    ok(service.post(&format!("/v1/runs/{run}/approvals"), &decision)).await;
    until("it goes on", async || service.run(&run).await["answer"]["outcome"] == "completed").await;
    let scrape = Scrape::until(&service, "nobody waits any more", pending, 0.0).await;
    assert_eq!(scrape.value("axon_runs_total{agent=\"clerk\",outcome=\"completed\"}"), 1.0);
    let paid = "axon_tool_calls_total{agent=\"clerk\",tool=\"pay\",host=\"python\",outcome=\"ok\"}";
    assert_eq!(scrape.value(paid), 1.0);
}

#[tokio::test]
async fn places_and_queues_and_refusals_are_shown_while_they_last() {
    let scene = Scene::start().await;
    let first = scene.begin("narrow", "hang").await;
    let second = scene.begin("narrow", "hang").await;
    let flying = "axon_runs_in_flight{agent=\"narrow\"}";
    let scrape = Scrape::until(&scene.service, "one is under way", flying, 1.0).await;
    assert_eq!(scrape.value("axon_queue_depth{agent=\"narrow\"}"), 1.0);
    let third = scene.service.post("/v1/agents/narrow/runs", &json!({ "prompt": "hang" }));
    assert_eq!(refused(third).await.0, 429);
    let scrape = Scrape::of(&scene.service).await;
    assert_eq!(scrape.value("axon_rejected_total{agent=\"narrow\",reason=\"overloaded\"}"), 1.0);
    for run in [first, second] {
        ok(scene.service.delete(&format!("/v1/runs/{run}"))).await;
    }
    let cancelled = "axon_runs_total{agent=\"narrow\",outcome=\"cancelled\"}";
    let scrape = Scrape::until(&scene.service, "both have ended", cancelled, 2.0).await;
    assert_eq!(scrape.value(flying), 0.0);
    assert_eq!(scrape.value("axon_queue_depth{agent=\"narrow\"}"), 0.0);
}

#[tokio::test]
async fn what_a_failed_attempt_has_used_is_billed_and_a_tool_that_raises_has_failed() {
    let scene = Scene::start().await;
    // Its one response is not the object that was wanted.
    let failed = scene.ask("strict", "hello").await;
    assert_eq!(failed["error"]["kind"], "output_invalid", "{failed}");
    let failed = scene.ask("clerk", "stumble").await;
    assert_eq!(failed["error"]["kind"], "tool", "{failed}");
    let scrape = Scrape::of(&scene.service).await;
    let usage = |kind: &str| {
        let labels = format!("agent=\"strict\",model=\"strict\",type=\"{kind}\"");
        scrape.value(&format!("gen_ai_client_token_usage_sum{{{labels}}}"))
    };
    assert_eq!((usage("input"), usage("output")), (1000.0, 10.0));
    let calls = "axon_tool_calls_total{agent=\"clerk\",tool=\"stumble\",host=\"python\",outcome=";
    assert_eq!(scrape.get(&format!("{calls}\"lost\"}}")).unwrap_or_default(), 0.0);
    assert_eq!(scrape.value(&format!("{calls}\"failed\"}}")), 1.0);
}

#[tokio::test]
async fn a_call_that_takes_its_runner_along_is_lost_and_a_run_called_off_at_rest_is_counted() {
    let scene = Scene::start().await;
    // The tool acts once: nobody knows whether it did.
    let waits = scene.ask("clerk", "crash").await;
    assert_eq!(waits["outcome"], "paused", "{waits}");
    let lost =
        "axon_tool_calls_total{agent=\"clerk\",tool=\"crash\",host=\"python\",outcome=\"lost\"}";
    assert_eq!(Scrape::of(&scene.service).await.value(lost), 1.0);
    let pending = "axon_approvals_pending{agent=\"clerk\"}";
    Scrape::until(&scene.service, "somebody has to look", pending, 1.0).await;
    ok(scene.service.delete(&format!("/v1/runs/{}", id_of(&waits)))).await;
    let cancelled = "axon_runs_total{agent=\"clerk\",outcome=\"cancelled\"}";
    Scrape::until(&scene.service, "its end is counted", cancelled, 1.0).await;
    Scrape::until(&scene.service, "nobody has to look any more", pending, 0.0).await;
}

#[tokio::test]
async fn the_reason_of_a_restart_says_what_happened() {
    let project = Project::new();
    let life = Life::default()
        .on(When::prompt("freeze"), [Step::Freeze])
        .on(When::prompt("die"), [Step::Die(Death::code(3))])
        .always([Step::complete("here")]);
    for name in ["late", "dead", "stopped"] {
        write_agent(&project, name, life.clone(), |spec| {
            spec.runner.cancel_grace = Duration::from_millis(50);
            if name == "stopped" {
                spec.runner.heartbeat = Duration::from_millis(500);
            }
        });
    }
    let service = Service::start(&project, &[]).await;
    let late = json!({ "prompt": "freeze", "timeout": "300ms" });
    assert_eq!(ok(service.post("/v1/agents/late/runs", &late)).await["outcome"], "failed");
    ok(service.post("/v1/agents/dead/runs", &json!({ "prompt": "die" }))).await;
    let stopped = ok(service.get("/v1/agents/stopped")).await["pid"].as_i64().unwrap();
    let stopped = Pid::from_raw(i32::try_from(stopped).unwrap()).unwrap();
    kill_process(stopped, Signal::STOP).unwrap();
    for (agent, reason) in
        [("late", "hard_stopped"), ("dead", "runner_died"), ("stopped", "unhealthy")]
    {
        let series = format!("axon_agent_restarts_total{{agent=\"{agent}\",reason=\"{reason}\"}}");
        until(&series, async || Scrape::of(&service).await.value(&series) >= 1.0).await;
        let scrape = Scrape::of(&service).await;
        let start = format!("axon_agent_restarts_total{{agent=\"{agent}\"");
        let others = scrape.series(&start).filter(|other| *other != series);
        assert!(others.map(|other| scrape.value(other)).all(|count| count == 0.0), "{agent}");
    }
}

#[tokio::test]
async fn the_state_of_an_agent_is_one_of_its_states() {
    let scene = Scene::start().await;
    let state = |state: &str| format!("axon_agent_state{{agent=\"narrow\",state=\"{state}\"}}");
    let scrape = Scrape::of(&scene.service).await;
    assert_eq!(scrape.value(&state("up")), 1.0);
    assert_eq!(scrape.value("axon_runner_up{agent=\"narrow\"}"), 1.0);
    ok(scene.service.post("/v1/agents/narrow/drain", &json!({}))).await;
    let drained = Scrape::until(&scene.service, "it is drained", &state("drained"), 1.0).await;
    let states: Vec<&str> = drained.series("axon_agent_state{agent=\"narrow\"").collect();
    assert_eq!(states.len(), 6, "{states:?}");
    assert_eq!(states.iter().map(|series| drained.value(series)).sum::<f64>(), 1.0);
    assert_eq!(drained.value("axon_runner_up{agent=\"narrow\"}"), 0.0);
    ok(scene.service.post("/v1/agents/narrow/restart", &json!({}))).await;
    let up = Scrape::until(&scene.service, "it is up", &state("up"), 1.0).await;
    assert_eq!(up.value(&state("drained")), 0.0);
    // One that cannot be had is parked, and says why it does not run.
    assert_eq!(up.value("axon_agent_state{agent=\"stillborn\",state=\"parked\"}"), 1.0);
    assert_eq!(up.value("axon_agent_state{agent=\"stillborn\",state=\"up\"}"), 0.0);
    assert_eq!(up.value("axon_runner_up{agent=\"stillborn\"}"), 0.0);
    let reason = up.series("axon_agent_restarts_total{agent=\"stillborn\"");
    assert_eq!(reason.map(|series| up.value(series)).sum::<f64>(), 1.0);
    let refused =
        refused(scene.service.post("/v1/agents/stillborn/runs", &json!({ "prompt": "x" })));
    assert_eq!(refused.await, (503, "agent_unavailable".to_owned()));
    let rejected = "axon_rejected_total{agent=\"stillborn\",reason=\"agent_unavailable\"}";
    assert_eq!(Scrape::of(&scene.service).await.value(rejected), 1.0);
}

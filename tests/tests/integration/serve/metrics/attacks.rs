//! What callers and models choose makes no series, and no scrape is wrong while much happens.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axon_kernel::metric::ALL;
use axon_kernel::spec::Effect;
use axon_test::scripted_model::ChatRequest;
use axon_test::scripted_runner::{Life, Step, When};
use axon_test::{Reply, Script, ScriptedModel};
use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::super::service::{Service, ok, sent};
use super::super::{talker, write_agent};
use super::scrape::Scrape;
use crate::scene::Played;
use crate::support::{PATIENCE, Project, scripted_agent, until};

#[tokio::test]
async fn a_thousand_tools_that_a_model_invents_are_no_labels() {
    let invented = AtomicUsize::new(0);
    let script = Script::function(move |body| {
        let answered = ChatRequest::new(body).messages().iter().any(|it| it["role"] == "tool");
        if answered {
            return Reply::text("enough");
        }
        let from = invented.fetch_add(100, Ordering::Relaxed);
        let names = (from..from + 100).map(|number| format!("invented_{number}"));
        Reply::tool_calls(names.map(|name| (name, json!({ "secret": "sk-123" }))))
    });
    let model = ScriptedModel::start(script).await;
    let project = Project::with_model(&model);
    let file = scripted_agent("talker").to_toml().unwrap();
    project.write("agents/talker/agent.toml", &file);
    let service = Service::start(&project, &[]).await;
    let before = Scrape::of(&service).await.count();
    for _ in 0..10 {
        ok(service.ask("go")).await;
    }
    let scrape = Scrape::of(&service).await;
    assert!(!scrape.text().contains("invented_") && !scrape.text().contains("sk-123"));
    // What the first run adds: its model, and how long it took.
    assert!(scrape.count() < before + 150, "{before} became {}", scrape.count());
    assert_eq!(service.stop().await, 0);
}

#[tokio::test]
async fn a_runner_that_names_a_thousand_tools_of_its_own_gets_a_bounded_number_of_labels() {
    let project = Project::new();
    let steps = |names: std::ops::Range<usize>| {
        let calls = names.flat_map(|number| {
            let (id, tool) = (format!("c{number}"), format!("own_{number}"));
            [Step::tool_started(&id, &tool, Effect::Pure), Step::tool_finished(&id, &tool, "done")]
        });
        calls.chain([Step::complete("done")]).collect::<Vec<_>>()
    };
    let life = (0..10).fold(Life::default(), |life, part| {
        life.on(When::prompt(part.to_string()), steps(part * 100..(part + 1) * 100))
    });
    write_agent(&project, "talker", life, |_| ());
    let service = Service::start(&project, &[]).await;
    for part in 0..10 {
        assert_eq!(ok(service.ask(&part.to_string())).await["outcome"], "completed");
    }
    let scrape = Scrape::of(&service).await;
    let tools = scrape.labels("axon_tool_calls_total", "tool");
    assert_eq!(tools.len(), 129, "{tools:?}");
    let other =
        "axon_tool_calls_total{agent=\"talker\",tool=\"other\",host=\"python\",outcome=\"ok\"}";
    assert_eq!(scrape.value(other), 872.0);
}

#[tokio::test]
async fn what_callers_write_is_in_no_metric() {
    let project = Project::new();
    write_agent(&project, "talker", talker(), |_| ());
    let service = Service::start(&project, &[]).await;
    let canary = "canary\"}\n# TYPE evil counter\nevil 1\n";
    let body = json!({
        "prompt": canary, "conversation_id": canary, "metadata": { "a": canary }, "state": { "b": canary },
    });
    let _refused_or_not = sent(service.post("/v1/agents/talker/runs", &body)).await;
    for path in ["/v1/agents/canary/runs", "/v1/agents/canary%22%7D/runs"] {
        let _refused = sent(service.post(path, &json!({ "prompt": "x" }))).await;
    }
    let model = json!({ "model": canary, "messages": [{ "role": "user", "content": canary }] });
    let _refused = sent(service.post("/v1/chat/completions", &model)).await;
    let scrape = Scrape::of(&service).await;
    assert!(
        !scrape.text().contains("canary") && !scrape.text().contains("evil"),
        "{}",
        scrape.text()
    );
}

/// A scrape that was taken while agents died and runs came is whole, and its states are states.
fn is_sane(scrape: &Scrape) {
    let known: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
    assert!(scrape.types().keys().all(|name| known.contains(name)));
    for gauge in ["axon_runs_in_flight", "axon_queue_depth", "axon_runner_up"] {
        for series in scrape.series(gauge) {
            assert!(scrape.value(series) >= 0.0, "{series} {}", scrape.value(series));
        }
    }
    let states = scrape.series("axon_agent_state").map(|series| scrape.value(series));
    let states: f64 = states.sum();
    // One moment of a change may be seen: two states, or none.
    assert!((0.0..=2.0).contains(&states), "{states}");
}

#[tokio::test]
async fn scrapes_under_load_and_deaths_are_whole_and_the_counts_are_right_behind() {
    const RUNS: usize = 400;
    let project = Project::new();
    write_agent(&project, "talker", talker(), |spec| {
        spec.limits.queue = 1000;
        spec.supervision.intensity.max_restarts = 1000;
        spec.supervision.backoff.min = Duration::from_millis(1);
    });
    let service = Service::start(&project, &[]).await;
    let asked = join_all((0..RUNS).map(|number| {
        let prompt = if number % 20 == 0 { "slow".to_owned() } else { format!("tell {number}") };
        let ask = service.ask(&prompt);
        async move { ok(ask).await["outcome"].clone() }
    }));
    let mut asked = Box::pin(asked);
    let mut killed = BTreeSet::new();
    let outcomes = loop {
        tokio::select! {
            outcomes = &mut asked => break outcomes,
            scrape = Scrape::of(&service) => {
                is_sane(&scrape);
                let agent = ok(service.get("/v1/agents/talker")).await;
                let pid = agent["pid"].as_u64().filter(|pid| killed.len() < 5 && killed.insert(*pid));
                if let Some(pid) = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
                    kill_process(pid, Signal::KILL).unwrap();
                }
            }
        }
    };
    let ended = |outcome: &str| outcomes.iter().filter(|it| *it == outcome).count() as f64;
    let scrape = Scrape::of(&service).await;
    for outcome in ["completed", "failed"] {
        let series = format!("axon_runs_total{{agent=\"talker\",outcome=\"{outcome}\"}}");
        assert_eq!(scrape.value(&series), ended(outcome), "{series}");
    }
    let count = scrape.value("axon_run_duration_seconds_count{agent=\"talker\"}");
    assert_eq!(count, RUNS as f64);
    let died = "axon_agent_restarts_total{agent=\"talker\",reason=\"runner_died\"}";
    Scrape::until(&service, "every death is counted", died, killed.len() as f64).await;
    let flying = "axon_runs_in_flight{agent=\"talker\"}";
    let idle = Scrape::until(&service, "nothing is under way", flying, 0.0).await;
    assert_eq!(idle.value("axon_queue_depth{agent=\"talker\"}"), 0.0);
    let up = "axon_agent_state{agent=\"talker\",state=\"up\"}";
    Scrape::until(&service, "it is up again", up, 1.0).await;
}

/// How long the recorder of the test keeps what nobody answers for.
const IDLE: Duration = Duration::from_secs(7);

#[tokio::test]
async fn agents_that_come_and_go_leave_no_series_and_those_that_stay_lose_no_count() {
    let builder = axon_server::prometheus().unwrap();
    let builder = builder.idle_timeout(metrics_util::MetricKindMask::ALL, Some(IDLE));
    let recorder = builder.build_recorder();
    // That of this thread, which everything here runs on: other tests may have others.
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let shown = recorder.handle();
    let look = || Scrape::read(axon_server::render(&shown));
    let project = Project::new();
    let life = || Life::default().always([Step::complete("here")]);
    let stays = Played::new(&project, "stays", life());
    let runtime = project.runtime().agent(&stays).start().await.unwrap();
    let ask = async |name: &str| {
        runtime.named(name).unwrap().run("hello").wait().await.unwrap().completed().unwrap();
    };
    ask("stays").await;
    for number in 0..20 {
        let name = format!("guest_{number}");
        runtime.start_agent(&Played::new(&project, &name, life())).await.unwrap();
        ask(&name).await;
        runtime.stop_agent(&name).await.unwrap();
    }
    let gone = look();
    let guests = |scrape: &Scrape| scrape.labels("", "agent").len() - 1;
    assert_eq!(guests(&gone), 20);
    // What is left of them says nothing.
    for gauge in ["axon_agent_state", "axon_agent_info", "axon_runner_up", "axon_runs_in_flight"] {
        let left = gone.series(gauge).filter(|series| series.contains("guest_"));
        assert!(left.map(|series| gone.value(series)).all(|value| value == 0.0), "{gauge}");
    }
    // Again by the same name: the same series.
    let count = gone.count();
    for _ in 0..5 {
        runtime.start_agent(&Played::new(&project, "guest_0", life())).await.unwrap();
        assert_eq!(look().value("axon_agent_state{agent=\"guest_0\",state=\"up\"}"), 1.0);
        runtime.stop_agent("guest_0").await.unwrap();
    }
    assert_eq!(look().count(), count);
    let all_gone = until("the guests are forgotten", async || guests(&look()) == 0);
    tokio::time::timeout(PATIENCE, all_gone).await.unwrap();
    // Nobody asked it meanwhile, and it is known all the same, and counts on.
    let runs = "axon_runs_total{agent=\"stays\",outcome=\"completed\"}";
    assert_eq!(look().value(runs), 1.0);
    ask("stays").await;
    let after = look();
    assert_eq!(after.value(runs), 2.0);
    assert_eq!(after.value("axon_agent_state{agent=\"stays\",state=\"up\"}"), 1.0);
    assert!(after.value("axon_run_duration_seconds_count{agent=\"stays\"}") >= 1.0);
    runtime.shutdown().await;
    assert_eq!(look().value("axon_agent_state{agent=\"stays\",state=\"up\"}"), 0.0);
}

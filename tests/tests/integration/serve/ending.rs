//! The end of a service: nobody who was accepted is lost.

use std::sync::Arc;

use reqwest::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::service::{Service, Stream, id_of, names, ok, refused};
use super::{talker, talking, write_agent};
use crate::command_line::run;
use crate::support::{Project, until};

#[tokio::test]
async fn a_service_that_is_told_to_end_lets_runs_finish_and_answers_who_waits() {
    let (project, service) = talking().await;
    let service = Arc::new(service);
    let waiting = tokio::spawn(service.ask("slow").send());
    let mut stream = Stream::open(service.ask("slow")).await;
    stream.until("text_delta").await;
    until("both are under way", async || {
        ok(service.get("/v1/runs?state=queued,running")).await["runs"].as_array().unwrap().len()
            == 2
    })
    .await;
    service.signal(Signal::TERM);
    until("it is not ready", async || {
        service.get("/readyz").send().await.unwrap().status() == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    assert_eq!(refused(service.ask("hello")).await, (503, "draining".to_owned()));
    let answer: Value = waiting.await.unwrap().unwrap().json().await.unwrap();
    assert_eq!((&answer["outcome"], &answer["output"]), (&"completed".into(), &"slow".into()));
    assert_eq!(names(&stream.rest().await).last(), Some(&"completed"));
    let service = Arc::into_inner(service).unwrap();
    assert!(service.said().contains("SIGTERM"), "{}", service.said());
    assert_eq!(service.ended().await, 0);
    assert_eq!(project.sockets(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn a_pipeline_that_is_under_way_takes_its_remaining_steps() {
    let project = Project::new();
    write_agent(&project, "talker", talker(), |_| ());
    write_agent(&project, "closer", talker(), |_| ());
    project.write(
        "agents/both/pipeline.toml",
        r#"
        description = "Says it slowly, and then closes."

        [[steps]]
        name = "say"
        agent = "talker"
        prompt = "slow"

        [[steps]]
        name = "close"
        agent = "closer"
        prompt = "closed after {{ say }}"
        "#,
    );
    let service = Arc::new(Service::start(&project, &[]).await);
    let ask = service.post("/v1/agents/both/runs", &json!({ "prompt": "both" }));
    let mut stream = Stream::open(ask).await;
    stream.until("delegated").await;
    service.signal(Signal::TERM);
    until("it is not ready", async || {
        service.get("/readyz").send().await.unwrap().status() == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    let told = stream.rest().await;
    let last = told.last().unwrap();
    assert_eq!(
        (last.name.as_str(), &last.data["output"]),
        ("completed", &"closed after slow".into())
    );
    assert_eq!(Arc::into_inner(service).unwrap().ended().await, 0);
}

#[tokio::test]
async fn no_accepted_run_is_lost_when_the_service_ends_under_load() {
    let project = Project::new();
    write_agent(&project, "talker", talker(), |_| ());
    let service = Arc::new(Service::start(&project, &[]).await);
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let service = service.clone();
            tokio::spawn(async move {
                let mut answered = Vec::new();
                for turn in 0.. {
                    let prompt = format!("tell {client} {turn}");
                    // A connection that was not accepted any more has begun nothing.
                    let Ok(answer) = service.ask(&prompt).send().await else { break };
                    if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
                        break;
                    }
                    let answer: Value = answer.json().await.expect("an answer is sent whole");
                    assert_eq!(answer["output"], prompt.as_str(), "{answer}");
                    answered.push(id_of(&answer));
                }
                answered
            })
        })
        .collect();
    until("there is load", async || {
        ok(service.get("/v1/runs?state=completed&limit=40")).await["next"].is_string()
    })
    .await;
    service.signal(Signal::TERM);
    let mut answered = Vec::new();
    for client in clients {
        answered.extend(client.await.unwrap());
    }
    assert_eq!(Arc::into_inner(service).unwrap().ended().await, 0);
    let (_, stdout, _) = run(&project, &["runs", "--limit", "1000", "--json"]).await;
    let runs: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(runs.iter().all(|run| run["state"] == "completed"), "{stdout}");
    assert_eq!(runs.len(), answered.len());
}

#[tokio::test]
async fn a_run_that_does_not_finish_in_time_goes_on_with_the_next_start() {
    let project = Project::new();
    let script = axon_test::scripted_runner::RunnerScript::from(talker());
    write_agent(&project, "talker", script, |_| ());
    let service = Service::start(&project, &["--drain", "300ms"]).await;
    let asked = service.ask("hang").header("X-Axon-Disconnect", "detach");
    let waiting = tokio::spawn(asked.send());
    until("it is under way", async || {
        ok(service.get("/v1/runs?state=queued,running")).await["runs"].as_array().unwrap().len()
            == 1
    })
    .await;
    service.signal(Signal::TERM);
    let answer: Value = waiting.await.unwrap().unwrap().json().await.unwrap();
    assert_eq!(answer["outcome"], "paused", "{answer}");
    assert!(answer["pause"]["reason"]["interrupted"].is_object(), "{answer}");
    assert_eq!(service.ended().await, 143);
    let service = Service::start(&project, &[]).await;
    let run = id_of(&answer);
    until("it goes on", async || service.run(&run).await["owner"] == "us").await;
    let seen = Stream::open(service.get(&format!("/v1/runs/{run}/events"))).await;
    let mut seen = seen;
    assert!(names(&seen.until("recovered").await).contains(&"accepted"));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (_project, service) = talking().await;
    service.begin("hang").await;
    service.signal(Signal::INT);
    until("it drains", async || service.said().contains("SIGINT")).await;
    service.signal(Signal::TERM);
    assert_eq!(service.ended().await, 143);
}

//! Runners that are killed while many ask: nobody notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axon_test::scripted_runner::{Life, Step};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::service::{Service, Stream, ok};
use super::{talking, write_agent};
use crate::support::{Project, kill_9, until};

const CLIENTS: usize = 8;
const EACH: usize = 15;

async fn pids(service: &Service) -> Vec<u32> {
    let agent = ok(service.get("/v1/agents/talker")).await;
    let runners = agent["runners"].as_array().unwrap();
    let up = runners.iter().filter(|runner| runner["state"] == "up");
    up.map(|runner| u32::try_from(runner["pid"].as_u64().unwrap()).unwrap()).collect()
}

#[tokio::test]
async fn no_request_fails_while_runners_are_killed() {
    let project = Project::new();
    let life = Life::default().always([
        Step::text("Well, "),
        Step::SleepMs(20),
        Step::complete("{{prompt}}"),
    ]);
    write_agent(&project, "talker", life, |spec| {
        spec.runner.replicas = 2.try_into().unwrap();
        spec.supervision.intensity.max_restarts = 1000;
    });
    let service = Arc::new(Service::start(&project, &[]).await);
    let done = AtomicUsize::new(0);
    let clients = join_all((0..CLIENTS).map(|client| {
        let (service, done) = (&service, &done);
        async move {
            let mut failed: Vec<Value> = Vec::new();
            for turn in 0..EACH {
                let prompt = format!("{client} {turn}");
                let answer = ok(service.ask(&prompt)).await;
                if answer["output"] != json!(prompt) {
                    failed.push(answer);
                }
                done.fetch_add(1, Ordering::SeqCst);
            }
            failed
        }
    }));
    let killing = async {
        let mut killed = 0;
        for round in 1..=5 {
            let so_far = round * CLIENTS * EACH / 7;
            until("more runs are done", async || done.load(Ordering::SeqCst) >= so_far).await;
            until("a runner is up", async || !pids(&service).await.is_empty()).await;
            kill_9(pids(&service).await[0]);
            killed += 1;
        }
        killed
    };
    let (failed, killed) = tokio::join!(clients, killing);
    assert_eq!(killed, 5);
    assert_eq!(failed.concat(), Vec::<Value>::new());
    let listed = ok(service.get("/v1/runs?state=completed&limit=1000")).await;
    assert_eq!(listed["runs"].as_array().unwrap().len(), CLIENTS * EACH);
}

#[tokio::test]
async fn a_chat_goes_on_where_it_was_when_its_runner_died() {
    let (_project, service) = talking().await;
    let messages = json!([{ "role": "user", "content": "slow" }]);
    let body = json!({ "model": "talker", "messages": messages, "stream": true });
    let mut stream = Stream::open(service.post("/v1/chat/completions", &body)).await;
    let mut told = Vec::new();
    while told.len() < 5 {
        told.extend(stream.next().await);
    }
    kill_9(pids(&service).await[0]);
    told.extend(stream.rest().await);
    assert_eq!(told.last().unwrap().data, "[DONE]", "{told:?}");
    let pieces =
        told.iter().filter_map(|told| told.data["choices"][0]["delta"]["content"].as_str());
    let expected: String = (0..20).map(|n| format!("{n} ")).collect();
    assert_eq!(pieces.collect::<String>(), format!("{expected}\n\nslow"));
}

//! SIGTERM in the middle of everything: what was accepted is answered, or goes on with the next start.

use std::collections::BTreeSet;

use axon_test::scripted_runner::{Life, Step, When};
use futures_util::future::join_all;
use reqwest::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::service::{Service, Stream, id_of, ok};
use super::write_agent;
use crate::support::{Project, until};

/// Clients of each kind.
const CLIENTS: usize = 8;

/// How a client wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Waiting,
    Streaming,
    Async,
}

const KINDS: [Kind; 3] = [Kind::Waiting, Kind::Streaming, Kind::Async];

/// What a client knows of its runs when the service has ended.
#[derive(Debug, Default)]
struct Known {
    /// Runs of which it has been told.
    told: BTreeSet<String>,
    /// Those of which it knows the answer.
    answered: BTreeSet<String>,
    /// Requests that were never answered.
    lost: usize,
}

impl Known {
    /// Asks again and again, until the service takes nothing more.
    async fn ask(mut self, service: &Service, kind: Kind, client: usize) -> Self {
        for turn in 0.. {
            // Most are quick, and some take longer than the service is going to be there.
            let length = if turn % 4 == 3 { "long" } else { "short" };
            let prompt = format!("{length} {kind:?} {client} {turn}");
            let goes_on = match kind {
                Kind::Waiting => self.wait(service, &prompt).await,
                Kind::Streaming => self.stream(service, &prompt).await,
                Kind::Async => self.leave(service, &prompt).await,
            };
            if !goes_on {
                break;
            }
        }
        self
    }

    async fn wait(&mut self, service: &Service, prompt: &str) -> bool {
        let Some(answer) = self.taken(service.ask(prompt).send().await) else { return false };
        let answer: Value = answer.json().await.expect("an answer is sent whole");
        self.told.insert(id_of(&answer));
        if answer["outcome"] == "completed" {
            assert_eq!(answer["output"], prompt, "{answer}");
            self.answered.insert(id_of(&answer));
            return true;
        }
        assert!(answer["pause"]["reason"]["interrupted"].is_object(), "{answer}");
        false
    }

    async fn stream(&mut self, service: &Service, prompt: &str) -> bool {
        let request = service.ask(prompt).header("Accept", "text/event-stream");
        let Some(answer) = self.taken(request.send().await) else { return false };
        let run = answer.headers()["location"].to_str().unwrap().to_owned();
        let run = run.rsplit('/').next().unwrap().to_owned();
        self.told.insert(run.clone());
        let told = Stream::of(answer).rest().await;
        let is_answered = told.last().is_some_and(|last| last.name == "completed");
        if is_answered {
            self.answered.insert(run);
        }
        is_answered
    }

    async fn leave(&mut self, service: &Service, prompt: &str) -> bool {
        let request = service.ask(prompt).header("Prefer", "respond-async");
        let Some(answer) = self.taken(request.send().await) else { return false };
        self.told.insert(id_of(&answer.json().await.expect("an answer is sent whole")));
        // As many as the agent takes: the rest would be refused.
        until("some of them are done", async || {
            let open = service.get("/v1/runs?state=queued,running").send().await;
            let Ok(open) = open else { return true };
            let open: Value = open.json().await.unwrap_or_default();
            open["runs"].as_array().is_none_or(|open| open.len() < 2 * CLIENTS)
        })
        .await;
        true
    }

    /// Returns the answer of a request that was taken on.
    fn taken(&mut self, answer: reqwest::Result<reqwest::Response>) -> Option<reqwest::Response> {
        let Ok(answer) = answer else {
            self.lost += 1;
            return None;
        };
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        assert!(answer.status().is_success(), "{}", answer.status());
        Some(answer)
    }
}

#[tokio::test]
async fn what_was_accepted_before_sigterm_is_answered_or_completes_with_the_next_start() {
    let project = Project::new();
    let said = |ms| [Step::text("Well, "), Step::SleepMs(ms), Step::complete("{{prompt}}")];
    let life = Life::default()
        .on(When::resumed(), [Step::complete("later")])
        .on(When::contains("long"), said(1500))
        .always(said(10));
    write_agent(&project, "talker", life, |spec| {
        spec.limits.concurrency = 32.try_into().unwrap();
        spec.limits.queue = 1000;
    });
    let service = Service::start(&project, &["--drain", "400ms"]).await;
    let clients = (0..CLIENTS).flat_map(|client| KINDS.map(|kind| (client, kind)));
    let asking = clients.map(|(client, kind)| Known::default().ask(&service, kind, client));
    let ending = async {
        until("many are under way", async || {
            let done = ok(service.get("/v1/runs?state=completed&limit=1000")).await;
            let open = ok(service.get("/v1/runs?state=running")).await;
            let count = |page: &Value| page["runs"].as_array().unwrap().len();
            count(&done) > 3 * CLIENTS && count(&open) > CLIENTS
        })
        .await;
        service.signal(Signal::TERM);
    };
    let (known, ()) = tokio::join!(join_all(asking), ending);
    let code = service.ended().await;
    let told: BTreeSet<String> = known.iter().flat_map(|known| known.told.clone()).collect();
    let answered: BTreeSet<&String> = known.iter().flat_map(|known| &known.answered).collect();
    assert!(answered.len() > CLIENTS && answered.len() < told.len(), "{known:?}");
    assert_eq!(code, 143, "some had not finished");

    let service = Service::start(&project, &[]).await;
    let all = async || {
        let page = ok(service.get("/v1/runs?limit=1000")).await;
        page["runs"].as_array().unwrap().clone()
    };
    let open = ["queued", "running", "paused"].map(Value::from);
    until("every run has ended", async || {
        all().await.iter().all(|run| !open.contains(&run["state"]))
    })
    .await;
    let all = all().await;
    let wrong: Vec<&Value> = all.iter().filter(|run| run["state"] != json!("completed")).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let on_record: BTreeSet<String> = all.iter().map(id_of).collect();
    let missing: Vec<_> = told.difference(&on_record).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // A request that was never answered was never taken on: its connection came too late.
    let untold = on_record.difference(&told).count();
    assert_eq!(
        untold,
        0,
        "{} requests were not answered",
        known.iter().map(|k| k.lost).sum::<usize>()
    );
}

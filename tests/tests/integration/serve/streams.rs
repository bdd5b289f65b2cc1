//! Events as they come, read again from any place, and what becomes of a run whose caller leaves.

use reqwest::{RequestBuilder, StatusCode};
use serde_json::json;

use super::service::{Service, Stream, Told, id_of, ids, names, ok, refused};
use super::talking;
use crate::support::{Project, kill_9, until};

const TERMINAL: [&str; 4] = ["completed", "failed", "cancelled", "rejected"];

/// Follows a run behind the event `after`.
fn behind(service: &Service, run: &str, after: u64) -> RequestBuilder {
    service.get(&format!("/v1/runs/{run}/events")).header("Last-Event-ID", after)
}

fn rises(ids: &[u64]) -> bool {
    ids.windows(2).all(|pair| pair[0] < pair[1])
}

async fn state(service: &Service, run: &str) -> String {
    service.run(run).await["state"].as_str().unwrap().to_owned()
}

/// Returns the text that the events have told.
fn text(told: &[Told]) -> String {
    let texts = told.iter().filter(|told| told.name == "text_delta");
    texts.map(|told| told.data["text"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_stream_has_every_event_once_and_ends_with_the_only_terminal_one() {
    let (_project, service) = talking().await;
    let seen = Stream::open(service.ask("slow")).await.rest().await;
    assert!(rises(&ids(&seen)), "{:?}", ids(&seen));
    assert_eq!(names(&seen).iter().filter(|name| TERMINAL.contains(name)).count(), 1);
    assert_eq!(names(&seen).last(), Some(&"completed"));
    for told in &seen {
        assert_eq!((told.data["seq"].as_u64(), &told.data["event"]), (told.id, &json!(told.name)));
    }
    let expected: String = (0..20).map(|n| format!("{n} ")).collect();
    assert_eq!(text(&seen), expected);
}

#[tokio::test]
async fn a_reader_that_is_cut_off_reads_on_without_a_gap_or_a_repetition() {
    let (_project, service) = talking().await;
    let asked = service.ask("slow").header("X-Axon-Disconnect", "detach");
    let mut stream = Stream::open(asked).await;
    let mut seen = stream.until("text_delta").await;
    let run = id_of(&seen[0].data);
    drop(stream);
    while names(&seen).last() != Some(&"completed") {
        let mut again = Stream::open(behind(&service, &run, *ids(&seen).last().unwrap())).await;
        for _ in 0..3 {
            seen.extend(again.next().await);
        }
    }
    assert!(rises(&ids(&seen)), "{:?}", ids(&seen));
    let expected: String = (0..20).map(|n| format!("{n} ")).collect();
    assert_eq!(text(&seen), expected);
    let after = service.get(&format!("/v1/runs/{run}/events?after={}", seen[2].id.unwrap()));
    let replayed = Stream::open(after).await.rest().await;
    assert!(ids(&replayed)[0] > seen[2].id.unwrap());
    let wrong = service.get(&format!("/v1/runs/{run}/events")).header("Last-Event-ID", "x");
    assert_eq!(refused(wrong).await, (422, "invalid_request".to_owned()));
}

#[tokio::test]
async fn the_text_of_a_run_that_has_just_ended_is_still_there() {
    let (_project, service) = talking().await;
    let asked = service.ask("slow").header("X-Axon-Disconnect", "detach");
    let mut stream = Stream::open(asked).await;
    let mut seen = stream.until("text_delta").await;
    let run = id_of(&seen[0].data);
    drop(stream);
    until("the run has ended", async || state(&service, &run).await == "completed").await;
    let last = *ids(&seen).last().unwrap();
    seen.extend(Stream::open(behind(&service, &run, last)).await.rest().await);
    assert!(rises(&ids(&seen)), "{:?}", ids(&seen));
    let expected: String = (0..20).map(|n| format!("{n} ")).collect();
    assert_eq!(text(&seen), expected);
}

#[tokio::test]
async fn what_was_recorded_is_read_again_after_a_restart() {
    let (project, service) = talking().await;
    let seen = Stream::open(service.ask("tell me")).await.rest().await;
    let run = id_of(&seen[0].data);
    assert_eq!(service.stop().await, 0);
    let service = Service::start(&project, &[]).await;
    let recorded = Stream::open(service.get(&format!("/v1/runs/{run}/events"))).await.rest().await;
    let first: Vec<u64> = ids(&seen).into_iter().filter(|id| ids(&recorded).contains(id)).collect();
    assert_eq!(ids(&recorded), first);
    let (last, before) = recorded.split_last().unwrap();
    // So a browser knows that there is nothing to connect to any more.
    let over = behind(&service, &run, last.id.unwrap()).send().await.unwrap();
    assert_eq!(over.status(), StatusCode::NO_CONTENT);
    for (at, told) in before.iter().enumerate() {
        let rest = Stream::open(behind(&service, &run, told.id.unwrap())).await.rest().await;
        assert_eq!(ids(&rest), ids(&recorded)[at + 1..]);
    }
}

#[tokio::test]
async fn a_run_that_another_process_takes_over_is_read_on_without_a_repetition() {
    let (project, service) = talking().await;
    let asked = service.ask("slow").header("X-Axon-Disconnect", "detach");
    let mut stream = Stream::open(asked).await;
    let mut seen = stream.until("text_delta").await;
    let run = id_of(&seen[0].data);
    kill_9(service.pid());
    assert_eq!(service.ended().await, -1);
    let service = Service::start(&project, &[]).await;
    let last = *ids(&seen).last().unwrap();
    seen.extend(Stream::open(behind(&service, &run, last)).await.rest().await);
    assert!(rises(&ids(&seen)), "{:?}", ids(&seen));
    assert!(names(&seen).contains(&"recovered"), "{:?}", names(&seen));
    assert_eq!(names(&seen).last(), Some(&"completed"));
    assert_eq!(service.run(&run).await["answer"]["output"], "slow");
}

#[tokio::test]
async fn a_reader_behind_the_last_number_that_there_is_waits_for_the_end() {
    let (_project, service) = talking().await;
    let mut stream = Stream::open(service.ask("hang")).await;
    let run = id_of(&stream.until("text_delta").await[0].data);
    let beyond = behind(&service, &run, u64::MAX).header("Accept", "text/event-stream");
    let beyond = beyond.send().await.unwrap();
    assert_eq!(beyond.status(), StatusCode::OK);
    drop(stream);
    until("the run is cancelled", async || state(&service, &run).await == "cancelled").await;
    let told = beyond.text().await.expect("the stream ends in good order");
    assert!(!told.contains("data:"), "{told}");
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_its_run() {
    let (_project, service) = talking().await;
    let mut stream = Stream::open(service.ask("hang")).await;
    let run = id_of(&stream.until("text_delta").await[0].data);
    drop(stream);
    until("the streamed run is cancelled", async || state(&service, &run).await == "cancelled")
        .await;

    let waiting = tokio::spawn(service.ask("hang").send());
    let running = "/v1/runs?state=queued,running";
    until("the second run is under way", async || {
        ok(service.get(running)).await["runs"].as_array().unwrap().len() == 1
    })
    .await;
    let run = id_of(&ok(service.get(running)).await["runs"][0]);
    waiting.abort();
    until("the awaited run is cancelled", async || state(&service, &run).await == "cancelled")
        .await;
    let answer = service.run(&run).await;
    let why = answer["answer"]["error"]["message"].as_str().unwrap();
    assert!(why.contains("went away"), "{answer}");
}

#[tokio::test]
async fn a_caller_that_detaches_leaves_its_run_alone() {
    let (_project, service) = talking().await;
    let mut stream = Stream::open(
        service.post("/v1/agents/talker/runs?disconnect=detach", &json!({ "prompt": "slow" })),
    )
    .await;
    let run = id_of(&stream.until("text_delta").await[0].data);
    drop(stream);
    until("the run has ended", async || service.run(&run).await["answer"].is_object()).await;
    assert_eq!(state(&service, &run).await, "completed");
}

#[tokio::test]
async fn what_happens_in_the_tree_is_told_as_it_happens() {
    let (_project, service) = talking().await;
    let mut events = Stream::open(service.get("/v1/events")).await;
    let agent = ok(service.get("/v1/agents/talker")).await;
    kill_9(u32::try_from(agent["pid"].as_u64().unwrap()).unwrap());
    let seen = events.until("runner_up").await;
    assert!(names(&seen).contains(&"runner_ended"), "{:?}", names(&seen));
    assert_eq!(seen.last().unwrap().data["agent"], "talker");
    let metrics = service.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("axon_agent_restarts_total{agent=\"talker\""), "{metrics}");
    // A service that ends ends its streams.
    let rest = tokio::spawn(events.rest());
    assert_eq!(service.stop().await, 0);
    rest.await.unwrap();
}

#[tokio::test]
async fn a_project_without_any_store_serves_from_memory() {
    let project = Project::new();
    super::write_agent(&project, "talker", super::talker(), |_| ());
    let service = Service::start(&project, &["--store", "memory"]).await;
    let seen = Stream::open(service.ask("hello")).await.rest().await;
    let run = id_of(&seen[0].data);
    assert_eq!(state(&service, &run).await, "completed");
    assert_eq!(service.stop().await, 0);
    assert!(!project.path().join(".axon").exists());
}

//! Runs that are asked for, begun, listed and called off.

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::service::{Service, Stream, id_of, names, ok, refused, sent};
use super::{talker, talking, write_agent};
use crate::support::{Project, until};

const RUNS: &str = "/v1/agents/talker/runs";

#[tokio::test]
async fn an_accepted_run_is_answered_with_its_outcome_and_a_failed_one_too() {
    let (_project, service) = talking().await;
    let (status, headers, answer) = sent(service.ask("hello")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&answer["outcome"], &answer["output"]), (&json!("completed"), &json!("hello")));
    assert!(answer["model"].is_string(), "{answer}");
    assert_eq!(headers["location"].to_str().unwrap(), format!("/v1/runs/{}", id_of(&answer)));
    let failed = ok(service.ask("fail")).await;
    assert_eq!(failed["outcome"], "failed");
    assert_eq!(failed["error"]["kind"], "content_filter");
    let known = service.run(&id_of(&failed)).await;
    assert_eq!((&known["state"], &known["agent"]), (&json!("failed"), &json!("talker")));
    assert_eq!(known["answer"]["error"]["kind"], "content_filter");
    assert_eq!(service.stop().await, 0);
}

#[tokio::test]
async fn what_is_refused_is_a_problem_with_its_code_and_no_run() {
    let (_project, service) = talking().await;
    let of = |status: u16, code: &str| (status, code.to_owned());
    let post = |body: &str| {
        let request = service.post(RUNS, &Value::Null);
        request.body(body.to_owned())
    };
    let unknown = service.post("/v1/agents/talkr/runs", &json!({ "prompt": "hi" }));
    let (_, _, body) = sent(unknown.try_clone().unwrap()).await;
    assert_eq!(body["nearest"], "talker");
    assert_eq!(refused(unknown).await, of(404, "unknown_agent"));
    assert_eq!(refused(service.get("/v1/runs/none")).await, of(404, "unknown_run"));
    assert_eq!(refused(service.get("/v1/nowhere")).await, of(404, "unknown_route"));
    assert_eq!(refused(service.get(RUNS)).await, of(405, "method_not_allowed"));
    let none = service.get("/v1/conversations/none");
    assert_eq!(refused(none).await, of(404, "unknown_conversation"));
    let text = service.post_text(RUNS, "hi");
    assert_eq!(refused(text).await, of(415, "unsupported_media_type"));
    assert_eq!(refused(post("{\"prompt\": ")).await, of(400, "invalid_json"));
    assert_eq!(refused(post(r#"{"prompt":"a","prompt":"b"}"#)).await, of(400, "invalid_json"));
    for wrong in [
        r#"{"prompt":"hi","promt":"x"}"#,
        r#"{"prompt":7}"#,
        r#"{"prompt":""}"#,
        r#"{"prompt":"hi","timeout":"soon"}"#,
        r#"{"prompt":"hi","limits":{"request":1}}"#,
        r#"{"prompt":"hi","conversation_id":""}"#,
        r#"{"prompt":"hi","conversation_id":"a\u0000b"}"#,
        "{}",
        "[]",
    ] {
        assert_eq!(refused(post(wrong)).await, of(422, "invalid_request"), "{wrong}");
    }
    let (_, _, body) = sent(post(r#"{"prompt":"hi","promt":"x"}"#)).await;
    assert!(body["detail"].as_str().unwrap().contains("`promt`"), "{body}");
    let manner = service.ask("hi").header("X-Axon-Disconnect", "stay");
    assert_eq!(refused(manner).await, of(422, "invalid_request"));
    for path in ["runs/a%00b", "runs/a%00b/events", "conversations/a%00b", "agents/a%00b"] {
        let path = service.get(&format!("/v1/{path}"));
        assert_eq!(refused(path).await, of(422, "invalid_request"));
    }
    for query in [
        "state=sleeping",
        "limit=0",
        "limit=many",
        "agent=No",
        "stat=running",
        "conversation=a%00b",
        "after=a%00b",
    ] {
        let list = service.get(&format!("/v1/runs?{query}"));
        assert_eq!(refused(list).await, of(422, "invalid_request"), "{query}");
    }
    assert_eq!(ok(service.get("/v1/runs")).await["runs"], json!([]));
}

#[tokio::test]
async fn a_full_agent_says_when_to_come_again() {
    let project = Project::new();
    write_agent(&project, "talker", talker(), |spec| {
        spec.limits.concurrency = 1.try_into().unwrap();
        spec.limits.queue = 0;
    });
    let service = Service::start(&project, &[]).await;
    let run = service.begin("hang").await;
    let (status, headers, body) = sent(service.ask("hello")).await;
    assert_eq!((status.as_u16(), &body["code"]), (429, &json!("overloaded")));
    assert!(headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(sent(service.delete(&format!("/v1/runs/{run}"))).await.0, StatusCode::ACCEPTED);
    until("the run has ended", async || service.run(&run).await["state"] == "cancelled").await;
    let again = service.delete(&format!("/v1/runs/{run}"));
    assert_eq!(refused(again).await, (409, "run_ended".to_owned()));
    assert_eq!(ok(service.ask("hello")).await["outcome"], "completed");
}

#[tokio::test]
async fn a_parked_agent_is_named_and_the_others_serve() {
    let project = Project::new();
    write_agent(&project, "talker", talker(), |_| ());
    let program = "[runner]\ncommand = [\"/nowhere/at/all\"]\n";
    project.write("agents/broken/agent.toml", &format!("model = \"test\"\n{program}"));
    let service = Service::start(&project, &[]).await;
    let ready = ok(service.get("/readyz")).await;
    assert_eq!(ready, json!({ "state": "ready", "parked": ["broken"] }));
    until("the operator is told", async || service.said().contains("`broken` is parked")).await;
    let broken = service.post("/v1/agents/broken/runs", &json!({ "prompt": "hi" }));
    assert_eq!(refused(broken).await, (503, "agent_unavailable".to_owned()));
    assert_eq!(ok(service.ask("hello")).await["outcome"], "completed");
}

#[tokio::test]
async fn a_run_that_nobody_waits_for_is_accepted_at_once_and_goes_on() {
    let (_project, service) = talking().await;
    let (status, headers, body) = sent(service.ask("slow").header("Prefer", "respond-async")).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let location = headers["location"].to_str().unwrap().to_owned();
    assert_eq!(location, format!("/v1/runs/{}", id_of(&body)));
    let seen = Stream::open(service.get(&format!("{location}/events"))).await.rest().await;
    assert!(names(&seen).contains(&"text_delta"), "{:?}", names(&seen));
    assert_eq!(names(&seen).last(), Some(&"completed"));
    assert_eq!(ok(service.get(&location)).await["answer"]["output"], "slow");
}

#[tokio::test]
async fn a_key_starts_one_run_however_often_it_is_sent_and_over_a_restart() {
    let (project, service) = talking().await;
    let keyed =
        |service: &Service, prompt: &str| service.ask(prompt).header("Idempotency-Key", "k-1");
    let both = join_all((0..8).map(|_| ok(keyed(&service, "slow")))).await;
    let first = id_of(&both[0]);
    for answer in &both {
        assert_eq!((id_of(answer), &answer["output"]), (first.clone(), &json!("slow")));
    }
    let conflict = refused(keyed(&service, "other")).await;
    assert_eq!(conflict, (422, "idempotency_conflict".to_owned()));
    assert_eq!(service.stop().await, 0);
    let service = Service::start(&project, &[]).await;
    assert_eq!(id_of(&ok(keyed(&service, "slow")).await), first);
    let conflict = refused(keyed(&service, "other")).await;
    assert_eq!(conflict, (422, "idempotency_conflict".to_owned()));
    let streamed = Stream::open(keyed(&service, "slow")).await.rest().await;
    assert_eq!(names(&streamed).last(), Some(&"completed"));
    assert_eq!(ok(service.get("/v1/runs")).await["runs"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_starts_one_run_whatever_time_it_is_given() {
    let (_project, service) = talking().await;
    let keyed = |timeout: &str| {
        let body = json!({ "prompt": "hello", "timeout": timeout });
        service.post(RUNS, &body).header("Idempotency-Key", "k-1")
    };
    let first = id_of(&ok(keyed("20s")).await);
    for timeout in ["20s", "30s"] {
        assert_eq!(id_of(&ok(keyed(timeout)).await), first, "{timeout}");
    }
}

#[tokio::test]
async fn runs_are_listed_in_pages_and_by_what_they_are() {
    let (_project, service) = talking().await;
    for prompt in ["tell one", "fail", "tell two", "tell three"] {
        ok(service.ask(prompt)).await;
    }
    let page = ok(service.get("/v1/runs?limit=3")).await;
    let (runs, next) = (page["runs"].as_array().unwrap(), page["next"].as_str().unwrap());
    assert_eq!((runs.len(), runs[2]["run_id"].as_str()), (3, Some(next)));
    let last = ok(service.get(&format!("/v1/runs?limit=3&after={next}"))).await;
    assert_eq!((last["runs"].as_array().unwrap().len(), &last["next"]), (1, &Value::Null));
    let failed = ok(service.get("/v1/runs?state=failed,running&agent=talker")).await;
    assert_eq!(failed["runs"].as_array().unwrap().len(), 1);
    assert_eq!(ok(service.get("/v1/runs?agent=other")).await["runs"], json!([]));
}

#[tokio::test]
async fn a_conversation_is_told_and_a_turn_carries_what_it_is_given() {
    let (_project, service) = talking().await;
    let body = json!({
        "prompt": "tell me", "conversation_id": "c 1", "timeout": "20s",
        "limits": { "requests": 3 }, "metadata": { "ticket": 7 }, "state": { "seen": 1 },
        "model_settings": { "temperature": 0 },
    });
    let answer = ok(service.post(RUNS, &body)).await;
    assert_eq!((&answer["output"], &answer["state"]), (&json!("tell me"), &json!({ "seen": 1 })));
    let told = ok(service.get("/v1/conversations/c%201")).await;
    assert_eq!(told["conversation_id"], "c 1");
    assert_eq!(told["messages"].as_array().unwrap().len(), 2, "{told}");
    let listed = ok(service.get("/v1/runs?conversation=c%201")).await;
    assert_eq!(listed["runs"][0]["run_id"], answer["run_id"]);
}

#[tokio::test]
async fn agents_are_shown_restarted_and_drained() {
    let (_project, service) = talking().await;
    let agent = |path: &str| format!("/v1/agents/talker{path}");
    let shown = ok(service.get(&agent(""))).await;
    assert_eq!((&shown["name"], &shown["kind"]), (&json!("talker"), &json!("agent")));
    assert_eq!(ok(service.get("/v1/agents")).await["agents"][0]["name"], "talker");
    let generation = shown["generation"].as_u64().unwrap();
    let restart = service.post(&agent("/restart"), &Value::Null);
    assert_eq!(sent(restart).await.0, StatusCode::ACCEPTED);
    until("a new runner is up", async || {
        let now = ok(service.get(&agent(""))).await;
        now["state"] == "up" && now["generation"].as_u64().unwrap() > generation
    })
    .await;
    let drained = ok(service.post(&agent("/drain?deadline=5s"), &Value::Null)).await;
    assert_eq!(drained, json!({ "cancelled": 0 }));
    assert_eq!(refused(service.ask("hi")).await, (503, "agent_draining".to_owned()));
    let restart = service.post(&agent("/restart"), &Value::Null);
    assert_eq!(sent(restart).await.0, StatusCode::ACCEPTED);
    assert_eq!(ok(service.ask("hi")).await["outcome"], "completed");
    let tree = ok(service.get("/v1/tree")).await;
    assert!(tree["root"]["children"].is_array(), "{tree}");
}

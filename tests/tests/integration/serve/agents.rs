//! Agents that are defined, started and stopped while the service runs.

use serde_json::{Value, json};

use super::service::{Service, id_of, ok, refused, sent};
use super::{talker, talking, write_agent};
use crate::support::{Project, until};

fn define(service: &Service, name: &str, definition: &Value) -> reqwest::RequestBuilder {
    service.post("/v1/agents", &json!({ "name": name, "definition": definition }))
}

/// Returns the problems of a refusal.
async fn problems(request: reqwest::RequestBuilder) -> (u16, String, String) {
    let (status, _, body) = sent(request).await;
    let text = |key: &str| body[key].as_str().unwrap_or_else(|| panic!("{body}")).to_owned();
    (status.as_u16(), text("code"), text("detail"))
}

#[tokio::test]
async fn an_agent_is_defined_asked_and_forgotten_again() {
    let (_project, service) = talking().await;
    let definition =
        json!({ "model": "test", "instructions": "Say {{ run.id }}.", "tags": ["new"] });
    let (status, _, shown) = sent(define(&service, "newcomer", &definition)).await;
    assert_eq!((status.as_u16(), &shown["name"]), (201, &json!("newcomer")), "{shown}");
    assert_eq!((&shown["state"], &shown["tags"]), (&json!("up"), &json!(["new"])), "{shown}");
    let again = define(&service, "newcomer", &definition);
    assert_eq!(refused(again).await, (409, "agent_exists".to_owned()));
    let answer = ok(service.post("/v1/agents/newcomer/runs", &json!({ "prompt": "hi" }))).await;
    assert_eq!(answer["outcome"], "completed", "{answer}");
    let stopped = ok(service.delete("/v1/agents/newcomer?deadline=10s")).await;
    assert_eq!(stopped, json!({ "cancelled": 0 }));
    let gone = refused(service.get("/v1/agents/newcomer")).await;
    assert_eq!(gone, (404, "unknown_agent".to_owned()));
    // What it did is still on record, and its name is free.
    assert_eq!(service.run(&id_of(&answer)).await["state"], "completed");
    assert_eq!(sent(define(&service, "newcomer", &definition)).await.0.as_u16(), 201);
}

#[tokio::test]
async fn a_definition_brings_nothing_of_its_own() {
    let (_project, service) = talking().await;
    let not_allowed = "definition_not_allowed";
    for (definition, why) in [
        (json!({ "model": "test", "runner": { "command": ["sh"] } }), "`command`"),
        (json!({ "model": "test", "runner": { "python": "/bin/sh" } }), "`runner.python`"),
        (json!({ "runner": { "module": "os:system" } }), "`runner.module`"),
        (json!({ "model": "test", "runner": { "pass_env": ["HOME"] } }), "`runner.pass_env`"),
        (json!({ "model": "test", "runner": { "env": { "A": "b" } } }), "`runner.env`"),
        (json!({ "model": "test", "provider": { "base_url": "http://a" } }), "`provider`"),
        (json!({ "model": "test", "capabilities": ["x"] }), "`capabilities`"),
        (
            json!({ "model": "test", "tools": [{ "name": "x", "python": "os:system" }] }),
            "`os:system`",
        ),
        (json!({ "model": "python:os:system" }), "`os:system`"),
        (json!({ "model": "test", "deps": { "factory": "os:system" } }), "`os:system`"),
    ] {
        let (status, code, detail) = problems(define(&service, "newcomer", &definition)).await;
        assert_eq!((status, code.as_str()), (422, not_allowed), "{definition}: {detail}");
        assert!(detail.contains(why), "{definition}: {detail}");
    }
    let listed = ok(service.get("/v1/agents")).await;
    assert_eq!(listed["agents"].as_array().unwrap().len(), 1, "{listed}");
}

#[tokio::test]
async fn a_definition_that_is_wrong_is_refused_with_the_key() {
    let (_project, service) = talking().await;
    for (definition, why) in [
        (json!({ "modle": "test" }), "unknown key `modle`; did you mean `model`?"),
        (
            json!({ "model": "test", "output": { "schema": "secrets.json" } }),
            "give the schema in line",
        ),
        (json!({ "model": "test", "instructions": "${HOME}" }), "instructions: the variable HOME"),
        (json!({ "model": "nobody:x" }), "nobody"),
        (json!({ "model": "test", "description": null }), "TOML"),
    ] {
        let (status, code, detail) = problems(define(&service, "newcomer", &definition)).await;
        assert_eq!((status, code.as_str()), (422, "config"), "{definition}: {detail}");
        assert!(detail.contains(why), "{definition}: {detail}");
    }
    let named = |body: Value| service.post("/v1/agents", &body);
    let invalid = (422, "invalid_request".to_owned());
    assert_eq!(refused(named(json!({ "name": "../x", "definition": {} }))).await, invalid);
    assert_eq!(refused(named(json!({ "definition": {} }))).await, invalid);
    let unknown = (404, "unknown_agent".to_owned());
    assert_eq!(refused(named(json!({ "name": "nobody" }))).await, unknown);
}

#[tokio::test]
async fn an_agent_of_the_folder_is_stopped_and_started_again_by_its_name() {
    let (project, service) = talking().await;
    let slow = service.begin("slow").await;
    ok(service.delete("/v1/agents/talker")).await;
    // Its run was let finish.
    assert_eq!(service.run(&slow).await["state"], "completed");
    write_agent(&project, "late", talker(), |_| ());
    for name in ["talker", "late"] {
        let (status, _, shown) = sent(service.post("/v1/agents", &json!({ "name": name }))).await;
        assert_eq!((status.as_u16(), &shown["state"]), (201, &json!("up")), "{shown}");
    }
    assert_eq!(ok(service.ask("hi")).await["output"], "hi");
}

#[tokio::test]
async fn a_run_that_does_not_finish_in_time_is_cancelled_with_its_agent() {
    let (_project, service) = talking().await;
    let run = service.begin("hang").await;
    until("it is under way", async || service.run(&run).await["state"] == "running").await;
    let stopped = ok(service.delete("/v1/agents/talker?deadline=10ms")).await;
    assert_eq!(stopped, json!({ "cancelled": 1 }));
    assert_eq!(service.run(&run).await["state"], "cancelled");
}

#[tokio::test]
async fn an_agent_that_others_name_is_not_forgotten() {
    let project = Project::new();
    write_agent(&project, "talker", talker(), |_| ());
    write_agent(&project, "second", talker(), |spec| {
        spec.fallback.agent = Some("talker".parse().unwrap());
    });
    let service = Service::start(&project, &[]).await;
    let needed = problems(service.delete("/v1/agents/talker")).await;
    assert_eq!((needed.0, needed.1.as_str()), (409, "agent_in_use"));
    assert!(needed.2.contains("second"), "{}", needed.2);
    ok(service.delete("/v1/agents/second")).await;
    ok(service.delete("/v1/agents/talker")).await;
}

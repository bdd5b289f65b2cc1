//! Who is let in, from where, and what is kept out of sight.

use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::service::{Service, Stream, id_of, ok, refused, sent};
use super::{talker, talking, write_agent};
use crate::command_line::run;
use crate::support::Project;

const TOKEN: &str = "all-0123456789abcdef";
const READER: &str = "read-0123456789abcdef";

/// A service that asks for a token.
async fn guarded() -> (Project, Service) {
    let project = Project::new();
    write_agent(&project, "talker", talker(), |_| ());
    project.write("token", &format!("{TOKEN}\n"));
    project.write("read-token", READER);
    let options = ["--token-file", "token", "--read-token-file", "read-token"];
    let service = Service::start_with(&project, &["-vvv"], &options).await;
    (project, service)
}

#[tokio::test]
async fn only_who_holds_a_token_is_let_in_and_readers_only_read() {
    let (_project, service) = guarded().await;
    let unauthorized = (401, "unauthorized".to_owned());
    assert_eq!(refused(service.get("/v1/runs")).await, unauthorized);
    let (_, headers, _) = sent(service.get("/v1/runs")).await;
    assert_eq!(headers["www-authenticate"], "Bearer realm=\"axon\"");
    for wrong in ["", "x", &TOKEN[1..], &format!("{TOKEN}x")] {
        assert_eq!(refused(service.get("/v1/runs").bearer_auth(wrong)).await, unauthorized);
    }
    assert_eq!(
        refused(service.get("/v1/runs").basic_auth(TOKEN, None::<&str>)).await,
        unauthorized
    );
    assert_eq!(refused(service.get(&format!("/v1/runs?ticket={TOKEN}"))).await, unauthorized);
    ok(service.get("/v1/runs").bearer_auth(READER)).await;
    let read_only = (403, "read_only_token".to_owned());
    assert_eq!(refused(service.ask("hi").bearer_auth(READER)).await, read_only);
    assert_eq!(refused(service.delete("/v1/runs/x").bearer_auth(READER)).await, read_only);
    assert_eq!(ok(service.ask("hi").bearer_auth(TOKEN)).await["outcome"], "completed");
    for open in ["/healthz", "/readyz", "/metrics"] {
        let elsewhere = service.get(open).header("Host", "anything.example");
        assert_eq!(sent(elsewhere).await.0, StatusCode::OK, "{open}");
    }
}

#[tokio::test]
async fn metrics_can_have_an_address_of_their_own_where_nothing_else_is() {
    let project = Project::new();
    write_agent(&project, "talker", talker(), |_| ());
    let service = Service::start(&project, &["--metrics-listen", "127.0.0.1:0"]).await;
    let said = service.said();
    let address = said.split("metrics at ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    let get = |url: &str| reqwest::Client::builder().no_proxy().build().unwrap().get(url);
    let (status, headers, _) = sent(get(address)).await;
    assert_eq!(status, StatusCode::OK);
    assert!(headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    let runs = address.replace("/metrics", "/v1/runs");
    assert_eq!(refused(get(&runs)).await, (404, "unknown_route".to_owned()));
    assert_eq!(refused(service.get("/metrics")).await, (404, "no_metrics".to_owned()));
}

#[tokio::test]
async fn a_ticket_opens_one_stream_once() {
    let (_project, service) = guarded().await;
    let run = id_of(&ok(service.ask("hi").bearer_auth(TOKEN)).await);
    let ticket = async || {
        let ticket = ok(service.post("/v1/tickets", &Value::Null).bearer_auth(READER)).await;
        assert!(ticket["expires_in"].as_u64().unwrap() <= 60);
        ticket["ticket"].as_str().unwrap().to_owned()
    };
    let good = ticket().await;
    let events = format!("/v1/runs/{run}/events?ticket={good}");
    assert!(!Stream::open(service.get(&events)).await.rest().await.is_empty());
    assert_eq!(refused(service.get(&events)).await, (401, "unauthorized".to_owned()));
    let elsewhere = format!("/v1/runs/{run}?ticket={}", ticket().await);
    assert_eq!(refused(service.get(&elsewhere)).await.0, 401);
    drop(Stream::open(service.get(&format!("/v1/events?ticket={}", ticket().await))).await);
}

#[tokio::test]
async fn a_name_that_was_pointed_here_and_a_page_of_another_site_are_refused() {
    let project = Project::new();
    write_agent(&project, "talker", talker(), |_| ());
    project.write("token", TOKEN);
    let (host, page) = ("axon.example", "https://console.example");
    let names = ["--allowed-host", host, "--allowed-origin", page];
    let options = [&["--token-file", "token"], &names[..]].concat();
    let service = Service::start(&project, &options).await;
    let asked = |host: &str| service.get("/v1/runs").header("Host", host);
    let no_host = (403, "host_not_allowed".to_owned());
    assert_eq!(refused(asked("evil.example")).await, no_host);
    assert_eq!(refused(asked("127.0.0.1.evil.example")).await, no_host);
    ok(asked("axon.example:9").bearer_auth(TOKEN)).await;
    ok(asked("localhost").bearer_auth(TOKEN)).await;
    let of = |origin: &str| service.ask("hi").header("Origin", origin);
    let no_origin = (403, "origin_not_allowed".to_owned());
    assert_eq!(refused(of("https://evil.example")).await, no_origin);
    assert_eq!(refused(of("null")).await, no_origin);
    let (status, headers, _) = sent(of(page).bearer_auth(TOKEN)).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["access-control-allow-origin"], page);
    // The page may see why it is refused, too.
    let (status, headers, _) = sent(of(page)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(headers["access-control-allow-origin"], page);
    let before = reqwest::Client::builder().no_proxy().build().unwrap();
    let before = |origin: &str| {
        before
            .request(reqwest::Method::OPTIONS, service.url("/v1/agents/talker/runs"))
            .header("Origin", origin.to_owned())
            .header("Access-Control-Request-Method", "POST")
            .header("Access-Control-Request-Headers", "authorization,x-stainless-os")
    };
    let (status, headers, _) = sent(before(page)).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["access-control-allow-headers"], "authorization,x-stainless-os");
    let (_, headers, _) = sent(before("https://evil.example")).await;
    assert_eq!(headers.get("access-control-allow-origin"), None);
}

#[tokio::test]
async fn every_answer_says_that_it_is_data_and_nothing_to_show() {
    let (_project, service) = talking().await;
    let requests: [RequestBuilder; 3] =
        [service.get("/v1/runs"), service.get("/healthz"), service.get("/nowhere")];
    for request in requests {
        let (_, headers, _) = sent(request).await;
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["cache-control"], "no-store");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    }
}

#[tokio::test]
async fn no_prompt_no_answer_and_no_token_is_logged() {
    let (_project, service) = guarded().await;
    let prompt = "tell nobody that the word is Sesame";
    ok(service.ask(prompt).bearer_auth(TOKEN)).await;
    let chat = json!({ "model": "talker", "messages": [{ "role": "user", "content": prompt }] });
    ok(service.post("/v1/chat/completions", &chat).bearer_auth(TOKEN)).await;
    refused(service.ask(prompt).bearer_auth("not-the-token-at-all")).await;
    let said = service.said();
    assert!(said.contains("refused"), "the log is on: {said}");
    for secret in ["Sesame", TOKEN, READER, "not-the-token"] {
        assert!(!said.contains(secret), "{secret} is in {said}");
    }
}

#[tokio::test]
async fn a_service_that_would_let_anybody_do_anything_does_not_start() {
    let project = Project::new();
    write_agent(&project, "talker", talker(), |_| ());
    project.write("short", "short");
    project.write("token", TOKEN);
    for (options, expected) in [
        (vec!["--listen", "0.0.0.0:0"], "--token-file"),
        (vec!["--token-file", "short"], "openssl rand"),
        (vec!["--token-file", "none"], "none"),
        (vec!["--read-token-file", "token"], "--token-file"),
        (vec!["--token-file", "token", "--read-token-file", "token"], "the same"),
        (vec!["--allowed-host", "http://x"], "--allowed-host"),
        (vec!["--allowed-host", "axon.example"], "--token-file"),
        (vec!["--allowed-origin", "*"], "--allowed-origin"),
    ] {
        let (code, stdout, stderr) =
            run(&project, &[&["serve", "--offline"][..], &options].concat()).await;
        assert_eq!((code, stdout.as_str()), (3, ""), "{options:?}: {stderr}");
        assert!(stderr.contains(expected), "{options:?}: {stderr}");
        assert!(!stderr.contains(TOKEN), "{stderr}");
    }
    let (code, _, stderr) = run(&project, &["serve", "nobody", "--offline"]).await;
    assert_eq!(code, 2, "{stderr}");
}

#[tokio::test]
async fn a_model_that_only_plays_one_is_not_served_unless_that_is_wanted() {
    let project = Project::new();
    let (code, _, stderr) = run(&project, &["serve", "--listen", "127.0.0.1:0"]).await;
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("offline") && stderr.contains("--offline"), "{stderr}");
    assert_eq!(project.sockets().len(), 0, "what had started has ended");
}

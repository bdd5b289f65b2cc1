//! The server inside a service of one's own: its router, its limits, its end.

use std::pin::pin;
use std::time::Duration;

use axon_runtime::{Pipeline, Runtime, RuntimeBuilder};
use axon_server::{Ended, Limits, Server};
use axon_test::scripted_runner::{Life, Step, When};
use futures_util::future::join_all;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::service::{Stream, refused, sent};
use super::talker;
use crate::scene::Played;
use crate::support::{PATIENCE, Project, until};

/// A server in the test's own process.
struct Embedded {
    _project: Project,
    runtime: Runtime,
    address: String,
    end: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<Ended>>,
}

impl Embedded {
    async fn new(life: Life, limits: Limits) -> Self {
        let project = Project::new();
        let played = Played::new(&project, "talker", life);
        let agents = project.runtime().agent(&played);
        Self::of(project, agents, limits).await
    }

    async fn of(project: Project, agents: RuntimeBuilder, limits: Limits) -> Self {
        let runtime = agents.start().await.unwrap();
        let server = Server::builder(runtime.clone()).limits(limits).build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (end, ends) = oneshot::channel();
        let serving = tokio::spawn(server.serve(listener, async { drop(ends.await) }));
        Self { _project: project, runtime, address, end, serving }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn end(self) -> Ended {
        self.end.send(()).unwrap();
        tokio::time::timeout(PATIENCE, self.serving).await.unwrap().unwrap().unwrap()
    }
}

fn client() -> Client {
    Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}

#[tokio::test]
async fn beyond_their_limit_streams_are_refused_and_connections_wait() {
    let limits = Limits { streams: 2, connections: 3, ..Limits::default() };
    let served = Embedded::new(talker(), limits).await;
    let client = client();
    let events = || client.get(served.url("/v1/events"));
    let first = events().send().await.unwrap();
    let second = events().send().await.unwrap();
    assert_eq!(refused(events()).await, (429, "too_many_streams".to_owned()));
    drop(first);
    until("there is room for a stream", async || {
        events().send().await.unwrap().status() == StatusCode::OK
    })
    .await;
    drop(second);
    // All places are taken by connections that say nothing; whoever comes next is served later.
    // The client's own are closed first.
    drop(client);
    let client = self::client();
    let mut idle = join_all((0..3).map(|_| TcpStream::connect(&served.address))).await;
    let mut health = pin!(client.get(served.url("/healthz")).send());
    let early = tokio::time::timeout(Duration::from_millis(200), health.as_mut()).await;
    assert!(early.is_err(), "it came behind them, and was answered");
    drop(idle.pop());
    assert_eq!(health.await.unwrap().status(), StatusCode::OK);
    assert_eq!(served.end().await, Ended { stopped: 0 });
}

#[tokio::test]
async fn whoever_sends_half_a_request_is_not_waited_for() {
    let short = Duration::from_millis(100);
    let limits = Limits { head_timeout: short, body_timeout: short, ..Limits::default() };
    let served = Embedded::new(talker(), limits).await;
    let half_a_body = "POST /v1/agents/talker/runs HTTP/1.1\r\nHost: localhost\r\n\
                       Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"prompt\"";
    let half_a_head = "POST /v1/agents/talker/runs HTTP/1.1\r\nHost: loc";
    for (half, answer) in [(half_a_body, "HTTP/1.1 408 "), (half_a_head, "")] {
        let mut client = TcpStream::connect(&served.address).await.unwrap();
        client.write_all(half.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, client.read_to_end(&mut said)).await;
        closed.expect("the connection is closed").unwrap();
        let said = String::from_utf8(said).unwrap();
        assert!(said.starts_with(answer), "{half}: {said}");
    }
    assert_eq!(sent(client().get(served.url("/v1/runs"))).await.2, json!({ "runs": [] }));
    served.end().await;
}

#[tokio::test]
async fn a_stream_without_events_shows_that_it_is_there() {
    let limits = Limits { keep_alive: Duration::from_millis(20), ..Limits::default() };
    let served = Embedded::new(talker(), limits).await;
    let mut quiet = TcpStream::connect(&served.address).await.unwrap();
    quiet.write_all(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut seen = String::new();
    let pings = async {
        while seen.matches(": ping\n\n").count() < 3 {
            let mut bytes = [0; 1024];
            let count = quiet.read(&mut bytes).await.unwrap();
            seen += std::str::from_utf8(&bytes[..count]).unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, pings).await.expect("it pings");
    served.end().await;
}

#[tokio::test]
async fn pipelines_are_asked_like_agents_and_as_models() {
    let loud = Pipeline::new("loud").apply(|text: String| text.to_uppercase()).build().unwrap();
    let words = Pipeline::new("words")
        .then(&loud)
        .apply(|text: String| text.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .build()
        .unwrap();
    let project = Project::new();
    let agents = project.runtime().agent(&loud).agent(&words);
    let served = Embedded::of(project, agents, Limits::default()).await;
    let post = |path: &str, body: Value| client().post(served.url(path)).json(&body);
    let ask = post("/v1/agents/words/runs", json!({ "prompt": "a b" }));
    assert_eq!(sent(ask).await.2["output"], json!(["A", "B"]));
    let shown = sent(client().get(served.url("/v1/agents/words"))).await.2;
    assert_eq!((&shown["kind"], &shown["state"]), (&json!("pipeline"), &json!("up")));
    for (model, expected) in [("words", r#"["A","B"]"#), ("loud", "A B")] {
        let messages = json!([{ "role": "user", "content": "a b" }]);
        let mut body = json!({ "model": model, "messages": messages });
        let said = sent(post("/v1/chat/completions", body.clone())).await.2;
        assert_eq!(said["choices"][0]["message"]["content"], expected);
        body["stream"] = true.into();
        let told = Stream::open(post("/v1/chat/completions", body)).await.rest().await;
        let pieces =
            told.iter().filter_map(|told| told.data["choices"][0]["delta"]["content"].as_str());
        assert_eq!(pieces.collect::<String>(), expected);
    }
    served.end().await;
}

#[tokio::test]
async fn clients_that_never_read_are_cut_off_and_others_are_unhurt() {
    let flood = (0..400).map(|_| Step::text("x".repeat(64 * 1024)));
    let life = Life::default()
        .on(When::prompt("flood"), flood.chain([Step::complete("done")]))
        .always([Step::complete("{{prompt}}")]);
    let limits = Limits { write_timeout: Duration::from_millis(300), ..Limits::default() };
    let served = Embedded::new(life, limits).await;
    let body = json!({ "prompt": "flood" }).to_string();
    let request = format!(
        "POST /v1/agents/talker/runs HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\
         X-Axon-Disconnect: detach\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut deaf = TcpStream::connect(&served.address).await.unwrap();
    deaf.write_all(request.as_bytes()).await.unwrap();
    let ask = client().post(served.url("/v1/agents/talker/runs")).json(&json!({ "prompt": "hi" }));
    let (_, _, answer) = sent(ask).await;
    assert_eq!(answer["output"], "hi");
    let ended = async || served.runtime.tree().await.runs == 0;
    until("the run has ended, whoever listens", ended).await;
    let listed = client().get(served.url("/v1/runs?state=completed"));
    assert_eq!(sent(listed).await.2["runs"].as_array().unwrap().len(), 2);
    // A connection that is closed on the other side answers what is sent to it with a reset.
    until("it is cut off", async || deaf.write_all(b"x").await.is_err()).await;
    served.end().await;
}

#[tokio::test]
async fn the_router_is_mounted_beside_routes_of_the_service() {
    let project = Project::new();
    let played = Played::new(&project, "talker", talker());
    let runtime = project.runtime().agent(&played).start().await.unwrap();
    let server = Server::builder(runtime.clone())
        .token("0123456789abcdef")
        .metrics(|| "mine 1\n".to_owned());
    let router = server.build().unwrap().router();
    let own = axum::routing::get(async || "mine");
    let app = axum::Router::new().route("/own", own).nest("/axon", router);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let get = |path: &str| client().get(format!("http://{address}{path}"));
    assert_eq!(sent(get("/own")).await.2, Value::from("mine"));
    assert_eq!(sent(get("/axon/metrics")).await.2, Value::from("mine 1\n"));
    assert_eq!(sent(get("/axon/healthz")).await.0, StatusCode::OK);
    assert_eq!(refused(get("/axon/v1/runs")).await.0, 401);
    let listed = sent(get("/axon/v1/runs").bearer_auth("0123456789abcdef")).await;
    assert_eq!(listed.2, json!({ "runs": [] }));
    let ask = client().post(format!("http://{address}/axon/v1/agents/talker/runs"));
    let ask = ask.bearer_auth("0123456789abcdef").json(&json!({ "prompt": "hi" }));
    let (_, headers, body) = sent(ask.header("Prefer", "respond-async")).await;
    assert_eq!(headers["location"].to_str().unwrap(), body["location"]);
    let found = get(body["location"].as_str().unwrap()).bearer_auth("0123456789abcdef");
    assert_eq!(sent(found).await.2["run_id"], body["run_id"]);
    serving.abort();
    runtime.shutdown().await;
}

//! Links that break, services that end in mid-run, and what answers and is no service.

use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axon_test::scripted_runner::{Life, Step, When};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::super::service::Service;
use super::super::{talking, write_agent};
use super::{lines, text};
use crate::command_line::{axon, run, signal};
use crate::store_command::records::{EVIL, check_tame, waiting_with};
use crate::store_command::terminal::Terminal;
use crate::support::{PATIENCE, Project, until};

/// What a fake service was asked: the head of each request.
type Asked = Arc<Mutex<Vec<String>>>;

/// A server that gives the same answer to everything, byte by byte as it is, and then hangs up.
pub(super) struct Fake {
    pub(super) url: String,
    asked: Asked,
}

impl Fake {
    pub(super) async fn start(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", answer).await
    }

    /// Starts it at a place where another one was.
    pub(super) async fn at(
        address: &str,
        answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, answer) = (Asked::default(), Arc::new(answer));
        let heard = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (heard, answer) = (heard.clone(), answer.clone());
                tokio::spawn(async move {
                    let head = head(&mut stream).await;
                    heard.lock().unwrap().push(head.clone());
                    // A client that goes is no error of the server's.
                    let _gone = stream.write_all(&answer(&head)).await;
                    let _gone = stream.shutdown().await;
                });
            }
        });
        Self { url, asked }
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Reads the head of a request, and its body, too, where it says how long that is.
pub(in crate::serve) async fn head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text.to_lowercase().split("content-length: ").nth(1).map(str::to_owned);
            let length = length.and_then(|rest| rest.lines().next()?.trim().parse::<usize>().ok());
            if bytes.len() >= end + 4 + length.unwrap_or_default() {
                return text;
            }
        }
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return text,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
        }
    }
}

/// Writes an answer as a service would.
pub(super) fn answered(status: &str, kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\naxon-api: 1\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

fn json_answer(body: &Value) -> Vec<u8> {
    answered("200 OK", "application/json", &body.to_string())
}

/// The answers of a service with an agent whose one run streams this.
pub(super) fn telling(
    stream: impl Into<String>,
) -> impl Fn(&str) -> Vec<u8> + Send + Sync + 'static {
    let stream = stream.into();
    move |head| {
        let agent = json!({
            "name": "talker", "kind": "agent", "state": "up", "generation": 1, "pid": 1,
            "model": "m", "offline": false, "in_flight": 0, "queued": 0, "restarts_left": 3,
            "runners": [], "tools": [],
        });
        match head.split(' ').nth(1).unwrap_or_default() {
            "/v1/agents/talker" => json_answer(&agent),
            "/v1/agents/talker/runs" => {
                answered("202 Accepted", "application/json", r#"{"run_id":"run-1"}"#)
            }
            _ => format!(
                "HTTP/1.1 200 OK\r\naxon-api: 1\r\ncontent-type: text/event-stream\r\n\r\n{stream}"
            )
            .into_bytes(),
        }
    }
}

pub(super) fn told(seq: u64, event: &Value) -> String {
    let mut data = json!({ "run_id": "run-1", "seq": seq, "attempt": 1, "at": 1 });
    data.as_object_mut().unwrap().extend(event.as_object().unwrap().clone());
    format!("id: {seq}\nevent: x\ndata: {data}\n\n")
}

pub(super) fn completed(output: &str) -> Value {
    json!({
        "event": "completed", "output": output, "usage": {}, "model": "m", "offline": false,
        "attempts": 1, "duration_ms": 1,
    })
}

async fn typed(url: &str, words: &[&str]) -> (i32, String, String) {
    let project = Project::new();
    run(&project, &[&["--url", url], words].concat()).await
}

#[tokio::test]
async fn what_is_no_service_is_an_error_and_nothing_else() {
    let nested = "[".repeat(100_000);
    for answer in [
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
        b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 2\r\n\r\n\x1b[".to_vec(),
        b"HTTP/1.1 200 OK\r\naxon-api: 2\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
        b"HTTP/1.1 200 OK\r\naxon-api: 1\r\ncontent-length: 9\r\n\r\n{".to_vec(),
        b"HTTP/1.1 200 OK\r\naxon-api: 1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        answered("200 OK", "application/json", &nested),
        answered("500 Internal Server Error", "application/problem+json", &nested),
        answered("204 No Content", "text/plain", ""),
        json_answer(&json!({ "agents": {}, "runs": {}, "root": {} })),
        json_answer(&json!({ "runs": [{
            "run_id": "\u{1b}[2J", "agent": "a", "state": "running", "accepted_at": 1,
            "updated_at": 1, "recorded": 1, "owner": "us",
        }] })),
        Vec::new(),
    ] {
        let shown = String::from_utf8_lossy(&answer).chars().take(120).collect::<String>();
        let fake = Fake::start(move |_| answer.clone()).await;
        for words in [&["runs"] as &[&str], &["agents"], &["tree"], &["runs", "show", "abcdef"]] {
            let (code, stdout, stderr) = typed(&fake.url, words).await;
            // A list of runs is none of agents, and the other way round.
            assert_eq!((code, stdout.as_str()), (4, ""), "{words:?} {shown}: {stderr}");
            assert!(stderr.contains("error[no_service]"), "{words:?} {shown}: {stderr}");
            assert!(!stderr.contains('\u{1b}') && !stderr.contains("panicked"), "{stderr:?}");
        }
    }
}

#[tokio::test]
async fn a_token_goes_nowhere_but_to_the_service_that_was_named() {
    let elsewhere = Fake::start(|_| json_answer(&json!({ "agents": [] }))).await;
    let location = format!("{}/v1/agents", elsewhere.url);
    let fake = Fake::start(move |_| {
        format!(
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
        )
        .into_bytes()
    })
    .await;
    let project = Project::new();
    project.write("token", "all-0123456789abcdef");
    let words = ["--url", &fake.url, "--token-file", "token", "agents"];
    let (code, _, stderr) = run(&project, &words).await;
    assert_eq!(code, 4, "{stderr}");
    assert!(fake.asked()[0].contains("all-0123456789abcdef"));
    assert_eq!(elsewhere.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_stream_that_is_none_is_an_error_and_nothing_else() {
    let fine = told(1, &json!({ "event": "text_delta", "text": "hi" }));
    for stream in [
        "data: {}\n\n".to_owned(),
        "data: \u{1b}[2J\n\n".to_owned(),
        format!("\u{feff}{fine}"),
        fine.replace("run-1", "run-2"),
        fine.replace("text_delta", "nothing_known"),
        "event: lagged\ndata: {}\n\n".to_owned(),
    ] {
        let fake = Fake::start(telling(stream.clone())).await;
        let (code, _, stderr) = typed(&fake.url, &["run", "talker", "hi"]).await;
        assert!(code == 4 && stderr.contains("error[no_service]"), "{stream}: {code} {stderr}");
        assert!(!stderr.contains('\u{1b}') && !stderr.contains("panicked"), "{stderr:?}");
    }
}

#[tokio::test]
async fn nothing_that_a_service_sends_controls_the_terminal() {
    let evil = "\u{1b}[2J\u{1b}]0;owned\u{7}";
    let delta = told(1, &json!({ "event": "text_delta", "text": evil }));
    let stream = format!("{delta}{}", told(2, &completed(&format!("{evil} done"))));
    let fake = Fake::start(telling(stream)).await;
    let project = Project::new();
    let at = Terminal::start(&project, &["--url", &fake.url, "run", "talker", "hi"]);
    let (code, shown) = at.ends().await;
    assert!(code == 0 && shown.contains("done"), "{code}: {shown}");
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{7}'), "{shown:?}");
    let refusal = json!({ "code": evil, "detail": evil, "status": 400 }).to_string();
    let fake =
        Fake::start(move |_| answered("400 Bad", "application/problem+json", &refusal)).await;
    for words in [&["agents"] as &[&str], &["run", "talker", "hi"], &["runs"]] {
        let at = Terminal::start(&project, &[&["--url", &fake.url], words].concat());
        let (code, shown) = at.ends().await;
        assert!(code == 1 && shown.contains("error[refused]"), "{code}: {shown}");
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }
    let fake = Fake::start(|head| waiting_run(head, &[EVIL, "c2"])).await;
    for words in [
        &["runs"] as &[&str],
        &["runs", "show", "run-1"],
        &["runs", "resume", "run-1"],
        &["deny", "run-1", "c2"],
    ] {
        let at = Terminal::in_colour(&project, &[&["--url", &fake.url], words].concat());
        let (_, shown) = at.ends().await;
        assert!(shown.contains("run-1 "), "{words:?}: {shown}");
        check_tame(&shown);
    }
    let words = ["--url", &fake.url, "chat", "talker", "--continue"];
    let mut at = Terminal::in_colour(&project, &words);
    let before = at.shows(" goes on").await;
    at.types("/quit");
    let (code, shown) = at.ends().await;
    assert!(code == 0 && shown.contains("go on with it"), "{code}: {shown}");
    check_tame(&format!("{before}{shown}"));
}

/// The answers of a service with one run, which waits for decisions about these calls, and has texts
/// that would control the terminal.
fn waiting_run(head: &str, calls: &[&str]) -> Vec<u8> {
    let run = json!({
        "run_id": "run-1", "agent": "talker", "state": "paused", "waits_for": EVIL,
        "conversation_id": EVIL, "accepted_at": 1, "updated_at": 1, "recorded": 4,
        "owner": { "other": EVIL },
    });
    match head.split([' ', '?']).nth(1).unwrap_or_default() {
        // None of them keeps a conversation's turn.
        "/v1/runs" if head.contains("unowned") => json_answer(&json!({ "runs": [] })),
        "/v1/runs" => json_answer(&json!({ "runs": [run] })),
        "/v1/runs/run-1" => json_answer(&run),
        "/v1/runs/run-1/events" => json_answer(&json!({ "events": lines(&waiting_with(calls)) })),
        "/v1/runs/run-1/approvals" => json_answer(&json!({ "undecided": [EVIL] })),
        path if path.starts_with("/v1/conversations/") => json_answer(&json!({ "messages": [{}] })),
        _ => telling("")(head),
    }
}

#[tokio::test]
async fn ctrl_c_ends_a_command_whose_service_never_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let held = Arc::new(Mutex::new(Vec::new()));
    let holding = held.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            holding.lock().unwrap().push(stream);
        }
    });
    let project = Project::new();
    for (index, words) in [
        &["run", "talker", "hi"] as &[&str],
        &["chat", "talker"],
        &["agents"],
        &["tree"],
        &["tree", "--watch"],
        &["runs"],
        &["runs", "show", "run-1"],
        &["runs", "events", "run-1"],
        &["runs", "cancel", "run-1"],
        &["runs", "export", "run-1"],
        &["runs", "resume", "run-1"],
        &["runs", "resume"],
        &["runs", "resolve", "run-1", "--retry"],
        &["approve", "run-1"],
        &["deny", "run-1"],
        &["answer", "run-1", "yes"],
    ]
    .into_iter()
    .enumerate()
    {
        let mut command = axon(&project, &[&["--url", &url], words].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("it asks", async || held.lock().unwrap().len() > index).await;
        signal(&child, Signal::INT);
        let status = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(130), "{words:?}");
    }
}

/// A service that tells of its run, which waits with these calls, and answers no order. Returns its
/// URL, and the orders.
async fn deaf(calls: &'static [&'static str]) -> (String, Arc<Mutex<Vec<TcpStream>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let orders = Arc::new(Mutex::new(Vec::new()));
    let held = orders.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let asked = head(&mut stream).await;
            if asked.starts_with("GET") {
                stream.write_all(&waiting_run(&asked, calls)).await.unwrap();
            } else {
                held.lock().unwrap().push(stream);
            }
        }
    });
    (url, orders)
}

#[tokio::test]
async fn a_signal_ends_a_command_whose_order_nobody_answers() {
    let project = Project::new();
    for (words, calls, may_be) in [
        (&["approve", "run-1"] as &[&str], &["c1"] as &[&str], "it may be decided all the same"),
        (&["runs", "resume", "run-1"], &[], "run run-1 may go on all the same"),
        (&["runs", "cancel", "run-1"], &[], "the run may be cancelled all the same"),
    ] {
        let (url, orders) = deaf(calls).await;
        let mut command = axon(&project, &[&["--url", &url], words].concat());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("it orders", async || !orders.lock().unwrap().is_empty()).await;
        signal(&child, Signal::TERM);
        let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        let ended = ended.unwrap().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(143), "{words:?}: {said}");
        assert!(said.contains(may_be), "{words:?}: {said}");
    }
}

/// Passes on what goes to `address`, and hangs up on each answer after so many bytes.
async fn cutting(address: String, after: usize) -> (String, Arc<Mutex<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let cuts = Arc::new(Mutex::new(0));
    let counted = cuts.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (address, counted) = (address.clone(), counted.clone());
            tokio::spawn(async move {
                let server = TcpStream::connect(address).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (from_server, mut to_server) = server.into_split();
                tokio::spawn(async move {
                    let _gone = tokio::io::copy(&mut from_client, &mut to_server).await;
                });
                let mut answer = from_server.take(after as u64);
                let passed = tokio::io::copy(&mut answer, &mut to_client).await;
                if passed.is_ok_and(|passed| passed == after as u64) {
                    *counted.lock().unwrap() += 1;
                }
                let _gone = to_client.shutdown().await;
            });
        }
    });
    (url, cuts)
}

#[tokio::test]
async fn a_link_that_breaks_again_and_again_loses_nothing_and_repeats_nothing() {
    let (project, service) = talking().await;
    let (url, cuts) = cutting(service.address.clone(), 2500).await;
    let words = ["--url", &url, "run", "talker", "slow", "--json"];
    let (code, stdout, stderr) = run(&project, &words).await;
    assert_eq!(code, 0, "{stderr}");
    let events = lines(&stdout);
    let expected: String = (0..20).map(|n| format!("{n} ")).collect();
    assert_eq!(text(&events), expected, "{stdout}");
    let numbers: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    assert_eq!(events.last().unwrap()["event"], "completed");
    assert!(*cuts.lock().unwrap() > 1, "the link was not cut");
    let listed = run(&project, &["--url", &service.url(""), "runs", "--json"]).await.1;
    assert_eq!(lines(&listed).len(), 1, "one run comes of it: {listed}");
}

#[tokio::test]
async fn a_run_whose_service_is_killed_or_ended_goes_on_with_the_next_one() {
    for ends in [Signal::KILL, Signal::TERM] {
        let project = Project::new();
        let life = Life::default()
            .on(When::attempt(1), [Step::text("lost"), Step::Hang])
            .always([Step::text("found"), Step::complete("found")]);
        write_agent(&project, "talker", life, |_| ());
        let service = Service::start(&project, &["--drain", "10ms"]).await;
        let (address, url) = (service.address.clone(), service.url(""));
        let mut command = axon(&project, &["--url", &url, "run", "talker", "hi", "--json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut shown = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen: Vec<Value> = Vec::new();
        while seen.last().is_none_or(|last| last["event"] != "text_delta") {
            let line = tokio::time::timeout(PATIENCE, shown.next_line()).await.unwrap().unwrap();
            seen.push(serde_json::from_str(&line.expect("the run streams")).unwrap());
        }
        service.signal(ends);
        service.ended().await;
        let service = Service::start_at(&project, &address).await;
        while let Some(line) =
            tokio::time::timeout(PATIENCE, shown.next_line()).await.unwrap().unwrap()
        {
            seen.push(serde_json::from_str(&line).unwrap());
        }
        let status = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(0), "{ends:?}: {seen:#?}");
        let names: Vec<&str> = seen.iter().map(|event| event["event"].as_str().unwrap()).collect();
        assert_eq!(names.iter().filter(|name| **name == "accepted").count(), 1, "{names:?}");
        assert!(names.contains(&"recovered") && !names.contains(&"paused"), "{names:?}");
        assert_eq!(seen.last().unwrap()["output"], "found");
        // Text is on no record: of the second attempt it is seen if the service is back in time.
        let text = text(&seen);
        assert!(["lost", "lostfound"].contains(&text.as_str()), "{text}");
        let numbers: Vec<u64> = seen.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
        assert_eq!(service.stop().await, 0);
    }
}

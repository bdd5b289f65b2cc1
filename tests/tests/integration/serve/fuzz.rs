//! Requests that nobody would write: whatever comes, the service refuses or answers it, and serves on.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Map, Value, json};

use super::service::ok;
use super::talking;
use crate::support::PATIENCE;

/// Paths as clients build them. What would stop the agent on purpose is not among them.
const PATHS: [&str; 20] = [
    "/v1/agents/talker/runs",
    "/v1/agents/talker/runs?disconnect={}",
    "/v1/agents/{}/runs",
    "/v1/agents/{}/drain?deadline={}",
    "/v1/agents/{}/restart",
    "/v1/agents/{}",
    "/v1/agents",
    "/v1/runs?state={}&limit={}",
    "/v1/runs?{}",
    "/v1/runs/{}",
    "/v1/runs/{}/events?after={}",
    "/v1/runs/{}/messages",
    "/v1/runs/{}/approvals",
    "/v1/runs/{}/resolve",
    "/v1/conversations/{}",
    "/v1/chat/completions",
    "/v1/models/{}",
    "/v1/tickets",
    "/v1/tree",
    "{}",
];

/// Headers that the service looks at, and some that it should not mind.
const HEADERS: [&str; 14] = [
    "Accept",
    "Authorization",
    "Content-Type",
    "Content-Encoding",
    "Expect",
    "Host",
    "Idempotency-Key",
    "Last-Event-ID",
    "Origin",
    "Prefer",
    "Transfer-Encoding",
    "Upgrade",
    "X-Axon-Disconnect",
    "traceparent",
];

/// Members of the bodies that the routes take.
const MEMBERS: [&str; 22] = [
    "prompt",
    "deps",
    "conversation_id",
    "message_history",
    "state",
    "model_settings",
    "limits",
    "timeout",
    "metadata",
    "tool_call_id",
    "approve",
    "args",
    "always",
    "message",
    "answer",
    "verdict",
    "result",
    "content",
    "model",
    "messages",
    "stream",
    "axon",
];

/// How many requests are sent.
const CASES: u32 = 5000;

/// A request as it is sent.
#[derive(Clone)]
struct Bytes(Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.escape_ascii().to_string())
    }
}

fn words() -> impl Strategy<Value = Vec<u8>> {
    let known = [
        "text/event-stream",
        "application/json",
        "respond-async",
        "detach",
        "cancel",
        "chunked",
        "100-continue",
        "gzip",
        "null",
        "0",
        "-1",
        "18446744073709551616",
        "30s",
        "localhost",
        "%00",
        "%ff",
        "..%2f..",
        "completed,paused",
        "a",
        "00-0-0-0",
    ];
    prop_oneof![
        4 => proptest::sample::select(known.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
        2 => "[ -~]{0,40}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..40),
        1 => "\\PC{0,20}".prop_map(String::into_bytes),
    ]
}

fn values() -> impl Strategy<Value = Value> {
    let leaves = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        proptest::sample::select(vec!["user", "text", "skip", "talker", "1s"])
            .prop_map(Value::from),
    ];
    leaves.prop_recursive(4, 24, 4, |inner| {
        let named = (proptest::sample::select(MEMBERS.to_vec()), inner.clone());
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec(named, 0..4).prop_map(|members| {
                let named = |(name, value): (&str, Value)| (name.to_owned(), value);
                Value::Object(members.into_iter().map(named).collect::<Map<_, _>>())
            }),
        ]
    })
}

/// Bodies: nearly right ones, other JSON, halves of it, and anything.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let members = vec((proptest::sample::select(MEMBERS.to_vec()), values()), 0..4);
    let right = prop_oneof![
        Just(json!({ "prompt": "hi" })),
        Just(json!({ "tool_call_id": "c", "approve": true })),
        Just(json!({ "model": "talker", "messages": [{ "role": "user", "content": "hi" }] })),
    ];
    let nearly = (right, members).prop_map(|(mut body, members)| {
        for (name, value) in members {
            body[name] = value;
        }
        body.to_string().into_bytes()
    });
    let json = values().prop_map(|value| value.to_string().into_bytes());
    let whole = prop_oneof![4 => nearly, 1 => json, 1 => vec(any::<u8>(), 0..200)];
    (whole, option::weighted(0.2, 0.0..1.0_f64)).prop_map(|(mut body, cut)| {
        if let Some(part) = cut {
            body.truncate((body.len() as f64 * part) as usize);
        }
        body
    })
}

/// How the length of the body is told.
#[derive(Clone, Copy, Debug)]
enum Length {
    Right,
    Wrong(i64),
    Chunked,
    Nothing,
}

fn requests() -> impl Strategy<Value = Bytes> {
    let methods = ["GET", "POST", "POST", "POST", "DELETE", "PUT", "OPTIONS", "HEAD", "get", "X-Y"];
    let path = (proptest::sample::select(PATHS.to_vec()), vec(words(), 2));
    let headers = vec((proptest::sample::select(HEADERS.to_vec()), words()), 0..5);
    let length = prop_oneof![
        6 => Just(Length::Right),
        1 => (-3..2000_i64).prop_map(Length::Wrong),
        1 => Just(Length::Chunked),
        1 => Just(Length::Nothing),
    ];
    let is_plain = proptest::bool::weighted(0.8);
    let method = proptest::sample::select(methods.to_vec());
    (method, path, headers, bodies(), length, is_plain).prop_map(
        |(method, (path, words), headers, body, length, is_plain)| {
            let mut sent = format!("{method} ").into_bytes();
            let mut words = words.iter();
            for (at, piece) in path.split("{}").enumerate() {
                if at > 0 {
                    let word = words.next().expect("there are as many words as gaps");
                    sent.extend(word.iter().filter(|byte| !b" \r\n".contains(byte)));
                }
                sent.extend(piece.as_bytes());
            }
            sent.extend(b" HTTP/1.1\r\nConnection: close\r\n");
            if is_plain {
                sent.extend(b"Host: localhost\r\nContent-Type: application/json\r\n");
            }
            for (name, value) in headers {
                sent.extend(format!("{name}: ").as_bytes());
                sent.extend(value.iter().filter(|byte| !b"\r\n".contains(byte)));
                sent.extend(b"\r\n");
            }
            finish(&mut sent, &body, length);
            Bytes(sent)
        },
    )
}

fn finish(sent: &mut Vec<u8>, body: &[u8], length: Length) {
    let told = i64::try_from(body.len()).expect("bodies are short");
    match length {
        Length::Right => sent.extend(format!("Content-Length: {told}\r\n\r\n").as_bytes()),
        Length::Wrong(by) => {
            sent.extend(format!("Content-Length: {}\r\n\r\n", told + by).as_bytes());
        }
        Length::Chunked => {
            let head = format!("Transfer-Encoding: chunked\r\n\r\n{told:x}\r\n");
            sent.extend(head.as_bytes());
        }
        Length::Nothing => sent.extend(b"\r\n"),
    }
    sent.extend(body);
    if matches!(length, Length::Chunked) {
        sent.extend(b"\r\n0\r\n\r\n");
    }
}

/// Sends a request, and returns the status of the answer; 0 if the connection was closed instead.
fn status(address: &str, request: &[u8]) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // Whoever is refused early does not take the rest.
    let _refused = stream.write_all(request);
    let mut head = Vec::new();
    let mut piece = [0; 512];
    while head.len() < 12 {
        // So that a body that is too short is known to end here.
        let _closed = stream.shutdown(Shutdown::Write);
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => head.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error),
        }
    }
    let status = head.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    Ok(status.and_then(|status| std::str::from_utf8(status).ok()?.parse().ok()).unwrap_or(0))
}

#[tokio::test]
async fn nothing_that_is_sent_breaks_the_service() {
    let (_project, service) = talking().await;
    let address = service.address.clone();
    let config = Config {
        cases: CASES,
        max_shrink_iters: 100,
        failure_persistence: None,
        ..Config::default()
    };
    let seen = tokio::task::spawn_blocking(move || {
        let mut seen = std::collections::BTreeMap::<u16, usize>::new();
        let tell = std::cell::RefCell::new(&mut seen);
        let ran = TestRunner::new(config).run(&requests(), |Bytes(request)| {
            let status = status(&address, &request)
                .map_err(|error| TestCaseError::fail(format!("never answered: {error}")))?;
            *tell.borrow_mut().entry(status).or_default() += 1;
            prop_assert!(status < 500, "answered {status}");
            Ok(())
        });
        ran.map(|()| seen).map_err(|failed| failed.to_string())
    });
    let seen = seen.await.unwrap();
    let seen = seen.unwrap_or_else(|failed| panic!("{failed}\n{}", service.said()));
    // Else nothing would have been tried behind the first check.
    for expected in [200, 400, 404, 422] {
        assert!(seen.contains_key(&expected), "{seen:?}");
    }
    assert!(!service.said().contains("panicked"), "{}", service.said());
    assert_eq!(ok(service.ask("hello")).await["outcome"], "completed");
    tokio::time::timeout(Duration::from_secs(30), service.stop()).await.expect("it ends");
}

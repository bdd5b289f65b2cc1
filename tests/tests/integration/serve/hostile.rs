//! Clients that mean harm, or do not know what they do: they are refused, and nobody else notices.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::service::{Service, ok, refused, sent};
use super::talking;
use crate::support::PATIENCE;

const HEAD: &str = "Host: localhost\r\nContent-Type: application/json\r\n";

/// Sends bytes, and returns what comes before the connection is closed.
async fn raw(service: &Service, bytes: &[u8]) -> String {
    let stream = TcpStream::connect(&service.address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let bytes = bytes.to_owned();
    // Whoever is refused early does not take the rest.
    let sending = tokio::spawn(async move {
        let _refused = writer.write_all(&bytes).await;
        writer
    });
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, reader.read_to_end(&mut answer)).await;
    let _reset = read.expect("the connection is closed");
    sending.abort();
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> &str {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or("")
}

fn post(body_head: &str) -> Vec<u8> {
    format!("POST /v1/agents/talker/runs HTTP/1.1\r\n{HEAD}{body_head}").into_bytes()
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_the_service_serves_on() {
    let (_project, service) = talking().await;
    let garbage: Vec<u8> = (0..4096_u32).map(|n| (n * 7919 % 251) as u8 + 3).collect();
    assert!(matches!(status(&raw(&service, &garbage).await), "400" | ""));
    let many = format!("GET /v1/runs HTTP/1.1\r\n{HEAD}{}\r\n", "A: b\r\n".repeat(5000));
    assert!(matches!(status(&raw(&service, many.as_bytes()).await), "431" | "400"));
    let long = format!("GET /v1/runs HTTP/1.1\r\n{HEAD}A: {}\r\n\r\n", "x".repeat(1 << 20));
    assert_eq!(status(&raw(&service, long.as_bytes()).await), "431");
    let path = format!("GET /{} HTTP/1.1\r\n{HEAD}\r\n", "x".repeat(1 << 20));
    assert!(matches!(status(&raw(&service, path.as_bytes()).await), "414" | "431" | "400"));
    let close = "Connection: close\r\n";
    let without = format!("GET /v1/runs HTTP/1.1\r\n{close}\r\n");
    assert_eq!(status(&raw(&service, without.as_bytes()).await), "400");
    let twice = format!("GET /v1/runs HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n{close}\r\n");
    assert_eq!(status(&raw(&service, twice.as_bytes()).await), "400");
    let elsewhere = format!("GET http://evil.example/v1/runs HTTP/1.1\r\n{HEAD}{close}\r\n");
    assert_eq!(status(&raw(&service, elsewhere.as_bytes()).await), "403");
    let broken = format!("GET /v1/runs/%ff%fe HTTP/1.1\r\n{HEAD}{close}\r\n");
    assert_eq!(status(&raw(&service, broken.as_bytes()).await), "400");
    let both = post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert!(!status(&raw(&service, &both).await).starts_with('5'));
    assert_eq!(ok(service.ask("hello")).await["outcome"], "completed");
}

#[tokio::test]
async fn json_that_is_too_deep_or_too_large_is_refused_before_it_is_read() {
    let (_project, service) = talking().await;
    let deep = format!("{{\"prompt\":\"hi\",\"deps\":{}1{}}}", "[".repeat(500), "]".repeat(500));
    let body = |text: String| service.ask("").body(text);
    assert_eq!(refused(body(deep)).await, (400, "invalid_json".to_owned()));
    let bottomless = "[".repeat(1_000_000);
    assert_eq!(refused(body(bottomless)).await, (400, "invalid_json".to_owned()));
    let huge = format!("{{\"prompt\":\"hi\",\"deps\":{}}}", "9".repeat(1_000_000));
    assert_eq!(refused(body(huge)).await.0, 400);
    let long = json!({ "prompt": "x".repeat(2 << 20) });
    let (status, _, _) = sent(service.post("/v1/agents/talker/runs", &long)).await;
    assert_eq!(status.as_u16(), 422);
    let said = 100 * 1024 * 1024;
    let mut large = post(&format!("Content-Length: {said}\r\n\r\n{{\"prompt\":\""));
    large.resize(said, b'x');
    assert_eq!(self::status(&raw(&service, &large).await), "413");
    let mut chunked = post("Transfer-Encoding: chunked\r\n\r\n");
    for _ in 0..100 {
        chunked.extend_from_slice(b"100000\r\n");
        chunked.resize(chunked.len() + 0x10_0000, b' ');
        chunked.extend_from_slice(b"\r\n");
    }
    assert_eq!(self::status(&raw(&service, &chunked).await), "413");
    assert_eq!(ok(service.ask("hello")).await["outcome"], "completed");
}

#[tokio::test]
async fn clients_that_never_finish_a_request_are_cut_off_while_others_are_served() {
    let (_project, service) = talking().await;
    let mut idle = Vec::new();
    for bytes in ["", "GET /v1", "GET /v1/runs HTTP/1.1\r\nHost: loc"] {
        let mut stream = TcpStream::connect(&service.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        idle.push(stream);
    }
    let began = Instant::now();
    assert_eq!(ok(service.ask("hello")).await["outcome"], "completed");
    for mut stream in idle {
        // A byte now and then keeps nobody.
        let _closed = stream.write_all(b"x").await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        let _reset = read.expect("it is cut off");
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

//! Questions whose answers are lost, and streams that tell nothing.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr};

use super::super::service::Service;
use super::super::talking;
use super::broken::{Fake, answered, completed, head, telling, told};
use super::lines;
use crate::command_line::{axon, run};
use crate::support::{PATIENCE, Project};

/// Asks, and waits until the command has found nobody there any more.
async fn asks(project: &Project, url: &str) -> (Child, BufReader<ChildStderr>) {
    let mut command = axon(project, &["--url", url, "run", "talker", "hi"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    tokio::time::timeout(PATIENCE, said.read_line(&mut line)).await.unwrap().unwrap();
    assert!(line.contains("the service does not answer: waiting for it"), "{line}");
    (child, said)
}

/// Waits for the end of a command that succeeds, and returns its answer.
async fn answer(child: Child, mut said: BufReader<ChildStderr>) -> String {
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    let mut rest = String::new();
    said.read_to_string(&mut rest).await.unwrap();
    assert_eq!(ended.status.code(), Some(0), "{rest}");
    String::from_utf8(ended.stdout).unwrap().trim_end().to_owned()
}

/// Returns the key of the question among what a service was asked.
fn key(head: &str) -> &str {
    let key = head.lines().find_map(|line| line.strip_prefix("idempotency-key: "));
    key.unwrap_or_else(|| panic!("it has a key: {head}"))
}

#[tokio::test]
async fn a_question_that_may_have_been_taken_is_asked_until_a_service_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // It takes the question and is gone, and nobody is there for a while.
    let first = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let asked = head(&mut stream).await;
            if asked.starts_with("POST") {
                return asked;
            }
            stream.write_all(&telling("")(&asked)).await.unwrap();
        }
    });
    let project = Project::new();
    let (child, said) = asks(&project, &format!("http://{address}")).await;
    let first = first.await.unwrap();
    // The next one ends once more, and then there is one that stays.
    let stream = telling(told(1, &completed("hello")));
    let questions = AtomicUsize::new(0);
    let fake = Fake::at(&address, move |head| {
        let is_question = head.starts_with("POST");
        if is_question && questions.fetch_add(1, Ordering::SeqCst) == 0 {
            let draining = json!({ "code": "draining", "detail": "it ends", "status": 503 });
            return answered("503 Gone", "application/problem+json", &draining.to_string());
        }
        stream(head)
    })
    .await;
    assert_eq!(answer(child, said).await, "hello");
    let asked = fake.asked();
    let keys: Vec<&str> =
        asked.iter().filter(|head| head.starts_with("POST")).map(|head| key(head)).collect();
    assert_eq!(keys, [key(&first); 2]);
}

#[tokio::test]
async fn a_service_that_is_killed_before_it_answers_leaves_one_run() {
    let (project, service) = talking().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let behind = service.address.clone();
    // It passes everything on, but for the answer to the question.
    let passing = tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let asked = question(&mut client).await;
            let mut server = TcpStream::connect(&behind).await.unwrap();
            server.write_all(asked.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            server.read_to_end(&mut answer).await.unwrap();
            let answer = String::from_utf8(answer).unwrap();
            if asked.starts_with("POST") {
                assert!(answer.contains("run_id"), "{answer}");
                service.signal(rustix::process::Signal::KILL);
                service.ended().await;
                return;
            }
            client.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let (child, said) = asks(&project, &format!("http://{address}")).await;
    passing.await.unwrap();
    let service = Service::start_at(&project, &address).await;
    assert_eq!(answer(child, said).await, "hi");
    let listed = run(&project, &["--url", &service.url(""), "runs", "--json"]).await.1;
    assert_eq!(lines(&listed).len(), 1, "{listed}");
    assert_eq!(service.stop().await, 0);
}

/// Reads a request, and returns it as one whose answer ends the connection.
async fn question(client: &mut TcpStream) -> String {
    let asked = head(client).await;
    asked.replacen("\r\n", "\r\nconnection: close\r\n", 1)
}

#[tokio::test]
async fn a_service_that_never_can_tell_what_a_run_does_is_not_asked_for_ever() {
    let opened = Arc::new(AtomicUsize::new(0));
    let counted = opened.clone();
    let unreadable =
        json!({ "event": "unreadable", "code": "storage_failed", "detail": "no disk" });
    let stream = telling(format!("event: unreadable\ndata: {unreadable}\n\n"));
    let fake = Fake::start(move |head| {
        counted.fetch_add(usize::from(head.contains("/events")), Ordering::SeqCst);
        stream(head)
    })
    .await;
    let project = Project::new();
    let mut command = axon(&project, &["--url", &fake.url, "run", "talker", "hi"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // As long as it may take a service to be started again, and then some.
    let patience = PATIENCE + Duration::from_secs(30);
    let ended = tokio::time::timeout(patience, child.wait_with_output()).await;
    let ended = ended.expect("it gives up").unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(4), "{said}");
    for text in ["waiting for it", "error[storage_failed]", "no disk", "runs events run-1"] {
        assert!(said.contains(text), "{text}: {said}");
    }
    assert!(opened.load(Ordering::SeqCst) > 10);
}

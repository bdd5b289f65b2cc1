//! The service as a process, and a client for it.

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::command_line::{axon, axon_with_tools, signal};
use crate::support::{PATIENCE, Project};

const SERVE: [&str; 4] = ["serve", "--listen", "127.0.0.1:0", "--offline"];

/// Returns the address that a line says, in the log's words or in those for people.
fn address_in(line: &str) -> Option<String> {
    let logged: Option<Value> = serde_json::from_str(line).ok();
    let said = logged.as_ref().map_or(Some(line), |logged| logged["message"].as_str())?;
    let (address, _) = said.strip_prefix("http://")?.split_once(" serves ")?;
    Some(address.to_owned())
}

/// What a service writes to stderr.
pub(crate) type Stderr = Lines<BufReader<ChildStderr>>;

/// `axon serve`, at a port that the system chose. Dropped, it is killed.
pub(crate) struct Service {
    child: Child,
    pub(crate) address: String,
    client: Client,
    said: Arc<Mutex<String>>,
}

impl Service {
    /// Starts it, and returns when it serves.
    pub(crate) async fn start(project: &Project, more: &[&str]) -> Self {
        Self::start_with(project, &[], more).await
    }

    /// Starts it with options of the command itself in front.
    pub(crate) async fn start_with(project: &Project, before: &[&str], more: &[&str]) -> Self {
        Self::typed(project, &[before, &SERVE, more].concat()).await
    }

    /// Starts it at a place where another one was.
    pub(crate) async fn start_at(project: &Project, address: &str) -> Self {
        Self::typed(project, &["serve", "--listen", address, "--offline"]).await
    }

    /// Starts it as it is typed.
    pub(crate) async fn typed(project: &Project, arguments: &[&str]) -> Self {
        Self::from_command(axon(project, arguments)).await
    }

    /// Starts it as a service that brings a Rust tool.
    pub(crate) async fn start_with_tools(project: &Project, before: &[&str]) -> Self {
        Self::from_command(axon_with_tools(project, &[before, &SERVE].concat())).await
    }

    /// Starts it as a service that brings a Rust tool, whose stderr nobody reads once it serves.
    pub(crate) async fn start_unheard(project: &Project, before: &[&str]) -> (Self, Stderr) {
        Self::until_served(axon_with_tools(project, &[before, &SERVE].concat())).await
    }

    async fn from_command(command: Command) -> Self {
        let (service, mut lines) = Self::until_served(command).await;
        let heard = service.said.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                *heard.lock().unwrap() += &format!("{line}\n");
            }
        });
        service
    }

    async fn until_served(mut command: Command) -> (Self, Stderr) {
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = Arc::new(Mutex::new(String::new()));
        let address = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                let address = address_in(&line);
                *said.lock().unwrap() += &format!("{line}\n");
                if let Some(address) = address {
                    return address;
                }
            }
            panic!("it never served: {}", said.lock().unwrap());
        };
        let address = tokio::time::timeout(PATIENCE, address).await.expect("it serves in time");
        let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        (Self { child, address, client, said }, lines)
    }

    /// Returns what it has written to stderr so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.client.post(self.url(path)).json(body)
    }

    /// Prepares what a form of any page can send.
    pub(crate) fn post_text(&self, path: &str, text: &str) -> RequestBuilder {
        self.client.post(self.url(path)).header(CONTENT_TYPE, "text/plain").body(text.to_owned())
    }

    pub(crate) fn delete(&self, path: &str) -> RequestBuilder {
        self.client.delete(self.url(path))
    }

    /// Prepares a question to the agent `talker`.
    pub(crate) fn ask(&self, prompt: &str) -> RequestBuilder {
        self.post("/v1/agents/talker/runs", &json!({ "prompt": prompt }))
    }

    /// Returns what is known of a run.
    pub(crate) async fn run(&self, id: &str) -> Value {
        ok(self.get(&format!("/v1/runs/{id}"))).await
    }

    /// Begins a run that nobody waits for, and returns its identity.
    pub(crate) async fn begin(&self, prompt: &str) -> String {
        let (status, _, body) = sent(self.ask(prompt).header("Prefer", "respond-async")).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        id_of(&body)
    }

    pub(crate) fn signal(&self, number: Signal) {
        signal(&self.child, number);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Waits for its end, and returns its exit code.
    pub(crate) async fn ended(mut self) -> i32 {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends");
        status.unwrap().code().unwrap_or(-1)
    }

    /// Ends it in good order.
    pub(crate) async fn stop(self) -> i32 {
        self.signal(Signal::TERM);
        self.ended().await
    }
}

pub(crate) fn id_of(body: &Value) -> String {
    body["run_id"].as_str().unwrap_or_else(|| panic!("no run in {body}")).to_owned()
}

/// Sends a request, and returns the answer's status, headers and JSON; text where it is none.
pub(crate) async fn sent(request: RequestBuilder) -> (StatusCode, HeaderMap, Value) {
    let answer = request.send().await.expect("it is answered");
    let (status, headers) = (answer.status(), answer.headers().clone());
    let text = answer.text().await.expect("the answer is read");
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    (status, headers, body)
}

/// Sends a request that is answered well, and returns its JSON.
pub(crate) async fn ok(request: RequestBuilder) -> Value {
    let (status, _, body) = sent(request).await;
    assert!(status.is_success(), "{status}: {body}");
    body
}

/// Sends a request that is refused, and returns the status and the code of the problem.
pub(crate) async fn refused(request: RequestBuilder) -> (u16, String) {
    let (status, headers, body) = sent(request).await;
    assert_eq!(headers["content-type"], "application/problem+json", "{body}");
    assert_eq!(body["status"], status.as_u16(), "{body}");
    assert!(body["detail"].is_string() && body["title"].is_string(), "{body}");
    (status.as_u16(), body["code"].as_str().unwrap().to_owned())
}

/// An event of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) id: Option<u64>,
    pub(crate) name: String,
    pub(crate) data: Value,
}

/// A stream of events.
pub(crate) struct Stream {
    pieces: BoxStream<'static, reqwest::Result<Vec<u8>>>,
    unread: Vec<u8>,
    told: VecDeque<Told>,
}

impl Stream {
    /// Opens the stream that `request` asks for.
    pub(crate) async fn open(request: RequestBuilder) -> Self {
        let answer: Response = request.header(ACCEPT, "text/event-stream").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self::of(answer)
    }

    /// Reads the stream that an answer is.
    pub(super) fn of(answer: Response) -> Self {
        let pieces = answer.bytes_stream().map(|piece| piece.map(Vec::from)).boxed();
        Self { pieces, unread: Vec::new(), told: VecDeque::new() }
    }

    /// Returns the next event, or nothing where the stream ends.
    pub(crate) async fn next(&mut self) -> Option<Told> {
        let next = async {
            loop {
                if let Some(told) = self.told.pop_front() {
                    return Some(told);
                }
                self.unread.extend_from_slice(&self.pieces.next().await?.ok()?);
                self.read();
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("the stream goes on, or ends")
    }

    fn read(&mut self) {
        while let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = self.unread.drain(..end + 2).collect();
            let block = String::from_utf8(block).unwrap();
            let field = |name: &str| {
                let mut lines = block.lines();
                lines.find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned())
            };
            if let Some(data) = field("data:") {
                self.told.push_back(Told {
                    id: field("id:").map(|id| id.parse().unwrap()),
                    name: field("event:").unwrap_or_default(),
                    data: serde_json::from_str(&data).unwrap_or(Value::String(data)),
                });
            }
        }
    }

    /// Reads up to the first event called `name`.
    pub(crate) async fn until(&mut self, name: &str) -> Vec<Told> {
        let mut seen = Vec::new();
        while let Some(told) = self.next().await {
            seen.push(told);
            if seen.last().is_some_and(|last| last.name == name) {
                return seen;
            }
        }
        panic!("the stream ended without {name}: {:?}", names(&seen));
    }

    /// Reads to the end.
    pub(crate) async fn rest(mut self) -> Vec<Told> {
        let mut seen = Vec::new();
        while let Some(told) = self.next().await {
            seen.push(told);
        }
        seen
    }
}

pub(crate) fn names(told: &[Told]) -> Vec<&str> {
    told.iter().map(|told| told.name.as_str()).collect()
}

pub(crate) fn ids(told: &[Told]) -> Vec<u64> {
    told.iter().map(|told| told.id.expect("every event has its number")).collect()
}

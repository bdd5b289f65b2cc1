//! A collector of spans, well or hostile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::until;

/// How a collector answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Well,
    /// With an error that may pass, and more text than anybody wants to read.
    Busy,
    /// Never.
    Never,
}

/// A collector that takes OTLP over HTTP until it is dropped.
#[derive(Debug)]
pub(super) struct Collector {
    address: String,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    requests: Vec<(HeaderMap, Bytes)>,
}

/// A span, as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) trace: String,
    pub(super) id: String,
    pub(super) parent: String,
    pub(super) name: String,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) attributes: BTreeMap<String, Value>,
    pub(super) fails: bool,
}

impl Collector {
    pub(super) async fn start(manner: Manner) -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let app = Router::new().route("/v1/traces", post(take)).with_state((seen.clone(), manner));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, seen, task }
    }

    pub(super) fn url(&self) -> &str {
        &self.address
    }

    /// Returns the requests so far.
    pub(super) fn requests(&self) -> Vec<(HeaderMap, Bytes)> {
        self.seen.lock().unwrap().requests.clone()
    }

    /// Returns the spans so far, of requests in JSON.
    pub(super) fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for (_, body) in self.requests() {
            let body: Value = serde_json::from_slice(&body).unwrap();
            for resource in body["resourceSpans"].as_array().unwrap() {
                for scope in resource["scopeSpans"].as_array().unwrap() {
                    spans.extend(scope["spans"].as_array().unwrap().iter().map(Span::read));
                }
            }
        }
        spans
    }

    /// Waits until a span of this name has come.
    pub(super) async fn until_told(&self, name: &str) {
        let told = async || self.spans().iter().any(|span| span.name == name);
        until(&format!("`{name}` is told"), told).await;
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(
    State((seen, manner)): State<(Arc<Mutex<Seen>>, Manner)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    seen.lock().unwrap().requests.push((headers, body));
    match manner {
        Manner::Well => StatusCode::OK.into_response(),
        Manner::Busy => (StatusCode::SERVICE_UNAVAILABLE, "no ".repeat(4 << 20)).into_response(),
        Manner::Never => std::future::pending().await,
    }
}

impl Span {
    fn read(span: &Value) -> Self {
        let text = |name: &str| span[name].as_str().unwrap_or_default().to_owned();
        let time = |name: &str| text(name).parse().unwrap();
        let attributes = span["attributes"].as_array().unwrap().iter().map(|pair| {
            let value: &Map<String, Value> = pair["value"].as_object().unwrap();
            let value = value.values().next().unwrap().clone();
            (pair["key"].as_str().unwrap().to_owned(), value)
        });
        Self {
            trace: text("traceId"),
            id: text("spanId"),
            parent: text("parentSpanId"),
            name: text("name"),
            start: time("startTimeUnixNano"),
            end: time("endTimeUnixNano"),
            attributes: attributes.collect(),
            fails: span["status"]["code"] == 2,
        }
    }

    pub(super) fn says(&self, key: &str) -> &str {
        let value = self.attributes.get(key);
        value.and_then(Value::as_str).unwrap_or_else(|| panic!("no {key} in {self:?}"))
    }
}

/// Draws the spans of one trace as a tree; those side by side are in the order of their names.
pub(super) fn drawn(spans: &[Span]) -> String {
    let known = |id: &str| spans.iter().any(|span| span.id == id);
    let roots = spans.iter().filter(|span| !known(&span.parent));
    let mut text = String::new();
    for root in sorted(roots) {
        draw(spans, root, 0, &mut text);
    }
    text
}

fn draw(spans: &[Span], span: &Span, depth: usize, text: &mut String) {
    *text += &format!("{}{}\n", "  ".repeat(depth), span.name);
    for child in sorted(spans.iter().filter(|child| child.parent == span.id)) {
        draw(spans, child, depth + 1, text);
    }
}

fn sorted<'a>(spans: impl Iterator<Item = &'a Span>) -> Vec<&'a Span> {
    let mut spans: Vec<&Span> = spans.collect();
    spans.sort_by_key(|span| (&span.name, span.start));
    spans
}

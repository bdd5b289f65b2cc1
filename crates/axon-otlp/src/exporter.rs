//! The queue of spans, and what empties it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axon_kernel::trace::{Attribute, Span, SpanSink};
use bytes::Bytes;
use prost::Message;
use reqwest::Client;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant, sleep, sleep_until, timeout};

use crate::message::ExportRequest;
use crate::settings::{Protocol, Settings};

/// How many bytes of spans wait at most: with what was asked and answered they can be large.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;

/// How many bytes are sent together at most; one span alone can have more.
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// What a span is taken to need beside its attributes.
const SPAN_BYTES: usize = 256;

/// How often a batch is sent that a collector cannot take just then.
const TRIES: u32 = 4;

/// How long is waited between tries: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Takes spans, and sends them to a collector. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Exporter {
    spans: mpsc::Sender<Span>,
    flushes: mpsc::Sender<oneshot::Sender<()>>,
    bytes: Arc<AtomicUsize>,
}

impl Exporter {
    /// Starts it in the runtime that is under way.
    ///
    /// # Errors
    ///
    /// [`reqwest::Error`] if the HTTP client cannot be set up.
    pub fn start(settings: Settings) -> Result<Self, reqwest::Error> {
        metrics::describe_counter!(
            "axon_spans_exported_total",
            "Spans that a collector has taken."
        );
        metrics::describe_counter!(
            "axon_spans_dropped_total",
            "Spans that were dropped: the queue was full, or the collector did not take them."
        );
        let builder = Client::builder()
            .timeout(settings.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("axon-otlp/", env!("CARGO_PKG_VERSION")))
            .default_headers(settings.headers.clone());
        // What is on this machine is reached without anybody's help.
        let builder = if settings.is_local() { builder.no_proxy() } else { builder };
        let client = builder.build()?;
        let (spans, queue) = mpsc::channel(settings.queue);
        let (flushes, wanted) = mpsc::channel(1);
        let bytes = Arc::new(AtomicUsize::new(0));
        let courier = Courier {
            settings,
            client,
            queue,
            wanted,
            bytes: bytes.clone(),
            asked: None,
            fails: false,
        };
        tokio::spawn(courier.work());
        Ok(Self { spans, flushes, bytes })
    }

    /// Sends what has ended so far, and returns when that is done, or `patience` is over.
    pub async fn flush(&self, patience: Duration) {
        let (done, told) = oneshot::channel();
        let flushed = async {
            if self.flushes.send(done).await.is_ok() {
                let _sent = told.await;
            }
        };
        let _in_time = timeout(patience, flushed).await;
    }
}

impl SpanSink for Exporter {
    fn take(&self, span: Span) {
        let size = size_of(&span);
        let waiting = self.bytes.fetch_add(size, Ordering::Relaxed);
        if waiting + size > QUEUE_BYTES || self.spans.try_send(span).is_err() {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
            dropped("queue_full", 1);
        }
    }
}

/// Sends what waits, a batch at a time. It ends with the exporter.
struct Courier {
    settings: Settings,
    client: Client,
    queue: mpsc::Receiver<Span>,
    wanted: mpsc::Receiver<oneshot::Sender<()>>,
    bytes: Arc<AtomicUsize>,
    /// Who wants everything sent, and waits for that.
    asked: Option<oneshot::Sender<()>>,
    /// Whether the last batch was not taken: that is told once.
    fails: bool,
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the collector cannot be reached: {0}")]
    Unreachable(String),
    #[error("the collector answered {status}")]
    Status { status: u16, retry_after: Option<Duration> },
}

impl Refused {
    /// Returns whether the same batch may be taken later.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Status { status: 429 | 502 | 503 | 504, .. })
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unreachable(_) => None,
            Self::Status { retry_after, .. } => *retry_after,
        }
    }
}

impl Courier {
    async fn work(mut self) {
        loop {
            let (batch, open) = self.collect().await;
            self.deliver(batch).await;
            if let Some(done) = self.asked.take() {
                self.empty().await;
                // Whoever asked may have gone.
                let _gone = done.send(());
            }
            if !open {
                return;
            }
        }
    }

    /// Collects a batch: as many as go together, or what has come when the first has waited long
    /// enough, or somebody wants it sent. Also returns whether more can come.
    async fn collect(&mut self) -> (Batch, bool) {
        let mut batch = Batch::default();
        let mut due = None;
        while !batch.is_full(&self.settings) {
            let over = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(done) = self.wanted.recv() => {
                    self.asked = Some(done);
                    break;
                }
                span = self.queue.recv() => match span {
                    Some(span) => batch.push(span),
                    None => return (batch, false),
                },
                () = over => break,
            }
            due.get_or_insert_with(|| Instant::now() + self.settings.delay);
        }
        (batch, true)
    }

    /// Sends all that is there.
    async fn empty(&mut self) {
        loop {
            let mut batch = Batch::default();
            while !batch.is_full(&self.settings) {
                let Ok(span) = self.queue.try_recv() else { break };
                batch.push(span);
            }
            if batch.spans.is_empty() {
                return;
            }
            self.deliver(batch).await;
        }
    }

    /// Sends a batch, again if it may be taken then; what is not taken in the end is dropped.
    async fn deliver(&mut self, batch: Batch) {
        let (count, bytes) = (batch.spans.len() as u64, batch.bytes);
        if count == 0 {
            return;
        }
        let body = self.encode(batch.spans);
        let mut pause = PAUSE.0;
        let mut tries = 0;
        let refused = loop {
            tries += 1;
            let refused = match self.send(body.clone()).await {
                Ok(()) => break None,
                Err(refused) => refused,
            };
            // At the end nobody waits for a collector.
            if !refused.may_pass() || tries == TRIES || self.asked.is_some() {
                break Some(refused);
            }
            let wait = refused.retry_after().unwrap_or(pause).min(PAUSE.1);
            tokio::select! {
                () = sleep(wait) => pause = (pause * 2).min(PAUSE.1),
                Some(done) = self.wanted.recv() => self.asked = Some(done),
            }
        };
        // Until here it counts as waiting: so memory is bounded.
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        match refused {
            None => {
                metrics::counter!("axon_spans_exported_total").increment(count);
                self.fails = false;
            }
            Some(refused) => {
                dropped("not_taken", count);
                if !std::mem::replace(&mut self.fails, true) {
                    tracing::warn!(error = %refused, spans = count, "spans were not exported");
                }
            }
        }
    }

    fn encode(&self, spans: Vec<Span>) -> Bytes {
        let request = ExportRequest::new(&self.settings.resource, spans);
        match self.settings.protocol {
            Protocol::Protobuf => request.encode_to_vec().into(),
            // Text keys and finite numbers only: that has a JSON form.
            Protocol::Json => serde_json::to_vec(&request).unwrap_or_default().into(),
        }
    }

    /// Sends a body. What the answer says beside its status is not read: it may be anything.
    async fn send(&self, body: Bytes) -> Result<(), Refused> {
        let kind = match self.settings.protocol {
            Protocol::Protobuf => "application/x-protobuf",
            Protocol::Json => "application/json",
        };
        let post = self.client.post(self.settings.endpoint.clone());
        let answer = post.header(CONTENT_TYPE, kind).body(body).send().await;
        let answer = answer.map_err(|error| Refused::Unreachable(cause_of(error.without_url())))?;
        if answer.status().is_success() {
            return Ok(());
        }
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok());
        let retry_after = retry_after.and_then(|after| after.parse().ok()).map(Duration::from_secs);
        Err(Refused::Status { status: answer.status().as_u16(), retry_after })
    }
}

/// Spans that are sent together.
#[derive(Debug, Default)]
struct Batch {
    spans: Vec<Span>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, span: Span) {
        self.bytes += size_of(&span);
        self.spans.push(span);
    }

    fn is_full(&self, settings: &Settings) -> bool {
        self.spans.len() >= settings.batch || self.bytes >= BATCH_BYTES
    }
}

fn dropped(reason: &'static str, spans: u64) {
    metrics::counter!("axon_spans_dropped_total", "reason" => reason).increment(spans);
}

fn size_of(span: &Span) -> usize {
    let texts = |texts: &[String]| texts.iter().map(String::len).sum();
    let size = |value: &Attribute| match value {
        Attribute::Text(text) => text.len(),
        Attribute::Texts(list) => texts(list),
        Attribute::Number(_) | Attribute::Flag(_) => 8,
    };
    let attributes = span.attributes.iter().map(|(key, value)| key.len() + size(value));
    SPAN_BYTES + span.name.len() + attributes.sum::<usize>()
}

/// Returns what is behind an error of the client, which says little itself.
fn cause_of(error: reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use axon_kernel::trace::{SpanKind, TraceContext};

    use super::*;

    fn span(text: usize) -> Span {
        let context: TraceContext =
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
        let attributes = vec![("text", Attribute::Text("x".repeat(text)))];
        let (name, kind) = ("s".to_owned(), SpanKind::Internal);
        Span { context, parent: None, name, kind, start: 1, end: 2, attributes, error: None }
    }

    fn settings(endpoint: &str, queue: &str) -> Settings {
        let variables = |name: &str| match name {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.to_owned()),
            "OTEL_BSP_MAX_QUEUE_SIZE" => Some(queue.to_owned()),
            _ => None,
        };
        Settings::from_variables(&variables).unwrap().unwrap()
    }

    /// A collector that takes connections and never answers.
    async fn black_hole() -> (tokio::net::TcpListener, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        (listener, address)
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_number_and_in_bytes() {
        let (_listener, address) = black_hole().await;
        let exporter = Exporter::start(settings(&address, "100")).unwrap();
        // Nothing is taken out of the queue meanwhile: this thread does not wait.
        for _ in 0..1000 {
            exporter.take(span(10));
        }
        assert_eq!(exporter.spans.capacity(), 0);
        let waiting = exporter.bytes.load(Ordering::Relaxed);
        assert!(waiting < 100 * (SPAN_BYTES + 20), "{waiting}");
        let exporter = Exporter::start(settings(&address, "65536")).unwrap();
        for _ in 0..1000 {
            exporter.take(span(1024 * 1024));
        }
        let waiting = exporter.bytes.load(Ordering::Relaxed);
        assert!((QUEUE_BYTES / 2..=QUEUE_BYTES).contains(&waiting), "{waiting}");
    }

    #[tokio::test]
    async fn a_collector_that_never_answers_does_not_hold_up_the_end() {
        let (_listener, address) = black_hole().await;
        let exporter = Exporter::start(settings(&address, "100")).unwrap();
        exporter.take(span(1));
        let began = Instant::now();
        exporter.flush(Duration::from_millis(200)).await;
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

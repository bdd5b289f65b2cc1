//! What stands between spans and the SDK.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use axon_kernel::trace::{Attribute, Span, SpanKind, SpanSink};
use opentelemetry::trace::{self as otel, SpanContext, Status, TraceFlags, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter as Sender, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanExporter, SpanLinks,
    SpanProcessor,
};
use reqwest::blocking::Client;

use crate::settings::Settings;

/// How many bytes of spans wait at most: with what was asked and answered they can be large.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;

/// How many bytes are sent together at most; one span alone can have more.
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// Why a span was dropped.
const QUEUE_FULL: &str = "queue_full";
const NOT_TAKEN: &str = "not_taken";

/// What a span is taken to need beside its attributes.
const SPAN_BYTES: usize = 256;

/// Takes spans, and sends them to a collector. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Exporter {
    processor: Arc<BatchSpanProcessor>,
    waiting: Arc<Waiting>,
    scope: InstrumentationScope,
}

impl Exporter {
    /// Starts it, with a thread of its own.
    ///
    /// # Errors
    ///
    /// [`ExporterBuildError`] if the HTTP client cannot be set up.
    pub fn start(settings: Settings) -> Result<Self, ExporterBuildError> {
        metrics::describe_counter!(
            "axon_spans_exported_total",
            "Spans that a collector has taken."
        );
        metrics::describe_counter!(
            "axon_spans_dropped_total",
            "Spans that were dropped: the queue was full, or the collector did not take them."
        );
        metrics::counter!("axon_spans_exported_total").increment(0);
        for reason in [QUEUE_FULL, NOT_TAKEN] {
            dropped(reason, 0);
        }
        let mut sender = Sender::builder()
            .with_http()
            .with_http_client(client(&settings)?)
            .with_endpoint(settings.endpoint.as_str())
            .with_protocol(settings.protocol)
            .with_timeout(settings.timeout)
            .build()?;
        sender.set_resource(&settings.resource);
        let waiting = Arc::new(Waiting::new(settings.queue));
        let courier = Courier {
            sender,
            collector: settings.endpoint.origin().ascii_serialization(),
            waiting: waiting.clone(),
            fails: AtomicBool::new(false),
        };
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(settings.queue)
            .with_max_export_batch_size(settings.batch)
            .with_scheduled_delay(settings.delay);
        let processor =
            BatchSpanProcessor::builder(courier).with_batch_config(config.build()).build();
        let scope =
            InstrumentationScope::builder("axon").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Self { processor: Arc::new(processor), waiting, scope })
    }

    /// Sends what has ended so far, and returns when that is done, or `patience` is over.
    pub async fn flush(&self, patience: Duration) {
        let processor = self.processor.clone();
        let (done, told) = tokio::sync::oneshot::channel();
        // In no thread of the runtime, whose own end would wait for that.
        std::thread::spawn(move || done.send(processor.force_flush()));
        // What became of the spans has been told by the courier.
        let _in_time = tokio::time::timeout(patience, told).await;
    }
}

impl SpanSink for Exporter {
    fn take(&self, span: Span) {
        let span = data(span, self.scope.clone());
        if self.waiting.admit(size_of(&span)) {
            self.processor.on_end(span);
        } else {
            dropped(QUEUE_FULL, 1);
        }
    }
}

/// What the SDK has and has not yet sent. It never holds more than its queue, which so is never full.
#[derive(Debug)]
struct Waiting {
    room: usize,
    spans: AtomicUsize,
    bytes: AtomicUsize,
}

impl Waiting {
    fn new(room: usize) -> Self {
        Self { room, spans: AtomicUsize::new(0), bytes: AtomicUsize::new(0) }
    }

    /// Lets a span in, if there is room for it.
    fn admit(&self, size: usize) -> bool {
        let spans = self.spans.fetch_add(1, Ordering::Relaxed);
        let bytes = self.bytes.fetch_add(size, Ordering::Relaxed);
        let fits = spans < self.room && bytes + size <= QUEUE_BYTES;
        if !fits {
            self.leave(1, size);
        }
        fits
    }

    fn leave(&self, spans: usize, bytes: usize) {
        self.spans.fetch_sub(spans, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Has batches sent, in pieces that collectors take, and counts what becomes of them.
#[derive(Debug)]
struct Courier {
    sender: Sender,
    collector: String,
    waiting: Arc<Waiting>,
    /// Whether the last batch was not taken: that is told once.
    fails: AtomicBool,
}

impl Courier {
    async fn send(&self, spans: Vec<SpanData>, bytes: usize) -> OTelSdkResult {
        let count = spans.len();
        let sent = self.sender.export(spans).await;
        // Until here they count as waiting: so memory is bounded.
        self.waiting.leave(count, bytes);
        if let Err(error) = &sent {
            dropped(NOT_TAKEN, count);
            if !self.fails.swap(true, Ordering::Relaxed) {
                let collector = &self.collector;
                tracing::warn!(%error, collector, spans = count, "spans were not exported");
            }
        } else {
            metrics::counter!("axon_spans_exported_total").increment(count as u64);
            self.fails.store(false, Ordering::Relaxed);
        }
        sent
    }
}

impl SpanExporter for Courier {
    async fn export(&self, spans: Vec<SpanData>) -> OTelSdkResult {
        let (mut piece, mut bytes, mut sent) = (Vec::new(), 0, Ok(()));
        for span in spans {
            let size = size_of(&span);
            if bytes + size > BATCH_BYTES && !piece.is_empty() {
                sent = sent.and(self.send(std::mem::take(&mut piece), bytes).await);
                bytes = 0;
            }
            bytes += size;
            piece.push(span);
        }
        sent.and(self.send(piece, bytes).await)
    }
}

/// Returns the client. The SDK's own would follow a redirect, with keys in its headers.
fn client(settings: &Settings) -> Result<Client, ExporterBuildError> {
    let builder = Client::builder()
        .timeout(settings.timeout)
        .redirect(reqwest::redirect::Policy::none())
        .default_headers(settings.headers.clone());
    // What is on this machine is reached without anybody's help.
    let builder = if settings.is_local() { builder.no_proxy() } else { builder };
    let failed = |error: String| ExporterBuildError::InternalFailure(error);
    // It waits while it is built, which nobody may in a runtime's thread.
    match std::thread::spawn(move || builder.build()).join() {
        Ok(client) => client.map_err(|error| failed(error.to_string())),
        Err(_) => Err(failed("the HTTP client cannot be set up".to_owned())),
    }
}

/// Returns a span as the SDK knows it.
fn data(span: Span, instrumentation_scope: InstrumentationScope) -> SpanData {
    let flags = if span.context.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let trace = otel::TraceId::from_bytes(span.context.trace.bytes());
    let id = otel::SpanId::from_bytes(span.context.span.bytes());
    let parent = span.parent.map(|parent| otel::SpanId::from_bytes(parent.bytes()));
    let value = |value| match value {
        Attribute::Text(text) => Value::from(text),
        Attribute::Number(number) => Value::from(number),
        Attribute::Flag(flag) => Value::from(flag),
        Attribute::Texts(texts) => {
            Value::Array(Array::String(texts.into_iter().map(StringValue::from).collect()))
        }
    };
    let attributes = span.attributes.into_iter();
    SpanData {
        span_context: SpanContext::new(trace, id, flags, false, TraceState::NONE),
        parent_span_id: parent.unwrap_or(otel::SpanId::INVALID),
        // Who answers is asked by another process.
        parent_span_is_remote: parent.is_some() && span.kind == SpanKind::Server,
        span_kind: match span.kind {
            SpanKind::Internal => otel::SpanKind::Internal,
            SpanKind::Server => otel::SpanKind::Server,
            SpanKind::Client => otel::SpanKind::Client,
        },
        name: span.name.into(),
        start_time: UNIX_EPOCH + Duration::from_nanos(span.start),
        end_time: UNIX_EPOCH + Duration::from_nanos(span.end),
        attributes: attributes.map(|(key, given)| KeyValue::new(key, value(given))).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: span.error.map_or(Status::Unset, Status::error),
        instrumentation_scope,
    }
}

fn size_of(span: &SpanData) -> usize {
    let size = |value: &Value| {
        if let Value::Array(Array::String(texts)) = value {
            texts.iter().map(|text| text.as_str().len()).sum()
        } else {
            value.as_str().len()
        }
    };
    let attributes = span.attributes.iter().map(|pair| pair.key.as_str().len() + size(&pair.value));
    SPAN_BYTES + span.name.len() + attributes.sum::<usize>()
}

fn dropped(reason: &'static str, spans: usize) {
    metrics::counter!("axon_spans_dropped_total", "reason" => reason).increment(spans as u64);
}

#[cfg(test)]
mod tests;

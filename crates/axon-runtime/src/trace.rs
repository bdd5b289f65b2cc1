//! Spans: begun here, told to whoever exports them when they have ended.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axon_kernel::trace::{Attribute, Sampler, Span, SpanId, SpanKind, TraceContext, TraceId};

pub use axon_kernel::trace::SpanSink;

/// Begins spans and says which traces are told. Without a sink nothing is told, and a caller's
/// `traceparent` is handed on as it came.
#[derive(Clone, Debug, Default)]
pub struct Tracer {
    sink: Option<Arc<dyn SpanSink>>,
    sampler: Sampler,
    content: bool,
}

impl Tracer {
    /// Tells ended spans to `sink`.
    #[must_use]
    pub fn new(sink: Arc<dyn SpanSink>) -> Self {
        Self { sink: Some(sink), ..Self::default() }
    }

    /// Tells only the traces that `sampler` takes; by default all of them, unless whoever they come
    /// from has decided otherwise.
    #[must_use]
    pub fn sampler(mut self, sampler: Sampler) -> Self {
        self.sampler = sampler;
        self
    }

    /// Says whether spans hold what was asked and answered: prompts, answers, and the arguments and
    /// results of tools. By default they do not, nor does the log.
    #[must_use]
    pub fn with_content(mut self, content: bool) -> Self {
        self.content = content;
        self
    }

    /// Returns whether spans hold what was asked and answered.
    #[must_use]
    pub fn has_content(&self) -> bool {
        self.content
    }

    /// Begins a span of a trace that comes from elsewhere, or begins here.
    pub fn begin_request(&self, name: &str, from: Option<TraceContext>) -> OpenSpan {
        let (trace, span) = (uuid::Uuid::now_v7(), uuid::Uuid::new_v4());
        let own = TraceId::new(trace.into_bytes()).zip(SpanId::new(half(span)));
        let Some((trace, span)) = own else { return OpenSpan::none() };
        let place = self.place((from, trace), span);
        let from = from.map(|from| from.span);
        self.begin((name, SpanKind::Server), place, from)
    }

    /// Returns where a span stands whose parent is `from`, or which begins the trace `own`.
    pub(crate) fn place(
        &self,
        (from, own): (Option<TraceContext>, TraceId),
        span: SpanId,
    ) -> Option<TraceContext> {
        if self.sink.is_none() {
            return from;
        }
        let trace = from.map_or(own, |from| from.trace);
        let sampled = self.sampler.decides(trace, from.map(|from| from.sampled));
        Some(TraceContext { trace, span, sampled })
    }

    /// Begins a span inside of `parent`.
    pub(crate) fn begin_in(
        &self,
        parent: Option<TraceContext>,
        what: (&str, SpanKind),
        span: Option<SpanId>,
    ) -> OpenSpan {
        let Some(parent) = parent else { return OpenSpan::none() };
        if self.sink.is_none() {
            return OpenSpan { context: Some(parent), open: None };
        }
        let span = span.or_else(|| SpanId::new(half(uuid::Uuid::new_v4())));
        let context = span.map(|span| parent.at(span));
        self.begin(what, context, Some(parent.span))
    }

    /// Begins a span that stands where `context` says.
    pub(crate) fn begin(
        &self,
        (name, kind): (&str, SpanKind),
        context: Option<TraceContext>,
        parent: Option<SpanId>,
    ) -> OpenSpan {
        let told = context.filter(|context| context.sampled).zip(self.sink.clone());
        let open = told.map(|(context, sink)| {
            let (start, attributes, error) = (now(), Vec::new(), None);
            let name = name.to_owned();
            let span = Span { context, parent, name, kind, start, end: 0, attributes, error };
            Box::new((span, sink))
        });
        OpenSpan { context, open }
    }
}

/// A span that is under way. It ends when it is dropped.
#[derive(Debug)]
#[must_use = "a span ends when it is dropped"]
pub struct OpenSpan {
    context: Option<TraceContext>,
    open: Option<Box<(Span, Arc<dyn SpanSink>)>>,
}

impl OpenSpan {
    pub(crate) fn none() -> Self {
        Self { context: None, open: None }
    }

    /// Returns what a part of it names as its parent.
    #[must_use]
    pub fn context(&self) -> Option<TraceContext> {
        self.context
    }

    /// Returns whether it will be told.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.open.is_some()
    }

    /// Says more about it.
    pub fn set(&mut self, name: &'static str, value: impl Into<Attribute>) {
        if let Some(open) = &mut self.open {
            let attributes = &mut open.0.attributes;
            attributes.retain(|(known, _)| *known != name);
            attributes.push((name, value.into()));
        }
    }

    /// Says more about it, if it is known.
    pub fn set_some(&mut self, name: &'static str, value: Option<impl Into<Attribute>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// Says that it failed: `kind` is its `error.type`, one of few words.
    pub fn fail(&mut self, kind: &str, why: impl Into<String>) {
        self.set("error.type", kind);
        if let Some(open) = &mut self.open {
            open.0.error = Some(why.into());
        }
    }

    /// Says when it began, if that was before it was known here.
    pub(crate) fn began(&mut self, nanos: u64) {
        if let Some(open) = &mut self.open {
            open.0.start = nanos;
        }
    }

    /// Ends it at a moment that has passed.
    pub(crate) fn ended(mut self, nanos: u64) {
        if let Some(open) = &mut self.open {
            open.0.end = nanos.max(open.0.start);
        }
    }

    /// Ends it.
    pub fn end(self) {}

    /// Does not tell of it: somebody else will.
    pub(crate) fn forget(&mut self) {
        self.open = None;
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            let (mut span, sink) = *open;
            if span.end == 0 {
                // Clocks can be set back.
                span.end = now().max(span.start);
            }
            sink.take(span);
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn half(uuid: uuid::Uuid) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&uuid.as_bytes()[8..]);
    bytes
}

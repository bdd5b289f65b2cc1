//! What clients sent and how their requests ended.

use std::fmt;
use std::sync::Arc;

use axum::http::HeaderMap;
use serde_json::Value;
use tokio::sync::watch;

/// One chat request as it arrived.
pub struct RecordedRequest {
    /// The JSON body.
    pub body: Value,
    headers: HeaderMap,
}

/// Everything that happened to a scripted model so far.
#[derive(Debug, Default)]
pub struct Traffic {
    requests: Vec<Arc<RecordedRequest>>,
    open_streams: usize,
    disconnects: usize,
}

/// The one place where the server writes and tests read the traffic.
#[derive(Debug, Clone, Default)]
pub(super) struct TrafficLog(Arc<watch::Sender<Traffic>>);

/// One request that is being answered; dropped before [`OpenStream::complete`] it counts as a
/// disconnect, because a client that goes away is what makes the server drop its answer.
#[derive(Debug)]
pub(super) struct OpenStream {
    log: Option<TrafficLog>,
    completed: bool,
}

impl RecordedRequest {
    pub(super) fn new(body: Value, headers: HeaderMap) -> Self {
        Self { body, headers }
    }

    /// A header's value, such as that of `authorization` or `x-stainless-retry-count`, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl fmt::Debug for RecordedRequest {
    /// Leaves the headers out, since one is the API key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RecordedRequest").field("body", &self.body).finish_non_exhaustive()
    }
}

impl Traffic {
    /// Every chat request so far, in order of arrival.
    pub fn requests(&self) -> &[Arc<RecordedRequest>] {
        &self.requests
    }

    /// How many requests are being answered now.
    pub fn open_streams(&self) -> usize {
        self.open_streams
    }

    /// How many clients closed their connection before their answer's end.
    pub fn disconnects(&self) -> usize {
        self.disconnects
    }
}

impl TrafficLog {
    pub(super) fn current(&self) -> watch::Ref<'_, Traffic> {
        self.0.borrow()
    }

    pub(super) async fn wait_until(&self, condition: impl FnMut(&Traffic) -> bool) {
        let mut traffic = self.0.subscribe();
        let _ = traffic.wait_for(condition).await.expect("self keeps the sender open");
    }
}

impl OpenStream {
    /// Records a request that is about to be answered, if there is a log.
    pub(super) fn open(log: Option<&TrafficLog>, request: &Arc<RecordedRequest>) -> Self {
        if let Some(log) = log {
            log.0.send_modify(|traffic| {
                traffic.requests.push(Arc::clone(request));
                traffic.open_streams += 1;
            });
        }
        Self { log: log.cloned(), completed: false }
    }

    /// Says that the server has given all it meant to give.
    pub(super) fn complete(&mut self) {
        self.completed = true;
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        if let Some(log) = &self.log {
            log.0.send_modify(|traffic| {
                traffic.open_streams -= 1;
                traffic.disconnects += usize::from(!self.completed);
            });
        }
    }
}

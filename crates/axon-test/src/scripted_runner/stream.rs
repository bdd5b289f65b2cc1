//! The body of an answer that streams events.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Interval;

use super::attempt::LiveAttempt;

/// How many pieces wait for a slow reader before the attempt is held up.
const PIECES: usize = 64;

/// What goes into a stream.
#[derive(Debug)]
pub(super) enum Piece {
    /// Bytes, as they are.
    Bytes(Bytes),
    /// A question: is everything before it written?
    Flushed(oneshot::Sender<()>),
    /// The connection breaks here.
    Break,
}

/// The events of an attempt. Dropping it, as a lost connection does, cancels the attempt.
#[derive(Debug)]
pub(super) struct EventBody {
    pieces: mpsc::Receiver<Piece>,
    flushing: Option<oneshot::Sender<()>>,
    ping: Interval,
    attempt: Arc<LiveAttempt>,
}

impl EventBody {
    /// Makes a body that says something every quarter of `heartbeat`, and the end through which it
    /// is filled.
    pub(super) fn new(
        attempt: Arc<LiveAttempt>,
        heartbeat: Duration,
    ) -> (mpsc::Sender<Piece>, Self) {
        let (sender, pieces) = mpsc::channel(PIECES);
        let mut ping = tokio::time::interval((heartbeat / 4).max(Duration::from_millis(1)));
        ping.reset();
        (sender, Self { pieces, flushing: None, ping, attempt })
    }
}

impl Stream for EventBody {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(done) = self.flushing.take() {
            let _nobody_asks_any_more = done.send(());
        }
        match self.pieces.poll_recv(context) {
            Poll::Ready(Some(Piece::Bytes(bytes))) => {
                self.ping.reset();
                Poll::Ready(Some(Ok(bytes)))
            }
            Poll::Ready(Some(Piece::Flushed(done))) => {
                // The server writes what it has as soon as this body has nothing more for it, and
                // only then asks again.
                self.flushing = Some(done);
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(Some(Piece::Break)) => {
                Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                std::task::ready!(self.ping.poll_tick(context));
                Poll::Ready(Some(Ok(Bytes::from_static(b": ping\n\n"))))
            }
        }
    }
}

impl Drop for EventBody {
    fn drop(&mut self) {
        self.attempt.cancel();
    }
}

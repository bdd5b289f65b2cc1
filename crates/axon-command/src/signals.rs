//! Ctrl-C, SIGTERM and a closed terminal: the first one is an order to the command, the second one ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use crate::exit::Exit;
use crate::terminal;

/// The number of the signal for a file that reached its size limit, on Linux and macOS alike.
const SIGXFSZ: i32 = 25;

/// The same signal again within this time is the same order.
const ONE_ORDER: Duration = Duration::from_millis(300);

/// A signal that asks the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// What service managers send.
    Terminate,
    /// The terminal was closed.
    HangUp,
}

impl Signal {
    pub(crate) fn exit(self) -> Exit {
        match self {
            Self::Interrupt => Exit::of_signal(2),
            Self::Terminate => Exit::of_signal(15),
            Self::HangUp => Exit::of_signal(1),
        }
    }

    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Interrupt => "interrupted (SIGINT)",
            Self::Terminate => "asked to end (SIGTERM)",
            Self::HangUp => "the terminal was closed (SIGHUP)",
        }
    }
}

/// The signals that the process gets.
#[derive(Debug)]
pub(crate) struct Signals {
    received: mpsc::Receiver<Signal>,
    /// Whether a signal came that the command is still busy with.
    pending: Arc<AtomicBool>,
}

impl Signals {
    /// Takes these signals over from their default, which is the end of the process.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        // A file that may not grow is an error that is told, and not the end of the process.
        let mut too_large = signal(SignalKind::from_raw(SIGXFSZ))?;
        // One is enough: with one pending, the next ends the process.
        let (tell, received) = mpsc::channel(1);
        let pending = Arc::new(AtomicBool::new(false));
        let busy = pending.clone();
        tokio::spawn(async move {
            let mut last: Option<(Signal, Instant)> = None;
            loop {
                let signal = tokio::select! {
                    _ = interrupt.recv() => Signal::Interrupt,
                    _ = terminate.recv() => Signal::Terminate,
                    _ = hang_up.recv() => Signal::HangUp,
                    _ = too_large.recv() => continue,
                };
                // `timeout` and some shells send to the process and to its group: that is one order.
                let again = last.is_some_and(|(before, at)| {
                    before == signal && at.elapsed() < ONE_ORDER && busy.load(Ordering::SeqCst)
                });
                last = Some((signal, Instant::now()));
                if again {
                    continue;
                }
                if busy.swap(true, Ordering::SeqCst) || tell.try_send(signal).is_err() {
                    terminal::flush();
                    // The runners end with their lifelines.
                    std::process::exit(signal.exit().code().into());
                }
            }
        });
        Ok(Self { received, pending })
    }

    /// Takes the place of signals that somebody else waits for meanwhile: none ever comes.
    pub(crate) fn none() -> Self {
        let (_tell, received) = mpsc::channel(1);
        Self { received, pending: Arc::default() }
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> Signal {
        match self.received.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }

    /// Says that the last signal was dealt with, so that the next one is again a first one.
    pub(crate) fn dealt_with(&self) {
        self.pending.store(false, Ordering::SeqCst);
    }
}

//! The way to stderr of a service, where nobody waits for whoever reads it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How much waits to be read, in bytes: more than a burst of all agents. What is more is dropped.
const WAITING_BYTES: usize = 4 * 1024 * 1024;

/// How long the end of the process may take for what waits.
const PATIENCE: Duration = Duration::from_secs(3);

/// Says in a line of the log how many others were dropped.
type TellDropped = Box<dyn Fn(u64) -> String + Send + Sync>;

/// Takes what is to be written, which one thread of its own then writes.
pub(super) struct Outlet {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    tell_dropped: TellDropped,
}

#[derive(Default)]
struct Waiting {
    texts: VecDeque<String>,
    bytes: usize,
    /// How many were dropped behind what waits.
    dropped: u64,
    is_writing: bool,
}

impl Outlet {
    /// Starts the thread.
    pub(super) fn start(tell_dropped: TellDropped) -> io::Result<Arc<Self>> {
        let (waiting, changed) = (Mutex::default(), Condvar::new());
        let outlet = Arc::new(Self { waiting, changed, tell_dropped });
        let writer = outlet.clone();
        thread::Builder::new().name("stderr".to_owned()).spawn(move || writer.write())?;
        Ok(outlet)
    }

    /// Has a text written after those that wait, or drops it.
    pub(super) fn push(&self, text: String) {
        let mut waiting = self.waiting();
        // Once it was full, there is to be room for many: else each would be dropped or told alone.
        let room = if waiting.dropped > 0 { WAITING_BYTES / 2 } else { WAITING_BYTES };
        if waiting.bytes + text.len() > room {
            waiting.dropped += 1;
            return;
        }
        self.push_dropped(&mut waiting);
        waiting.push(text);
        drop(waiting);
        self.changed.notify_all();
    }

    /// Waits until everything is written, but not for a reader who has stopped.
    pub(super) fn flush(&self) {
        let has_more = |waiting: &mut Waiting| {
            waiting.is_writing || waiting.dropped > 0 || !waiting.texts.is_empty()
        };
        let _in_time = self.changed.wait_timeout_while(self.waiting(), PATIENCE, has_more);
    }

    fn write(&self) {
        let mut waiting = self.waiting();
        loop {
            if waiting.texts.is_empty() {
                self.push_dropped(&mut waiting);
            }
            let Some(text) = waiting.texts.pop_front() else {
                self.changed.notify_all();
                let waited = self.changed.wait(waiting);
                waiting = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            waiting.bytes -= text.len();
            waiting.is_writing = true;
            drop(waiting);
            let _unheard = io::stderr().write_all(text.as_bytes());
            waiting = self.waiting();
            waiting.is_writing = false;
        }
    }

    fn push_dropped(&self, waiting: &mut Waiting) {
        match std::mem::take(&mut waiting.dropped) {
            0 => {}
            count => waiting.push((self.tell_dropped)(count)),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn push(&mut self, text: String) {
        self.bytes += text.len();
        self.texts.push_back(text);
    }
}

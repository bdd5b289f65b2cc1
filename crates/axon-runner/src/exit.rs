//! How a runner ended, and the one task that signals it and waits for its end.

use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;
use tokio::sync::watch;

use crate::held::{Held, Status};
use crate::signals;

/// How a runner ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code, if it exited.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Who has ended it.
    pub by: By,
    /// The last lines of its standard error; of one elsewhere, what is known of its end.
    pub last_words: Vec<String>,
}

impl Exit {
    /// The end of a process that this side wanted, and of which nothing more is known.
    pub(crate) fn asked() -> Self {
        Self { code: None, signal: None, by: By::Us, last_words: Vec::new() }
    }
}

/// Who has ended a runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Itself, or somebody else.
    Itself,
    /// This side, which told it to end or killed it: so its end says nothing about it.
    Us,
    /// Its launcher, with which it ended: that says nothing about it either.
    Launcher,
    /// The kernel, for lack of memory.
    Memory,
    /// Nobody knows: it ran elsewhere, and is not there any more or not the same.
    Elsewhere,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.by, self.code, self.signal) {
            (By::Elsewhere, ..) => return f.write_str(&self.last_words.join("; ")),
            (By::Launcher, ..) => f.write_str("its launcher ended, and it with that")?,
            (By::Memory, ..) => f.write_str("killed by the kernel for lack of memory")?,
            (_, Some(code), _) => write!(f, "exit code {code}")?,
            (by, None, Some(signal)) => {
                write!(f, "ended by {}", signals::signal_name(signal))?;
                if let (By::Itself, Some(hint)) = (by, signals::signal_hint(signal)) {
                    write!(f, " ({hint})")?;
                }
            }
            (_, None, None) => f.write_str("ended for an unknown reason")?,
        }
        f.write_str(&quoted(&self.last_words))
    }
}

/// Quotes last words at the end of an error message.
pub(crate) fn quoted(last_words: &[String]) -> String {
    match last_words {
        [] => "; it wrote nothing to its standard error".to_owned(),
        lines => format!("; its last words:\n  {}", lines.join("\n  ")),
    }
}

/// How a process is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// SIGTERM to the group.
    Term,
    /// SIGKILL to the group.
    Kill,
}

/// What is wanted of a process. Wishes are never taken back, so the latest state is all of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Orders {
    end: Option<End>,
    dumps: u32,
}

impl Orders {
    /// Wants the process to end, at least like this.
    pub(crate) fn end(&mut self, end: End) {
        self.end = self.end.max(Some(end));
    }

    /// Wants one more stack dump.
    pub(crate) fn dump(&mut self) {
        self.dumps = self.dumps.wrapping_add(1);
    }
}

/// The end of a process, without its last words.
pub(crate) struct Reaped {
    status: Status,
    asked: bool,
    dumped: bool,
}

impl Reaped {
    /// Adds the last words, and whether the kernel has killed for lack of memory meanwhile.
    pub(crate) fn saying(self, last_words: Vec<String>, out_of_memory: bool) -> Exit {
        let (code, signal) = match &self.status {
            Status::Ended(status) => (status.code(), status.signal()),
            Status::Unknown | Status::Lost => (None, None),
        };
        // A program that does not know what SIGUSR1 asks for dies of it.
        let of_dump = self.dumped && signal == Some(Signal::USR1.as_raw());
        let by = match self.status {
            Status::Lost => By::Launcher,
            Status::Ended(_) | Status::Unknown if self.asked || of_dump => By::Us,
            Status::Ended(_) if out_of_memory && signal == Some(Signal::KILL.as_raw()) => {
                By::Memory
            }
            Status::Ended(_) | Status::Unknown => By::Itself,
        };
        Exit { code, signal, by, last_words }
    }
}

/// Waits for the process, carrying out orders meanwhile, and sweeps its group afterwards. When
/// nobody holds the other end of `orders` any more, the group is killed.
///
/// Only this task signals the process, and only while it has not been waited for: until then the
/// kernel gives its id to nobody else.
pub(crate) async fn reap(held: &mut Held, mut orders: watch::Receiver<Orders>) -> Reaped {
    let mut done = Orders::default();
    let status = loop {
        tokio::select! {
            biased;
            status = held.wait() => break status,
            changed = orders.changed() => {
                // It may have ended by itself just before.
                if let Some(status) = held.ended() {
                    break status;
                }
                let mut wanted = *orders.borrow_and_update();
                if changed.is_err() {
                    wanted.end(End::Kill);
                }
                carry_out(held, done, wanted);
                done = wanted;
                if changed.is_err() {
                    break held.wait().await;
                }
            }
        }
    };
    held.sweep();
    Reaped { status, asked: done.end.is_some(), dumped: done.dumps > 0 }
}

fn carry_out(held: &Held, done: Orders, wanted: Orders) {
    if wanted.dumps != done.dumps {
        held.signal(Signal::USR1);
    }
    match wanted.end {
        end if end == done.end => {}
        Some(End::Term) => held.signal_group(Signal::TERM),
        Some(End::Kill) => held.signal_group(Signal::KILL),
        None => {}
    }
}

/// Waits for the end of a process.
pub(crate) async fn wait_for(exit: &mut watch::Receiver<Option<Exit>>) -> Exit {
    let ended = exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
    // The task that waits for the process is gone, as it is at the end of the tokio runtime.
    ended.unwrap_or_else(Exit::asked)
}

//! How a runner ended, and the one task that signals it and waits for its end.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::Child;
use tokio::sync::watch;

/// How a runner ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code, if it exited.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Whether it was told to end, or killed, by this side: then its end says nothing about it.
    pub asked: bool,
    /// The last lines of its standard error.
    pub last_words: Vec<String>,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}")?,
            (None, Some(9)) => f.write_str("killed (SIGKILL)")?,
            (None, Some(signal)) => write!(f, "ended by signal {signal}")?,
            (None, None) => f.write_str("ended for an unknown reason")?,
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
    status: std::io::Result<ExitStatus>,
    asked: bool,
    dumped: bool,
}

impl Reaped {
    /// Adds the last words.
    pub(crate) fn saying(self, last_words: Vec<String>) -> Exit {
        let code = self.status.as_ref().ok().and_then(ExitStatus::code);
        let signal = self.status.as_ref().ok().and_then(ExitStatusExt::signal);
        // A program that does not know what SIGUSR1 asks for dies of it.
        let of_dump = self.dumped && signal == Some(Signal::USR1.as_raw());
        Exit { code, signal, asked: self.asked || of_dump, last_words }
    }
}

/// Waits for the process, carrying out orders meanwhile, and sweeps its group afterwards. When
/// nobody holds the other end of `orders` any more, the group is killed.
///
/// Only this task signals the process, and only while it has not been waited for: until then the
/// kernel gives its id to nobody else.
pub(crate) async fn reap(
    child: &mut Child,
    pid: u32,
    mut orders: watch::Receiver<Orders>,
) -> Reaped {
    let mut done = Orders::default();
    let status = loop {
        tokio::select! {
            biased;
            status = child.wait() => break status,
            changed = orders.changed() => {
                // It may have ended by itself just before.
                if let Some(status) = child.try_wait().transpose() {
                    break status;
                }
                let mut wanted = *orders.borrow_and_update();
                if changed.is_err() {
                    wanted.end(End::Kill);
                }
                carry_out(pid, done, wanted);
                done = wanted;
                if changed.is_err() {
                    break child.wait().await;
                }
            }
        }
    };
    signal_group(pid, Signal::KILL);
    Reaped { status, asked: done.end.is_some(), dumped: done.dumps > 0 }
}

fn carry_out(pid: u32, done: Orders, wanted: Orders) {
    if wanted.dumps != done.dumps
        && let Some(pid) = raw(pid)
    {
        // It may be ending just now: then there is nobody left to ask.
        let _gone = kill_process(pid, Signal::USR1);
    }
    match wanted.end {
        end if end == done.end => {}
        Some(End::Term) => signal_group(pid, Signal::TERM),
        Some(End::Kill) => signal_group(pid, Signal::KILL),
        None => {}
    }
}

fn signal_group(pid: u32, signal: Signal) {
    if let Some(group) = raw(pid) {
        // The group may be empty already: then there is nobody left to signal.
        let _empty = kill_process_group(group, signal);
    }
}

fn raw(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

//! A short-lived child process with a deadline, whose output is kept.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tokio::time::Instant;

/// How much of each output stream is kept: its end.
const KEPT: usize = 256 * 1024;

/// Pieces of output in flight between the reading threads and the one that keeps them; small,
/// since a child that prints faster than it is read may well wait.
const IN_FLIGHT: usize = 16;

/// How long output is waited for after the exit: a process that the child left behind may hold the
/// streams open for ever.
const GRACE: Duration = Duration::from_secs(1);

/// How a child ended, and the end of what it printed.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) how: How,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// By itself, or by somebody else's signal.
    Exited(ExitStatus),
    /// The deadline passed, and it was killed.
    Expired,
}

impl Ended {
    pub(crate) fn succeeded(&self) -> bool {
        matches!(self.how, How::Exited(status) if status.success())
    }

    /// The last `count` lines that it printed, errors last.
    pub(crate) fn tail(&self, count: usize) -> String {
        let lines: Vec<&str> = [&self.stdout, &self.stderr]
            .into_iter()
            .flat_map(|stream| stream.lines())
            .filter(|line| !line.trim().is_empty())
            .collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

/// Kills and reaps its child on every way out.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both fail only when the child has been reaped already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What the threads around a child saw.
enum Seen {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    StreamEnded,
    Exited,
}

/// Runs `command` with no input, and kills it when it takes longer than `deadline`.
///
/// The child stays in the caller's process group, so that an interrupt at the terminal ends it too.
///
/// # Errors
///
/// When the command cannot be started, or the threads that watch it cannot.
pub(crate) fn run(command: &mut Command, deadline: Duration) -> io::Result<Ended> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let expiry = Instant::now() + deadline;
    let mut child = Reaped(command.spawn()?);
    let (sender, seen) = mpsc::sync_channel(IN_FLIGHT);
    if let Some(stdout) = child.0.stdout.take() {
        watch(&sender, move |sender| forward(stdout, sender, Seen::Stdout))?;
    }
    if let Some(stderr) = child.0.stderr.take() {
        watch(&sender, move |sender| forward(stderr, sender, Seen::Stderr))?;
    }
    let pid = Pid::from_child(&child.0);
    watch(&sender, move |sender| {
        wait_unreaped(pid);
        drop(sender.send(Seen::Exited));
    })?;
    drop(sender);

    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let exited = collect(&seen, expiry, (&mut stdout, &mut stderr));
    if !exited {
        child.0.kill()?;
    }
    let status = child.0.wait()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let how = if exited { How::Exited(status) } else { How::Expired };
    Ok(Ended { how, stdout: text(stdout), stderr: text(stderr) })
}

/// Keeps what the child prints until it exits and its streams end; false when `expiry` came first.
fn collect(
    seen: &Receiver<Seen>,
    mut expiry: Instant,
    (stdout, stderr): (&mut Vec<u8>, &mut Vec<u8>),
) -> bool {
    let (mut exited, mut streams) = (false, 2);
    while !exited || streams > 0 {
        match seen.recv_timeout(expiry.saturating_duration_since(Instant::now())) {
            Ok(Seen::Stdout(piece)) => keep_end(stdout, &piece),
            Ok(Seen::Stderr(piece)) => keep_end(stderr, &piece),
            Ok(Seen::StreamEnded) => streams -= 1,
            Ok(Seen::Exited) => {
                exited = true;
                expiry = Instant::now() + GRACE;
            }
            Err(_) => break,
        }
    }
    exited
}

fn watch(
    sender: &SyncSender<Seen>,
    body: impl FnOnce(&SyncSender<Seen>) + Send + 'static,
) -> io::Result<()> {
    let sender = sender.clone();
    thread::Builder::new().name("axon-child".into()).spawn(move || body(&sender)).map(drop)
}

fn forward(mut stream: impl Read, sender: &SyncSender<Seen>, piece: fn(Vec<u8>) -> Seen) {
    let mut buffer = [0; 8192];
    loop {
        match stream.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
            Ok(count) => {
                if sender.send(piece(buffer[..count].to_vec())).is_err() {
                    return;
                }
            }
        }
    }
    drop(sender.send(Seen::StreamEnded));
}

/// Waits for the exit without reaping, so that the process id stays the child's until the owner of
/// the [`Child`] has killed or reaped it.
fn wait_unreaped(pid: Pid) {
    while let Err(rustix::io::Errno::INTR) =
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
    {}
}

fn keep_end(kept: &mut Vec<u8>, piece: &[u8]) {
    kept.extend_from_slice(piece);
    if kept.len() > KEPT {
        kept.drain(..kept.len() - KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, deadline: Duration) -> Ended {
        run(Command::new("/bin/sh").args(["-c", script]), deadline).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn output_and_status_are_kept_apart() {
        let ended = shell("echo out; echo err >&2; exit 3", LONG);
        assert!(matches!(ended.how, How::Exited(status) if status.code() == Some(3)));
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(ended.tail(1), "err");
    }

    #[test]
    fn child_that_takes_too_long_is_killed_and_reaped() {
        let ended = shell("echo $$; exec sleep 1000", Duration::from_millis(300));
        assert_eq!(ended.how, How::Expired);
        let pid = Pid::from_raw(ended.stdout.trim().parse().unwrap()).unwrap();
        assert!(rustix::process::test_kill_process(pid).is_err(), "still there, or a zombie");
    }

    #[test]
    fn process_left_behind_with_the_streams_open_does_not_hold_the_caller() {
        let ended = shell("sleep 20 & echo $!", LONG);
        assert!(ended.succeeded());
        let pid = Pid::from_raw(ended.stdout.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)
            .expect("the caller came back while it still slept");
    }

    #[test]
    fn endless_output_is_read_and_only_its_end_kept() {
        let ended = shell("yes x | head -c 4000000; echo last", LONG);
        assert!(ended.stdout.len() <= KEPT && ended.stdout.ends_with("last\n"));
    }
}

//! The launcher: one Python process that is the parent of all runners of an environment.
//!
//! It forks a runner from what it has imported in milliseconds, adopts whatever loses its parent
//! below it, and tells how each runner ended. When this side goes, however it goes, the kernel
//! closes the launcher's socket, and it kills everything below itself. See
//! `python/src/axon_runner/launcher.py` for the other half.

mod link;
mod record;

use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use link::Link;
use record::{Order, Start, Told};

use crate::logs::{self, Output, Stderr};
use crate::orphans;
use crate::plan::{LaunchPlan, Life};

/// The descriptor of its socket, in the launcher.
const COMMANDS_FD: i32 = 3;

/// How long it may take to answer: the first time it imports what runners need.
const ANSWER: Duration = Duration::from_secs(60);

/// How long it may take to end everything below itself.
const END: Duration = Duration::from_secs(6);

/// The same, for one that does not answer.
const STUCK_END: Duration = Duration::from_secs(1);

/// How long it may take to tell how a process has ended, before that is given up.
const NEWS: Duration = Duration::from_secs(1);

/// How long it may take to answer when it has not told of an end: it may be importing something.
const LATE_ANSWER: Duration = Duration::from_secs(20);

/// How long a process may take to be gone after its launcher.
const LOST: Duration = Duration::from_secs(2);

/// Starts that wait for their turn; more than an agent has runners, each of them waits by itself.
const WAITING_STARTS: usize = 64;

/// Signals on their way. One that finds no room still reaches its process, though not its group.
const WAITING_SIGNALS: usize = 1024;

/// The variable that names the launcher of a process, by letters that nobody else has.
const LAUNCHER: &str = "AXON_LAUNCHER";

/// The variable that numbers the runners of a launcher.
const RUNNER: &str = "AXON_RUNNER";

/// What a launcher is, and where it stands.
#[derive(Clone, Debug)]
pub struct LauncherPlan {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The whole environment of the process.
    pub env: BTreeMap<String, String>,
    /// The working directory.
    pub directory: PathBuf,
}

/// A running launcher. Cheap to clone; when the last clone is dropped, and the last runner that it
/// has started, it ends.
#[derive(Clone, Debug)]
pub struct Launcher(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pid: u32,
    mark: String,
    ids: AtomicU64,
    starts: mpsc::Sender<Ask>,
    signals: mpsc::Sender<(u64, Signal)>,
    close: Arc<Notify>,
    gone: watch::Receiver<bool>,
    /// Whether it owes the news of an end.
    late: AtomicBool,
    /// Whether it does not answer, or has not yet: then it is not waited for when it is to end.
    stuck: Arc<AtomicBool>,
}

/// Why a launcher did not start a process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("the launcher is gone")]
    Gone,
    #[error("the launcher could not start it")]
    Failed(#[source] std::io::Error),
}

#[derive(Debug)]
struct Ask {
    start: Start,
    fds: [OwnedFd; 5],
    reply: oneshot::Sender<Result<Launched, LaunchError>>,
    /// Counts what is being started, even if nobody waits for it any more.
    life: Life,
}

/// A process that a launcher has started. Dropping it kills the process and all that descends from
/// it, unless it has ended.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) pid: u32,
    /// Why it was executed although it was to be forked; empty otherwise.
    pub(crate) cold: String,
    id: u64,
    handle: Arc<OwnedFd>,
    ended: oneshot::Receiver<Ended>,
    over: bool,
    launcher: Launcher,
}

/// How such a process ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ended {
    /// As its launcher tells.
    Told { status: ExitStatus, strays: u32 },
    /// Its launcher has not told how, and may be busy, or stopped.
    Untold,
    /// With its launcher.
    Lost,
}

impl Launcher {
    /// Starts a launcher. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`std::io::Error`] if the process cannot be started.
    pub fn start(plan: &LauncherPlan) -> std::io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let mark = uuid::Uuid::new_v4().simple().to_string();
        let mut child = spawn(plan, &mark, theirs.into())?;
        let pid = child.id().unwrap_or_default();
        if let Some(stderr) = child.stderr.take() {
            let output = Output::Stderr(Stderr::default());
            tokio::spawn(logs::relay(stderr, logs::Source::plain("launcher"), output));
        }
        let (starts, starts_in) = mpsc::channel(WAITING_STARTS);
        let (signals, signals_in) = mpsc::channel(WAITING_SIGNALS);
        let (over, gone) = watch::channel(false);
        let (close, stuck) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(true)));
        let shared = Shared {
            pid,
            mark,
            ids: AtomicU64::new(0),
            starts,
            signals,
            close: close.clone(),
            gone,
            late: AtomicBool::new(false),
            stuck: stuck.clone(),
        };
        let shared = Arc::new(shared);
        let desk = Desk {
            launcher: Arc::downgrade(&shared),
            link: Link::new(ours)?,
            starting: None,
            running: HashMap::new(),
        };
        let mark = shared.mark.clone();
        tokio::spawn(async move {
            desk.serve(starts_in, signals_in, &close).await;
            let limit = if stuck.load(Ordering::Relaxed) { STUCK_END } else { END };
            bury(child, &mark, limit).await;
            over.send_replace(true);
        });
        Ok(Self(shared))
    }

    /// Returns the process id of the launcher.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// Ends it now, with everything below it; [`Launcher::exited`] tells when that is done.
    pub fn close(&self) {
        self.0.close.notify_one();
    }

    /// Returns whether it has ended.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        *self.0.gone.borrow() || self.0.starts.is_closed()
    }

    /// Returns a future that resolves when it has ended, with everything below it. It holds nothing.
    pub fn exited(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut gone = self.0.gone.clone();
        async move {
            // The task is gone too, at the end of the tokio runtime.
            let _gone = gone.wait_for(|gone| *gone).await;
        }
    }

    /// Starts what `plan` says, with these descriptors: control socket, listening socket, lifeline,
    /// standard output, standard error.
    pub(crate) async fn launch(
        &self,
        plan: &LaunchPlan,
        fds: [OwnedFd; 5],
    ) -> Result<Launched, LaunchError> {
        let id = self.0.ids.fetch_add(1, Ordering::Relaxed);
        let mut env = plan.env.clone();
        env.insert(RUNNER.to_owned(), id.to_string());
        env.extend(marks(&self.0.mark));
        let start = Start {
            id,
            fork: plan.fork,
            name: plan.launch.agent.clone(),
            command: plan.command.clone(),
            env,
            directory: plan.directory.clone(),
            providers: plan.providers.clone(),
        };
        let (reply, answer) = oneshot::channel();
        let life = plan.living.begin();
        let asked = async {
            self.0.starts.send(Ask { start, fds, reply, life }).await.ok()?;
            answer.await.ok()
        };
        let late = self.0.late.load(Ordering::Relaxed);
        match timeout(if late { LATE_ANSWER } else { ANSWER }, asked).await {
            Ok(Some(launched)) => launched,
            Ok(None) => Err(LaunchError::Gone),
            Err(_elapsed) => {
                tracing::error!(pid = self.pid(), "the launcher does not answer");
                self.0.stuck.store(true, Ordering::Relaxed);
                self.close();
                Err(LaunchError::Gone)
            }
        }
    }
}

fn spawn(plan: &LauncherPlan, mark: &str, commands: OwnedFd) -> std::io::Result<Child> {
    let missing = || std::io::Error::other("the launcher's command is empty");
    let (program, arguments) = plan.command.split_first().ok_or_else(missing)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(&plan.env)
        .envs(marks(mark))
        .current_dir(&plan.directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        // A kill would spare what it has adopted; the end of its socket spares nothing.
        .kill_on_drop(false);
    let mapping = FdMapping { parent_fd: commands, child_fd: COMMANDS_FD };
    command.fd_mappings(vec![mapping]).map_err(std::io::Error::other)?.spawn()
}

/// By these, whatever descends from the launcher is known even if it got away.
fn marks(mark: &str) -> impl Iterator<Item = (String, String)> + use<> {
    let own = (LAUNCHER.to_owned(), mark.to_owned());
    let origin = orphans::origin().map(|origin| (orphans::ORIGIN.to_owned(), origin));
    origin.into_iter().chain([own])
}

/// Waits for the end of a launcher that nobody speaks to any more.
async fn bury(mut child: Child, mark: &str, limit: Duration) {
    if timeout(limit, child.wait()).await.is_err() {
        tracing::error!(pid = child.id(), "a launcher did not end: killed");
        // It was not waited for, so its group is still its own, and so is what it is a shim for.
        let group = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let _empty = group.map(|group| kill_process_group(group, Signal::KILL));
        let _ended = child.wait().await;
    }
    let mark = mark.to_owned();
    let swept = move || orphans::kill_marked(LAUNCHER, &mark);
    let swept = tokio::task::spawn_blocking(swept).await.unwrap_or_default();
    if swept > 0 {
        tracing::warn!(swept, "a launcher left processes behind, which were killed");
    }
}

/// What is asked of a launcher, and what it has answered.
#[derive(Debug)]
struct Desk {
    launcher: Weak<Shared>,
    link: Link,
    /// One start at a time, so that it is clear whose the descriptors are.
    starting: Option<(oneshot::Sender<Result<Launched, LaunchError>>, Life)>,
    running: HashMap<u64, oneshot::Sender<Ended>>,
}

impl Desk {
    /// Passes on what is wanted and told, until either side is gone.
    async fn serve(
        mut self,
        mut starts: mpsc::Receiver<Ask>,
        mut signals: mpsc::Receiver<(u64, Signal)>,
        close: &Notify,
    ) {
        loop {
            let passed = tokio::select! {
                told = self.link.next() => match told {
                    Ok(Some(told)) => self.take(told),
                    Ok(None) => return,
                    Err(error) => Err(error),
                },
                Some((id, signal)) = signals.recv() => {
                    self.order(&Order::Signal { id, signal: signal.as_raw() }, &[]).await
                }
                ask = starts.recv(), if self.starting.is_none() => match ask {
                    Some(ask) => self.start(ask).await,
                    None => return,
                },
                () = close.notified() => return,
            };
            if let Err(error) = passed {
                tracing::error!(%error, "a launcher cannot be spoken to");
                return;
            }
        }
    }

    async fn start(&mut self, Ask { start, fds, reply, life }: Ask) -> std::io::Result<()> {
        if reply.is_closed() {
            return Ok(());
        }
        let fds = fds.each_ref().map(AsFd::as_fd);
        self.starting = Some((reply, life));
        self.order(&Order::Start(start), &fds).await
    }

    async fn order(&self, order: &Order, fds: &[BorrowedFd<'_>]) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        let sent = timeout(ANSWER, self.link.send(&line, fds)).await;
        sent.unwrap_or_else(|_elapsed| Err(std::io::ErrorKind::TimedOut.into()))
    }

    fn take(&mut self, told: Told) -> std::io::Result<()> {
        if let Some(shared) = self.launcher.upgrade() {
            shared.late.store(false, Ordering::Relaxed);
            shared.stuck.store(false, Ordering::Relaxed);
        }
        match told {
            Told::Started { id, pid, cold } => {
                let handle = Arc::new(self.link.take_fd()?);
                let (ends, ended) = oneshot::channel();
                self.running.insert(id, ends);
                if let (Some((reply, _life)), Some(shared)) =
                    (self.starting.take(), self.launcher.upgrade())
                {
                    let launcher = Launcher(shared);
                    let launched = Launched { pid, cold, id, handle, ended, over: false, launcher };
                    // Whoever asked may have gone: then it is killed with the answer.
                    let _gone = reply.send(Ok(launched));
                }
            }
            Told::Failed { errno } => {
                let error = std::io::Error::from_raw_os_error(errno);
                if let Some((reply, _life)) = self.starting.take() {
                    let _gone = reply.send(Err(LaunchError::Failed(error)));
                }
            }
            Told::Exited { id, status, strays } => {
                if let Some(ends) = self.running.remove(&id) {
                    let status = ExitStatus::from_raw(status);
                    let _gone = ends.send(Ended::Told { status, strays });
                }
            }
        }
        Ok(())
    }
}

impl Launched {
    /// Waits for its end.
    pub(crate) async fn wait(&mut self) -> Ended {
        let told = tokio::select! {
            biased;
            told = &mut self.ended => told.ok(),
            () = untold(self.handle.clone()) => {
                let launcher = self.launcher.pid();
                tracing::warn!(launcher, pid = self.pid, "a launcher does not tell how a runner ended");
                self.launcher.0.late.store(true, Ordering::Relaxed);
                Some(Ended::Untold)
            }
        };
        let ended = match told {
            Some(ended) => ended,
            None => {
                // It dies with its launcher, if it can die at all.
                let handle = self.handle.clone();
                // The task can only be gone with the whole executor.
                let _waited = tokio::task::spawn_blocking(move || gone(&handle, LOST)).await;
                Ended::Lost
            }
        };
        self.over = true;
        ended
    }

    /// Returns how it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<Ended> {
        let ended = self.ended.try_recv().ok();
        self.over |= ended.is_some();
        ended
    }

    /// Signals the process alone.
    pub(crate) fn signal(&self, signal: Signal) {
        // It may have ended already.
        let _ended = send_signal(&self.handle, signal);
    }

    /// Signals its process group; by SIGKILL, all that descends from it.
    pub(crate) fn signal_group(&self, signal: Signal) {
        // By the launcher, which has not reaped it: so its group is still its own.
        let _full = self.launcher.0.signals.try_send((self.id, signal));
        if signal == Signal::KILL {
            self.signal(signal);
        }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        if !self.over {
            self.signal_group(Signal::KILL);
        }
    }
}

/// Resolves when the process has ended and its launcher has had the time to tell so.
async fn untold(handle: Arc<OwnedFd>) {
    #[expect(deprecated, reason = "the other one is unsafe; an owned descriptor stays what it is")]
    let watched = AsyncFd::with_interest(handle, Interest::READABLE);
    match watched {
        Ok(handle) => drop(handle.readable().await.map(|_ended| ())),
        // Then only what the launcher tells is known.
        Err(_unwatchable) => pending().await,
    }
    sleep(NEWS).await;
}

/// Waits until the process is gone, or `limit` has passed.
fn gone(handle: &OwnedFd, limit: Duration) {
    let limit = Timespec::try_from(limit).ok();
    // Whatever comes of it, the process is given up.
    let _waited = poll(&mut [PollFd::new(handle, PollFlags::IN)], limit.as_ref());
}

#[cfg(target_os = "linux")]
fn send_signal(handle: &OwnedFd, signal: Signal) -> rustix::io::Result<()> {
    rustix::process::pidfd_send_signal(handle, signal)
}

/// There is no launcher where there are no such handles.
#[cfg(not(target_os = "linux"))]
fn send_signal(_handle: &OwnedFd, _signal: Signal) -> rustix::io::Result<()> {
    Ok(())
}

//! The host program as a process: orders go in, lines come out, and it can be killed in parts.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use procfs::process::Process as Entry;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::project::Project;
use super::said::{Order, Said};
use super::world::World;

/// No step of a process takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What outlives its parent for so long counts as left behind. What is claimed is 1 s: the rest is
/// for a busy machine.
const LEFT: Duration = Duration::from_secs(5);

/// No thread waits longer than this for an end that does not come.
const ENDS: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// How many lines may wait to be read: more than a program says in its life, so that it never waits.
const LINES: usize = 4096;

/// Which program, and what it is told beside its project.
#[derive(Clone, Debug)]
pub struct Program {
    /// Where the host program is.
    pub path: PathBuf,
    /// More variables for it.
    pub variables: BTreeMap<String, String>,
    /// Whether it stops before and after every append.
    pub watched: bool,
    /// The command that starts it: its words come before the program's path. None by default.
    pub wrapper: Vec<String>,
}

impl Program {
    /// Names the program at `path`, which is watched.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let (path, variables, wrapper) = (path.into(), BTreeMap::new(), Vec::new());
        Self { path, variables, watched: true, wrapper }
    }

    fn command(&self) -> Command {
        let Some((first, rest)) = self.wrapper.split_first() else {
            return Command::new(&self.path);
        };
        let mut command = Command::new(first);
        command.args(rest).arg(&self.path);
        command
    }
}

type Runners = Arc<Mutex<BTreeMap<String, u32>>>;

/// The host program as a process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdin: ChildStdin,
    said: mpsc::Receiver<Said>,
    runners: Runners,
    launcher: u32,
    log: PathBuf,
}

impl Process {
    /// Starts it over the project's store, and returns when it takes orders.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    pub async fn start(
        program: &Program,
        project: &Project,
        world: &World,
    ) -> anyhow::Result<Self> {
        let log = project.path().join("log");
        let errors = std::fs::File::options().create(true).append(true).open(&log)?;
        let mut child = program
            .command()
            .args(["agents", &project.store(), world.address()])
            .args(program.watched.then_some("watched"))
            .current_dir(project.path())
            .env_clear()
            .envs(project.variables())
            .envs(&program.variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .context("the host program cannot be started")?;
        let stdin = child.stdin.take().context("it has an input")?;
        let stdout = child.stdout.take().context("it has an output")?;
        let (said, heard) = mpsc::channel(LINES);
        let runners = Runners::default();
        tokio::spawn(listen(stdout, said, runners.clone()));
        let mut process = Self { child, stdin, said: heard, runners, launcher: 0, log };
        timeout(PATIENCE, process.ready()).await.context("it never took orders")??;
        Ok(process)
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        while self.next().await? != Said::Ready {}
        let runner = self.runner("plain").context("no runner came up")?;
        self.launcher = parent(runner)?;
        Ok(())
    }

    /// Gives an order.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub async fn order(&mut self, order: &Order) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(order)?;
        line.push('\n');
        Ok(self.stdin.write_all(line.as_bytes()).await?)
    }

    /// Returns what it says next.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub async fn next(&mut self) -> anyhow::Result<Said> {
        match self.said.recv().await {
            Some(said) => Ok(said),
            None => bail!("the host program is gone: {}", self.log()),
        }
    }

    /// Returns what it has said and nobody has heard yet.
    pub fn heard(&mut self) -> Option<Said> {
        self.said.try_recv().ok()
    }

    /// Returns its process id, while it lives.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Returns whether its newest runners have a launcher: after many deaths of launchers they are
    /// started without one.
    #[must_use]
    pub fn has_launcher(&self) -> bool {
        let host = self.child.id();
        let parent = self.runner("plain").and_then(|runner| parent(runner).ok());
        parent.is_some() && parent != host
    }

    /// Returns the process id of the agent's newest runner.
    #[must_use]
    pub fn runner(&self, agent: &str) -> Option<u32> {
        self.runners.lock().unwrap_or_else(PoisonError::into_inner).get(agent).copied()
    }

    /// Has it abort, and waits for its end and that of everything below it.
    ///
    /// # Errors
    ///
    /// If something is left behind.
    pub async fn abort(&mut self) -> anyhow::Result<()> {
        self.end_by(Signal::ABORT).await
    }

    /// Kills it, and waits for its end and that of everything below it.
    ///
    /// # Errors
    ///
    /// If something is left behind.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.end_by(Signal::KILL).await
    }

    async fn end_by(&mut self, signal: Signal) -> anyhow::Result<()> {
        let Some(pid) = self.child.id() else { return Ok(()) };
        let below = self.below();
        let pid = Pid::from_raw(i32::try_from(pid)?).context("it was started")?;
        rustix::process::kill_process(pid, signal)?;
        self.ended().await?;
        for one in below {
            timeout(LEFT, gone(one)).await.context("something was left behind")??;
        }
        Ok(())
    }

    /// Returns its runners and their launcher.
    fn below(&self) -> Vec<OwnedFd> {
        let runners = self.runners.lock().unwrap_or_else(PoisonError::into_inner);
        let pids = runners.values().copied().chain([self.launcher]);
        pids.filter_map(handle).collect()
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    ///
    /// If it does not end.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        timeout(PATIENCE, self.child.wait()).await.context("it does not end")??;
        Ok(())
    }

    /// Kills the agent's runner, and waits for its end.
    ///
    /// # Errors
    ///
    /// If it does not end.
    pub async fn kill_runner(&self, agent: &str) -> anyhow::Result<()> {
        kill(self.runner(agent).context("no runner is up")?).await
    }

    /// Kills the launcher, and waits for its end and that of its runners.
    ///
    /// # Errors
    ///
    /// If something is left behind.
    pub async fn kill_launcher(&self) -> anyhow::Result<()> {
        // It may be another one by now.
        let runner = self.runner("plain").context("no runner is up")?;
        let below = self.below();
        // A runner whose launcher has just died is somebody else's child, and that one is no launcher.
        let host = self.child.id();
        let ours = |pid: &u32| host.is_some() && parent(*pid).ok() == host;
        if let Some(launcher) =
            parent(runner).ok().filter(ours).or(Some(self.launcher).filter(ours))
        {
            kill(launcher).await?;
        }
        for one in below {
            timeout(LEFT, gone(one)).await.context("something was left behind")??;
        }
        Ok(())
    }

    /// Returns the last lines of its standard error.
    #[must_use]
    pub fn log(&self) -> String {
        tail(&self.log)
    }
}

/// Returns the last lines of a file.
pub(crate) fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

async fn listen(stdout: ChildStdout, said: mpsc::Sender<Said>, runners: Runners) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(one) = serde_json::from_str::<Said>(&line) else { continue };
        if let Said::Runner { agent, pid } = &one {
            let mut runners = runners.lock().unwrap_or_else(PoisonError::into_inner);
            runners.insert(agent.clone(), *pid);
        }
        if said.send(one).await.is_err() {
            return;
        }
    }
}

fn parent(pid: u32) -> anyhow::Result<u32> {
    let stat = Entry::new(i32::try_from(pid)?)?.stat()?;
    Ok(u32::try_from(stat.ppid)?)
}

fn handle(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::NONBLOCK).ok()
}

/// Kills a process, unless it is gone, and waits for its end.
async fn kill(pid: u32) -> anyhow::Result<()> {
    let Some(handle) = handle(pid) else { return Ok(()) };
    if pidfd_send_signal(&handle, Signal::KILL).is_err() {
        return Ok(());
    }
    timeout(PATIENCE, gone(handle)).await.context("it does not end")?
}

async fn gone(handle: OwnedFd) -> anyhow::Result<()> {
    let waited = tokio::task::spawn_blocking(move || {
        poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&ENDS)).map(drop)
    });
    Ok(waited.await??)
}

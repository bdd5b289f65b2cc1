//! A host process, its launcher, its runners and what those have started: who is there, and how
//! long they take to be gone.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use procfs::process::{Process, all_processes};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::pipe::{OpenOptions, Receiver};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, timeout};

/// No step of the host takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// After this long without its parent, a process counts as left behind. What is claimed is 1 s: the
/// rest is for a busy machine.
pub(crate) const LEAKED: Duration = Duration::from_secs(5);

/// Set in a host and in what it has not given an environment of its own yet.
const FIELD: &str = "AXON_TEST_FIELD";

/// What everything below an Axon process carries: the id and the start time of that process.
const ORIGIN: &str = "AXON_ORIGIN";

/// Where what is there says that it is: a pipe in the project's folder.
const TOLD: &str = "told";

/// Starts a process of each kind, says so, and then holds the interpreter's lock in C.
const TOOL: &str = r#"
import ctypes, os, subprocess

def tell(name, pid):
    told = os.open("told", os.O_WRONLY | os.O_NONBLOCK)
    os.write(told, f"{name} {pid}\n".encode())
    os.close(told)

def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        tell("daemon", os.getpid())
        os.closerange(0, 4096)
        ctypes.CDLL(None).sleep(600)
        os._exit(0)

def leave() -> str:
    tell("grandchild", subprocess.Popen(["sleep", "600"]).pid)
    tell("session", subprocess.Popen(["sleep", "600"], start_new_session=True).pid)
    daemon()
    tell("holder", os.getpid())
    ctypes.PyDLL(None).sleep(600)
    return "late"
"#;

/// Everything that the tool says, when it has started all of it.
pub(crate) const ALL: [&str; 4] = ["daemon", "grandchild", "holder", "session"];

/// A project with an agent that is idle and one that leaves processes of every kind.
#[derive(Debug)]
pub(crate) struct Field {
    folder: TempDir,
    variables: BTreeMap<String, String>,
}

impl Field {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("axon-field-").tempdir()?;
        let names = ["PATH", "HOME", "AXON_PYTHON", "AXON_CACHE_DIR", "XDG_CACHE_HOME"];
        let given = |name: &str| Some((name.to_owned(), std::env::var(name).ok()?));
        let mut variables: BTreeMap<_, _> = names.iter().filter_map(|name| given(name)).collect();
        let temporary = folder.path().join("tmp");
        std::fs::create_dir(&temporary)?;
        variables.insert("TMPDIR".to_owned(), temporary.display().to_string());
        variables.insert(FIELD.to_owned(), folder.path().display().to_string());
        let field = Self { folder, variables };
        field.write("agents/idle/agent.toml", "model = \"test\"\n")?;
        let tool =
            "\n[[tools]]\nname = \"leave\"\npython = \"busy.tools:leave\"\neffect = \"pure\"\n";
        field.write("agents/busy/agent.toml", &format!("model = \"test\"\n{tool}"))?;
        field.write("agents/busy/__init__.py", "")?;
        field.write("agents/busy/tools.py", TOOL)?;
        rustix::fs::mkfifoat(CWD, field.path().join(TOLD), Mode::RUSR | Mode::WUSR)?;
        Ok(field)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, relative: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path().join(relative);
        std::fs::create_dir_all(path.parent().context("it is below the folder")?)?;
        Ok(std::fs::write(path, text)?)
    }

    /// Starts a program in the project.
    pub(crate) fn start(&self, program: &str, arguments: &[&str]) -> anyhow::Result<Host> {
        let told = OpenOptions::new().read_write(true).open_receiver(self.path().join(TOLD))?;
        let log = std::fs::File::create(self.path().join("log"))?;
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .envs(&self.variables)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().context("it was not waited for")?;
        let started = Process::new(i32::try_from(pid)?)?.stat()?.starttime;
        Ok(Host {
            pid,
            mark: format!("{pid}.{started}."),
            folder: self.path().to_owned(),
            stdin: child.stdin.take(),
            child,
            told: BufReader::new(told).lines(),
            names: BTreeMap::new(),
        })
    }
}

/// A program that was started in a field.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) pid: u32,
    child: Child,
    stdin: Option<ChildStdin>,
    mark: String,
    folder: PathBuf,
    told: Lines<BufReader<Receiver>>,
    /// What was said to be there, by process id.
    names: BTreeMap<i32, String>,
}

impl Host {
    /// Waits until so much has been told, or a time has passed.
    pub(crate) async fn told(&mut self, count: usize, within: Duration) -> anyhow::Result<bool> {
        let all = async {
            while self.names.len() < count {
                let line = self.told.next_line().await?.context("the pipe is held open")?;
                let (name, pid) = line.split_once(' ').context("a name and an id")?;
                self.names.insert(pid.parse()?, name.to_owned());
            }
            anyhow::Ok(())
        };
        match timeout(within, all).await {
            Ok(told) => told.map(|()| true),
            Err(_elapsed) => Ok(false),
        }
    }

    /// Waits until so many processes have said that they are there.
    pub(crate) async fn busy_with(&mut self, count: usize) -> anyhow::Result<()> {
        if !self.told(count, PATIENCE).await? {
            bail!("only {:?} came up: {}", self.names, self.log());
        }
        Ok(())
    }

    /// Waits until there is a process of every kind.
    pub(crate) async fn busy(&mut self) -> anyhow::Result<()> {
        self.busy_with(ALL.len()).await?;
        let names: BTreeSet<&str> = self.names.values().map(String::as_str).collect();
        anyhow::ensure!(names == ALL.into(), "{names:?}");
        Ok(())
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Says how it is to end.
    pub(crate) async fn say(&mut self, how: &str) -> anyhow::Result<()> {
        let stdin = self.stdin.as_mut().context("it is told once")?;
        Ok(stdin.write_all(format!("{how}\n").as_bytes()).await?)
    }

    /// Waits until the host itself has ended.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        timeout(PATIENCE, self.child.wait()).await?.context("it can be waited for")
    }

    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.start_kill()?)
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid)?).context("it was started")?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// Returns everything that descends from it now, by its place in the tree or by its mark.
    pub(crate) fn below(&self) -> anyhow::Result<Vec<Watched>> {
        let all: Vec<Process> = all_processes()?.flatten().collect();
        let mut parents = BTreeMap::<i32, Vec<&Process>>::new();
        for process in &all {
            if let Ok(stat) = process.stat() {
                parents.entry(stat.ppid).or_default().push(process);
            }
        }
        let mut found: BTreeMap<i32, &Process> = BTreeMap::new();
        let mut waiting = vec![i32::try_from(self.pid)?];
        while let Some(parent) = waiting.pop() {
            for process in parents.get(&parent).into_iter().flatten() {
                waiting.push(process.pid);
                found.insert(process.pid, process);
            }
        }
        let marked = all.iter().filter(|process| self.is_marked(process));
        found.extend(marked.map(|process| (process.pid, process)));
        Ok(found.into_values().filter_map(|process| self.watch(process)).collect())
    }

    fn is_marked(&self, process: &Process) -> bool {
        let Ok(environment) = process.environ() else { return false };
        let has = |name: &str, is: &dyn Fn(&str) -> bool| {
            environment.get(OsStr::new(name)).and_then(|value| value.to_str()).is_some_and(is)
        };
        let folder = self.folder.to_str();
        process.pid.unsigned_abs() != self.pid
            && (has(ORIGIN, &|value| value.starts_with(&self.mark))
                || has(FIELD, &|value| Some(value) == folder))
    }

    fn watch(&self, process: &Process) -> Option<Watched> {
        let mut watched = Watched::of(process)?;
        if let Some(name) = self.names.get(&process.pid) {
            watched.name.clone_from(name);
        }
        Some(watched)
    }

    /// Waits until all of `watched` are gone, and whatever else carries the host's mark.
    pub(crate) fn gone(&self, watched: Vec<Watched>, since: Instant) -> Result<Gone, Left> {
        let (mut waiting, mut gone) = (watched, Gone::default());
        loop {
            let (mut left, there) = (Vec::new(), waiting.len());
            for one in waiting {
                if one.is_gone_by(Instant::now()) {
                    continue;
                }
                if one.is_gone_by(since + LEAKED) {
                    gone = Gone { after: since.elapsed(), last: one.name };
                } else {
                    left.push(one);
                }
            }
            if !left.is_empty() {
                return Err(Left(left));
            }
            waiting = match self.below() {
                Ok(more) if more.is_empty() && there == 0 => return Ok(gone),
                Ok(more) => more,
                Err(_ended_meanwhile) => Vec::new(),
            };
        }
    }
}

/// How long it took until everything was gone, and what that was that took so long.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    pub(crate) after: Duration,
    pub(crate) last: String,
}

/// A process that is to be gone.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) pid: i32,
    pub(crate) name: String,
    handle: OwnedFd,
}

impl Watched {
    /// Returns the process with this id; `None` if it has ended.
    pub(crate) fn process(pid: i32) -> Option<Self> {
        Self::of(&Process::new(pid).ok()?)
    }

    fn of(process: &Process) -> Option<Self> {
        let handle = pidfd_open(Pid::from_raw(process.pid)?, PidfdFlags::empty()).ok()?;
        // Read after that, so that it is of the same process.
        let stat = process.stat().ok().filter(|stat| !matches!(stat.state, 'Z' | 'X'))?;
        let mut name = stat.comm;
        // What an interpreter runs says more.
        if name.starts_with("python") {
            let words = process.cmdline().unwrap_or_default();
            name = words.last().map_or(name, |last| last.chars().take(80).collect());
        }
        Some(Self { pid: process.pid, name, handle })
    }

    /// Returns whether it has ended, or does until then.
    pub(crate) fn is_gone_by(&self, deadline: Instant) -> bool {
        let rest = deadline.saturating_duration_since(Instant::now());
        let mut polled = [PollFd::new(&self.handle, PollFlags::IN)];
        poll(&mut polled, Timespec::try_from(rest).ok().as_ref()).is_ok_and(|ready| ready > 0)
    }

    /// Kills exactly this process.
    pub(crate) fn kill(&self) {
        // It may have ended.
        let _ended = pidfd_send_signal(&self.handle, Signal::KILL);
    }
}

/// What was left behind. Dropping it ends that.
#[derive(Debug)]
pub(crate) struct Left(pub(crate) Vec<Watched>);

impl Left {
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().map(|left| format!("{} {}", left.name, left.pid)).collect()
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        for left in &self.0 {
            left.kill();
        }
    }
}

//! A runner under test, with every end of it in the suite's hands.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream as StdUnixStream};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use axon_kernel::ids::Generation;
use axon_kernel::wire::{
    CONTROL_FD, ControlRecord, LIFELINE_FD, LISTEN_FD, Launch, LaunchLimits, LogLevel, PROTOCOL,
    ReadyRecord,
};
use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::link::Link;
use super::report::{Disagreement, Verdict, expected, same};
use super::{Target, agent};

/// How long a runner may take to be ready, or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// The limits of every launch: small enough to be reached.
pub(super) const LIMITS: LaunchLimits = LaunchLimits {
    attempts: 4,
    body_bytes: 64 * 1024,
    event_bytes: axon_kernel::json::MAX_EVENT_BYTES,
    json_depth: axon_kernel::json::MAX_DEPTH,
    heartbeat_ms: 3000,
};

/// A process that got its launch data.
#[derive(Debug)]
pub(super) struct Launched {
    child: Child,
    pid: Pid,
    control: BufReader<UnixStream>,
    lifeline: Option<std::io::PipeWriter>,
    link: Link,
    folder: TempDir,
}

/// Returns the launch data of every check that does not need another.
pub(super) fn launch_data(target: &Target) -> Launch {
    Launch {
        protocol: PROTOCOL,
        generation: Generation(3),
        token: uuid::Uuid::new_v4().simple().to_string(),
        agent: "conformance".to_owned(),
        path: target.path.clone(),
        package: None,
        module: None,
        callables: agent::callables(),
        env: [("CONFORMANCE".to_owned(), "1".to_owned())].into(),
        limits: LIMITS,
        log_level: LogLevel::default(),
    }
}

impl Launched {
    /// Starts the target's program and hands it `launch`.
    pub(super) async fn start(target: &Target, launch: &Launch) -> Result<Self, Disagreement> {
        let line = serde_json::to_string(launch).map_err(|error| expected("launch data", error))?;
        Self::start_with(target, line, &launch.token).await
    }

    /// Starts the target's program and hands it `line` as its launch data.
    pub(super) async fn start_with(
        target: &Target,
        line: String,
        token: &str,
    ) -> Result<Self, Disagreement> {
        let started = Self::spawn(target, token);
        let mut launched = started.map_err(|error| expected("a process that starts", error))?;
        let control = launched.control.get_mut();
        let written = control.write_all(format!("{line}\n").as_bytes()).await;
        written.map_err(|error| expected("a runner that reads its launch data", error))?;
        Ok(launched)
    }

    fn spawn(target: &Target, token: &str) -> std::io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("axon-").tempdir()?;
        let socket = folder.path().join("runner.sock");
        let listener = UnixListener::bind(&socket)?;
        let (control, theirs) = StdUnixStream::pair()?;
        control.set_nonblocking(true)?;
        let (watched, lifeline) = std::io::pipe()?;
        let fds = [
            (OwnedFd::from(theirs), CONTROL_FD),
            (OwnedFd::from(listener), LISTEN_FD),
            (OwnedFd::from(watched), LIFELINE_FD),
        ];
        let mappings = fds.map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
        let (program, arguments) = target
            .command
            .split_first()
            .ok_or_else(|| std::io::Error::other("the target's command is empty"))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(&target.env)
            .current_dir(&target.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("stderr"))?)
            .process_group(0)
            .kill_on_drop(true);
        let child = command.fd_mappings(mappings.into()).map_err(std::io::Error::other)?.spawn()?;
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        Ok(Self {
            child,
            pid: pid.ok_or_else(|| std::io::Error::other("the process is gone already"))?,
            control: BufReader::new(UnixStream::from_std(control)?),
            lifeline: Some(lifeline),
            link: Link::new(socket, token.to_owned()).map_err(std::io::Error::other)?,
            folder,
        })
    }

    /// Starts the target's program with the usual launch data and waits until it is ready.
    pub(super) async fn ready(target: &Target) -> Result<(Self, ReadyRecord), Disagreement> {
        let mut launched = Self::start(target, &launch_data(target)).await?;
        match launched.first_record().await? {
            ControlRecord::Ready(ready) => Ok((launched, ready)),
            other @ (ControlRecord::Failed { .. } | ControlRecord::Log(_)) => {
                Err(expected("a ready record", format!("{other:?}")))
            }
        }
    }

    /// Returns the first record that is no log record.
    pub(super) async fn first_record(&mut self) -> Result<ControlRecord, Disagreement> {
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(PATIENCE, self.control.read_line(&mut line)).await;
            let record = match read {
                Ok(Ok(1..)) => serde_json::from_str(&line).map_err(|_no_record| line.clone()),
                Ok(Ok(0)) => Err(format!("a closed socket; {}", self.last_words())),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_elapsed) => Err(format!("nothing for {PATIENCE:?}; {}", self.last_words())),
            };
            match record {
                Ok(ControlRecord::Log(_)) => {}
                Ok(record) => return Ok(record),
                Err(seen) => return Err(expected("a record on the control socket", seen)),
            }
        }
    }

    fn last_words(&self) -> String {
        let words = std::fs::read_to_string(self.folder.path().join("stderr"));
        let words = words.unwrap_or_default();
        let start = words.len().saturating_sub(2000);
        let start = (start..=words.len()).find(|at| words.is_char_boundary(*at));
        format!("its standard error ends with: {}", &words[start.unwrap_or(0)..])
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Closes the lifeline, as the end of the parent process does.
    pub(super) fn close_lifeline(&mut self) {
        self.lifeline = None;
    }

    pub(super) fn terminate(&self) {
        let _gone_already = kill_process(self.pid, Signal::TERM);
    }

    /// Waits for the end of the process.
    pub(super) async fn exit(&mut self, within: Duration) -> Result<ExitStatus, Disagreement> {
        let what = || format!("the end of the process within {within:?}");
        match tokio::time::timeout(within, self.child.wait()).await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(error)) => Err(expected(what(), error)),
            Err(_elapsed) => Err(expected(what(), "it is still there")),
        }
    }

    /// Waits for the end of the process, which must be in good order.
    pub(super) async fn exits_well(&mut self) -> Verdict {
        let status = self.exit(PATIENCE).await?;
        same("the exit code", status.code(), Some(0))
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        let _gone_already = kill_process_group(self.pid, Signal::KILL);
    }
}

//! A runner between its launch and its first request.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::Generation;
use axon_kernel::wire::{CONTROL_FD, LIFELINE_FD, LISTEN_FD, Launch, ReadyRecord};
use command_fds::{CommandFdExt, FdMapping};
use rustix::io::Errno;
use secrecy::SecretString;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};

use crate::attached::AttachError;
use crate::client::RunnerClient;
use crate::control::{self, First};
use crate::exit::{Exit, quoted};
use crate::held::Held;
use crate::launcher::{LaunchError, Launcher};
use crate::limits;
use crate::logs;
use crate::memory::OomWatch;
use crate::orphans;
use crate::plan::LaunchPlan;
use crate::process::{Keep, Process, Runner};
use crate::sockets::Seat;

/// How long a runner that closed its control socket may take to end by itself.
const CLOSED_GRACE: Duration = Duration::from_secs(1);

/// How long the last record of a runner that has ended may take to be read.
const LAST_RECORD: Duration = Duration::from_millis(100);

/// Why a runner did not become ready.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The socket, the pipe or their folder could not be made.
    #[error("cannot set up the runner's sockets")]
    Sockets(#[source] std::io::Error),
    /// The program could not be started.
    #[error("cannot start `{program}`")]
    Spawn {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The runner said that it cannot start.
    #[error("the runner refused to start: {0}")]
    Refused(Box<Failure>),
    /// The process ended before it was ready.
    #[error("the runner ended before it was ready: {0}")]
    Ended(Exit),
    /// It was not ready in time.
    #[error("the runner was not ready after {} s{}", after.as_secs_f64(), quoted(last_words))]
    NotReady {
        /// The deadline.
        after: Duration,
        /// The last lines of its standard error.
        last_words: Vec<String>,
    },
    /// It wrote something else than a ready record.
    #[error("the runner wrote no ready record but: {excerpt}{}", quoted(last_words))]
    Garbage {
        /// The beginning of what it wrote.
        excerpt: String,
        /// The last lines of its standard error.
        last_words: Vec<String>,
    },
    /// It speaks another protocol, or thinks that it is another generation.
    #[error("the runner speaks protocol {protocol} as generation {generation}, not {expected}")]
    Mismatch {
        /// The protocol that it speaks.
        protocol: u32,
        /// The generation that it claims.
        generation: Generation,
        /// What was expected.
        expected: String,
    },
    /// The launcher that was to start it is gone. It was not started.
    #[error("the launcher of runners ended before it had started this one")]
    LauncherGone,
    /// Its limits could not be set.
    #[error("cannot limit what the runner may have")]
    Limits(#[source] std::io::Error),
    /// It runs elsewhere, and was not attached to.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The client could not be set up.
    #[error("cannot set up the runner's client")]
    Client(#[source] reqwest::Error),
}

impl StartError {
    /// Returns the failure that a caller sees.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        let kind = match &self {
            Self::Refused(failure) => return failure.as_ref().clone().in_phase("start"),
            Self::Attach(error) => return error.failure(),
            Self::Spawn { source, .. } | Self::Sockets(source) if is_shortage(source) => {
                FailureKind::RunnerDied
            }
            Self::Spawn { .. } | Self::Mismatch { .. } | Self::Sockets(_) => FailureKind::Config,
            Self::Garbage { .. } => FailureKind::Decode,
            Self::Ended(_)
            | Self::NotReady { .. }
            | Self::LauncherGone
            | Self::Limits(_)
            | Self::Client(_) => FailureKind::RunnerDied,
        };
        let failure = Failure::new(kind, crate::client::with_sources(&self)).in_phase("start");
        if let Self::Sockets(source) = &self
            && !is_shortage(source)
        {
            return failure
                .with_help("let TMPDIR name a folder that can be written, by a short path");
        }
        failure
    }
}

/// Returns whether the machine was short of something that it may have again later: files,
/// processes, memory, room on the disk.
fn is_shortage(error: &std::io::Error) -> bool {
    let short =
        [Errno::MFILE, Errno::NFILE, Errno::NOSPC, Errno::DQUOT, Errno::AGAIN, Errno::NOMEM];
    match Errno::from_io_error(error) {
        Some(errno) => short.contains(&errno),
        // Somebody has put a path around it, which leaves its kind.
        None => matches!(
            error.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::OutOfMemory
        ),
    }
}

/// A runner that was launched and is not ready yet. Dropping it kills the process group.
#[derive(Debug)]
pub struct StartingRunner {
    process: Process,
    control: UnixStream,
    launch: Launch,
}

impl StartingRunner {
    /// Launches the process. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`StartError::Sockets`], [`StartError::Spawn`] or [`StartError::LauncherGone`].
    pub async fn launch(plan: LaunchPlan) -> Result<Self, StartError> {
        let seat = plan.sockets.seat().map_err(StartError::Sockets)?;
        let Ends { control, lifeline, stdout, stderr, theirs } =
            Ends::make(&seat).map_err(StartError::Sockets)?;
        let oom = OomWatch::begin();
        let life = plan.living.begin();
        let held = match &plan.launcher {
            Some(launcher) => launched(launcher, &plan, theirs).await?,
            None => Held::spawned(spawned(&plan, theirs)?),
        };
        match limits::set(held.pid(), &plan.limits) {
            // It has ended already, and how says more than this does.
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
            set => set.map_err(StartError::Limits)?,
        }
        let source = logs::Source::new(&plan.launch);
        let keep = Keep { seat, lifeline, life };
        let process = Process::watch(held, (stdout, stderr), source, (keep, oom));
        Ok(Self { process, control, launch: plan.launch })
    }

    /// Hands over the launch data and waits until the runner is ready.
    ///
    /// # Errors
    ///
    /// [`StartError`]; the process is gone then.
    pub async fn ready(self, timeout: Duration) -> Result<Runner, StartError> {
        let Self { process, control, launch } = self;
        match make_ready(&process, control, launch, timeout).await {
            Ok((client, ready)) => Ok(Runner::new(process, client, ready)),
            Err(error) => {
                process.stop(Duration::ZERO).await;
                process.exited().await;
                Err(error)
            }
        }
    }
}

async fn make_ready(
    process: &Process,
    control: UnixStream,
    launch: Launch,
    timeout: Duration,
) -> Result<(RunnerClient, ReadyRecord), StartError> {
    let last_words = || process.last_words();
    let mut handshake = std::pin::pin!(control::handshake(control, &launch, process.source()));
    let first = tokio::select! {
        biased;
        first = &mut handshake => first.map_err(StartError::Sockets)?,
        exit = process.exited() => {
            // Its last record may still be on its way.
            let last = tokio::time::timeout(LAST_RECORD, handshake).await;
            return Err(match last {
                Ok(Ok(First::Failed(failure))) => StartError::Refused(failure),
                _ => StartError::Ended(exit),
            });
        }
        () = tokio::time::sleep(timeout) => First::Silence,
    };
    match first {
        First::Ready(ready, rest) => {
            check(&ready, &launch)?;
            tokio::spawn(control::relay_logs(rest, launch.agent.clone(), process.source()));
            let token = SecretString::from(launch.token.as_str());
            let client = RunnerClient::new(process.address(), token, launch.limits.heartbeat());
            let client = client.map_err(StartError::Client)?.until(process.exit());
            Ok((client, ready))
        }
        First::Failed(failure) => Err(StartError::Refused(failure)),
        First::Garbage(excerpt) => Err(StartError::Garbage { excerpt, last_words: last_words() }),
        First::Closed => {
            // It is about to end; how it does says more than this, and a signal of ours would hide it.
            let exit = tokio::time::timeout(CLOSED_GRACE, process.exited()).await;
            if exit.is_err() {
                process.stop(Duration::ZERO).await;
            }
            Err(StartError::Ended(process.exited().await))
        }
        First::Silence => {
            let mut last_words = last_words();
            last_words.extend(process.place().await);
            Err(StartError::NotReady { after: timeout, last_words })
        }
    }
}

fn check(ready: &ReadyRecord, launch: &Launch) -> Result<(), StartError> {
    if ready.protocol == launch.protocol && ready.generation == launch.generation {
        return Ok(());
    }
    Err(StartError::Mismatch {
        protocol: ready.protocol,
        generation: ready.generation,
        expected: format!("{} as {}", launch.protocol, launch.generation),
    })
}

/// The ends of what connects a runner to this side.
struct Ends {
    control: UnixStream,
    lifeline: std::io::PipeWriter,
    stdout: Receiver,
    stderr: Receiver,
    /// Control socket, listening socket, lifeline, standard output, standard error.
    theirs: [OwnedFd; 5],
}

impl Ends {
    fn make(seat: &Seat) -> std::io::Result<Self> {
        let (control, their_control) = UnixStream::pair()?;
        let (watched, lifeline) = std::io::pipe()?;
        let (stdout, their_stdout) = std::io::pipe()?;
        let (stderr, their_stderr) = std::io::pipe()?;
        let theirs = [
            their_control.into(),
            seat.listener()?,
            watched.into(),
            their_stdout.into(),
            their_stderr.into(),
        ];
        let receiver = |pipe: std::io::PipeReader| Receiver::from_owned_fd(pipe.into());
        let (stdout, stderr) = (receiver(stdout)?, receiver(stderr)?);
        Ok(Self { control, lifeline, stdout, stderr, theirs })
    }
}

async fn launched(
    launcher: &Launcher,
    plan: &LaunchPlan,
    fds: [OwnedFd; 5],
) -> Result<Held, StartError> {
    let launched = launcher.launch(plan, fds).await.map_err(|error| match error {
        LaunchError::Gone => StartError::LauncherGone,
        LaunchError::Failed(source) => StartError::Spawn { program: program(plan), source },
    })?;
    if !launched.cold.is_empty() {
        let (agent, reason) = (&plan.launch.agent, &launched.cold);
        tracing::warn!(agent, reason, "a runner cannot be forked: it is started from nothing");
    }
    Ok(Held::Launched(launched))
}

fn program(plan: &LaunchPlan) -> String {
    plan.command.first().cloned().unwrap_or_default()
}

fn spawned(plan: &LaunchPlan, fds: [OwnedFd; 5]) -> Result<Child, StartError> {
    let spawn_error = |source| StartError::Spawn { program: program(plan), source };
    let (program, arguments) = plan
        .command
        .split_first()
        .ok_or_else(|| spawn_error(std::io::Error::other("the runner's command is empty")))?;
    let [control, listener, lifeline, stdout, stderr] = fds;
    let mappings = [(control, CONTROL_FD), (listener, LISTEN_FD), (lifeline, LIFELINE_FD)];
    let mappings = mappings.map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(&plan.env)
        .envs(orphans::origin().map(|origin| (orphans::ORIGIN, origin)))
        .current_dir(&plan.directory)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .process_group(0)
        .kill_on_drop(true);
    command
        .fd_mappings(mappings.into())
        .map_err(|error| spawn_error(std::io::Error::other(error)))?
        .spawn()
        .map_err(spawn_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_a_shortage_also_with_a_path_around_it() {
        let full = std::io::Error::from(Errno::NOSPC);
        assert!(is_shortage(&full));
        // As `tempfile` gives it.
        assert!(is_shortage(&std::io::Error::new(full.kind(), "No space left at path \"/tmp\"")));
        let nowhere = tempfile::tempdir_in("/nowhere/at/all").unwrap_err();
        assert!(nowhere.raw_os_error().is_none() && !is_shortage(&nowhere));
    }
}

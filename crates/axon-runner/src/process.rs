//! One runner process, from its launch to its last moment.
//!
//! A runner leads a process group of its own, has a cleared environment, and gets three file
//! descriptors: the control socket, the listening socket and the lifeline. The lifeline is a pipe
//! that only this process can write to: when this process ends, however it ends, the kernel tells
//! the runner's group.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::Generation;
use axon_kernel::wire::{CONTROL_FD, LIFELINE_FD, LISTEN_FD, Launch, ReadyRecord};
use command_fds::{CommandFdExt, FdMapping};
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::client::RunnerClient;
use crate::control::{self, First};
use crate::exit::{End, Exit, Orders, quoted, reap};
use crate::logs::{self, Output, Stderr};

/// How long a runner that closed its control socket may take to end by itself.
const CLOSED_GRACE: Duration = Duration::from_secs(1);

/// How long the last record of a runner that has ended may take to be read.
const LAST_RECORD: Duration = Duration::from_millis(100);

/// What to launch, and where.
#[derive(Clone)]
pub struct LaunchPlan {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The whole environment of the process. No secrets: those travel in [`Launch::env`].
    pub env: BTreeMap<String, String>,
    /// The working directory.
    pub directory: PathBuf,
    /// The folder under which the folder of the socket is made.
    pub sockets: PathBuf,
    /// The launch data.
    pub launch: Launch,
    /// Where the process is counted until it has really ended.
    pub living: Living,
}

/// Counts processes until each has ended, was reaped, and left nothing behind.
#[derive(Clone, Debug, Default)]
pub struct Living(watch::Sender<usize>);

impl Living {
    /// Waits until no counted process is left.
    pub async fn none(&self) {
        // The sender lives in `self`, so the channel cannot close.
        let mut living = self.0.subscribe();
        let _none = living.wait_for(|living| *living == 0).await;
    }

    fn begin(&self) -> Life {
        self.0.send_modify(|living| *living += 1);
        Life(self.clone())
    }
}

/// One counted process.
#[derive(Debug)]
struct Life(Living);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.0.send_modify(|living| *living -= 1);
    }
}

/// Shows the variables' names only: a proxy's may carry a password.
impl std::fmt::Debug for LaunchPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaunchPlan")
            .field("command", &self.command)
            .field("env", &self.env.keys())
            .field("directory", &self.directory)
            .field("launch", &self.launch)
            .finish_non_exhaustive()
    }
}

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
            Self::Spawn { source, .. } | Self::Sockets(source) if is_shortage(source) => {
                FailureKind::RunnerDied
            }
            Self::Spawn { .. } | Self::Mismatch { .. } | Self::Sockets(_) => FailureKind::Config,
            Self::Garbage { .. } => FailureKind::Decode,
            Self::Ended(_) | Self::NotReady { .. } | Self::Client(_) => FailureKind::RunnerDied,
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
    use rustix::io::Errno;
    let short =
        [Errno::MFILE, Errno::NFILE, Errno::NOSPC, Errno::DQUOT, Errno::AGAIN, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| short.contains(&errno))
}

/// A runner that was launched and is not ready yet. Dropping it kills the process group.
#[derive(Debug)]
pub struct StartingRunner {
    process: Process,
    control: UnixStream,
    launch: Launch,
}

/// A runner that takes requests. Dropping it kills the process group.
#[derive(Debug)]
pub struct Runner {
    process: Process,
    client: RunnerClient,
    ready: ReadyRecord,
}

impl StartingRunner {
    /// Launches the process. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`StartError::Sockets`] or [`StartError::Spawn`].
    pub fn launch(plan: LaunchPlan) -> Result<Self, StartError> {
        let folder = tempfile::Builder::new()
            .prefix("axon-")
            .tempdir_in(&plan.sockets)
            .map_err(StartError::Sockets)?;
        let socket = folder.path().join("runner.sock");
        let listener = UnixListener::bind(&socket).map_err(StartError::Sockets)?;
        let (control, theirs) = UnixStream::pair().map_err(StartError::Sockets)?;
        let (watched, lifeline) = std::io::pipe().map_err(StartError::Sockets)?;
        let fds = [
            (OwnedFd::from(theirs), CONTROL_FD),
            (OwnedFd::from(listener), LISTEN_FD),
            (OwnedFd::from(watched), LIFELINE_FD),
        ];
        let child = spawn(&plan, fds)?;
        let keep = Keep { _folder: folder, _lifeline: lifeline, _life: plan.living.begin() };
        Ok(Self {
            process: Process::watch(child, logs::Source::new(&plan.launch), socket, keep),
            control,
            launch: plan.launch,
        })
    }

    /// Hands over the launch data and waits until the runner is ready.
    ///
    /// # Errors
    ///
    /// [`StartError`]; the process is gone then.
    pub async fn ready(self, timeout: Duration) -> Result<Runner, StartError> {
        let Self { process, control, launch } = self;
        match make_ready(&process, control, launch, timeout).await {
            Ok((client, ready)) => Ok(Runner { process, client, ready }),
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
    let last_words = || process.stderr.last_words.lines();
    let mut handshake = std::pin::pin!(control::handshake(control, &launch));
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
            tokio::spawn(control::relay_logs(rest, launch.agent.clone()));
            let token = SecretString::from(launch.token.as_str());
            let client = RunnerClient::new(&process.socket, token, launch.limits.heartbeat());
            Ok((client.map_err(StartError::Client)?, ready))
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
        First::Silence => Err(StartError::NotReady { after: timeout, last_words: last_words() }),
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

fn spawn(plan: &LaunchPlan, fds: [(OwnedFd, i32); 3]) -> Result<Child, StartError> {
    let (program, arguments) = plan.command.split_first().ok_or_else(|| StartError::Spawn {
        program: String::new(),
        source: std::io::Error::other("the runner's command is empty"),
    })?;
    let mappings =
        fds.map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd }).into_iter().collect();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(&plan.env)
        .current_dir(&plan.directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let spawn_error = |source| StartError::Spawn { program: program.clone(), source };
    command
        .fd_mappings(mappings)
        .map_err(|error| spawn_error(std::io::Error::other(error)))?
        .spawn()
        .map_err(spawn_error)
}

impl Runner {
    /// Returns the client for this runner.
    #[must_use]
    pub fn client(&self) -> &RunnerClient {
        &self.client
    }

    /// Returns what the runner said of itself.
    #[must_use]
    pub fn ready_record(&self) -> &ReadyRecord {
        &self.ready
    }

    /// Returns the process id, which is also the id of its process group.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid
    }

    /// Returns a future that resolves when the process has ended and was reaped.
    pub fn exited(&self) -> impl Future<Output = Exit> + Send + use<> {
        self.process.exited()
    }

    /// Asks the process group to end by SIGTERM, kills it by SIGKILL after `grace`, and waits until
    /// the process was reaped. One that is stopped or holds its interpreter ends too.
    pub async fn stop(&self, grace: Duration) -> Exit {
        self.process.stop(grace).await;
        self.exited().await
    }

    /// Kills the process group at once, by SIGKILL; [`Runner::exited`] tells its end.
    pub fn kill(&self) {
        self.process.end(End::Kill);
    }

    /// Asks the process, and nothing else of its group, by SIGUSR1 for the stacks of all its
    /// threads, and returns what it writes to its standard error: at most the last 64 KiB.
    ///
    /// Takes 2 s at most. The text is empty when nothing comes: the process has ended, is stopped,
    /// or ignores the signal. One that dies of it counts as asked to end ([`Exit::asked`]).
    pub async fn stack_dump(&self) -> String {
        let ask = || self.process.orders.send_modify(Orders::dump);
        self.process.stderr.dump.collect(ask, self.exited()).await
    }
}

/// What must live exactly as long as the process; its life is counted out last.
#[derive(Debug)]
struct Keep {
    _folder: TempDir,
    _lifeline: std::io::PipeWriter,
    _life: Life,
}

#[derive(Debug)]
struct Process {
    pid: u32,
    socket: PathBuf,
    stderr: Stderr,
    exit: watch::Receiver<Option<Exit>>,
    orders: watch::Sender<Orders>,
}

impl Process {
    fn watch(mut child: Child, source: logs::Source, socket: PathBuf, keep: Keep) -> Self {
        let pid = child.id().unwrap_or_default();
        let stderr = Stderr::default();
        let (gone, exit) = watch::channel(None);
        let (orders, wanted) = watch::channel(Orders::default());
        let relays = [
            child
                .stdout
                .take()
                .map(|pipe| tokio::spawn(logs::relay(pipe, source.clone(), Output::Stdout))),
            child.stderr.take().map(|pipe| {
                tokio::spawn(logs::relay(pipe, source, Output::Stderr(stderr.clone())))
            }),
        ];
        let words = stderr.last_words.clone();
        tokio::spawn(async move {
            let reaped = reap(&mut child, pid, wanted).await;
            // What it wrote just before its end is still in the pipe; a grandchild that holds the
            // pipe open must not delay the news.
            let drained = async {
                for relay in relays.into_iter().flatten() {
                    let _ended = relay.await;
                }
            };
            let _in_time = tokio::time::timeout(Duration::from_millis(100), drained).await;
            drop(keep);
            gone.send_replace(Some(reaped.saying(words.lines())));
        });
        Self { pid, socket, stderr, exit, orders }
    }

    fn exited(&self) -> impl Future<Output = Exit> + Send + use<> {
        let mut exit = self.exit.clone();
        async move { wait_for(&mut exit).await }
    }

    fn end(&self, end: End) {
        self.orders.send_modify(|orders| orders.end(end));
    }

    async fn stop(&self, grace: Duration) {
        if !grace.is_zero() {
            self.end(End::Term);
        }
        if tokio::time::timeout(grace, self.exited()).await.is_err() {
            self.end(End::Kill);
        }
    }
}

async fn wait_for(exit: &mut watch::Receiver<Option<Exit>>) -> Exit {
    let ended = exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
    // The task that waits for the process is gone, as it is at the end of the tokio runtime.
    ended.unwrap_or(Exit { code: None, signal: None, asked: true, last_words: Vec::new() })
}

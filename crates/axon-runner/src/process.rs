//! One runner process, from its launch to its last moment.
//!
//! A runner leads a session of its own, has a cleared environment, and gets three file
//! descriptors: the control socket, the listening socket and the lifeline. The lifeline is a pipe
//! that only this process can write to: when this process ends, however it ends, the kernel tells
//! the runner's group.

use std::time::Duration;

use axon_kernel::wire::{LogRecord, ReadyRecord};
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;

use crate::address::Address;
use crate::attached::{AttachPlan, Attached};
use crate::client::RunnerClient;
use crate::exit::{End, Exit, Orders, reap, wait_for};
use crate::held::Held;
use crate::logs::{self, Output, Stderr};
use crate::memory::OomWatch;
use crate::plan::Life;
use crate::sockets::Seat;
use crate::starting::StartError;
use crate::usage::{self, Usage};

/// How long the last lines of a process that has ended may take to be read.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How long a runner may take to say what its threads are doing.
const DUMP: Duration = Duration::from_secs(2);

/// How many lines tell where a runner is.
const PLACE_LINES: usize = 5;

/// The same, for one that was asked to end and has not.
const STOP_DUMP: Duration = Duration::from_millis(500);

/// A runner that takes requests. Dropping it kills the process group; one that somebody else has
/// started is only let go, here and wherever something else ends a runner.
#[derive(Debug)]
pub struct Runner {
    body: Body,
    client: RunnerClient,
    ready: ReadyRecord,
    /// What bounds how much of it is logged.
    source: logs::Source,
}

#[derive(Debug)]
enum Body {
    Ours(Process),
    Elsewhere(Attached),
}

impl Runner {
    pub(crate) fn new(process: Process, client: RunnerClient, ready: ReadyRecord) -> Self {
        let source = process.source();
        Self { body: Body::Ours(process), client, ready, source }
    }

    /// Attaches to a runner that somebody else has started, which may take `timeout` to answer.
    ///
    /// # Errors
    ///
    /// [`StartError::Attach`] if it is not there, or does not want us.
    pub async fn attach(plan: &AttachPlan, timeout: Duration) -> Result<Self, StartError> {
        let (attached, client, ready) = Attached::connect(plan, timeout).await?;
        let source = logs::Source::plain(&plan.url);
        Ok(Self { body: Body::Elsewhere(attached), client, ready, source })
    }

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

    /// Logs a record that came on the stream of an attempt, if it may be: of too many some are
    /// dropped, and counted.
    pub fn log(&self, speaker: logs::Speaker<'_>, record: &LogRecord) {
        if self.source.admits_record_of_run(record) {
            logs::log_record(speaker, record);
        }
    }

    /// Keeps the secrets of a run out of what the runner prints, and logs on no run's behalf, from now
    /// on. Only those of the last runs that have left are still kept out.
    pub fn hide(&self, secrets: &[String]) -> logs::Hiding {
        self.source.hide(secrets)
    }

    /// Returns the process id, which is also the id of its process group. That of one elsewhere is
    /// what it says, and means nothing here.
    #[must_use]
    pub fn pid(&self) -> u32 {
        match &self.body {
            Body::Ours(process) => process.pid,
            Body::Elsewhere(_) => self.ready.pid,
        }
    }

    /// Returns what the process uses, if it is one of this machine.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        match &self.body {
            // Somebody else may have the id of one that has ended.
            Body::Ours(process) if process.exit.borrow().is_some() => None,
            Body::Ours(process) => usage::of(process.pid),
            Body::Elsewhere(_) => None,
        }
    }

    /// Returns a future that resolves when the process has ended and was reaped.
    pub fn exited(&self) -> impl Future<Output = Exit> + Send + use<> {
        match &self.body {
            Body::Ours(process) => process.exited().left_future(),
            Body::Elsewhere(attached) => attached.exited().right_future(),
        }
    }

    /// Returns how it ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<Exit> {
        match &self.body {
            Body::Ours(process) => process.exit.borrow().clone(),
            Body::Elsewhere(attached) => attached.ended(),
        }
    }

    /// Asks the process group to end by SIGTERM, kills it by SIGKILL after `grace`, and waits until
    /// the process was reaped. One that is stopped or holds its interpreter ends too.
    pub async fn stop(&self, grace: Duration) -> Exit {
        match &self.body {
            Body::Ours(process) => process.stop(grace).await,
            Body::Elsewhere(attached) => attached.let_go(),
        }
        self.exited().await
    }

    /// Kills the process group at once, by SIGKILL; [`Runner::exited`] tells its end.
    pub fn kill(&self) {
        match &self.body {
            Body::Ours(process) => process.end(End::Kill),
            Body::Elsewhere(attached) => attached.let_go(),
        }
    }

    /// Asks the process, and nothing else of its group, by SIGUSR1 for the stacks of all its
    /// threads, and returns what it writes to its standard error: at most the last 64 KiB.
    ///
    /// Takes 2 s at most. The text is empty when nothing comes: the process has ended, is stopped,
    /// ignores the signal, or runs elsewhere. One that dies of it counts as ended by this side
    /// ([`Exit::by`]).
    pub async fn stack_dump(&self) -> String {
        match &self.body {
            Body::Ours(process) => process.stack_dump(DUMP).await,
            Body::Elsewhere(_) => String::new(),
        }
    }
}

/// What must live exactly as long as the process; its life is counted out last.
#[derive(Debug)]
pub(crate) struct Keep {
    pub(crate) seat: Seat,
    #[expect(dead_code, reason = "held open: its end is the runner's")]
    pub(crate) lifeline: std::io::PipeWriter,
    #[expect(dead_code, reason = "held for as long as the runner lives")]
    pub(crate) life: Life,
}

/// A process under watch, ready or not. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    address: Address,
    source: logs::Source,
    stderr: Stderr,
    exit: watch::Receiver<Option<Exit>>,
    orders: watch::Sender<Orders>,
}

impl Process {
    /// Reads both outputs of a process to their ends, and waits for its own.
    pub(crate) fn watch(
        mut held: Held,
        (stdout, read_stderr): (Receiver, Receiver),
        source: logs::Source,
        (keep, oom): (Keep, OomWatch),
    ) -> Self {
        let (pid, address) = (held.pid(), keep.seat.address());
        let stderr = Stderr::default();
        let (gone, exit) = watch::channel(None);
        let (orders, wanted) = watch::channel(Orders::default());
        let relays = [
            tokio::spawn(logs::relay(stdout, source.clone(), Output::Stdout)),
            tokio::spawn(logs::relay(read_stderr, source.clone(), Output::Stderr(stderr.clone()))),
        ];
        let words = stderr.last_words.clone();
        tokio::spawn(async move {
            let reaped = reap(&mut held, wanted).await;
            // What it wrote just before its end is still in the pipe; a grandchild that holds the
            // pipe open must not delay the news.
            let _in_time = tokio::time::timeout(LAST_WORDS, join_all(relays)).await;
            drop((held, keep));
            gone.send_replace(Some(reaped.saying(words.lines(), oom.struck())));
        });
        Self { pid, address, source, stderr, exit, orders }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Returns what bounds how much of it is logged.
    pub(crate) fn source(&self) -> logs::Source {
        self.source.clone()
    }

    pub(crate) fn last_words(&self) -> Vec<String> {
        self.stderr.last_words.lines()
    }

    /// Returns what tells its end.
    pub(crate) fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.clone()
    }

    /// Returns a future that resolves when it has ended and was reaped.
    pub(crate) fn exited(&self) -> impl Future<Output = Exit> + Send + use<> {
        let mut exit = self.exit.clone();
        async move { wait_for(&mut exit).await }
    }

    fn end(&self, end: End) {
        self.orders.send_modify(|orders| orders.end(end));
    }

    /// Orders its end: by SIGTERM, and by SIGKILL after `grace`, at once if that is zero.
    pub(crate) async fn stop(&self, grace: Duration) {
        if !grace.is_zero() {
            self.end(End::Term);
        }
        if tokio::time::timeout(grace, self.exited()).await.is_ok() {
            return;
        }
        if !grace.is_zero() {
            let (pid, dump) = (self.pid, self.stack_dump(STOP_DUMP).await);
            tracing::warn!(pid, stacks = dump, "a runner did not end when it was asked to: killed");
        }
        self.end(End::Kill);
    }

    /// Returns where its Python code is, innermost first, if it says so.
    pub(crate) async fn place(&self) -> Vec<String> {
        let dump = self.stack_dump(STOP_DUMP).await;
        let lines =
            dump.lines().filter(|line| line.contains("File \"") && !line.contains("<frozen"));
        lines.take(PLACE_LINES).map(|line| format!("at {}", line.trim())).collect()
    }

    /// Asks the process by SIGUSR1 for the stacks of its threads, and waits for them.
    async fn stack_dump(&self, within: Duration) -> String {
        let ask = || self.orders.send_modify(Orders::dump);
        self.stderr.dump.collect(ask, (self.exited(), within)).await
    }
}

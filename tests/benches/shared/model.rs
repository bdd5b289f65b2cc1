//! The scripted model as a process of its own.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use axon_test::scripted_model::{Script, bank_support_reply, serve};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, Command};

/// The argument by which this program starts itself as the model.
pub(crate) const ARGUMENT: &str = "--play-model";

/// How long the model called `paced` waits before each delta.
const PACE: Duration = Duration::from_millis(2);

/// How long a process may take to end after its input has ended.
const GRACE: Duration = Duration::from_secs(5);

/// The process that plays the model. It ends when its input does, or when this is dropped.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) base_url: String,
    pub(crate) pid: u32,
    child: Child,
    input: ChildStdin,
}

impl Model {
    /// Starts this program once more, as the model.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().context("it ended at once")?;
        let input = child.stdin.take().context("it has no input")?;
        let output = child.stdout.take().context("it has no output")?;
        let mut base_url = String::new();
        BufReader::new(output).read_line(&mut base_url).await?;
        Ok(Self { base_url: base_url.trim_end().to_owned(), pid, child, input })
    }

    /// Ends the process and waits for its end.
    pub(crate) async fn end(self) {
        let Self { child, input, .. } = self;
        drop(input);
        reap(child).await;
    }
}

/// Waits until `child` ends, and kills it when it takes too long.
pub(crate) async fn reap(mut child: Child) {
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        // That it has ended meanwhile is as good.
        let _ended = child.kill().await;
    }
}

/// Is the model: says its address, and answers until standard input ends.
pub(crate) fn play() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let mut output = std::io::stdout();
        writeln!(output, "http://{}/v1", listener.local_addr()?)?;
        output.flush()?;
        let script = Script::function(|body| {
            let reply = bank_support_reply(body);
            if body["model"] == "paced" { reply.delay(PACE) } else { reply }
        });
        let input = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
        tokio::select! {
            served = serve(listener, script) => Ok(served?),
            _ended = input => Ok(()),
        }
    })
}

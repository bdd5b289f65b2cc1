//! The agent on pydantic-ai alone.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use axon_runtime::Host;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::round::{BareJob, BareSample, CUSTOMER, EXPECTED, Job, PROMPT, Sample};
use crate::shared::model::reap;
use crate::shared::repository;

/// The process of `bare.py`. It ends when its input does, or when this is dropped.
#[derive(Debug)]
pub(crate) struct Bare {
    pub(crate) pid: u32,
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Bare {
    /// Starts it on the interpreter and with the variables that Axon's runner gets.
    pub(crate) fn start(python: &Path, host: &Host, tuned: bool) -> anyhow::Result<Self> {
        let repository = repository();
        let mut command = Command::new(python);
        command.arg("-I").arg(repository.join("tests/benches/bare.py")).arg(&repository);
        if tuned {
            command.arg("--tuned");
        }
        let mut child = command
            .env_clear()
            .envs(&host.variables)
            .current_dir(&host.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", python.display()))?;
        let pid = child.id().context("bare.py ended at once")?;
        let input = child.stdin.take().context("bare.py has no input")?;
        let output = child.stdout.take().context("bare.py has no output")?;
        Ok(Self { pid, child, input, output: BufReader::new(output).lines() })
    }

    /// Has it do `job`.
    pub(crate) async fn measure(&mut self, job: Job) -> anyhow::Result<Sample> {
        let Job { runs, concurrency, stream, model } = job;
        let request = json!({"customer_id": CUSTOMER});
        let (prompt, expected) = (PROMPT, EXPECTED);
        let job = BareJob { runs, concurrency, model, stream, prompt, request, expected };
        let mut line = serde_json::to_vec(&job)?;
        line.push(b'\n');
        self.input.write_all(&line).await?;
        let answer = self.output.next_line().await?.context("bare.py died in the middle")?;
        let taken: BareSample = serde_json::from_str(&answer)?;
        let durations = |seconds: Vec<f64>| seconds.into_iter().map(Duration::from_secs_f64);
        Ok(Sample {
            latencies: durations(taken.latencies).collect(),
            firsts: durations(taken.firsts).collect(),
            pauses: durations(taken.pauses).collect(),
            events: taken.events,
            python: Duration::from_secs_f64(taken.cpu),
            rust: Duration::ZERO,
            model: Duration::ZERO,
            wall: Duration::from_secs_f64(taken.wall),
        })
    }

    /// Ends the process and waits for its end.
    pub(crate) async fn end(self) {
        let Self { child, input, .. } = self;
        drop(input);
        reap(child).await;
    }
}

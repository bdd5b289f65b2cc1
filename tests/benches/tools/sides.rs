//! Whoever makes the runs: pydantic-ai alone, or an agent in Axon.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use axon_kernel::spec::{Effect, Limits};
use axon_runtime::{Agent, Host, Runtime, ToolError, TypedAgent, tool};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::Instant;

use crate::shared::cpu::{of_process, of_this_process};
use crate::shared::model::reap;
use crate::shared::repository;

/// Runs of so many calls, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) runs: u32,
    pub(crate) calls: u32,
}

/// What they took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) latencies: Vec<Duration>,
    /// Of the Python process and, in Axon, of this one.
    pub(crate) cpu: Duration,
}

impl Sample {
    pub(crate) fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.cpu += other.cpu;
    }
}

/// Doubles a number.
#[tool(effect = "pure")]
async fn double(number: i64) -> Result<i64, ToolError> {
    Ok(2 * number)
}

/// An agent in Axon, with a runner of its own.
#[derive(Debug)]
pub(crate) struct Axon {
    pub(crate) runner: u32,
    runtime: Runtime,
    agent: TypedAgent<(), String>,
}

impl Axon {
    /// Starts an agent whose tool is a Rust function.
    pub(crate) async fn rust(host: &Host) -> anyhow::Result<Self> {
        Self::start(host, &Agent::<()>::builder("rust").tool(double).configure(within).build()?)
            .await
    }

    /// Starts an agent whose tool is a Python function.
    pub(crate) async fn python(host: &Host) -> anyhow::Result<Self> {
        let agent = Agent::<()>::builder("python");
        let agent = agent.python_tool("double", "tool_bench:double", Effect::Pure);
        Self::start(host, &agent.configure(within).build()?).await
    }

    async fn start(host: &Host, agent: &Agent<()>) -> anyhow::Result<Self> {
        let builder = Runtime::builder().host(host.clone()).allow_offline().agent(agent);
        let runtime = builder.start().await?;
        let agent = runtime.agent(agent);
        let status = agent.handle()?.status().await?;
        let runner = status.runners.first().and_then(|runner| runner.pid);
        Ok(Self { runner: runner.context("its runner did not come up")?, runtime, agent })
    }

    pub(crate) async fn measure(&self, job: Job) -> anyhow::Result<Sample> {
        let (python, rust) = (of_process(self.runner)?, of_this_process());
        let mut latencies = Vec::new();
        let expected = format!("{} calls", job.calls);
        for _ in 0..job.runs {
            let began = Instant::now();
            let output = self.agent.run(job.calls.to_string()).await?.output;
            latencies.push(began.elapsed());
            ensure!(output == expected, "the wrong answer: {output}");
        }
        let rust = of_this_process().saturating_sub(rust);
        let python = of_process(self.runner)?.saturating_sub(python);
        Ok(Sample { latencies, cpu: rust + python })
    }

    pub(crate) async fn end(self) {
        self.runtime.shutdown().await;
    }
}

/// Gives an agent the model of the bench, and leave for as many calls as it makes.
fn within(spec: &mut axon_kernel::spec::AgentSpec) {
    spec.model = "python:tool_bench:model".parse().ok();
    spec.limits = Limits { requests: 200, ..Limits::default() };
}

/// Pydantic-ai alone. The process ends when its input does, or when this is dropped.
#[derive(Debug)]
pub(crate) struct Bare {
    pub(crate) pid: u32,
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

#[derive(Debug, Deserialize)]
struct Taken {
    latencies: Vec<f64>,
    cpu: f64,
}

/// Returns the folder of the module that both sides use.
pub(crate) fn folder() -> std::path::PathBuf {
    repository().join("tests/benches/tools")
}

impl Bare {
    pub(crate) fn start(python: &Path, host: &Host) -> anyhow::Result<Self> {
        let mut child = Command::new(python)
            .arg("-I")
            .arg(folder().join("tool_bench.py"))
            .env_clear()
            .envs(&host.variables)
            .current_dir(&host.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().context("it ended at once")?;
        let input = child.stdin.take().context("it has no input")?;
        let output = child.stdout.take().context("it has no output")?;
        Ok(Self { pid, child, input, output: BufReader::new(output).lines() })
    }

    pub(crate) async fn measure(&mut self, job: Job) -> anyhow::Result<Sample> {
        let line = format!("{}\n", json!({ "runs": job.runs, "calls": job.calls }));
        self.input.write_all(line.as_bytes()).await?;
        let answer = self.output.next_line().await?.context("it died in the middle")?;
        let taken: Taken = serde_json::from_str(&answer)?;
        let latencies = taken.latencies.into_iter().map(Duration::from_secs_f64).collect();
        Ok(Sample { latencies, cpu: Duration::from_secs_f64(taken.cpu) })
    }

    pub(crate) async fn end(self) {
        let Self { child, input, .. } = self;
        drop(input);
        reap(child).await;
    }
}

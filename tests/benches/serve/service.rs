//! `axon serve`, as a process of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use axon_runtime::Host;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// How long the service may take to start, its Python environment included.
const PATIENCE: Duration = Duration::from_secs(120);

/// A service. It is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) address: String,
    pub(crate) pid: u32,
    child: Child,
    client: Client,
}

impl Service {
    /// Starts it in the folder of `host`, on the agents that are there, and waits until it serves.
    pub(crate) async fn start(host: &Host, more: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_axon-under-test"))
            .args(["serve", "--offline", "--listen", "127.0.0.1:0"])
            .args(more)
            .env_clear()
            .envs(&host.variables)
            .current_dir(&host.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().context("it ended at once")?;
        let mut lines = BufReader::new(child.stderr.take().context("it has no stderr")?).lines();
        let mut said = String::new();
        let address = async {
            while let Some(line) = lines.next_line().await? {
                if let Some(rest) = line.strip_prefix("http://") {
                    return Ok(rest.split(' ').next().unwrap_or_default().to_owned());
                }
                said += &format!("{line}\n");
            }
            anyhow::bail!("axon serve ended: {said}")
        };
        let address = tokio::time::timeout(PATIENCE, address).await??;
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let client = Client::builder().no_proxy().build()?;
        Ok(Self { address, pid, child, client })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path))
    }

    /// Prepares a question.
    pub(crate) fn ask(&self, agent: &str, prompt: &str) -> RequestBuilder {
        let path = format!("/v1/agents/{agent}/runs");
        self.client.post(self.url(&path)).json(&json!({ "prompt": prompt }))
    }

    /// Returns the processes of an agent's runners that are up.
    pub(crate) async fn runners(&self, agent: &str) -> anyhow::Result<Vec<u32>> {
        let shown: Value = self.get(&format!("/v1/agents/{agent}")).send().await?.json().await?;
        let runners = shown["runners"].as_array().cloned().unwrap_or_default();
        let up = runners.iter().filter(|runner| runner["state"] == "up");
        Ok(up.filter_map(|runner| runner["pid"].as_u64()?.try_into().ok()).collect())
    }

    /// Waits until so many runners of an agent are up.
    pub(crate) async fn up(&self, agent: &str, count: usize) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.runners(agent).await?.len() < count {
            anyhow::ensure!(began.elapsed() < PATIENCE, "the runners did not come up");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Ends it in good order.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.context("no pid")?, rustix::process::Signal::TERM)?;
        tokio::time::timeout(PATIENCE, self.child.wait()).await??;
        Ok(())
    }
}

/// Writes an agent whose runner plays `script`, as many runs at once as anybody asks for.
pub(crate) fn played(
    folder: &Path,
    name: &str,
    script: axon_test::scripted_runner::RunnerScript,
) -> anyhow::Result<PathBuf> {
    use axon_kernel::spec::{AgentSpec, RunnerProgram};
    let place = folder.join("agents").join(name);
    std::fs::create_dir_all(&place)?;
    let mut spec = AgentSpec::new(name.parse()?);
    spec.model = Some("test".parse()?);
    let program = env!("CARGO_BIN_EXE_scripted-runner");
    spec.runner.program = RunnerProgram::Command(script.command(program, &place)?);
    spec.limits.concurrency = 4096.try_into()?;
    spec.limits.queue = 4096;
    spec.limits.timeout = Duration::from_secs(600);
    let file = place.join("agent.toml");
    std::fs::write(&file, spec.to_toml()?)?;
    Ok(file)
}

//! A runtime with some agents, each with one runner.

use std::time::Duration;

use anyhow::Context;
use axon_kernel::spec::{AgentName, Intensity, LauncherMode};
use axon_runtime::{AgentDefinition, AgentHandle, Host, Runtime, TreeNode, load_agent};
use futures_util::future::{join_all, try_join_all};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::memory::pss;
use crate::shared::host::AGENT;
use crate::shared::repository;

/// What a fleet holds, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// One runner, on average.
    pub(crate) per_runner: u64,
    /// The launcher.
    pub(crate) launcher: u64,
}

/// What every run asks, about whom, and what its answer must contain.
const PROMPT: &str = "What is my balance?";
const CUSTOMER: u32 = 123;
const EXPECTED: &str = "$123.45";

/// The time of an intensity in which every kill is the first.
const NO_TIME: Duration = Duration::from_millis(1);

/// How long anything may take to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A runtime with agents that are all ready.
#[derive(Debug)]
pub(crate) struct Fleet {
    runtime: Runtime,
    agents: Vec<AgentHandle>,
    launcher: LauncherMode,
    host: Host,
}

impl Fleet {
    /// Starts it with `count` agents, and says how long that took.
    pub(crate) async fn start(
        host: &Host,
        launcher: LauncherMode,
        count: usize,
    ) -> anyhow::Result<(Self, Duration)> {
        let mut builder = Runtime::builder().host(host.clone());
        for number in 0..count {
            builder = builder.agent(definition(host, launcher, &format!("agent_{number}"))?);
        }
        let began = Instant::now();
        let runtime = builder.start().await?;
        let took = began.elapsed();
        let agents = runtime.agents();
        for agent in &agents {
            agent.ready().await.with_context(|| format!("{} is not ready", agent.name()))?;
        }
        Ok((Self { runtime, agents, launcher, host: host.clone() }, took))
    }

    /// Starts one more agent, has it answer, and stops it. Returns the time until it was ready and
    /// until it had answered.
    pub(crate) async fn one_more(&self) -> anyhow::Result<(Duration, Duration)> {
        let definition = definition(&self.host, self.launcher, "one_more")?;
        let began = Instant::now();
        let agent = self.runtime.start_agent(definition).await?;
        agent.ready().await?;
        let ready = began.elapsed();
        ask(&agent).await?;
        let answered = began.elapsed();
        self.runtime.stop_agent("one_more").await?;
        Ok((ready, answered))
    }

    /// Kills the first agent's runner and asks the agent. Returns the time until it had answered.
    pub(crate) async fn kill(&self) -> anyhow::Result<Duration> {
        let agent = self.agents.first().context("a fleet of none")?;
        let pid = runner(agent).await?;
        let pid = Pid::from_raw(pid.try_into()?).context("no process has the id 0")?;
        let began = Instant::now();
        kill_process(pid, Signal::KILL)?;
        ask(agent).await?;
        let answered = began.elapsed();
        // The next kill is the first of its time, too.
        tokio::time::sleep(10 * NO_TIME).await;
        Ok(answered)
    }

    /// Has every agent answer once.
    pub(crate) async fn ask_all(&self) -> anyhow::Result<()> {
        for agent in &self.agents {
            ask(agent).await?;
        }
        Ok(())
    }

    /// Returns what the processes hold.
    pub(crate) async fn memory(&self) -> anyhow::Result<Memory> {
        let runners = try_join_all(self.agents.iter().map(runner)).await?;
        let runners = runners.into_iter().map(pss).sum::<anyhow::Result<u64>>()?;
        let launcher = self.launchers().await.into_iter().map(pss).sum::<anyhow::Result<u64>>()?;
        Ok(Memory { per_runner: runners / self.agents.len().max(1) as u64, launcher })
    }

    async fn launchers(&self) -> Vec<u32> {
        let tree = self.runtime.tree().await;
        let launchers = tree.root.children.into_iter().filter_map(|child| match child.node {
            TreeNode::Launchers(launchers) => Some(launchers),
            TreeNode::Supervisor(_)
            | TreeNode::Group { .. }
            | TreeNode::Agent(_)
            | TreeNode::Service {} => None,
        });
        launchers.flatten().map(|launcher| launcher.pid).collect()
    }

    /// Ends it, and checks that nothing is left of it.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        let mut pids = self.launchers().await;
        for pid in join_all(self.agents.iter().map(runner)).await {
            pids.push(pid?);
        }
        tokio::time::timeout(PATIENCE, self.runtime.shutdown()).await.context("it does not end")?;
        for pid in pids {
            let left = std::path::Path::new("/proc").join(pid.to_string());
            anyhow::ensure!(!left.exists(), "process {pid} was left behind");
        }
        Ok(())
    }
}

/// Returns the agent by this name, whose runner is launched like this.
fn definition(host: &Host, launcher: LauncherMode, name: &str) -> anyhow::Result<AgentDefinition> {
    let mut agent = load_agent(&repository().join("agents"), AGENT, host)?;
    agent.spec.name = AgentName::try_from(name)?;
    agent.spec.runner.launcher = launcher;
    agent.spec.supervision.intensity = Intensity { max_restarts: 1, within: NO_TIME };
    Ok(agent)
}

async fn runner(agent: &AgentHandle) -> anyhow::Result<u32> {
    agent.status().await?.pid.with_context(|| format!("{} has no runner", agent.name()))
}

async fn ask(agent: &AgentHandle) -> anyhow::Result<()> {
    let run = agent.run(PROMPT).deps(&json!({"customer_id": CUSTOMER}));
    let output: Value = run.wait().await?.completed()?.output.decode()?;
    let advice = output["support_advice"].as_str().unwrap_or_default();
    anyhow::ensure!(advice.contains(EXPECTED), "the wrong answer: {output}");
    Ok(())
}

//! The agent in Axon.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;
use axon_kernel::event::RunEvent;
use axon_kernel::store::Store;
use axon_runtime::{
    AgentHandle, Host, RunOutcome, RunUpdate, RunnerState, RunnerStatus, Runtime, load_agent,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::round::{CROWD, CUSTOMER, EXPECTED, Job, PROMPT, Sample};
use crate::shared::cpu::{of_process, of_this_process};
use crate::shared::host::AGENT;
use crate::shared::repository;

/// How long the runners may take to come up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A runtime with the one agent, and its runners.
#[derive(Debug)]
pub(crate) struct Axon {
    pub(crate) runners: Vec<u32>,
    runtime: Runtime,
    agent: AgentHandle,
}

impl Axon {
    /// Starts the agent as it is defined, but for as many runs at once as the bench makes, and with
    /// this many runners. Its runs are kept in `store`, or else in memory.
    pub(crate) async fn start(
        host: Host,
        replicas: NonZeroU32,
        store: Option<Arc<dyn Store>>,
    ) -> anyhow::Result<Self> {
        let mut agent = load_agent(&repository().join("agents"), AGENT, &host)?;
        agent.spec.limits.concurrency = NonZeroU32::new(CROWD).context("nobody")?;
        agent.spec.runner.replicas = replicas;
        let mut builder = Runtime::builder().host(host).agent(agent);
        if let Some(store) = store {
            builder = builder.store(store);
        }
        let runtime = builder.start().await?;
        let agent = runtime.named(AGENT)?;
        let runners = runners(&runtime, &agent, replicas.get() as usize).await?;
        Ok(Self { runners, runtime, agent })
    }

    /// Makes the runs of `job`, that many at a time.
    pub(crate) async fn measure(&self, job: Job) -> anyhow::Result<Sample> {
        let python = self.python()?;
        let (rust, began) = (of_this_process(), Instant::now());
        let mut sample = Sample::default();
        if job.concurrency == 1 {
            work(&self.agent, job, &AtomicU32::new(job.runs), &mut sample).await?;
        } else {
            sample = self.crowd(job).await?;
        }
        sample.wall = began.elapsed();
        sample.rust = of_this_process().saturating_sub(rust);
        sample.python = self.python()?.saturating_sub(python);
        Ok(sample)
    }

    /// Returns the CPU that the runners have used.
    fn python(&self) -> anyhow::Result<Duration> {
        self.runners.iter().map(|runner| of_process(*runner)).sum()
    }

    async fn crowd(&self, job: Job) -> anyhow::Result<Sample> {
        let pending = Arc::new(AtomicU32::new(job.runs));
        let mut workers = JoinSet::new();
        for _ in 0..job.concurrency {
            let (agent, pending) = (self.agent.clone(), pending.clone());
            workers.spawn(async move {
                let mut sample = Sample::default();
                work(&agent, job, &pending, &mut sample).await.map(|()| sample)
            });
        }
        let mut all = Sample::default();
        while let Some(sample) = workers.join_next().await {
            all.add(sample??);
        }
        Ok(all)
    }

    /// Ends the runner and waits for its end.
    pub(crate) async fn end(self) {
        self.runtime.shutdown().await;
    }
}

/// Waits until `count` runners are up, and returns their process ids.
async fn runners(runtime: &Runtime, agent: &AgentHandle, count: usize) -> anyhow::Result<Vec<u32>> {
    let mut events = runtime.events();
    loop {
        let up = |runner: &RunnerStatus| runner.pid.filter(|_| runner.state == RunnerState::Up);
        let found: Vec<u32> = agent.status().await?.runners.iter().filter_map(up).collect();
        if found.len() == count {
            return Ok(found);
        }
        let next = tokio::time::timeout(PATIENCE, events.next()).await;
        next.context("the runners did not come up")?;
    }
}

/// Makes runs one after the other for as long as some are pending.
async fn work(
    agent: &AgentHandle,
    job: Job,
    pending: &AtomicU32,
    sample: &mut Sample,
) -> anyhow::Result<()> {
    let take = |left: u32| left.checked_sub(1);
    while pending.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
        let began = Instant::now();
        let run = agent
            .run(PROMPT)
            .deps(&json!({"customer_id": CUSTOMER}))
            .model(job.model.parse().context("the model's name")?);
        let outcome = if job.stream {
            let mut run = run.start().await?;
            let (mut first, mut last) = (None, began);
            let mut pause = Duration::ZERO;
            while let Some(update) = run.events().next().await {
                sample.events += 1;
                let now = Instant::now();
                if first.is_some() {
                    pause = pause.max(now - last);
                } else if is_of_model(&update) {
                    first = Some(now - began);
                }
                last = now;
            }
            sample.firsts.extend(first);
            sample.pauses.push(pause);
            run.outcome().await
        } else {
            run.wait().await?
        };
        sample.latencies.push(began.elapsed());
        check(outcome)?;
    }
    Ok(())
}

/// Whether the update is one of the model's stream, as the first one of pydantic-ai's is.
fn is_of_model(update: &RunUpdate) -> bool {
    matches!(update, RunUpdate::Event(event)
        if matches!(event.event, RunEvent::Model(_) | RunEvent::TextDelta(_)))
}

fn check(outcome: RunOutcome) -> anyhow::Result<()> {
    let output: Value = outcome.completed()?.output.decode()?;
    let advice = output["support_advice"].as_str().unwrap_or_default();
    anyhow::ensure!(advice.contains(EXPECTED), "the wrong answer: {output}");
    Ok(())
}

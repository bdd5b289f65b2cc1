//! The agent in Axon.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;
use axon_kernel::event::RunEvent;
use axon_runner::environment;
use axon_runtime::{AgentHandle, Host, RunOutcome, RunUpdate, Runtime, load_agent};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cpu::{of_process, of_this_process};
use crate::repository;
use crate::round::{CROWD, CUSTOMER, EXPECTED, Job, PROMPT, Sample};

const AGENT: &str = "bank_support";

/// What is taken from the environment, and nothing else.
const TAKEN: [&str; 5] = ["PATH", "HOME", "AXON_PYTHON", "AXON_CACHE_DIR", "XDG_CACHE_HOME"];

/// Returns the surroundings of both sides: everything lies in `data`, the model is the scripted one.
pub(crate) fn host(data: &Path, base_url: &str) -> Host {
    let mut variables: BTreeMap<String, String> = TAKEN
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect();
    for (name, value) in [
        ("OPENAI_BASE_URL", base_url),
        ("OPENAI_API_KEY", "sk-scripted"),
        ("AXON_MODEL", "openai-chat:scripted"),
        ("AXON_DATA_DIR", &data.display().to_string()),
        ("TMPDIR", &data.display().to_string()),
    ] {
        variables.insert(name.to_owned(), value.to_owned());
    }
    Host::new(data.to_owned(), variables)
}

/// Returns the interpreter that Axon chooses for the agent.
pub(crate) async fn python(host: &Host) -> anyhow::Result<PathBuf> {
    let search = host.search(Some(repository().join("agents").join(AGENT)));
    let ready = tokio::task::spawn_blocking(move || {
        environment::sync(&search, &|step| crate::say(&format!("{step:?}")))
    });
    Ok(ready.await??.choice.python)
}

/// A runtime with the one agent, and its runner.
#[derive(Debug)]
pub(crate) struct Axon {
    pub(crate) runner: u32,
    runtime: Runtime,
    agent: AgentHandle,
}

impl Axon {
    /// Starts the agent as it is defined, but for as many runs at once as the bench makes.
    pub(crate) async fn start(host: Host) -> anyhow::Result<Self> {
        let mut agent = load_agent(&repository().join("agents"), AGENT, &host)?;
        agent.spec.limits.concurrency = NonZeroU32::new(CROWD).context("nobody")?;
        let runtime = Runtime::builder().host(host).agent(agent).start().await?;
        let agent = runtime.named(AGENT)?;
        let runner = agent.status().await?.pid.context("the agent has no runner")?;
        Ok(Self { runner, runtime, agent })
    }

    /// Makes the runs of `job`, that many at a time.
    pub(crate) async fn measure(&self, job: Job) -> anyhow::Result<Sample> {
        let python = of_process(self.runner)?;
        let (rust, began) = (of_this_process(), Instant::now());
        let mut sample = Sample::default();
        if job.concurrency == 1 {
            work(&self.agent, job, &AtomicU32::new(job.runs), &mut sample).await?;
        } else {
            sample = self.crowd(job).await?;
        }
        sample.wall = began.elapsed();
        sample.rust = of_this_process().saturating_sub(rust);
        sample.python = of_process(self.runner)?.saturating_sub(python);
        Ok(sample)
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
            let mut first = None;
            while let Some(update) = run.events().next().await {
                sample.events += 1;
                if first.is_none() && is_of_model(&update) {
                    first = Some(began.elapsed());
                }
            }
            sample.firsts.extend(first);
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

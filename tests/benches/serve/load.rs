//! Throughput and latency, beside the same agent behind FastAPI and uvicorn.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use axon_runtime::Host;
use axon_tests::venv::venv;
use clap::Args;
use reqwest::Client;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::service::Service;
use crate::shared::cpu::Machine;
use crate::shared::host::{self, AGENT};
use crate::shared::model::Model;
use crate::shared::{repository, say};
use crate::table::{millis, percentile, print};
use crate::uvicorn::{Uvicorn, pid_of};

/// What every answer must contain.
const EXPECTED: &str = "$123.45";

#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How long a side is asked in each turn.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How many turns each side has, and as many again with kills.
    #[arg(long, default_value_t = 2)]
    turns: usize,
    /// How many clients ask at once.
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// How many workers, and runners, each side has.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// How many seconds pass between two kills.
    #[arg(long, default_value_t = 2)]
    kill_every: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { seconds: 10, turns: 2, clients: 32, workers: 2, kill_every: 2 }
    }
}

/// What one side came to.
#[derive(Debug, Default)]
struct Sample {
    latencies: Vec<Duration>,
    /// Why requests were not answered well, each with its count.
    failed: Vec<String>,
    killed: usize,
    wall: Duration,
}

/// Who is asked.
enum Side {
    Uvicorn(Uvicorn),
    Axon(Service),
}

impl Side {
    fn url(&self) -> String {
        let address = match self {
            Self::Uvicorn(uvicorn) => &uvicorn.address,
            Self::Axon(service) => &service.address,
        };
        format!("http://{address}/v1/agents/{AGENT}/runs")
    }

    async fn workers(&self) -> anyhow::Result<Vec<u32>> {
        match self {
            Self::Uvicorn(uvicorn) => uvicorn.workers(),
            Self::Axon(service) => service.runners(AGENT).await,
        }
    }

    /// Kills one of its workers, and returns whether there was one.
    async fn kill_one(&self) -> anyhow::Result<bool> {
        let Some(pid) = self.workers().await?.first().copied() else { return Ok(false) };
        Ok(kill_process(pid_of(pid)?, Signal::KILL).is_ok())
    }

    /// Waits until all of its workers are there again.
    async fn whole(&self, workers: usize) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.workers().await?.len() < workers {
            anyhow::ensure!(began.elapsed() < Duration::from_secs(60), "a worker stays away");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn end(self) -> anyhow::Result<()> {
        match self {
            Self::Uvicorn(uvicorn) => uvicorn.end().await,
            Self::Axon(service) => service.end().await,
        }
    }
}

pub(crate) async fn measure(options: Options) -> anyhow::Result<()> {
    let data = tempfile::Builder::new().prefix("axon-bench-").tempdir()?;
    let model = Model::start().await?;
    let mut host = host::host(data.path(), &model.base_url);
    let python = python(&host).await?;
    host.variables.insert("AXON_PYTHON".to_owned(), python.display().to_string());
    agent(data.path(), &options)?;
    let sides = [
        ("uvicorn", Side::Uvicorn(Uvicorn::start(&python, &host, options.workers).await?)),
        ("Axon, memory", Side::Axon(Service::start(&host, &["--store", "memory"]).await?)),
        ("Axon, SQLite", Side::Axon(Service::start(&host, &[]).await?)),
    ];
    let machine = Machine::look(&[])?;
    for kills in [None, Some(Duration::from_secs(options.kill_every))] {
        let mut samples: [Sample; 3] = Default::default();
        for turn in 0..options.turns {
            for ((name, side), sample) in sides.iter().zip(&mut samples) {
                say(&format!("load: turn {} of {}, {name}", turn + 1, options.turns));
                side.whole(options.workers).await?;
                crowd(side, &options, Duration::from_secs(2), None).await?;
                let seconds = Duration::from_secs(options.seconds);
                sample.add(crowd(side, &options, seconds, kills).await?);
            }
        }
        let rows: Vec<_> = sides
            .iter()
            .zip(&samples)
            .map(|((name, _), sample)| (*name, sample.row(&samples[0])))
            .collect();
        let Options { clients, workers, .. } = options;
        let how = kills.map_or("undisturbed".to_owned(), |every| {
            format!("one killed every {} s", every.as_secs())
        });
        print(&format!("Load: {clients} clients, {workers} workers, {how}"), &rows)?;
        for ((name, _), sample) in sides.iter().zip(&samples) {
            for (why, count) in sample.failures() {
                say(&format!("load: {name}: {count} times {why}"));
            }
        }
    }
    say(&format!("load: {:?} in all", machine.busy_with_others(&[])?.wall));
    for (_, side) in sides {
        side.end().await?;
    }
    model.end().await;
    Ok(())
}

/// Returns the interpreter that both sides have.
async fn python(host: &Host) -> anyhow::Result<PathBuf> {
    let base = host::python(host).await?;
    let lock = repository().join("tests/benches/serve/requirements.lock");
    let room = Path::new(env!("CARGO_TARGET_TMPDIR")).to_owned();
    tokio::task::spawn_blocking(move || venv(&base, &lock, &room)).await?
}

/// Writes the agent as it is shipped, but for as many runs and runners as are asked for.
fn agent(folder: &Path, options: &Options) -> anyhow::Result<()> {
    let (from, to) = (repository().join("agents").join(AGENT), folder.join("agents").join(AGENT));
    std::fs::create_dir_all(to.join("data"))?;
    for part in ["", "data"] {
        for entry in std::fs::read_dir(from.join(part))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                std::fs::copy(entry.path(), to.join(part).join(entry.file_name()))?;
            }
        }
    }
    let file = to.join("agent.toml");
    let text = std::fs::read_to_string(&file)?;
    let runners = format!("[runner]\nreplicas = {}", options.workers);
    let changed = text
        .replace("[runner]", &runners)
        .replace("concurrency = 16", &format!("concurrency = {}", options.clients))
        .replace("max_restarts = 3", "max_restarts = 1000");
    anyhow::ensure!(changed.matches("1000").count() == 1, "agent.toml is another one");
    Ok(std::fs::write(file, changed)?)
}

/// Has the clients ask for some time.
async fn crowd(
    side: &Side,
    options: &Options,
    time: Duration,
    kills: Option<Duration>,
) -> anyhow::Result<Sample> {
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    let began = Instant::now();
    for _ in 0..options.clients {
        clients.spawn(ask(side.url(), over.clone()));
    }
    let mut killed = 0;
    while began.elapsed() < time {
        let left = time.saturating_sub(began.elapsed());
        tokio::time::sleep(kills.unwrap_or(left).min(left)).await;
        if kills.is_some() && began.elapsed() < time && side.kill_one().await? {
            killed += 1;
        }
    }
    over.store(true, Ordering::Relaxed);
    let mut sample = Sample::default();
    while let Some(client) = clients.join_next().await {
        sample.add(client??);
    }
    Ok(Sample { killed, wall: began.elapsed(), ..sample })
}

/// Asks again and again.
async fn ask(url: String, over: Arc<AtomicBool>) -> anyhow::Result<Sample> {
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(90)).build()?;
    let body = json!({ "prompt": "What is my balance?", "deps": { "customer_id": 123 } });
    let mut sample = Sample::default();
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        match once(&client, &url, &body).await {
            Ok(()) => sample.latencies.push(began.elapsed()),
            Err(error) => {
                sample.failed.push(error.root_cause().to_string());
                // As a client that means well.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    Ok(sample)
}

async fn once(client: &Client, url: &str, body: &Value) -> anyhow::Result<()> {
    let answer = client.post(url).json(body).send().await?;
    let status = answer.status();
    anyhow::ensure!(status == 200, "{status}");
    let said: Value = answer.json().await?;
    let advice = said["output"]["support_advice"].as_str().context("no answer")?;
    anyhow::ensure!(advice.contains(EXPECTED), "the wrong answer");
    Ok(())
}

impl Sample {
    fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.failed.extend(other.failed);
        self.killed += other.killed;
        self.wall += other.wall;
    }

    fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.wall.as_secs_f64()
    }

    fn percentile(&self, percent: usize) -> f64 {
        millis(percentile(&self.latencies, percent))
    }

    /// Its figures, with those that are compared by their ratio to `other`'s.
    fn row(&self, other: &Self) -> String {
        let (rate, p50, p99) = (self.rate(), self.percentile(50), self.percentile(99));
        let (rates, p99s) = (rate / other.rate(), p99 / other.percentile(99));
        let Self { failed, killed, latencies, .. } = self;
        let (done, failed) = (latencies.len(), failed.len());
        format!(
            "{rate:>6.1} runs/s ({rates:.2}x)  p50 {p50:>6.1} ms  p99 {p99:>7.1} ms ({p99s:.2}x)  \
             {done:>5} done  {failed:>4} failed  {killed:>2} kills"
        )
    }

    fn failures(&self) -> std::collections::BTreeMap<&str, usize> {
        let mut counts = std::collections::BTreeMap::new();
        for why in &self.failed {
            *counts.entry(why.as_str()).or_default() += 1;
        }
        counts
    }
}

//! What keeping the runs costs: the agent in Axon over each store, in turns.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axon_kernel::store::Store;
use axon_runtime::{Host, MemoryStore};
use axon_store::{OpenOptions, StoreUrl};
use axon_test::{Postgres, PostgresError};

use crate::axon::Axon;
use crate::counted::Counted;
use crate::round::{Sample, Workload};
use crate::shared::cpu::{Machine, Noise, of_process};
use crate::shared::model::Model;
use crate::shared::say;

/// What each of the stores is measured with.
pub(crate) const WORKLOADS: [Workload; 2] = [Workload::Whole, Workload::WholeCrowd];

/// An agent over one store.
#[derive(Debug)]
struct Side {
    name: &'static str,
    axon: Axon,
    store: Arc<Counted>,
    /// Whether the server's CPU counts for it.
    served: bool,
}

/// What one store took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken {
    pub(crate) sample: Sample,
    /// The CPU of the database's server, where there is one.
    pub(crate) server: Duration,
}

/// What was measured of one store.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    /// One for each workload, of each round.
    pub(crate) rounds: Vec<Vec<Taken>>,
    pub(crate) appends_per_run: f64,
    pub(crate) events_per_run: f64,
    /// What the database has grown by, in bytes; none where it is not on a disk.
    pub(crate) bytes_per_run: Option<f64>,
}

/// What was measured, of each store, and how busy the machine was with something else.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) stores: Vec<Measured>,
    pub(crate) noise: Noise,
}

/// What a store has taken in so far.
#[derive(Clone, Copy, Debug, Default)]
struct Filled {
    appends: u64,
    events: u64,
    bytes: u64,
}

/// Starts an agent over each store, measures all of them in turns, and ends them.
pub(crate) async fn compare(host: &Host, model: &Model, rounds: usize) -> anyhow::Result<Compared> {
    let server = server().await?;
    let mut sides = vec![Side::start(host, "memory", Arc::new(MemoryStore::default())).await?];
    let file = host.directory.join("bench.db").display().to_string();
    sides.push(Side::start(host, "SQLite", open(&file).await?).await?);
    if let Some(server) = &server {
        let url = server.create_database("bench").await?;
        let side = Side::start(host, "PostgreSQL", open(&url).await?).await?;
        sides.push(Side { served: true, ..side });
    }
    let folder = server.as_ref().map(|server| server.folder().to_owned());
    let pids: Vec<u32> =
        sides.iter().flat_map(|side| side.axon.runners.clone()).chain([model.pid]).collect();
    let machine = Machine::look(&pids)?;
    let measured = measure(&sides, folder.as_deref(), rounds).await;
    let noise = machine.busy_with_others(&pids)?;
    for side in sides {
        side.axon.end().await;
    }
    Ok(Compared { stores: measured?, noise })
}

/// Starts `PostgreSQL`, where it is installed.
async fn server() -> anyhow::Result<Option<Postgres>> {
    match Postgres::start().await {
        Err(PostgresError::Missing) => {
            say(&format!("left out: {}", PostgresError::Missing));
            Ok(None)
        }
        started => Ok(Some(started?)),
    }
}

async fn open(url: &str) -> anyhow::Result<Arc<dyn Store>> {
    let url: StoreUrl = url.parse().context("the store's URL")?;
    Ok(axon_store::open(&url, OpenOptions::default()).await?)
}

impl Side {
    async fn start(host: &Host, name: &'static str, store: Arc<dyn Store>) -> anyhow::Result<Self> {
        let store = Arc::new(Counted::new(store));
        let axon = Axon::start(host.clone(), NonZeroU32::MIN, Some(store.clone())).await;
        Ok(Self { name, axon: axon.with_context(|| name)?, store, served: false })
    }

    async fn measure(&self, workload: Workload, server: Option<&Path>) -> anyhow::Result<Taken> {
        let served = || server.filter(|_| self.served).map_or(Ok(Duration::ZERO), of_processes_in);
        let before = served()?;
        let sample = self.axon.measure(workload.job()).await?;
        Ok(Taken { sample, server: served()?.saturating_sub(before) })
    }

    async fn filled(&self) -> anyhow::Result<Filled> {
        let report = self.store.report(false).await?;
        let (appends, events) = self.store.counts();
        Ok(Filled { appends, events, bytes: report.bytes.unwrap_or_default() })
    }
}

async fn measure(
    sides: &[Side],
    server: Option<&Path>,
    rounds: usize,
) -> anyhow::Result<Vec<Measured>> {
    let mut measured: Vec<Vec<Vec<Taken>>> = sides.iter().map(|_| Vec::new()).collect();
    let mut begun = Vec::new();
    for number in 0..=rounds {
        say(&format!("stores: round {number} of {rounds}"));
        let mut round: Vec<Vec<Taken>> =
            sides.iter().map(|_| vec![Taken::default(); WORKLOADS.len()]).collect();
        for (place, workload) in WORKLOADS.into_iter().enumerate() {
            for turn in 0..workload.turns() as usize {
                for step in 0..sides.len() {
                    // Everybody comes first, and after everybody, as often as the others.
                    let side = (turn + step) % sides.len();
                    let taken = sides[side].measure(workload, server).await?;
                    round[side][place].add(taken);
                }
            }
        }
        // The first one is the warm-up.
        if number == 0 {
            for side in sides {
                begun.push(side.filled().await?);
            }
        } else {
            for (all, round) in measured.iter_mut().zip(round) {
                all.push(round);
            }
        }
    }
    let mut found = Vec::new();
    for ((side, rounds), begun) in sides.iter().zip(measured).zip(begun) {
        found.push(Measured::of(side.name, rounds, begun, side.filled().await?));
    }
    Ok(found)
}

impl Taken {
    fn add(&mut self, other: Self) {
        self.sample.add(other.sample);
        self.server += other.server;
    }
}

impl Measured {
    fn of(name: &'static str, rounds: Vec<Vec<Taken>>, before: Filled, after: Filled) -> Self {
        // The store in memory forgets, so it is not asked how many there were.
        let taken = rounds.iter().flatten();
        let runs = taken.map(|taken| taken.sample.latencies.len()).sum::<usize>().max(1) as f64;
        let grown = after.bytes.saturating_sub(before.bytes);
        Self {
            name,
            rounds,
            appends_per_run: (after.appends - before.appends) as f64 / runs,
            events_per_run: (after.events - before.events) as f64 / runs,
            bytes_per_run: (after.bytes > 0).then(|| grown as f64 / runs),
        }
    }
}

/// Returns what the processes use that work in `folder` or below, as far as it can be seen.
fn of_processes_in(folder: &Path) -> anyhow::Result<Duration> {
    let inside = procfs::process::all_processes()?.flatten().filter(|process| {
        // One that ends meanwhile, and one that is somebody else's, is none of them.
        process.cwd().is_ok_and(|works_in| works_in.starts_with(folder))
    });
    Ok(inside.filter_map(|process| of_process(process.pid.try_into().ok()?).ok()).sum())
}

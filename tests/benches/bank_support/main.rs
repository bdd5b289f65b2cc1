//! What Axon costs: one agent on pydantic-ai alone and the same agent in Axon, in one bench run.
//!
//! ```text
//! cargo bench -p axon-tests --bench bank_support            ten rounds, some five minutes
//! cargo bench -p axon-tests --bench bank_support -- --quick
//! cargo bench -p axon-tests --bench bank_support -- --only replicas
//! cargo bench -p axon-tests --bench bank_support -- --stores
//! ```
//!
//! Both sides make the bank-support run (two model requests, one tool over `SQLite`, structured
//! output) with the real `OpenAI` client against the scripted model, which is a process of its own
//! so that its CPU counts for nobody. Both use the interpreter that `AXON_PYTHON` names or, without
//! it, the managed one; both have the same model settings, limits and output schema.
//!
//! - **bare** is `bare.py`: one Python process, `agent.run` unstreamed, `agent.iter` with
//!   `node.stream` streamed. Latency is taken inside it.
//! - **Axon** is a `Runtime` in this process with `agents/bank_support` and its runner. Latency is
//!   taken from the call of the Rust API to the outcome, or to the last event.
//!
//! A round takes every workload: runs one after the other for latency, 32 at once for CPU and
//! throughput, and runs of a model that waits 2 ms before each delta, as real ones do wait. Within
//! a workload the sides take turns every few runs, so that what else disturbs the machine disturbs
//! both. Axon is compared by the difference or the ratio within each round: shown is the median
//! over the rounds with the smallest and the largest. Latencies are percentiles over all runs, and
//! p99 needs many rounds to mean something. CPU is that of the Python process (user and system)
//! and, for Axon, also that of this process. Nothing is asserted about time: the aims are printed
//! beside the figures, and below the table how busy the machine was with something else.
//!
//! The last workload gives Axon two replicas: its throughput beside that of the one bare process,
//! where there are two cores for them, for the scripted model and for this process. What the model
//! takes of these cores for each run is shown beside it.
//!
//! A pause is the longest silence between two events of a streamed run, as its reader sees it.
//!
//! Bare pydantic-ai is as its users write it: asyncio's own event loop, the default client, Python's
//! own garbage collection. Both sides use one environment, so that what Axon's runner makes of it
//! (uvloop, aiohttp, a frozen heap, patches) is all there for bare too, and not used. `--tuned`
//! gives bare the garbage-collection settings of the runner.
//!
//! The stores are compared by themselves: three runtimes, each with a runner of its own, keep their
//! runs in memory, in `SQLite` (a file in the temporary folder) and in `PostgreSQL` (a server of the
//! bench's own that does not wait for the disk; left out where it is not installed). They take
//! turns as the sides do. The CPU of the server is shown beside that of the run.

mod axon;
mod bare;
mod counted;
mod figures;
mod round;
#[path = "../shared/mod.rs"]
mod shared;
mod stores;
mod stores_table;
mod table;

use std::num::NonZeroU32;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use axon_runtime::Host;
use clap::Parser;

use axon::Axon;
use bare::Bare;
use figures::Figures;
use round::{Job, Pair, Round, Sample, Workload};
use shared::cpu::{Machine, of_process};
use shared::model::Model;
use shared::{host, say};

/// No round takes longer than this.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the bench is asked for.
#[derive(Clone, Debug, Parser)]
#[command(about = "What Axon costs beside pydantic-ai alone")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
struct Options {
    /// How many rounds are measured.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Two rounds only, to see that it works.
    #[arg(long)]
    quick: bool,
    /// Give bare pydantic-ai the garbage-collection settings of Axon's runner.
    #[arg(long)]
    tuned: bool,
    /// Measure these workloads and no others.
    #[arg(long, value_enum)]
    only: Vec<Workload>,
    /// Compare the stores, and nothing else.
    #[arg(long)]
    stores: bool,
}

impl Options {
    fn rounds(&self) -> usize {
        if self.quick { 2 } else { self.rounds.max(1) }
    }

    fn compares_stores(&self) -> bool {
        self.stores || !self.quick && self.only.is_empty()
    }

    fn workloads(&self) -> &[Workload] {
        if self.only.is_empty() { &Workload::ALL } else { &self.only }
    }
}

fn main() -> ExitCode {
    shared::run("bank_support", compare)
}

/// How many replicas two cores are given to.
const REPLICAS: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

/// Starts the processes, measures, ends the processes, and says what was found.
async fn compare(options: Options) -> anyhow::Result<()> {
    let data = tempfile::Builder::new().prefix("axon-bench-").tempdir()?;
    let model = Model::start().await.context("the scripted model did not start")?;
    let host = host::host(data.path(), &model.base_url);
    let python = host::python(&host).await?;
    if !options.stores {
        beside_bare(&options, &host, &python, &model).await?;
    }
    if options.compares_stores() {
        stores_table::print(&stores::compare(&host, &model, options.rounds()).await?)?;
    }
    model.end().await;
    Ok(())
}

/// Compares Axon and pydantic-ai alone.
async fn beside_bare(
    options: &Options,
    host: &Host,
    python: &Path,
    model: &Model,
) -> anyhow::Result<()> {
    let bare = Bare::start(python, host, options.tuned)?;
    let one =
        Axon::start(host.clone(), NonZeroU32::MIN, None).await.context("Axon did not start")?;
    let two =
        Axon::start(host.clone(), REPLICAS, None).await.context("the replicas did not start")?;
    let pids: Vec<u32> = [model.pid, bare.pid]
        .into_iter()
        .chain(one.runners.clone())
        .chain(two.runners.clone())
        .collect();
    let mut sides = Sides { bare, one, two, model: model.pid };

    let machine = Machine::look(&pids)?;
    let measured = measure(options, &mut sides).await;
    let others = machine.busy_with_others(&pids);

    let Sides { bare, one, two, .. } = sides;
    one.end().await;
    two.end().await;
    bare.end().await;
    for pid in pids.into_iter().filter(|pid| *pid != model.pid) {
        let left = Path::new("/proc").join(pid.to_string());
        anyhow::ensure!(!left.exists(), "process {pid} was left behind");
    }
    table::print(&Figures::of(&measured?, options.workloads()), &others?, python)?;
    Ok(())
}

/// Whoever takes turns.
struct Sides {
    bare: Bare,
    one: Axon,
    two: Axon,
    /// The process id of the scripted model.
    model: u32,
}

async fn measure(options: &Options, sides: &mut Sides) -> anyhow::Result<Vec<Round>> {
    let rounds = options.rounds();
    let mut measured = Vec::new();
    for number in 0..=rounds {
        // The first one is the warm-up.
        say(&format!("round {number} of {rounds}"));
        let mut round = Round::default();
        for &workload in options.workloads() {
            let late = || format!("{workload:?} took longer than {} s", PATIENCE.as_secs());
            let both = tokio::time::timeout(PATIENCE, sides.both(workload));
            round.set(workload, both.await.with_context(late)??);
        }
        measured.push(round);
    }
    Ok(measured.split_off(1))
}

impl Sides {
    /// Gives the work to both sides in turns, and returns what each of them took.
    async fn both(&mut self, workload: Workload) -> anyhow::Result<Pair> {
        let mut pair = Pair::default();
        for turn in 0..workload.turns() {
            // Whoever comes second in one turn begins the next.
            if turn % 2 == 0 {
                pair.bare.add(self.bare(workload.job()).await?);
                pair.axon.add(self.axon(workload).await?);
            } else {
                pair.axon.add(self.axon(workload).await?);
                pair.bare.add(self.bare(workload.job()).await?);
            }
        }
        Ok(pair)
    }

    async fn bare(&mut self, job: Job) -> anyhow::Result<Sample> {
        let before = of_process(self.model)?;
        let sample = self.bare.measure(job).await?;
        Ok(Sample { model: of_process(self.model)?.saturating_sub(before), ..sample })
    }

    async fn axon(&self, workload: Workload) -> anyhow::Result<Sample> {
        let axon = if workload == Workload::Replicas { &self.two } else { &self.one };
        let before = of_process(self.model)?;
        let sample = axon.measure(workload.job()).await?;
        Ok(Sample { model: of_process(self.model)?.saturating_sub(before), ..sample })
    }
}

//! What a call of a tool costs: a Python tool on pydantic-ai alone, and a Python and a Rust tool in
//! Axon, in one bench run.
//!
//! ```text
//! cargo bench -p axon-tests --bench tools                 twenty rounds, some two minutes
//! cargo bench -p axon-tests --bench tools -- --rounds 5
//! ```
//!
//! The model is a function in the same Python process, which answers at once: it calls the tool as
//! often as the run is told, 0, 1, 10 or 50 times, one call after the other. A run of *n* calls takes
//! what a run of none takes and *n* times one step: a request of the model and the call that it
//! answers with. So a step is what the runs of 50 take more than those of none, by 50; the model's
//! part of it is the same on every side. Shown is the median over all runs, and p99 of single steps:
//! of the runs of one call, less the median of those of none. CPU is that of the Python process and,
//! in Axon, of this one. Both agents in Axon keep their runs in memory.
//!
//! Within a round the sides take turns, and the order is another one in each round. Nothing is
//! asserted about time: the aim is printed beside the figures, and what else the machine was busy
//! with below them.

#[path = "../shared/mod.rs"]
#[expect(dead_code, reason = "this bench needs no model of its own process")]
mod shared;
mod sides;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use shared::cpu::{Machine, Noise};
use shared::{host, say};
use sides::{Axon, Bare, Job, Sample, folder};

/// How much a call of a Rust tool may take more than one of a Python tool on pydantic-ai alone.
const AIM: f64 = 1.0;

/// How many runs each side makes of each kind, in a round.
const KINDS: [Job; 4] = [
    Job { runs: 20, calls: 0 },
    Job { runs: 20, calls: 1 },
    Job { runs: 10, calls: 10 },
    Job { runs: 4, calls: 50 },
];

const NAMES: [&str; 3] = ["bare, Python tool", "Axon, Python tool", "Axon, Rust tool"];

/// What the bench is asked for.
#[derive(Clone, Copy, Debug, Parser)]
#[command(about = "What a call of a tool costs")]
struct Options {
    /// How many rounds are measured.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
}

/// What one side took for each kind of run.
type Taken = [Sample; KINDS.len()];

fn main() -> ExitCode {
    shared::run("tools", compare)
}

async fn compare(options: Options) -> anyhow::Result<()> {
    let data = tempfile::Builder::new().prefix("axon-bench-").tempdir()?;
    let mut host = host::host(data.path(), "http://127.0.0.1:9/v1");
    let python = host::python(&host).await?;
    // The module of both sides is found in the project's folder.
    host.directory = folder();
    let mut sides = Sides {
        bare: Bare::start(&python, &host)?,
        python: Axon::python(&host).await?,
        rust: Axon::rust(&host).await?,
    };
    let pids = [sides.bare.pid, sides.python.runner, sides.rust.runner];
    let machine = Machine::look(&pids)?;
    let measured = sides.measure(options.rounds.max(1)).await;
    let noise = machine.busy_with_others(&pids);
    sides.end().await;
    print(&measured?, &noise?)
}

/// Whoever takes turns.
struct Sides {
    bare: Bare,
    python: Axon,
    rust: Axon,
}

impl Sides {
    async fn measure(&mut self, rounds: usize) -> anyhow::Result<[Taken; NAMES.len()]> {
        let mut taken: [Taken; NAMES.len()] = Default::default();
        for round in 0..=rounds {
            say(&format!("round {round} of {rounds}"));
            for (kind, job) in KINDS.into_iter().enumerate() {
                for turn in 0..NAMES.len() {
                    let side = (round + turn) % NAMES.len();
                    let sample = match side {
                        0 => self.bare.measure(job).await?,
                        1 => self.python.measure(job).await?,
                        _rust => self.rust.measure(job).await?,
                    };
                    // The first round is the warm-up.
                    if round > 0 {
                        taken[side][kind].add(sample);
                    }
                }
            }
        }
        Ok(taken)
    }

    async fn end(self) {
        self.bare.end().await;
        self.python.end().await;
        self.rust.end().await;
    }
}

/// What one step takes, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Step {
    median: f64,
    p99: f64,
    cpu: f64,
}

impl Step {
    fn of([none, one, _ten, fifty]: &Taken) -> Self {
        let empty = at(none, 0.5);
        let calls = f64::from(KINDS[3].calls);
        let cpu = |sample: &Sample| sample.cpu.as_secs_f64() * 1e3 / sample.latencies.len() as f64;
        Self {
            median: (at(fifty, 0.5) - empty) / calls,
            p99: at(one, 0.99) - empty,
            cpu: (cpu(fifty) - cpu(none)) / calls,
        }
    }
}

/// Returns the latency that this part of the runs does not exceed, in milliseconds.
fn at(sample: &Sample, part: f64) -> f64 {
    let mut latencies = sample.latencies.clone();
    latencies.sort_unstable();
    let last = latencies.len().saturating_sub(1);
    let index = (last as f64 * part).round() as usize;
    latencies.get(index).map_or(f64::NAN, |latency: &Duration| latency.as_secs_f64() * 1e3)
}

fn print(taken: &[Taken; NAMES.len()], noise: &Noise) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let bare = Step::of(&taken[0]);
    writeln!(
        out,
        "{:<22} {:>9} {:>9} {:>9}   {:<10} runs of 0, 1, 10, 50 calls",
        "one step", "p50", "p99", "CPU", "over bare"
    )?;
    for (name, taken) in NAMES.iter().zip(taken) {
        let Step { median, p99, cpu } = Step::of(taken);
        let over = format!("{:+.2} ms", median - bare.median);
        let runs: Vec<String> = taken.iter().map(|kind| format!("{:.2}", at(kind, 0.5))).collect();
        let runs = runs.join(", ");
        writeln!(
            out,
            "{name:<22} {median:>6.2} ms {p99:>6.2} ms {cpu:>6.2} ms   {over:<10} {runs} ms"
        )?;
    }
    let added = Step::of(&taken[2]).median - bare.median;
    let verdict = if added <= AIM { "ok" } else { "missed" };
    writeln!(out, "\nA Rust tool adds {added:.2} ms to bare; aim ≤ {AIM} ms: {verdict}")?;
    writeln!(out, "{noise}")?;
    Ok(())
}

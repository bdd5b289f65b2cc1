//! What Axon costs: one agent on pydantic-ai alone and the same agent in Axon, in one bench run.
//!
//! ```text
//! cargo bench -p axon-tests --bench bank_support            ten rounds, some three minutes
//! cargo bench -p axon-tests --bench bank_support -- --quick
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
//! `--tuned` gives bare pydantic-ai the garbage-collection settings that Axon's runner gives
//! itself, which shows what Axon costs without what it saves.

mod axon;
mod bare;
mod cpu;
mod figures;
mod model;
mod round;
mod table;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;

use axon::Axon;
use bare::Bare;
use cpu::Machine;
use figures::Figures;
use model::Model;
use round::{Pair, Round, Workload};

/// No round takes longer than this.
const PATIENCE: Duration = Duration::from_secs(120);

/// What cargo gives to every bench.
const BENCH: &str = "--bench";

/// What the bench is asked for.
#[derive(Clone, Copy, Debug, Parser)]
#[command(about = "What Axon costs beside pydantic-ai alone")]
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
}

fn main() -> ExitCode {
    let given: Vec<OsString> = std::env::args_os().collect();
    let outcome = if given.get(1).is_some_and(|argument| argument == model::ARGUMENT) {
        model::play()
    } else if given.iter().any(|argument| argument == BENCH) {
        bench(Options::parse_from(given.iter().filter(|argument| *argument != BENCH)))
    } else {
        // `cargo test --benches` starts this too, and has nothing to measure.
        Ok(())
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("bank_support: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn bench(options: Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            outcome = compare(options) => outcome,
            _interrupted = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        }
    })
}

/// Starts the processes, measures, ends the processes, and says what was found.
async fn compare(options: Options) -> anyhow::Result<()> {
    let data = tempfile::Builder::new().prefix("axon-bench-").tempdir()?;
    let model = Model::start().await.context("the scripted model did not start")?;
    let host = axon::host(data.path(), &model.base_url);
    let python = axon::python(&host).await?;
    let mut bare = Bare::start(&python, &host, options.tuned)?;
    let axon = Axon::start(host).await.context("Axon did not start")?;
    let pids = [model.pid, bare.pid, axon.runner];

    let machine = Machine::look(&pids)?;
    let measured = measure(options, &mut bare, &axon).await;
    let others = machine.busy_with_others(&pids);

    axon.end().await;
    bare.end().await;
    model.end().await;
    for pid in pids {
        let left = Path::new("/proc").join(pid.to_string());
        anyhow::ensure!(!left.exists(), "process {pid} was left behind");
    }
    table::print(&Figures::of(&measured?), &others?, &python)?;
    Ok(())
}

async fn measure(options: Options, bare: &mut Bare, axon: &Axon) -> anyhow::Result<Vec<Round>> {
    let rounds = if options.quick { 2 } else { options.rounds.max(1) };
    let mut measured = Vec::new();
    for number in 0..=rounds {
        // The first one is the warm-up.
        say(&format!("round {number} of {rounds}"));
        let mut round = Round::default();
        for workload in Workload::ALL {
            let late = || format!("{workload:?} took longer than {} s", PATIENCE.as_secs());
            let both = tokio::time::timeout(PATIENCE, both(workload, bare, axon));
            round.set(workload, both.await.with_context(late)??);
        }
        measured.push(round);
    }
    Ok(measured.split_off(1))
}

/// Gives the work to both sides in turns, and returns what each of them took.
async fn both(workload: Workload, bare: &mut Bare, axon: &Axon) -> anyhow::Result<Pair> {
    let job = workload.job();
    let mut pair = Pair::default();
    for turn in 0..workload.turns() {
        // Whoever comes second in one turn begins the next.
        if turn % 2 == 0 {
            pair.bare.add(bare.measure(job).await?);
            pair.axon.add(axon.measure(job).await?);
        } else {
            pair.axon.add(axon.measure(job).await?);
            pair.bare.add(bare.measure(job).await?);
        }
    }
    Ok(pair)
}

/// Returns the root of the repository.
fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// Tells progress on standard error; standard output has the table alone.
fn say(line: &str) {
    // Nobody may be there to read it.
    let _unread = writeln!(std::io::stderr(), "{line}");
}

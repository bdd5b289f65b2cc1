//! What Axon costs: one agent on pydantic-ai alone and the same agent in Axon, in one bench run.
//!
//! ```text
//! cargo bench -p axon-tests --bench bank_support            ten rounds, about three minutes
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
//! A round takes every workload on both sides, in turn who begins: runs one after the other for
//! latency, 32 at once for CPU and throughput, and runs of a model that waits 2 ms before each
//! delta, as real ones do. What both sides are told apart by (`added`, `ratio`) is the median over
//! the rounds of the difference within one round, shown with its smallest and largest; latencies
//! are percentiles over all runs. Compared are ratios of one run of this bench on one machine, and
//! nothing is asserted. CPU is that of the Python process (user and system) and, for Axon, also
//! that of this process. What else was busy on the machine meanwhile is printed below the table.

mod axon;
mod bare;
mod cpu;
mod figures;
mod model;
mod round;
mod table;

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
use round::{Job, Round, Workload};

/// No round takes longer than this.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the bench is asked for.
#[derive(Clone, Copy, Debug, Parser)]
#[command(about = "What Axon costs beside pydantic-ai alone")]
struct Options {
    /// How many rounds are measured.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Two short rounds, to see that it works.
    #[arg(long)]
    quick: bool,
    /// Give bare pydantic-ai the garbage-collection settings of Axon's runner.
    #[arg(long)]
    tuned: bool,
    /// Be the scripted model: how this program starts itself.
    #[arg(long, hide = true)]
    play_model: bool,
    /// What cargo gives to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = if options.play_model {
        model::play()
    } else if options.bench {
        bench(options)
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
    say("warming up");
    for workload in Workload::ALL {
        both(workload.job(true), true, bare, axon).await?;
        both(workload.job(true), true, bare, axon).await?;
    }
    let rounds = if options.quick { 2 } else { options.rounds.max(1) };
    let mut measured = Vec::new();
    for number in 0..rounds {
        say(&format!("round {} of {rounds}", number + 1));
        let mut round = Round::default();
        for workload in Workload::ALL {
            let job = workload.job(options.quick);
            round.set(workload, both(job, number % 2 == 0, bare, axon).await?);
        }
        measured.push(round);
    }
    Ok(measured)
}

/// Gives `job` to both sides, and returns what each of them took, bare first.
async fn both(
    job: Job,
    bare_begins: bool,
    bare: &mut Bare,
    axon: &Axon,
) -> anyhow::Result<round::Pair> {
    let late = || format!("a round took longer than {} s: {job:?}", PATIENCE.as_secs());
    let pair = async {
        if bare_begins {
            let bare = bare.measure(job).await?;
            Ok(round::Pair { bare, axon: axon.measure(job).await? })
        } else {
            let axon = axon.measure(job).await?;
            Ok(round::Pair { bare: bare.measure(job).await?, axon })
        }
    };
    tokio::time::timeout(PATIENCE, pair).await.with_context(late)?
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

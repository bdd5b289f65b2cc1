//! How long it takes to go on with everything that a process has left open, and what that costs
//! those who come meanwhile.
//!
//! ```text
//! cargo bench -p axon-tests --bench recovery                     10,000 open runs in SQLite
//! cargo bench -p axon-tests --bench recovery -- --runs 1000
//! cargo bench -p axon-tests --bench recovery -- --postgres
//! ```
//!
//! The open runs are written through a store that is then closed, as its process would have: of ten,
//! four are queued, four wait for their model behind a checkpoint, one is in a call with effect
//! `once`, and one is of an agent that was defined otherwise. Then a runtime is started over the same
//! database. Its one agent takes 32 runs at once, in a scripted runner: a process without Python that
//! answers at once, so what is seen is the runtime's own time.
//!
//! *classified* is when the last run that was left open has an owner, has ended or waits for a
//! person; *done* is when the last one has ended or waits for a person. New runs are asked for all
//! the while, by four callers, each of whom asks when it was answered; the same four ask afterwards
//! without anything else to do. Nothing is asserted about time, but everything about what became of
//! the runs.

mod newcomers;
mod open_runs;
#[path = "../shared/mod.rs"]
#[expect(dead_code, reason = "this bench needs no model")]
mod shared;

use std::io::Write;
use std::num::NonZeroU32;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use axon_kernel::event::millis;
use axon_kernel::run::RunState;
use axon_kernel::spec::{AgentSpec, RunnerProgram};
use axon_kernel::store::{RunQuery, Store};
use axon_kernel::time::Timestamp;
use axon_runtime::{AgentHandle, Runtime};
use axon_store::{OpenOptions, StoreUrl};
use axon_test::Postgres;
use axon_test::scripted_runner::{RunnerScript, Step};
use clap::Parser;
use tokio::time::{Instant, sleep};

use newcomers::Newcomers;
use open_runs::OpenRuns;
use shared::cpu::{Machine, Noise, of_this_process};
use shared::{host, say};

/// What the bench is asked for.
#[derive(Clone, Copy, Debug, Parser)]
#[command(about = "How long it takes to go on with everything that was left open")]
struct Options {
    /// How many runs were left open.
    #[arg(long, default_value_t = 10_000)]
    runs: usize,
    /// Keep them in PostgreSQL.
    #[arg(long)]
    postgres: bool,
}

/// How many runs the agent takes at once.
const CONCURRENCY: u32 = 32;

/// How often the store is looked at.
const TICK: Duration = Duration::from_millis(50);

/// Nothing takes longer than this.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long new runs are asked for without anything else to do.
const ALONE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    shared::run("recovery", recover)
}

/// What was found.
#[derive(Debug)]
struct Found {
    left: OpenRuns,
    written: Duration,
    opened: Duration,
    classified: Duration,
    done: Duration,
    cpu: Duration,
    meanwhile: Newcomers,
    alone: Newcomers,
}

async fn recover(options: Options) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("axon-bench-").tempdir()?;
    let server = if options.postgres { Some(Postgres::start().await?) } else { None };
    let url = match &server {
        Some(server) => server.create_database("bench").await?,
        None => folder.path().join("bench.db").display().to_string(),
    };
    let url: StoreUrl = url.parse().context("the store's URL")?;
    let machine = Machine::look(&[])?;
    let found = measure(options, folder.path(), &url).await?;
    // The runner's own time is with others' here: it has ended, and so has the server's work.
    let noise = machine.busy_with_others(&[])?;
    Ok(print(options, &found, &noise)?)
}

async fn measure(options: Options, folder: &Path, url: &StoreUrl) -> anyhow::Result<Found> {
    let spec = spec(folder)?;
    say(&format!("writing {} open runs", options.runs));
    let began = Instant::now();
    let before = axon_store::open(url, OpenOptions::default()).await?;
    let left = open_runs::leave(&before, &spec, (options.runs, now())).await?;
    let written = began.elapsed();
    drop(before);

    let began = Instant::now();
    let store = axon_store::open(url, OpenOptions::default()).await?;
    let opened = began.elapsed();
    alone_in(&store).await?;

    say("recovering");
    let host = host::host(folder, "http://127.0.0.1:9");
    let builder = Runtime::builder().host(host).allow_offline().agent(spec).store(store.clone());
    let (cpu, began) = (of_this_process(), Instant::now());
    let runtime = builder.start().await?;
    let agent = runtime.agents().pop().context("no agent")?;
    let callers = newcomers::come(&agent);
    let late = || format!("not done within {} s", PATIENCE.as_secs());
    let watched = tokio::time::timeout(PATIENCE, watch(&store, &left, began)).await;
    let (classified, done) = watched.with_context(late)??;
    let cpu = of_this_process().saturating_sub(cpu);
    let meanwhile = callers.leave().await?;
    check(&store, &left).await?;

    say("new runs alone");
    let alone = alone(&agent).await?;
    runtime.shutdown().await;
    Ok(Found { left, written, opened, classified, done, cpu, meanwhile, alone })
}

/// Returns an agent whose runner answers at once.
fn spec(folder: &Path) -> anyhow::Result<AgentSpec> {
    let script = RunnerScript::from([Step::complete("$123.45")]);
    let mut spec = AgentSpec::new("steady".parse()?);
    spec.model = Some("test".parse()?);
    let program = script.command(env!("CARGO_BIN_EXE_scripted-runner"), folder)?;
    spec.runner.program = RunnerProgram::Command(program);
    spec.limits.concurrency = NonZeroU32::new(CONCURRENCY).context("nobody")?;
    Ok(spec)
}

/// Waits until the process before has let go of its store.
async fn alone_in(store: &Arc<dyn Store>) -> anyhow::Result<()> {
    let alone = async {
        while !store.report(false).await?.others.is_empty() {
            sleep(TICK).await;
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, alone).await?
}

/// Returns when everything that was left open is classified, and when all of it is done.
async fn watch(
    store: &Arc<dyn Store>,
    left: &OpenRuns,
    began: Instant,
) -> anyhow::Result<(Duration, Duration)> {
    let under_way = RunQuery {
        states: vec![RunState::Queued, RunState::Running],
        after: Some(left.boundary.clone()),
        limit: 1,
        ..RunQuery::default()
    };
    let forlorn = RunQuery { unowned: true, ..under_way.clone() };
    let mut classified = None;
    loop {
        if classified.is_none() && store.runs(&forlorn).await?.is_empty() {
            classified = Some(began.elapsed());
        }
        if let Some(classified) = classified
            && store.runs(&under_way).await?.is_empty()
        {
            return Ok((classified, began.elapsed()));
        }
        sleep(TICK).await;
    }
}

/// Checks what became of the runs.
async fn check(store: &Arc<dyn Store>, left: &OpenRuns) -> anyhow::Result<()> {
    let report = store.report(false).await?;
    let count = |wanted| {
        let found = report.runs.iter().find(|(state, _)| *state == wanted);
        found.map_or(0, |(_, count)| *count as usize)
    };
    ensure!(count(RunState::Paused) == left.wait, "not as many wait: {:?}", report.runs);
    ensure!(count(RunState::Completed) >= left.go_on, "not as many ended: {:?}", report.runs);
    ensure!(count(RunState::Failed) == 0, "some failed: {:?}", report.runs);
    Ok(())
}

async fn alone(agent: &AgentHandle) -> anyhow::Result<Newcomers> {
    let callers = newcomers::come(agent);
    sleep(ALONE).await;
    callers.leave().await
}

fn now() -> Timestamp {
    Timestamp(millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()))
}

fn print(options: Options, found: &Found, noise: &Noise) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let store = if options.postgres { "PostgreSQL" } else { "SQLite" };
    let seconds = |time: Duration| time.as_secs_f64();
    let per_run = |time: Duration| time.as_secs_f64() * 1e3 / options.runs.max(1) as f64;
    writeln!(out, "recovery of {} open runs, {store}, scripted runner\n", options.runs)?;
    writeln!(out, "written in        {:>8.2} s", seconds(found.written))?;
    writeln!(out, "opened again in   {:>8.2} ms", seconds(found.opened) * 1e3)?;
    writeln!(out, "classified after  {:>8.2} s", seconds(found.classified))?;
    let OpenRuns { go_on, wait, .. } = found.left;
    let done = seconds(found.done);
    writeln!(out, "done after        {done:>8.2} s: {go_on} have ended, {wait} wait for a person")?;
    writeln!(
        out,
        "per run           {:>8.2} ms, CPU {:.2} ms with the new ones'",
        per_run(found.done),
        per_run(found.cpu)
    )?;
    for (when, new) in [("meanwhile", &found.meanwhile), ("alone", &found.alone)] {
        let (p50, p99) = (new.quantile(0.5), new.quantile(0.99));
        let count = new.latencies.len();
        writeln!(out, "new runs {when:<9} p50 {p50:.2} ms, p99 {p99:.2} ms, {count} of them")?;
    }
    writeln!(out, "\n{noise}")
}

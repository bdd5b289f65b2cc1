//! How fast runners start and come back, and what they hold: started from nothing, and forked from
//! a warm launcher, in one bench run.
//!
//! ```text
//! cargo bench -p axon-tests --bench start_up              some five minutes
//! cargo bench -p axon-tests --bench start_up -- --quick
//! ```
//!
//! The agent is `agents/bank_support` with its Python tool, its real `OpenAI` client and the scripted
//! model, on the interpreter that `AXON_PYTHON` names or, without it, the managed one. *Cold* is
//! `[runner] launcher = "cold"`: a process that imports everything. Everything is taken through the
//! Rust API.
//!
//! - **started**: one more agent is started on a runtime that serves another one, again and again.
//!   *Ready* is when the runner is up and has built the agent, *answer* is when its first run has
//!   ended well.
//! - **killed**: the runner of an idle agent is killed by SIGKILL, and a caller asks at once. Each
//!   kill is the first within the agent's intensity: further ones would wait for their backoff.
//! - **first** and **at once**: a new runtime with so many agents, from the call of `start`, the
//!   launcher's own start included, until all are ready.
//! - **memory**: the proportional set size of the runners, divided by their number, after the start
//!   and after a run of each. The launcher is shown beside them: there is one of it.
//!
//! Times are medians and p99 over all rounds: of a few rounds p99 is the longest. The aims, which are
//! those of forked runners, are printed beside the figures, and nothing is asserted about time.
//! Below the table is how busy the machine was with something else.

mod fleet;
#[path = "../shared/memory.rs"]
mod memory;
#[path = "../shared/mod.rs"]
mod shared;
mod table;
mod trial;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use axon_kernel::spec::LauncherMode;
use clap::Parser;

use shared::cpu::Machine;
use shared::host;
use shared::model::Model;
use trial::{Plan, Trial};

/// No side takes longer than this.
const PATIENCE: Duration = Duration::from_secs(900);

/// What the bench is asked for.
#[derive(Clone, Copy, Debug, Parser)]
#[command(about = "How fast runners start and come back, and what they hold")]
struct Options {
    /// How often one agent is started and killed; a tenth of it from nothing, but three times at
    /// least.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// A few rounds and agents only, to see that it works.
    #[arg(long)]
    quick: bool,
    /// Forked runners only.
    #[arg(long)]
    forked: bool,
}

fn main() -> ExitCode {
    shared::run("start_up", compare)
}

async fn compare(options: Options) -> anyhow::Result<()> {
    let data = tempfile::Builder::new().prefix("axon-bench-").tempdir()?;
    let model = Model::start().await.context("the scripted model did not start")?;
    let host = host::host(data.path(), &model.base_url);
    let python = host::python(&host).await?;
    let machine = Machine::look(&[model.pid])?;
    let side = async |launcher, rounds| {
        let fleets = if options.quick { [1, 5, 10] } else { [1, 10, 50] };
        let plan = Plan { launcher, rounds, fleets };
        let late = || format!("{launcher:?} took longer than {} s", PATIENCE.as_secs());
        tokio::time::timeout(PATIENCE, Trial::of(&host, &plan)).await.with_context(late)?
    };
    let rounds = if options.quick { 10 } else { options.rounds.max(1) };
    let forked = side(LauncherMode::Warm, rounds).await?;
    let cold = match options.forked {
        true => None,
        false => Some(side(LauncherMode::Cold, (rounds / 10).max(3)).await?),
    };
    let wall = machine.busy_with_others(&[model.pid])?;
    model.end().await;
    table::print(&forked, cold.as_ref(), &wall, &python)?;
    Ok(())
}

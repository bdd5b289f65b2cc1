//! How long everything below a host takes to be gone when the host is killed, and whether anything
//! is left.
//!
//! ```text
//! cargo bench -p axon-tests --bench orphans -- --rounds 1000
//! cargo bench -p axon-tests --bench orphans -- --rounds 100 --at-once 1 --seed 7
//! ```
//!
//! Each round starts a host with an idle agent and one whose tool starts a process in the runner's
//! group, one in a session of its own, and one that forks twice and closes its descriptors; then the
//! tool holds the interpreter's lock in C. The host is ended by SIGKILL at a random moment, before,
//! while or after all that comes up. Measured is from the signal to the end of the last process
//! that descends from the host or carries its mark. What is there after 5 s is a leak, is told and
//! ended, and fails the bench.

#[path = "../tests/integration/orphans/field.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod field;
#[path = "../tests/integration/orphans/rounds.rs"]
mod rounds;

use std::io::Write;

use clap::Parser;
use rounds::{Figures, Plan};

/// What the bench is asked for.
#[derive(Clone, Copy, Debug, Parser)]
#[command(about = "What is left when a host is killed, and for how long")]
struct Options {
    /// How many hosts are killed.
    #[arg(long, default_value_t = 50)]
    rounds: u64,
    /// How many there are at the same time.
    #[arg(long, default_value_t = 2)]
    at_once: usize,
    /// Where the random moments begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What cargo gives to every bench.
const BENCH: &str = "--bench";

/// After how many rounds it is told how things stand.
const TOLD_EVERY: usize = 100;

const HOST: &str = env!("CARGO_BIN_EXE_axon-host");

fn main() -> anyhow::Result<()> {
    let given: Vec<String> = std::env::args().collect();
    if !given.iter().any(|argument| argument == BENCH) {
        return Ok(());
    }
    let Options { rounds, at_once, seed } =
        Options::parse_from(given.iter().filter(|argument| *argument != BENCH));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut out = std::io::stdout().lock();
    let mut figures = Figures::default();
    for (number, begin) in (0..rounds).step_by(TOLD_EVERY).enumerate() {
        let rounds = (rounds - begin).min(TOLD_EVERY as u64);
        let plan = Plan { rounds, at_once, seed: seed + number as u64 };
        figures.add(runtime.block_on(rounds::all(HOST, plan))?);
        writeln!(out, "{figures}")?;
    }
    for slow in &figures.slow {
        writeln!(out, "late: {slow}")?;
    }
    for leak in &figures.leaks {
        writeln!(out, "left behind: {leak}")?;
    }
    anyhow::ensure!(figures.leaks.is_empty(), "something was left behind");
    Ok(())
}

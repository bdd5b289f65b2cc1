//! Load on a host program that is killed again and again, whole and in parts.
//!
//! ```text
//! cargo bench -p axon-tests --bench soak -- --duration 60s
//! cargo bench -p axon-tests --bench soak -- --duration 1h --seed 7
//! ```
//!
//! Twelve callers ask one thing after the other: text, one call, three calls at once, an output with
//! a schema, with tools of every effect; two of three in a conversation of their own. Meanwhile the
//! host, its launcher or a runner is killed every 0 to 1.2 s. At the end everything that is open is
//! waited for, and it is counted what callers were told, what the store has and what the world
//! outside has seen. A lost run, or anything that happened twice and must not, fails the bench.

#[path = "shared/mod.rs"]
#[expect(dead_code, reason = "other benches use more of it")]
mod shared;

use std::io::Write;
use std::process::ExitCode;

use axon_tests::kill::Program;
use axon_tests::soak::{Pace, soak};
use clap::Parser;

/// What the bench is asked for.
#[derive(Clone, Debug, Parser)]
#[command(about = "Load on a host program that is killed again and again")]
struct Options {
    /// For how long.
    #[arg(long, default_value = "60s")]
    duration: String,
    /// Where the random moments begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    shared::run("soak", run)
}

async fn run(options: Options) -> anyhow::Result<()> {
    let duration = humantime::parse_duration(&options.duration)?;
    let program = Program::new(env!("CARGO_BIN_EXE_axon-cell"));
    let tally = soak(program, Pace { duration, seed: options.seed }).await?;
    write!(std::io::stdout(), "{tally}")?;
    let kept = tally.lost.is_empty() && tally.doubled.is_empty();
    anyhow::ensure!(kept, "a promise was broken");
    Ok(())
}

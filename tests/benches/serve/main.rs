//! What a service bears, and what it serves: `axon serve` as its users start it, over HTTP.
//!
//! ```text
//! cargo bench -p axon-tests --bench serve                        everything, some six minutes
//! cargo bench -p axon-tests --bench serve -- streams --streams 1000
//! cargo bench -p axon-tests --bench serve -- deaf --clients 500
//! cargo bench -p axon-tests --bench serve -- load --seconds 20 --turns 3
//! ```
//!
//! - **streams**: slow runs of a scripted runner, each followed by an open stream. Shown is what a
//!   run and what a stream takes of the service's memory (its own, and what it shares divided),
//!   whether every stream had every event, and how long a new caller waits for the first text of
//!   its own run, before and while the streams are open.
//! - **deaf**: clients that ask for a stream of many large events and read nothing of it. Shown is
//!   the memory of the service before, at its highest and afterwards, and how long other callers
//!   wait meanwhile.
//! - **load**: clients that ask the bank-support agent again as soon as they are answered. `uvicorn`
//!   is the same pydantic-ai agent behind FastAPI, with as many workers as Axon has runners; Axon
//!   keeps its runs in memory, and in `SQLite` on disk as it does by default. They take turns. Then
//!   once more, while a worker or a runner is killed every few seconds: what fails is counted, each
//!   reason on standard error. Both sides have one Python environment, made for this bench, and one
//!   scripted model. So that it is not parked, the agent may restart more often than by default.
//!   The ratios are to `uvicorn`'s figures: more runs are better, and less p99. A client that is
//!   refused or cut off counts a failure, waits 10 ms and asks anew; it never repeats a request.
//!
//! The clients are in this process, on the same machine, and so is the model: what they take, the
//! sides do not have. Nothing is asserted about time.

mod asking;
mod deaf;
mod load;
#[path = "../shared/memory.rs"]
mod memory;
mod service;
#[path = "../shared/mod.rs"]
#[expect(dead_code, reason = "other benches use more of it")]
mod shared;
mod streams;
mod table;
mod uvicorn;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the bench is asked for.
#[derive(Clone, Debug, Parser)]
#[command(about = "What a service bears, and what it serves")]
struct Options {
    #[command(subcommand)]
    only: Option<Part>,
}

/// A part of the bench.
#[derive(Clone, Debug, Subcommand)]
enum Part {
    /// Many open streams of slow runs.
    Streams(streams::Options),
    /// Clients that never read.
    Deaf(deaf::Options),
    /// Throughput and latency beside FastAPI and uvicorn.
    Load(load::Options),
}

fn main() -> ExitCode {
    shared::run("serve", measure)
}

async fn measure(options: Options) -> anyhow::Result<()> {
    open_files()?;
    match options.only {
        Some(Part::Streams(options)) => streams::measure(options).await,
        Some(Part::Deaf(options)) => deaf::measure(options).await,
        Some(Part::Load(options)) => load::measure(options).await,
        None => {
            streams::measure(streams::Options::default()).await?;
            deaf::measure(deaf::Options::default()).await?;
            load::measure(load::Options::default()).await
        }
    }
}

/// Raises the limit of open files, of the processes that are started too, as far as it goes: each
/// stream takes two in the service, and one here.
fn open_files() -> anyhow::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

//! A program that embeds the runtime, for tests to end in every way there is.
//!
//! It runs the agents of the folder in its first argument, all of them at once, and then does what
//! a line on its standard input says: `shutdown`, `panic`, `abort`, or `drop`. At the end of that
//! input it shuts down.

use std::process::ExitCode;
use std::time::Duration;

use axon_runtime::{RunHandle, Runtime};

/// More than any test waits.
const RUN: Duration = Duration::from_secs(600);

#[tokio::main]
async fn main() -> ExitCode {
    let Some(folder) = std::env::args().nth(1) else { return ExitCode::from(2) };
    let Ok(runtime) = Runtime::builder().allow_offline().agents_dir(folder).start().await else {
        return ExitCode::FAILURE;
    };
    let runs = run_all(&runtime).await;
    let told = tokio::task::spawn_blocking(|| std::io::stdin().lines().next());
    let told = told.await.ok().flatten().and_then(Result::ok);
    end(runtime, runs, told.as_deref().unwrap_or("shutdown")).await;
    ExitCode::SUCCESS
}

async fn run_all(runtime: &Runtime) -> Vec<RunHandle> {
    let mut runs = Vec::new();
    for agent in runtime.agents() {
        // An agent called idle has nothing to do.
        if agent.name().as_str() != "idle"
            && let Ok(run) = agent.run("go").timeout(RUN).start().await
        {
            runs.push(run);
        }
    }
    runs
}

#[expect(clippy::panic, reason = "to see what is left then")]
async fn end(runtime: Runtime, runs: Vec<RunHandle>, how: &str) {
    match how {
        "panic" => panic!("as it was told"),
        "abort" => std::process::abort(),
        "drop" => drop((runtime, runs)),
        _ => runtime.shutdown().await,
    }
}

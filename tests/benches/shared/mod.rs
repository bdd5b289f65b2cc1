//! What several benches need: the scripted model beside them, and what the machine was busy with.

pub(crate) mod cpu;
pub(crate) mod host;
pub(crate) mod model;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

/// By this `cargo bench` starts a bench; `cargo test --benches` starts it too, and measures nothing.
const BENCH: &str = "--bench";

/// Runs the bench `name`, or plays the model beside it, as the arguments say.
pub(crate) fn run<O: Parser>(
    name: &str,
    compare: impl AsyncFnOnce(O) -> anyhow::Result<()>,
) -> ExitCode {
    let given: Vec<OsString> = std::env::args_os().collect();
    let outcome = if given.get(1).is_some_and(|argument| argument == model::ARGUMENT) {
        model::play()
    } else if given.iter().any(|argument| argument == BENCH) {
        let options = O::parse_from(given.iter().filter(|argument| *argument != BENCH));
        until_interrupted(compare(options))
    } else {
        Ok(())
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{name}: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn until_interrupted(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            outcome = work => outcome,
            _interrupted = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        }
    })
}

/// Returns the root of the repository.
pub(crate) fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// Tells progress on standard error; standard output has the table alone.
pub(crate) fn say(line: &str) {
    // Nobody may be there to read it.
    let _unread = writeln!(std::io::stderr(), "{line}");
}

//! The conformance suite of the runner protocol.
//!
//! [`check`] launches a program as Axon does and holds it against the protocol, claim by claim.
//! Any program that passes can take the place of the Python runner.
//!
//! The program is launched with the callables of the suite's own agent. Its Python module,
//! `conformance_agent`, is written by [`Target::python`]; a runner without Python plays the same
//! agent in its own way:
//!
//! * Model `python:conformance_agent:model`. To the prompts `rust tool`, `rust tools`,
//!   `python tool`, `once tool`, `once tools`, `broken tool`, `slow tool` and `approval` it answers
//!   with the tool calls that `conformance_agent.py` lists; after them, and after anything else, with text:
//!   `The result is RESULT.` (joined by ` and `), or `You said PROMPT.`. To `hang` it begins its
//!   answer and never ends it, to `fail` it fails as rate-limited for 3 seconds.
//! * Tools `add(left, right)`, `transfer(amount)`, `broken()` and `linger()` in the runner, `lookup(key)` and
//!   `refund(amount)` in Rust. Each request's spec describes them.
//! * Functions that say what became of a transfer: `was_made` (with what `transfer` returns),
//!   `was_not_made`, `cannot_tell`, and `cannot_be_asked`, which raises.

mod agent;
mod checks;
mod events;
mod launched;
mod link;
mod report;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub use report::{CheckResult, Disagreement, Report};

/// A runner program to check.
#[derive(Clone, Debug)]
pub struct Target {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The whole environment of the process.
    pub env: BTreeMap<String, String>,
    /// Its working directory.
    pub directory: PathBuf,
    /// The module path of the launch data.
    pub path: Vec<String>,
}

impl Target {
    /// Makes the Python runner in `sources` the target, and writes the agent into `folder`.
    ///
    /// # Errors
    ///
    /// [`io::Error`] if the module cannot be written.
    pub fn python(interpreter: &Path, sources: &Path, folder: &Path) -> io::Result<Self> {
        agent::write_module(folder)?;
        let command = [interpreter.as_os_str(), "-I".as_ref(), sources.as_os_str()];
        Ok(Self {
            command: command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
            env: BTreeMap::new(),
            directory: folder.to_owned(),
            path: vec![folder.display().to_string()],
        })
    }

    /// Makes a scripted runner the target: `program` is a binary that calls
    /// [`crate::scripted_runner::main`]. Its script is written into `folder`.
    ///
    /// # Errors
    ///
    /// [`io::Error`] if the script cannot be written.
    pub fn scripted(program: &str, folder: &Path) -> io::Result<Self> {
        Ok(Self {
            command: agent::script().command(program, folder)?,
            env: BTreeMap::new(),
            directory: folder.to_owned(),
            path: Vec::new(),
        })
    }
}

/// Makes every check. Must be called within a tokio runtime.
///
/// One process serves most checks; those that end their runner launch one of their own.
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use axon_test::conformance::{Target, check};
///
/// let folder = tempfile::tempdir()?;
/// let target = Target::scripted("target/debug/scripted-runner", folder.path())?;
/// let report = check(&target).await;
/// assert!(report.conforms(), "{report}");
/// # Ok(())
/// # }
/// ```
pub async fn check(target: &Target) -> Report {
    checks::all(target).await
}

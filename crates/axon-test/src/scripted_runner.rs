//! A runner that does what a test tells it to do.
//!
//! A real process that speaks the runner protocol and has no Python in it: start it through
//! `[runner] command`. Start reading at [`RunnerScript`] (what each generation does), then
//! [`Life`] (how one starts and answers) and [`Step`] (what an attempt does).
//!
//! ```
//! # let folder = tempfile::tempdir()?;
//! use axon_test::scripted_runner::{RunnerScript, Step};
//!
//! let script = RunnerScript::from([Step::text("Well, "), Step::complete("{{prompt}}, you say?")]);
//! // In an integration test the program is `env!("CARGO_BIN_EXE_scripted-runner")`.
//! let command = script.command("target/debug/scripted-runner", folder.path())?;
//! # assert_eq!(command.len(), 2);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The file is the same as JSON, so that it can be written by hand too:
//!
//! ```json
//! {
//!   "generations": { "1": { "start": { "die_before_ready": { "code": 3, "stderr": "no luck" } } } },
//!   "default": { "plays": [
//!     { "when": { "prompt": "boom" }, "steps": [ { "text": "Well, " }, { "die": { "signal": 9 } } ] },
//!     { "steps": [ { "complete": { "output": "You said {{prompt}}." } } ] }
//!   ] }
//! }
//! ```
//!
//! The strings of a step may name `{{prompt}}`, `{{run}}`, `{{attempt}}`, `{{generation}}` and
//! `{{result.ID}}`, what the tool call of that id gave.
//!
//! A process never outlives the one that launched it, whatever its script says, unless it has
//! stopped itself (SIGSTOP).

mod app;
mod attempt;
mod descriptors;
mod fill;
pub mod message;
mod performance;
mod process;
mod refusal;
mod runs;
mod script;
mod server;
mod spec;
mod stage;
mod step;
mod stream;
mod tools;
mod unfinished;

pub use process::main;
pub use script::{
    Answer, AnswerPlay, Endpoint, Life, OnDump, OnTerm, Play, ReconcilePlay, RunnerScript, Start,
    ToolPlay, When,
};
pub use step::{CheckpointStep, CompleteStep, Death, DeathBy, EventStep, Step, UnfinishedStep};

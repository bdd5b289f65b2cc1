//! The `axon` command line, as a library: a service with agents and tools in Rust gets the same
//! one with [`main_with`].
//!
//! ```no_run
//! use axon_runtime::Runtime;
//!
//! fn main() -> std::process::ExitCode {
//!     axon_command::main_with(Runtime::builder().agents_dir("agents"))
//! }
//! ```
//!
//! To start reading: `args` is what can be typed, `run` is the verb that everything else
//! resembles, `runs` is what is done with those on record, `service` is how all of it is asked of a
//! service in place of this process, `report` is what a user reads when
//! something fails.
//!
//! The invariants: answers go to stdout and everything else to stderr; whatever fails says what
//! happened, why and what to do, and ends with the exit code of one table (`exit`); nothing that
//! was started here outlives the process.

mod agents;
mod args;
mod ask;
mod chat;
mod command;
mod completions;
mod decide;
mod deps;
mod doctor;
mod env;
mod exit;
mod follow;
mod graph;
mod interview;
mod lines;
mod logging;
mod new;
mod report;
mod run;
mod runner;
mod runs;
mod schema;
mod serve;
mod service;
mod session;
mod show;
mod signals;
mod store;
mod stubs;
mod suggestion;
mod telemetry;
mod terminal;
mod tool;
mod tree;
mod underway;
mod validate;

pub use command::{main, main_with};

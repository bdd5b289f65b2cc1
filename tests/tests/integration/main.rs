//! What Axon promises, tested through its public doors: the Rust API, the command line, the wire.
//!
//! Real Python, real processes, real sockets. Only the model provider is played, by a server that
//! the real client talks to. `AXON_PYTHON` names the interpreter; without it the managed
//! environment is built, once.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers too")]

mod approvals;
mod asking_rust;
mod attach;
mod bank_service;
mod chaos;
mod command_line;
mod conformance;
mod conversations;
mod corpus;
mod defined;
mod deploy;
mod durable;
mod effects;
mod failures;
mod floods;
mod flows;
mod fresh_crate;
mod full_disk;
mod groups;
mod hard_stops;
mod hundred;
mod injection;
mod kill_matrix;
mod ladder;
mod launcher;
mod limits;
mod living;
mod logs;
mod metrics_service;
mod orphans;
mod poison;
mod providers;
mod python_agents;
mod recycle;
mod replicas;
mod runs;
mod said;
mod scene;
mod serve;
mod soak;
mod spending;
mod store_command;
mod stubs;
mod supervisor;
mod support;
mod traces;
mod tree;
mod tree_command;
mod typed_output;

//! The test kit of Axon: a scripted runner, a scripted model and the protocol conformance suite.

pub mod conformance;
pub mod scripted_model;
pub mod scripted_runner;

pub use scripted_model::{Reply, Script, ScriptedModel, bank_support_script, serve_forever};
pub use scripted_runner::{Death, Life, RunnerScript, Start, Step, When};

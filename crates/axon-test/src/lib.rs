//! The test kit of Axon: a scripted runner, a scripted model, the protocol conformance suite, and a
//! PostgreSQL server of a test's own.

pub mod conformance;
pub mod postgres;
pub mod scripted_model;
pub mod scripted_runner;

pub use postgres::{Postgres, PostgresError};
pub use scripted_model::{Reply, Script, ScriptedModel, bank_support_script, serve_forever};
pub use scripted_runner::{Death, Life, RunnerScript, Start, Step, When};

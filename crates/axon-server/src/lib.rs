//! The HTTP door to a runtime: runs and their events, decisions, records, chat for OpenAI's clients,
//! probes and metrics.
//!
//! To start reading: [`Server`] has the routes, `ask` begins a run and answers its caller, `follow`
//! reads a run wherever it goes on, `guard` says who is let in.
//!
//! The invariants: a request that is refused has done nothing, and says so with the code that every
//! door uses; an accepted run is answered with its outcome; no reader makes a run wait, and none
//! holds more memory than one event and the limits of its connection.

mod agents;
mod answer;
mod ask;
mod body;
mod config;
mod decide;
mod document;
mod follow;
mod guard;
mod listen;
mod openai;
mod page;
mod probes;
mod problem;
mod recent;
mod recorder;
mod runs;
mod schemas;
mod scrape;
mod server;
mod shared;
mod stream;
mod trace;
mod watch;

pub use config::{ConfigError, Limits, ServerConfig};
pub use document::openapi;
pub use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
pub use page::{Page, PageError};
pub use recorder::{install_recorder, prometheus, render, upkeep};
pub use scrape::serve_metrics;
pub use server::{Ended, Server, ServerBuilder};

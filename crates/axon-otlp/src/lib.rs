//! Sends spans to a collector: OTLP over HTTP, as protobuf or JSON, configured by the standard
//! `OTEL_` variables.
//!
//! To start reading: [`Settings`] is what the variables say, [`Exporter`] is the queue and what
//! empties it, `message` is what goes over the wire.
//!
//! The invariant: whatever becomes of the collector, nobody who ends a span waits, and what waits to
//! be sent is bounded in number and bytes; the rest is dropped, and counted.

mod exporter;
mod message;
mod settings;

pub use exporter::Exporter;
pub use settings::{Protocol, Settings, VariableError};

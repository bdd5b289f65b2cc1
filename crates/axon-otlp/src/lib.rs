//! Sends spans to a collector: OTLP over HTTP, by OpenTelemetry's SDK, configured by its standard
//! `OTEL_` variables.
//!
//! To start reading: [`Settings`] is what the variables say, [`Exporter`] hands spans to the SDK,
//! which collects and sends them.
//!
//! The invariant: whatever becomes of the collector, nobody who ends a span waits, and what waits to
//! be sent is bounded in number and bytes; the rest is dropped, and counted. The SDK bounds the number
//! only, and keeps what it drops to itself: so it is decided here who is let in.

mod exporter;
mod settings;

pub use exporter::Exporter;
pub use opentelemetry_otlp::ExporterBuildError;
pub use settings::{Settings, VariableError};

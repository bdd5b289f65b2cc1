//! Traces, where the `OTEL_` variables ask for them.

use std::time::Duration;

use axon_runtime::{Host, RuntimeBuilder};

/// How long the last spans may take to be sent when the process ends.
const PATIENCE: Duration = Duration::from_secs(3);

/// What sends spans, if anything does. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Telemetry {
    #[cfg(feature = "otel")]
    exporter: std::sync::Arc<std::sync::OnceLock<axon_otlp::Exporter>>,
}

impl Telemetry {
    /// Has the runtime tell its spans, if the variables say where to. What stands in the way of that
    /// stands in the way of nothing else.
    #[cfg(feature = "otel")]
    pub(crate) fn start(&self, builder: RuntimeBuilder, host: &Host) -> RuntimeBuilder {
        use std::sync::Arc;

        use axon_otlp::{Exporter, Settings};
        use axon_runtime::trace::Tracer;

        let settings = match Settings::from_variables(&|name| host.variable(name)) {
            Ok(Some(settings)) => settings,
            Ok(None) => return builder,
            Err(error) => {
                tracing::warn!(%error, "no spans are sent");
                return builder;
            }
        };
        let (sampler, content) = (settings.sampler, settings.content);
        match Exporter::start(settings) {
            Ok(exporter) => {
                // A process starts one runtime.
                let _first = self.exporter.set(exporter.clone());
                let tracer = Tracer::new(Arc::new(exporter));
                builder.tracer(tracer.sampler(sampler).with_content(content))
            }
            Err(error) => {
                tracing::warn!(%error, "no spans are sent");
                builder
            }
        }
    }

    #[cfg(not(feature = "otel"))]
    pub(crate) fn start(&self, builder: RuntimeBuilder, _host: &Host) -> RuntimeBuilder {
        builder
    }

    /// Sends what has not been sent, as far as that takes no longer than [`PATIENCE`].
    #[cfg(feature = "otel")]
    pub(crate) async fn end(&self) {
        if let Some(exporter) = self.exporter.get() {
            exporter.flush(PATIENCE).await;
        }
    }

    #[cfg(not(feature = "otel"))]
    pub(crate) async fn end(&self) {
        let _nothing = PATIENCE;
    }
}

//! The recorder of the stock service, for `/metrics`.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder};

/// The buckets of every histogram, in seconds: without any, it would be a summary, which cannot be
/// added up over processes. From a cached answer to a long run.
const SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];

/// How often is gathered what the histograms were told.
const UPKEEP: Duration = Duration::from_secs(5);

/// Makes Prometheus's recorder the one of the process, and returns what writes its metrics: for
/// [`ServerBuilder::metrics`](crate::ServerBuilder::metrics). A service that has a recorder of its own
/// gives what writes that.
///
/// # Errors
///
/// [`BuildError`] if the process has a recorder already.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn install_recorder() -> Result<impl Fn() -> String + Send + Sync + 'static, BuildError> {
    let recorder = PrometheusBuilder::new().set_buckets(&SECONDS)?.install_recorder()?;
    let kept = recorder.clone();
    // What histograms are told grows until it is gathered, and perhaps nobody ever scrapes.
    tokio::spawn(async move {
        let mut due = tokio::time::interval(UPKEEP);
        loop {
            due.tick().await;
            kept.run_upkeep();
        }
    });
    Ok(move || recorder.render())
}

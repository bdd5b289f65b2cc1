//! The recorder of the stock service, for `/metrics`.

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder};

/// The buckets of every histogram, in seconds: without any, it would be a summary, which cannot be
/// added up over processes. From a cached answer to a long run.
const SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];

/// Makes Prometheus's recorder the one of the process, and returns what writes its metrics: for
/// [`ServerBuilder::metrics`](crate::ServerBuilder::metrics). A service that has a recorder of its own
/// gives what writes that.
///
/// # Errors
///
/// [`BuildError`] if the process has a recorder already.
pub fn install_recorder() -> Result<impl Fn() -> String + Send + Sync + 'static, BuildError> {
    let recorder = PrometheusBuilder::new().set_buckets(&SECONDS)?.install_recorder()?;
    Ok(move || {
        // What the histograms have gathered is drained with every scrape, and grows no further.
        recorder.run_upkeep();
        recorder.render()
    })
}

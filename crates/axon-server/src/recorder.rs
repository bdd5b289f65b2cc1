//! The recorder of the stock service, for `/metrics`; and what one of your own needs to show the same.

use std::time::Duration;

use axon_kernel::metric::{ALL, MetricKind};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;

/// The buckets of histograms that are not Axon's, in seconds: without any, they would be summaries,
/// which cannot be added up over processes.
const SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];

/// How long a series is shown that nobody answers for: one of an agent that was removed. Those of the
/// others are touched every few seconds.
const IDLE: Duration = Duration::from_secs(60 * 60);

/// How often is gathered what the histograms were told.
const UPKEEP: Duration = Duration::from_secs(5);

/// Returns what Axon's metrics want of a Prometheus recorder: the buckets of its histograms, and that
/// what is shown of removed agents goes after an hour. Add what is yours, and install it before the
/// runtime starts.
///
/// # Errors
///
/// [`BuildError`], which these settings never give.
pub fn prometheus() -> Result<PrometheusBuilder, BuildError> {
    let mut builder = PrometheusBuilder::new()
        .set_buckets(&SECONDS)?
        .idle_timeout(MetricKindMask::ALL, Some(IDLE));
    for metric in ALL {
        if let MetricKind::Histogram(buckets) = metric.kind {
            builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.into()), buckets)?;
        }
    }
    Ok(builder)
}

/// Writes the metrics as Prometheus reads them. Sums that are no whole numbers, which the `metrics`
/// facade can carry as gauges only, are called what they are: counters.
#[must_use]
pub fn render(recorder: &PrometheusHandle) -> String {
    let sums = ALL.iter().filter(|metric| metric.kind == MetricKind::Sum);
    sums.fold(recorder.render(), |text, metric| {
        let line = |kind: &str| format!("# TYPE {} {kind}\n", metric.name);
        text.replacen(&line("gauge"), &line("counter"), 1)
    })
}

/// Gathers for ever what the histograms were told: that grows until it is gathered, and perhaps nobody
/// ever scrapes.
pub async fn upkeep(recorder: PrometheusHandle) {
    let mut due = tokio::time::interval(UPKEEP);
    loop {
        due.tick().await;
        recorder.run_upkeep();
    }
}

/// Makes Prometheus's recorder the one of the process, and returns what writes its metrics: for
/// [`ServerBuilder::metrics`](crate::ServerBuilder::metrics). A service that has a recorder of its own
/// takes the settings of [`prometheus`] for it, keeps it with [`upkeep`], and gives what [`render`]
/// writes.
///
/// # Errors
///
/// [`BuildError`] if the process has a recorder already.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn install_recorder() -> Result<impl Fn() -> String + Send + Sync + 'static, BuildError> {
    let recorder = prometheus()?.install_recorder()?;
    tokio::spawn(upkeep(recorder.clone()));
    Ok(move || render(&recorder))
}

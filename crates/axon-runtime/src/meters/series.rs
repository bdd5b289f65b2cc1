//! The series that somebody answers for: registered once, and kept from being forgotten.
//!
//! A recorder may drop what was not updated for long, so that what belongs to agents that are gone
//! goes. A count must not go that way while its agent lives: it would begin at nothing, and the next
//! increase would not be seen. So all of them are touched from time to time ([`Series::keep`]).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axon_kernel::metric::Metric;
use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata};

const METADATA: Metadata<'static> =
    Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Labels of a series, as they are at hand.
pub(super) type Labels<'a> = [(&'static str, &'a str)];

/// Counters and gauges that are kept.
#[derive(Default)]
pub(super) struct Series {
    counters: Mutex<HashMap<Key, Counter>>,
    gauges: Mutex<HashMap<Key, Gauge>>,
}

impl Series {
    pub(super) fn counter(&self, metric: &Metric, labels: &Labels<'_>) -> Counter {
        let key = key(metric, labels);
        let mut counters = locked(&self.counters);
        if let Some(counter) = counters.get(&key) {
            return counter.clone();
        }
        let counter = metrics::with_recorder(|recorder| recorder.register_counter(&key, &METADATA));
        counters.insert(key, counter.clone());
        counter
    }

    pub(super) fn gauge(&self, metric: &Metric, labels: &Labels<'_>) -> Gauge {
        let key = key(metric, labels);
        let mut gauges = locked(&self.gauges);
        if let Some(gauge) = gauges.get(&key) {
            return gauge.clone();
        }
        let gauge = metrics::with_recorder(|recorder| recorder.register_gauge(&key, &METADATA));
        gauges.insert(key, gauge.clone());
        gauge
    }

    /// Touches every series.
    pub(super) fn keep(&self) {
        for counter in locked(&self.counters).values() {
            counter.increment(0);
        }
        for gauge in locked(&self.gauges).values() {
            gauge.increment(0.0);
        }
    }
}

/// Returns a histogram, which nobody may hold: there is no way to touch it, so it is registered anew
/// where it was forgotten.
pub(super) fn histogram(metric: &Metric, labels: &Labels<'_>) -> Histogram {
    let key = key(metric, labels);
    metrics::with_recorder(|recorder| recorder.register_histogram(&key, &METADATA))
}

fn key(metric: &Metric, labels: &Labels<'_>) -> Key {
    debug_assert!(
        labels.iter().map(|(name, _)| name).eq(metric.labels),
        "`{}` has other labels",
        metric.name
    );
    let labels = labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned()));
    Key::from_parts(metric.name, labels.collect::<Vec<_>>())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Series").finish_non_exhaustive()
    }
}

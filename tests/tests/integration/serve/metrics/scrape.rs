//! One look at `/metrics`, read.

use std::collections::{BTreeMap, BTreeSet};

use super::super::service::Service;
use crate::support::until;

/// What was shown at one moment.
#[derive(Debug)]
pub(super) struct Scrape {
    text: String,
    values: BTreeMap<String, f64>,
}

impl Scrape {
    pub(super) async fn of(service: &Service) -> Self {
        Self::read(service.get("/metrics").send().await.unwrap().text().await.unwrap())
    }

    pub(super) fn read(text: String) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let values = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            (series.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
        });
        Self { values: values.collect(), text }
    }

    /// Waits until it shows what `wanted` says, and returns that moment.
    pub(super) async fn until(service: &Service, what: &str, wanted: &str, value: f64) -> Self {
        until(what, async || Self::of(service).await.get(wanted) == Some(value)).await;
        Self::of(service).await
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the value of a series, as it is written.
    pub(super) fn get(&self, series: &str) -> Option<f64> {
        self.values.get(series).copied()
    }

    /// Returns the value of a series that is there.
    pub(super) fn value(&self, series: &str) -> f64 {
        let metric = series.split('{').next().unwrap_or_default();
        let near = || self.series(metric).collect::<Vec<_>>().join("\n");
        self.get(series).unwrap_or_else(|| panic!("no {series}; there is\n{}", near()))
    }

    /// Returns the series whose names begin with `start`.
    pub(super) fn series<'a>(&'a self, start: &'a str) -> impl Iterator<Item = &'a str> {
        self.values.keys().map(String::as_str).filter(move |series| series.starts_with(start))
    }

    /// Returns how many series there are.
    pub(super) fn count(&self) -> usize {
        self.values.len()
    }

    /// Returns the metrics, each with its type, as the text says it.
    pub(super) fn types(&self) -> BTreeMap<&str, &str> {
        let types = self.text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        types.filter_map(|line| line.split_once(' ')).collect()
    }

    /// Returns the values that a label has.
    pub(super) fn labels(&self, metric: &str, label: &str) -> BTreeSet<&str> {
        let start = format!("{label}=\"");
        let value = |series: &'_ str| -> Option<(usize, usize)> {
            let from = series.find(&start)? + start.len();
            Some((from, from + series[from..].find('"')?))
        };
        let found = self.values.keys().filter(|series| series.starts_with(metric));
        found.filter_map(|series| value(series).map(|(from, to)| &series[from..to])).collect()
    }
}

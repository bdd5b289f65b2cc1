//! The figures that the rounds come to, with what is aimed at.

use std::time::Duration;

use crate::round::{Pair, Round, Sample, Workload};

/// Added latency, in milliseconds.
const AIM_ADDED: f64 = 1.0;
/// CPU per run, as a multiple of what bare pydantic-ai takes.
const AIM_RATIO: f64 = 0.8;
/// Throughput of two runners, as a multiple of one bare process's.
const AIM_REPLICAS: f64 = 1.7;
/// Rust's CPU per streamed event, in microseconds.
const AIM_PER_EVENT: f64 = 20.0;

/// All rows of the table.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) rows: Vec<Row>,
    pub(crate) rounds: usize,
}

/// One figure of both sides.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) bare: Option<f64>,
    pub(crate) axon: f64,
    pub(crate) compared: Compared,
    /// What is aimed at, of what is compared.
    pub(crate) aim: Option<Aim>,
}

/// What is aimed at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    /// No more than this.
    Most(f64),
    /// No less than this.
    Least(f64),
}

/// How Axon's side is compared.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Compared {
    /// What Axon adds, in the row's unit.
    Added(Spread),
    /// Axon's as a multiple of bare's.
    Ratio(Spread),
    /// By itself.
    Alone(Spread),
}

/// The median over the rounds, and the extremes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// Computes that of one value for each round.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
        Self {
            median: f64::midpoint(at(low), at(high)),
            least: at(0),
            most: at(values.len().saturating_sub(1)),
        }
    }
}

impl Row {
    /// Whether the aim is reached, where there is one.
    pub(crate) fn reached(&self) -> Option<bool> {
        let (Compared::Added(found) | Compared::Ratio(found) | Compared::Alone(found)) =
            self.compared;
        self.aim.map(|aim| match aim {
            Aim::Most(most) => found.median <= most,
            Aim::Least(least) => found.median >= least,
        })
    }
}

impl Figures {
    /// Computes those of these workloads.
    pub(crate) fn of(rounds: &[Round], workloads: &[Workload]) -> Self {
        let rows =
            workloads.iter().flat_map(|workload| Over { rounds, workload: *workload }.rows());
        Self { rows: rows.collect(), rounds: rounds.len() }
    }
}

/// One workload over all rounds.
#[derive(Clone, Copy)]
struct Over<'a> {
    rounds: &'a [Round],
    workload: Workload,
}

impl Over<'_> {
    fn rows(self) -> Vec<Row> {
        match self.workload {
            Workload::Whole => vec![
                self.latency("unstreamed: latency p50", 0.5, Some(AIM_ADDED)),
                self.latency("unstreamed: latency p99", 0.99, None),
            ],
            Workload::Streamed => vec![
                self.latency("streamed: latency p50", 0.5, Some(AIM_ADDED)),
                self.latency("streamed: latency p99", 0.99, None),
            ],
            Workload::Paced => vec![
                self.first("streamed, paced model: first token p50"),
                self.rust_per_event("  Rust per event"),
            ],
            Workload::WholeCrowd => vec![
                self.cpu("unstreamed, 32 at once: CPU per run", Some(AIM_RATIO)),
                self.python("  of it Python"),
                self.rust("  of it Rust"),
                self.throughput("unstreamed, 32 at once: throughput", None),
                self.latency("unstreamed, 32 at once: latency p99", 0.99, None),
                self.latency("unstreamed, 32 at once: longest run", 1.0, None),
            ],
            Workload::StreamedCrowd => vec![
                self.cpu("streamed, 32 at once: CPU per run", Some(AIM_RATIO)),
                self.python("  of it Python"),
                self.rust("  of it Rust"),
                self.rust_per_event("  Rust per event"),
                self.throughput("streamed, 32 at once: throughput", None),
                self.latency("streamed, 32 at once: latency p99", 0.99, None),
                self.pause("streamed, 32 at once: pause p99", 0.99),
                self.pause("streamed, 32 at once: worst pause", 1.0),
            ],
            Workload::Replicas => vec![
                self.throughput("2 replicas, 32 at once: throughput", Some(AIM_REPLICAS)),
                self.cpu("  CPU per run", None),
                self.rust("  of it Rust"),
                self.model("  the scripted model's CPU beside it"),
                self.latency("2 replicas, 32 at once: latency p99", 0.99, None),
            ],
        }
    }

    fn latency(self, what: &'static str, quantile: f64, aim: Option<f64>) -> Row {
        self.times(what, |sample| &sample.latencies, quantile, aim)
    }

    fn first(self, what: &'static str) -> Row {
        self.times(what, |sample| &sample.firsts, 0.5, Some(AIM_ADDED))
    }

    fn pause(self, what: &'static str, quantile: f64) -> Row {
        self.times(what, |sample| &sample.pauses, quantile, None)
    }

    fn times(
        self,
        what: &'static str,
        of: impl Fn(&Sample) -> &Vec<Duration>,
        at: f64,
        aim: Option<f64>,
    ) -> Row {
        let all = |side: fn(&Pair) -> &Sample| {
            let times = self.pairs().flat_map(|pair| of(side(pair)).iter().copied());
            quantile(times.collect(), at)
        };
        let added = self.spread(|pair| {
            quantile(of(&pair.axon).clone(), at) - quantile(of(&pair.bare).clone(), at)
        });
        Row {
            what,
            unit: "ms",
            bare: Some(all(|pair| &pair.bare)),
            axon: all(|pair| &pair.axon),
            compared: Compared::Added(added),
            aim: aim.map(Aim::Most),
        }
    }

    fn cpu(self, what: &'static str, aim: Option<f64>) -> Row {
        self.ratio(what, "ms", |sample| per_run(sample, sample.python + sample.rust), aim)
    }

    fn python(self, what: &'static str) -> Row {
        self.ratio(what, "ms", |sample| per_run(sample, sample.python), None)
    }

    fn model(self, what: &'static str) -> Row {
        self.ratio(what, "ms", |sample| per_run(sample, sample.model), None)
    }

    fn throughput(self, what: &'static str, least: Option<f64>) -> Row {
        let row = self.ratio(what, "/s", |sample| 1e3 / per_run(sample, sample.wall), None);
        Row { aim: least.map(Aim::Least), ..row }
    }

    fn rust(self, what: &'static str) -> Row {
        self.alone(what, "ms", |sample| per_run(sample, sample.rust), None)
    }

    fn rust_per_event(self, what: &'static str) -> Row {
        let per_event =
            |sample: &Sample| sample.rust.as_secs_f64() * 1e6 / sample.events.max(1) as f64;
        self.alone(what, "µs", per_event, Some(AIM_PER_EVENT))
    }

    fn ratio(
        self,
        what: &'static str,
        unit: &'static str,
        of: impl Fn(&Sample) -> f64,
        aim: Option<f64>,
    ) -> Row {
        Row {
            what,
            unit,
            bare: Some(self.spread(|pair| of(&pair.bare)).median),
            axon: self.spread(|pair| of(&pair.axon)).median,
            compared: Compared::Ratio(self.spread(|pair| of(&pair.axon) / of(&pair.bare))),
            aim: aim.map(Aim::Most),
        }
    }

    fn alone(
        self,
        what: &'static str,
        unit: &'static str,
        of: impl Fn(&Sample) -> f64,
        aim: Option<f64>,
    ) -> Row {
        let found = self.spread(|pair| of(&pair.axon));
        let (axon, compared, aim) = (found.median, Compared::Alone(found), aim.map(Aim::Most));
        Row { what, unit, bare: None, axon, compared, aim }
    }

    fn pairs(&self) -> impl Iterator<Item = &Pair> {
        self.rounds.iter().map(|round| round.get(self.workload))
    }

    fn spread(&self, of: impl Fn(&Pair) -> f64) -> Spread {
        Spread::of(self.pairs().map(of).collect())
    }
}

/// Returns milliseconds per run.
pub(crate) fn per_run(sample: &Sample, total: Duration) -> f64 {
    total.as_secs_f64() * 1e3 / sample.latencies.len().max(1) as f64
}

/// Returns the time, in milliseconds, that this share of `times` does not exceed.
pub(crate) fn quantile(mut times: Vec<Duration>, at: f64) -> f64 {
    times.sort();
    let rank = (times.len() as f64 * at).ceil().max(1.0) as usize;
    times.get(rank - 1).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

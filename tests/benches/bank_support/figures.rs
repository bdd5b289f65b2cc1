//! The figures that the rounds come to, with what is aimed at.

use std::time::Duration;

use crate::round::{Pair, Round, Sample, Workload};

/// Added latency, in milliseconds.
const AIM_ADDED: f64 = 1.0;
/// CPU per run, as a multiple of what bare pydantic-ai takes.
const AIM_RATIO: f64 = 1.15;
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
    /// The most that is aimed at, of what is compared.
    pub(crate) aim: Option<f64>,
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

impl Row {
    /// Whether the aim is reached, where there is one.
    pub(crate) fn reached(&self) -> Option<bool> {
        let (Compared::Added(found) | Compared::Ratio(found) | Compared::Alone(found)) =
            self.compared;
        self.aim.map(|aim| found.median <= aim)
    }
}

impl Figures {
    /// Computes them.
    pub(crate) fn of(rounds: &[Round]) -> Self {
        use Workload::{Paced, Streamed, StreamedCrowd, Whole, WholeCrowd};
        let whole = Over { rounds, workload: Whole };
        let streamed = Over { rounds, workload: Streamed };
        let paced = Over { rounds, workload: Paced };
        let whole_crowd = Over { rounds, workload: WholeCrowd };
        let streamed_crowd = Over { rounds, workload: StreamedCrowd };
        let rows = vec![
            whole.latency("unstreamed: latency p50", 0.5, Some(AIM_ADDED)),
            whole.latency("unstreamed: latency p99", 0.99, None),
            whole_crowd.cpu("unstreamed, 32 at once: CPU per run", Some(AIM_RATIO)),
            whole_crowd.python("  of it Python"),
            whole_crowd.rust("  of it Rust"),
            whole_crowd.throughput("unstreamed, 32 at once: throughput"),
            streamed.latency("streamed: latency p50", 0.5, Some(AIM_ADDED)),
            streamed.latency("streamed: latency p99", 0.99, None),
            streamed_crowd.cpu("streamed, 32 at once: CPU per run", Some(AIM_RATIO)),
            streamed_crowd.python("  of it Python"),
            streamed_crowd.rust("  of it Rust"),
            streamed_crowd.rust_per_event("  Rust per event"),
            streamed_crowd.throughput("streamed, 32 at once: throughput"),
            paced.first("streamed, paced model: first token p50"),
            paced.rust_per_event("  Rust per event"),
        ];
        Self { rows, rounds: rounds.len() }
    }
}

/// One workload over all rounds.
#[derive(Clone, Copy)]
struct Over<'a> {
    rounds: &'a [Round],
    workload: Workload,
}

impl Over<'_> {
    fn latency(self, what: &'static str, quantile: f64, aim: Option<f64>) -> Row {
        self.times(what, |sample| &sample.latencies, quantile, aim)
    }

    fn first(self, what: &'static str) -> Row {
        self.times(what, |sample| &sample.firsts, 0.5, Some(AIM_ADDED))
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
            aim,
        }
    }

    fn cpu(self, what: &'static str, aim: Option<f64>) -> Row {
        self.ratio(what, "ms", |sample| per_run(sample, sample.python + sample.rust), aim)
    }

    fn python(self, what: &'static str) -> Row {
        self.ratio(what, "ms", |sample| per_run(sample, sample.python), None)
    }

    fn throughput(self, what: &'static str) -> Row {
        self.ratio(what, "/s", |sample| 1e3 / per_run(sample, sample.wall), None)
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
            aim,
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
        Row { what, unit, bare: None, axon: found.median, compared: Compared::Alone(found), aim }
    }

    fn pairs(&self) -> impl Iterator<Item = &Pair> {
        self.rounds.iter().map(|round| round.get(self.workload))
    }

    fn spread(&self, of: impl Fn(&Pair) -> f64) -> Spread {
        let mut values: Vec<f64> = self.pairs().map(of).collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
        Spread {
            median: f64::midpoint(at(low), at(high)),
            least: at(0),
            most: at(values.len().saturating_sub(1)),
        }
    }
}

/// Returns milliseconds per run.
fn per_run(sample: &Sample, total: Duration) -> f64 {
    total.as_secs_f64() * 1e3 / sample.latencies.len().max(1) as f64
}

/// Returns the time, in milliseconds, that this share of `times` does not exceed.
fn quantile(mut times: Vec<Duration>, at: f64) -> f64 {
    times.sort();
    let rank = (times.len() as f64 * at).ceil().max(1.0) as usize;
    times.get(rank - 1).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

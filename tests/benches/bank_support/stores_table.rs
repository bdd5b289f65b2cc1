//! What the stores cost, as a table.

use std::io::Write;

use crate::figures::{Spread, per_run, quantile};
use crate::round::Sample;
use crate::stores::{Compared, Measured, Taken, WORKLOADS};

/// What a durable store may take, as a multiple of what the one in memory does.
const AIM: f64 = 1.15;

/// How one figure comes from what was taken.
type Figure = fn(&Taken) -> f64;

/// The figures of a workload: its name, the unit, and whether a limit is aimed at.
const FIGURES: [(&str, &str, Figure, bool); 6] = [
    ("latency p50", "ms", |taken| latency(&taken.sample, 0.5), true),
    ("latency p99", "ms", |taken| latency(&taken.sample, 0.99), false),
    (
        "CPU per run",
        "ms",
        |taken| per_run(&taken.sample, taken.sample.python + taken.sample.rust),
        true,
    ),
    ("  of it Rust", "ms", |taken| per_run(&taken.sample, taken.sample.rust), false),
    ("  the server's CPU beside it", "ms", |taken| per_run(&taken.sample, taken.server), false),
    ("throughput", "/s", |taken| 1e3 / per_run(&taken.sample, taken.sample.wall), false),
];

/// Prints what each store took beside the one in memory.
pub(crate) fn print(compared: &Compared) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let Some((memory, others)) = compared.stores.split_first() else { return Ok(()) };
    writeln!(out, "\nstores, {} rounds\n", memory.rounds.len())?;
    writeln!(out, "{:<52} {:>11}   beside memory (over the rounds)", "", "")?;
    for (place, workload) in WORKLOADS.into_iter().enumerate() {
        let job = workload.job();
        for (what, unit, figure, aimed) in FIGURES {
            for store in &compared.stores {
                let value = spread(store, |rounds| figure(&rounds[place])).median;
                // Alone, a run waits for the disk and nothing else is done meanwhile.
                let aimed = aimed && job.concurrency > 1;
                let ratio = others.iter().any(|other| other.name == store.name).then(|| {
                    let found = ratio(memory, store, |rounds| figure(&rounds[place]));
                    beside(found, aimed && store.name == "SQLite")
                });
                if value == 0.0 {
                    continue;
                }
                let title = format!("{} at once: {what}, {}", job.concurrency, store.name);
                let shown = format!("{value:.2} {unit}");
                writeln!(out, "{title:<52} {shown:>11}   {}", ratio.unwrap_or_default())?;
            }
        }
    }
    for store in &compared.stores {
        let Measured { name, appends_per_run, events_per_run, bytes_per_run, .. } = store;
        let bytes = bytes_per_run.map_or_else(String::new, |bytes| format!(", {bytes:.0} bytes"));
        writeln!(
            out,
            "{name}: {appends_per_run:.1} appends per run with {events_per_run:.1} events{bytes}"
        )?;
    }
    writeln!(out, "\n{}", compared.noise)
}

fn beside(found: Spread, aimed: bool) -> String {
    let Spread { median, least, most } = found;
    if !median.is_finite() {
        return String::new();
    }
    let ratio = format!("{median:.2} ({least:.2} … {most:.2}) ×");
    if !aimed {
        return ratio;
    }
    let verdict = if median <= AIM { "ok" } else { "missed" };
    format!("{ratio:<28} ≤ {AIM} × {verdict}")
}

fn latency(sample: &Sample, at: f64) -> f64 {
    quantile(sample.latencies.clone(), at)
}

fn spread(store: &Measured, of: impl Fn(&[Taken]) -> f64) -> Spread {
    Spread::of(store.rounds.iter().map(|round| of(round)).collect())
}

fn ratio(memory: &Measured, store: &Measured, of: impl Fn(&[Taken]) -> f64) -> Spread {
    let pairs = store.rounds.iter().zip(&memory.rounds);
    Spread::of(pairs.map(|(store, memory)| of(store) / of(memory)).collect())
}

//! The table on standard output.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crate::fleet::Memory;
use crate::shared::cpu::Noise;
use crate::trial::{Measured, Trial};

/// From start to ready, forked, in milliseconds.
const AIM_READY: f64 = 40.0;
/// From the kill to the next answer, in milliseconds.
const AIM_KILLED: f64 = 100.0;
/// Until the largest fleet is ready, in milliseconds.
const AIM_FLEET: f64 = 3000.0;
/// An idle agent, in megabytes.
const AIM_MEMORY: f64 = 25.0;

/// One figure of both sides.
struct Row {
    what: String,
    unit: &'static str,
    forked: f64,
    cold: Option<f64>,
    /// The most that is aimed at, of forked runners.
    aim: Option<f64>,
}

/// Reads a figure of one side.
type Figure<'a> = &'a dyn Fn(&Trial) -> f64;

/// Both sides.
struct Sides<'a> {
    forked: &'a Trial,
    cold: Option<&'a Trial>,
}

impl Sides<'_> {
    fn times(&self, what: &str, of: fn(&Trial) -> &Vec<Duration>, aim: f64) -> [Row; 2] {
        [(0.5, "p50", Some(aim)), (0.99, "p99", None)].map(|(at, name, aim)| {
            self.row((format!("{what} {name}"), "ms"), &|trial| quantile(of(trial), at), aim)
        })
    }

    fn row(&self, (what, unit): (String, &'static str), of: Figure<'_>, aim: Option<f64>) -> Row {
        let aim = aim.filter(|aim| aim.is_finite());
        Row { what, unit, forked: of(self.forked), cold: self.cold.map(of), aim }
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        rows.extend(self.times("started: ready", |trial| &trial.ready, AIM_READY));
        rows.extend(self.times("started: first answer", |trial| &trial.answered, f64::INFINITY));
        rows.extend(self.times("killed: next answer", |trial| &trial.killed, AIM_KILLED));
        let last = self.forked.fleets.len().saturating_sub(1);
        for (index, Measured { agents, .. }) in self.forked.fleets.iter().enumerate() {
            let what = match agents {
                1 => "first of a runtime: ready".to_owned(),
                _ => format!("{agents} at once: all ready"),
            };
            let aim = (index == last).then_some(AIM_FLEET);
            rows.push(self.row((what, "ms"), &|trial| ms(trial.fleets[index].ready), aim));
        }
        for (index, Measured { agents, .. }) in self.forked.fleets.iter().enumerate() {
            type Held = fn(&Measured) -> Memory;
            let idle: Held = |fleet| fleet.idle;
            let after: Held = |fleet| fleet.after_run;
            for (when, of, aim) in [("idle", idle, Some(AIM_MEMORY)), ("after a run", after, None)]
            {
                let what = format!("memory of {agents}, {when}: each runner");
                let each = |trial: &Trial| megabytes(of(&trial.fleets[index]).per_runner);
                rows.push(self.row((what, "MB"), &each, aim));
            }
            let launcher = |trial: &Trial| megabytes(trial.fleets[index].after_run.launcher);
            rows.push(self.row(("  the launcher, once".to_owned(), "MB"), &launcher, None));
        }
        rows
    }
}

/// Prints every figure beside its aim, and what else the machine did meanwhile.
pub(crate) fn print(
    forked: &Trial,
    cold: Option<&Trial>,
    noise: &Noise,
    python: &Path,
) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let cold_rounds = cold.map_or(0, |trial| trial.ready.len());
    writeln!(
        out,
        "start_up, {} rounds forked, {cold_rounds} cold, {}\n",
        forked.ready.len(),
        python.display()
    )?;
    writeln!(out, "{:<40} {:>11} {:>11}   aim", "", "cold", "forked")?;
    for row in (Sides { forked, cold }).rows() {
        writeln!(out, "{}", line(&row).trim_end())?;
    }
    writeln!(out, "\n{noise}")
}

fn line(row: &Row) -> String {
    let unit = row.unit;
    let shown = |value: f64| format!("{value:.1} {unit}");
    let aim = row.aim.map(|aim| {
        let verdict = if row.forked <= aim { "ok" } else { "missed" };
        format!("≤ {aim} {unit} {verdict}")
    });
    format!(
        "{:<40} {:>11} {:>11}   {}",
        row.what,
        row.cold.map(shown).unwrap_or_default(),
        shown(row.forked),
        aim.unwrap_or_default()
    )
}

/// Returns the time, in milliseconds, that this share of `times` does not exceed.
fn quantile(times: &[Duration], at: f64) -> f64 {
    let mut times = times.to_vec();
    times.sort();
    let rank = (times.len() as f64 * at).ceil().max(1.0) as usize;
    times.get(rank - 1).copied().map_or(f64::NAN, ms)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

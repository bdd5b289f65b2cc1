//! The table on standard output.

use std::io::Write;
use std::path::Path;

use crate::cpu::Noise;
use crate::figures::{Compared, Figures, Row, Spread};

/// Prints every figure beside its aim, and what else the machine did meanwhile.
pub(crate) fn print(figures: &Figures, noise: &Noise, python: &Path) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "bank_support, {} rounds, {}\n", figures.rounds, python.display())?;
    writeln!(
        out,
        "{:<40} {:>11} {:>11}   {:<34} aim",
        "", "bare", "Axon", "Axon beside bare (over the rounds)"
    )?;
    for row in &figures.rows {
        writeln!(out, "{}", line(row).trim_end())?;
    }
    writeln!(
        out,
        "\nOther processes kept {:.2} of {} cores busy during these {:.0} s.",
        noise.cores,
        noise.of,
        noise.wall.as_secs_f64()
    )
}

fn line(row: &Row) -> String {
    let unit = row.unit;
    let shown = |value: f64| format!("{value:.2} {unit}");
    let bare = row.bare.map_or_else(String::new, shown);
    let (compared, aim) = match row.compared {
        Compared::Added(found) => (
            format!("{:+.2} {unit} ({:+.2} … {:+.2})", found.median, found.least, found.most),
            row.aim.map(|aim| format!("≤ {aim:+} {unit}")),
        ),
        Compared::Ratio(found) => {
            (format!("{} ×", spread(found)), row.aim.map(|aim| format!("≤ {aim} ×")))
        }
        Compared::Alone(found) => {
            (format!("{} {unit}", spread(found)), row.aim.map(|aim| format!("≤ {aim} {unit}")))
        }
    };
    let verdict = match row.reached() {
        None => "",
        Some(true) => "ok",
        Some(false) => "missed",
    };
    let aim = aim.unwrap_or_default();
    format!(
        "{:<40} {bare:>11} {:>11}   {compared:<34} {aim:<9} {verdict}",
        row.what,
        shown(row.axon)
    )
}

fn spread(found: Spread) -> String {
    format!("{:.2} ({:.2} … {:.2})", found.median, found.least, found.most)
}

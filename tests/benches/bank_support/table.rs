//! The table on standard output.

use std::io::Write;
use std::path::Path;

use crate::figures::{Aim, Compared, Figures, Row, Spread};
use crate::shared::cpu::Noise;

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
    writeln!(out, "\n{noise}")
}

fn line(row: &Row) -> String {
    let unit = row.unit;
    let shown = |value: f64| format!("{value:.2} {unit}");
    let bare = row.bare.map_or_else(String::new, shown);
    let (compared, sign, of) = match row.compared {
        Compared::Added(found) => {
            let spread = format!("({:+.2} … {:+.2})", found.least, found.most);
            (format!("{:+.2} {unit} {spread}", found.median), "+", unit)
        }
        Compared::Ratio(found) => (format!("{} ×", spread(found)), "", "×"),
        Compared::Alone(found) => (format!("{} {unit}", spread(found)), "", unit),
    };
    let aim = row.aim.map(|aim| match aim {
        Aim::Most(most) => format!("≤ {sign}{most} {of}"),
        Aim::Least(least) => format!("≥ {sign}{least} {of}"),
    });
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

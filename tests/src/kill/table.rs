//! The matrix as a table.

use std::fmt;

use clap::ValueEnum;

use super::cell::{Boundary, Cell, Class, Fault, Shape, When, label};
use super::judge::Verdict;
use super::lane::Report;
use super::plan::Figures;

/// The matrix as a table in Markdown: a row for each side of a boundary and each effect, a column
/// for each fault, and in each field a sign for each kind of run.
#[derive(Debug)]
pub struct Table<'a>(
    /// What came out.
    pub &'a [Report],
);

impl Table<'_> {
    fn sign(&self, cell: &Cell) -> char {
        if !cell.means_something() {
            return '-';
        }
        match self.0.iter().find(|report| report.cell == *cell).map(|report| &report.verdict) {
            None => '.',
            Some(Verdict::Done) => '✓',
            Some(Verdict::Ambiguous) => '?',
            Some(Verdict::Refused) => 'r',
            Some(Verdict::Violated(_)) => '!',
        }
    }

    fn field(&self, (boundary, when, class): (Boundary, When, Class), fault: Fault) -> String {
        let cell = |shape| Cell { boundary, when, class, fault, shape };
        let signs = Shape::value_variants().iter().map(|shape| self.sign(&cell(*shape)));
        signs.map(String::from).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = Fault::value_variants();
        let names: Vec<String> =
            faults.iter().map(|fault| format!("{:<7}", name(*fault))).collect();
        writeln!(f, "| boundary          | effect     | {} |", names.join(" | "))?;
        let lines: Vec<&str> = faults.iter().map(|_| "-------").collect();
        writeln!(f, "|-------------------|------------|-{}-|", lines.join("-|-"))?;
        let mut rows: Vec<_> = Cell::all().iter().map(Cell::row).collect();
        rows.dedup();
        for row in rows {
            if !self.0.iter().any(|report| report.cell.row() == row) {
                continue;
            }
            let fields: Vec<String> = faults.iter().map(|fault| self.field(row, *fault)).collect();
            let side = format!("{} {}", label(row.1), label(row.0));
            writeln!(f, "| {side:<17} | {:<10} | {} |", label(row.2), fields.join(" | "))?;
        }
        let Figures { done, ambiguous, refused, violated } = Figures::of(self.0);
        writeln!(
            f,
            "\n{} cells: {done} done, {ambiguous} ambiguous, {refused} refused, {violated} violated.",
            self.0.len()
        )
    }
}

fn name(fault: Fault) -> &'static str {
    match fault {
        Fault::Abort => "abort",
        Fault::Runner => "runner",
        Fault::Launcher => "laun.",
        Fault::Full => "ENOSPC",
        Fault::Sync => "EIO",
    }
}

//! The kill matrix: every fault at every boundary of every kind of run.
//!
//! ```text
//! cargo bench -p axon-tests --bench kill_matrix
//! cargo bench -p axon-tests --bench kill_matrix -- --quick
//! cargo bench -p axon-tests --bench kill_matrix -- --shape batch --fault abort --effect once
//! cargo bench -p axon-tests --bench kill_matrix -- --write
//! ```
//!
//! Printed is a table of what came out of each cell, and what was broken, which fails the bench. The
//! whole matrix is published as `tests/kill-matrix.md`, which says how to read it; `--write` writes
//! its table anew.

#[path = "shared/mod.rs"]
#[expect(dead_code, reason = "other benches use more of it")]
mod shared;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use axon_tests::kill::{Cell, Choice, Plan, Program, Report, Table, Verdict, carry_out, smallest};
use clap::Parser;
use shared::{repository, say};
use tokio::time::Instant;

/// The page that the table is published on, and between which lines.
const PAGE: &str = "tests/kill-matrix.md";
const BEGIN: &str = "<!-- table -->\n";
const END: &str = "<!-- end of table -->\n";

/// What the bench is asked for.
#[derive(Clone, Debug, Parser)]
#[command(about = "Every fault at every boundary of every kind of run")]
struct Options {
    #[command(flatten)]
    choice: Choice,
    /// Only the cells that every change is tested with.
    #[arg(long)]
    quick: bool,
    /// Write the table into its page.
    #[arg(long)]
    write: bool,
    /// How many cells are under way at the same time; as many as there are cores by default.
    #[arg(long)]
    lanes: Option<usize>,
    /// How often each cell is carried out.
    #[arg(long, default_value_t = 1)]
    times: usize,
}

fn main() -> ExitCode {
    shared::run("kill_matrix", matrix)
}

async fn matrix(options: Options) -> anyhow::Result<()> {
    let cells = if options.quick { smallest() } else { Cell::all() };
    let cells: Vec<Cell> = cells.into_iter().filter(|cell| options.choice.has(cell)).collect();
    let program = Program::new(env!("CARGO_BIN_EXE_axon-cell"));
    let lanes = match options.lanes {
        Some(lanes) => lanes,
        None => std::thread::available_parallelism()?.get(),
    };
    let count = cells.len() * options.times;
    let plan = Plan { cells: cells.repeat(options.times), lanes, program };
    let (began, mut number) = (Instant::now(), 0);
    let mut reports = carry_out(plan, |report| {
        number += 1;
        progress(number, count, report);
    })
    .await?;
    // Of several times, the worst one is shown.
    reports.sort_by_key(|report| report.verdict.is_good());
    let violated = reports.iter().filter(|report| !report.verdict.is_good()).count();
    let table = Table(&reports).to_string();
    writeln!(std::io::stdout(), "{table}\nin {:.0} s", began.elapsed().as_secs_f64())?;
    if options.write {
        publish(&table)?;
    }
    anyhow::ensure!(violated == 0, "{violated} cells broke a promise");
    Ok(())
}

fn progress(number: usize, count: usize, report: &Report) {
    let Report { cell, verdict, took } = report;
    let seconds = took.as_secs_f64();
    let (name, more) = match verdict {
        Verdict::Done => ("done", String::new()),
        Verdict::Ambiguous => ("ambiguous", String::new()),
        Verdict::Refused => ("refused", String::new()),
        Verdict::Violated(broken) => ("VIOLATED", format!("\n  {}", broken.join("\n  "))),
    };
    say(&format!("{number}/{count} {seconds:.1} s  {name:<9} {cell}{more}"));
}

fn publish(table: &str) -> anyhow::Result<()> {
    let page = repository().join(PAGE);
    let text = std::fs::read_to_string(&page)?;
    let (before, rest) = text.split_once(BEGIN).context("the page has no place for the table")?;
    let (_old, after) = rest.split_once(END).context("the page has no end of the table")?;
    Ok(std::fs::write(page, format!("{before}{BEGIN}\n{table}\n{END}{after}"))?)
}

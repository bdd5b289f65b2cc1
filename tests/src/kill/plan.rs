//! Which cells are carried out, and by how many lanes.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::cell::{Boundary, Cell, Class, Fault, Shape, When};
use super::judge::Verdict;
use super::lane::{Lane, Report};
use super::process::Program;

/// How many cells the smallest selection has at most.
const SMALLEST: usize = 25;

/// How much more a side of a boundary counts that no chosen cell is at, beside any other pair.
const SIDE: usize = 100;

/// Reports that wait to be read, at most: each lane has one.
const REPORTS: usize = 64;

/// Which cells; nothing chosen means all.
#[derive(Clone, Debug, Default, Args)]
pub struct Choice {
    /// Only these boundaries.
    #[arg(long, value_enum)]
    pub boundary: Vec<Boundary>,
    /// Only this side of them.
    #[arg(long, value_enum)]
    pub when: Vec<When>,
    /// Only tools of these effects.
    #[arg(long, value_enum)]
    pub effect: Vec<Class>,
    /// Only these faults.
    #[arg(long, value_enum)]
    pub fault: Vec<Fault>,
    /// Only these kinds of runs.
    #[arg(long, value_enum)]
    pub shape: Vec<Shape>,
}

impl Choice {
    /// Returns whether a cell is among them.
    #[must_use]
    pub fn has(&self, cell: &Cell) -> bool {
        fn among<T: PartialEq>(chosen: &[T], one: &T) -> bool {
            chosen.is_empty() || chosen.contains(one)
        }
        among(&self.boundary, &cell.boundary)
            && among(&self.when, &cell.when)
            && among(&self.effect, &cell.class)
            && among(&self.fault, &cell.fault)
            && among(&self.shape, &cell.shape)
    }
}

/// Which cells are carried out, and by how many lanes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The cells, in order.
    pub cells: Vec<Cell>,
    /// How many are under way at the same time.
    pub lanes: usize,
    /// The host program.
    pub program: Program,
}

/// Returns a small selection that has every side of every boundary, every fault, effect and shape,
/// and as many pairs of these as fit in. It is the same every time.
#[must_use]
pub fn smallest() -> Vec<Cell> {
    let all = Cell::all();
    let (mut chosen, mut covered) = (Vec::new(), BTreeSet::new());
    while chosen.len() < SMALLEST {
        let gain = |cell: &Cell| {
            let new = pairs(cell).into_iter().filter(|pair| !covered.contains(pair));
            new.map(|pair| if pair.0 == 0 { SIDE } else { 1 }).sum::<usize>()
        };
        // Of equal ones, the first.
        let Some(best) = all.iter().rev().max_by_key(|cell| gain(cell)) else { break };
        covered.extend(pairs(best));
        chosen.push(*best);
    }
    chosen.sort_unstable();
    chosen
}

fn pairs(cell: &Cell) -> Vec<(u8, usize, usize)> {
    let place = |value: usize, side: When| value * 2 + side as usize;
    let boundary = place(cell.boundary as usize, cell.when);
    let (class, fault, shape) = (cell.class as usize, cell.fault as usize, cell.shape as usize);
    vec![
        (0, boundary, 0),
        (1, boundary, shape),
        (2, boundary, class),
        (3, fault, shape),
        (4, fault, class),
        (5, boundary, fault),
    ]
}

/// How many cells came out how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The run completed.
    pub done: usize,
    /// The run waits for a person.
    pub ambiguous: usize,
    /// The run was refused.
    pub refused: usize,
    /// A promise was broken.
    pub violated: usize,
}

impl Figures {
    /// Counts.
    #[must_use]
    pub fn of(reports: &[Report]) -> Self {
        let mut figures = Self::default();
        for report in reports {
            let count = match &report.verdict {
                Verdict::Done => &mut figures.done,
                Verdict::Ambiguous => &mut figures.ambiguous,
                Verdict::Refused => &mut figures.refused,
                Verdict::Violated(_) => &mut figures.violated,
            };
            *count += 1;
        }
        figures
    }
}

/// Carries out every cell, and tells each report as it comes.
///
/// # Errors
///
/// If no lane can be had.
pub async fn carry_out(plan: Plan, mut tell: impl FnMut(&Report)) -> anyhow::Result<Vec<Report>> {
    let cells = Arc::new(Mutex::new(VecDeque::from(plan.cells)));
    let (reports, mut reported) = mpsc::channel(REPORTS);
    let mut lanes = JoinSet::new();
    for _ in 0..plan.lanes.max(1) {
        lanes.spawn(work(plan.program.clone(), cells.clone(), reports.clone()));
    }
    drop(reports);
    let mut all = Vec::new();
    while let Some(report) = reported.recv().await {
        tell(&report);
        all.push(report);
    }
    while let Some(ended) = lanes.join_next().await {
        ended??;
    }
    all.sort_by_key(|report| report.cell);
    Ok(all)
}

async fn work(
    program: Program,
    cells: Arc<Mutex<VecDeque<Cell>>>,
    reports: mpsc::Sender<Report>,
) -> anyhow::Result<()> {
    let next = || cells.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let mut lane = Lane::new(program.clone()).await?;
    while let Some(cell) = next() {
        let mut report = lane.carry_out(cell).await;
        if let Verdict::Violated(broken) = &mut report.verdict {
            broken.push(lane.log());
            lane = Lane::new(program.clone()).await?;
        }
        if reports.send(report).await.is_err() {
            break;
        }
    }
    lane.end().await
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn the_smallest_selection_has_everything_once() {
        let cells = smallest();
        assert!(cells.len() <= SMALLEST);
        let distinct: BTreeSet<_> = cells.iter().collect();
        assert_eq!(distinct.len(), cells.len());
        for &boundary in Boundary::value_variants() {
            for &when in When::value_variants() {
                assert!(cells.iter().any(|cell| (cell.boundary, cell.when) == (boundary, when)));
            }
        }
        for &fault in Fault::value_variants() {
            for &shape in Shape::value_variants() {
                let both = |cell: &&Cell| (cell.fault, cell.shape) == (fault, shape);
                assert!(cells.iter().any(|cell| both(&cell)), "{fault:?} {shape:?}");
            }
        }
        for &class in Class::value_variants() {
            assert!(cells.iter().any(|cell| cell.class == class));
        }
    }
}

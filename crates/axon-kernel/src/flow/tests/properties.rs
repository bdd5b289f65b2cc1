//! What holds of any flow, whatever its calls come to, and in whatever order they do.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::driver::Run;
use super::plans::flow;
use super::*;
use crate::ids::ToolCallId;

/// A source of choices, the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn outcome(&mut self) -> Settled {
        let kinds = [FailureKind::Busy, FailureKind::Tool, FailureKind::ModelAuth];
        match self.below(10) {
            0..3 => Settled::Failed(Failure::new(kinds[self.below(3)], "by chance")),
            3 => Settled::Done(json!(["p", "q"])),
            4 => Settled::Done(json!({ "to": "a", "ok": true })),
            5 => Settled::Done(Value::Null),
            6 => Settled::Done(json!(self.below(4))),
            _ => Settled::Done("b".into()),
        }
    }
}

/// A point at which it was asked what comes next, and what that was.
struct Point {
    begun: usize,
    settled: usize,
    progress: Progress,
}

/// What a run has been through.
struct History<'f> {
    run: Run<'f>,
    points: Vec<Point>,
    /// What settled although nobody wanted it any more.
    late: BTreeSet<ToolCallId>,
}

/// Lets a flow run to its end, settling what is under way in any order.
fn live<'f>(flow: &'f Flow, chance: &mut Chance) -> History<'f> {
    let mut run = Run::new(flow, "begin");
    let (mut points, mut late) = (Vec::new(), BTreeSet::new());
    loop {
        let (begun, settled) = (run.begun.len(), run.settled.len());
        let progress = run.next();
        points.push(Point { begun, settled, progress: progress.clone() });
        let Progress::Waits { wanted, .. } = progress else { return History { run, points, late } };
        keeps_its_bounds(&wanted);
        let open: Vec<ToolCallId> = match chance.below(4) {
            // Whoever drives a flow calls off what is wanted no more; some answer all the same.
            0 => unsettled(&run),
            _ => wanted.iter().cloned().collect(),
        };
        let id = open[chance.below(open.len())].clone();
        if !wanted.contains(&id) {
            late.insert(id.clone());
        }
        run.settled.push((id, chance.outcome()));
    }
}

fn unsettled(run: &Run<'_>) -> Vec<ToolCallId> {
    let settled: BTreeSet<&ToolCallId> = run.settled.iter().map(|(id, _)| id).collect();
    run.begun.iter().filter(|id| !settled.contains(id)).cloned().collect()
}

/// Checks that of no step more items are under way than are to be at once: its name has the number.
fn keeps_its_bounds(wanted: &BTreeSet<ToolCallId>) {
    let mut under_way: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for id in wanted {
        let parts: Vec<&str> = id.as_str().split('.').collect();
        for (depth, part) in parts.iter().enumerate().skip(1) {
            let item = part.split(['@', '#', '!']).next().unwrap();
            if item.parse::<usize>().is_ok() {
                under_way.entry(parts[..depth].join(".")).or_default().insert(item);
            }
        }
    }
    for (path, items) in under_way {
        let name = path.rsplit('.').next().unwrap();
        let at_once: usize = name[1..].split('_').next().unwrap().parse().unwrap();
        assert!(items.len() <= at_once, "{path}: {items:?}");
    }
}

fn replay(flow: &Flow, begun: &[ToolCallId], settled: &[(ToolCallId, Settled)]) -> Progress {
    let begun = begun.iter().cloned().collect();
    flow.advance(&message("begin"), &begun, settled, &Service)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// That nothing is wanted or begun twice, that no wait is for nothing and that bounds are kept is
    /// checked on the way.
    #[test]
    fn any_flow_ends(flow in flow(), seed in 1..u64::MAX) {
        let history = live(&flow, &mut Chance(seed));
        prop_assert!(history.run.begun.len() <= MAX_CALLS);
    }

    #[test]
    fn any_part_of_a_history_wants_the_same_again(flow in flow(), seed in 1..u64::MAX) {
        let History { run, points, .. } = live(&flow, &mut Chance(seed));
        for Point { begun, settled, progress } in points {
            let again = replay(&flow, &run.begun[..begun], &run.settled[..settled]);
            prop_assert_eq!(&again, &progress);
        }
    }

    #[test]
    fn what_settles_late_changes_nothing(flow in flow(), seed in 1..u64::MAX) {
        let mut chance = Chance(seed);
        let History { mut run, points, late } = live(&flow, &mut chance);
        let end = points.last().unwrap().progress.clone();
        let in_time: Vec<(ToolCallId, Settled)> =
            run.settled.iter().filter(|(id, _)| !late.contains(id)).cloned().collect();
        prop_assert_eq!(&replay(&flow, &run.begun, &in_time), &end);
        loop {
            prop_assert_eq!(&run.look(), &end);
            let open = unsettled(&run);
            if open.is_empty() {
                break;
            }
            let id = open[chance.below(open.len())].clone();
            run.settled.push((id, chance.outcome()));
        }
    }
}

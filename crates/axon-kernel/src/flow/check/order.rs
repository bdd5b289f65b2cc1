//! Which steps of a list are certain to be done before another one.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::flow::plan::Step;
use crate::flow::rule::FlowRule;
use crate::spec::unknown::nearest;

/// What is certain about the steps of one list.
#[derive(Clone, Default)]
pub(super) struct Order {
    /// For each step, those that are done before it.
    before: Rc<Vec<BTreeSet<usize>>>,
    /// The steps of which nothing is certain: what they wait for is in no order.
    odd: Rc<BTreeSet<usize>>,
}

impl Order {
    pub(super) fn of(steps: &[Step]) -> Self {
        let (mut before, mut odd) = (Vec::new(), BTreeSet::new());
        for (index, step) in steps.iter().enumerate() {
            let mut seen: BTreeSet<usize> = BTreeSet::new();
            for name in &step.after {
                match place(steps, name.as_str()) {
                    Some(place) if place < index => {
                        seen.extend(&before[place]);
                        seen.insert(place);
                        if odd.contains(&place) {
                            odd.insert(index);
                        }
                    }
                    Some(_) | None => {
                        odd.insert(index);
                    }
                }
            }
            before.push(seen);
        }
        Self { before: before.into(), odd: odd.into() }
    }

    /// Returns the steps that are certain to be done before the one at `index`.
    pub(super) fn before(&self, index: usize) -> &BTreeSet<usize> {
        static NONE: BTreeSet<usize> = BTreeSet::new();
        self.before.get(index).unwrap_or(&NONE)
    }

    /// Returns whether it is known what is done before the step at `index`.
    pub(super) fn is_certain(&self, index: usize) -> bool {
        !self.odd.contains(&index)
    }

    /// Returns the places of those that the step at `index` waits for.
    pub(super) fn places(&self, steps: &[Step], index: usize) -> Vec<usize> {
        let after = steps[index].after.iter();
        after.filter_map(|name| place(steps, name.as_str())).collect()
    }

    /// Returns the rules about order that steps break, with their places and the part of each.
    pub(super) fn broken(&self, steps: &[Step]) -> Vec<(usize, String, FlowRule)> {
        let mut broken = Vec::new();
        let mut circles: BTreeSet<BTreeSet<usize>> = BTreeSet::new();
        for (index, step) in steps.iter().enumerate() {
            for (nth, name) in step.after.iter().enumerate() {
                let at = format!("/after/{nth}");
                match place(steps, name.as_str()) {
                    None => broken.push((index, at, unknown(steps, name.as_str()))),
                    Some(place) if place < index => {}
                    Some(place) => match way(steps, place, index) {
                        Some(mut circle) => {
                            circle.insert(0, index);
                            if circles.insert(circle.iter().copied().collect()) {
                                let steps = circle.iter().map(|at| steps[*at].name.to_string());
                                let steps = steps.collect();
                                broken.push((index, at, FlowRule::Circle { steps }));
                            }
                        }
                        None => {
                            let name = name.to_string();
                            broken.push((index, at, FlowRule::NotBefore { name }));
                        }
                    },
                }
            }
        }
        broken
    }
}

/// Returns where the first step called `name` is.
pub(super) fn place(steps: &[Step], name: &str) -> Option<usize> {
    steps.iter().position(|step| step.name.as_str() == name)
}

/// Returns the shortest way along what steps wait for, with both its ends.
pub(super) fn way(steps: &[Step], from: usize, to: usize) -> Option<Vec<usize>> {
    let mut came_from: BTreeMap<usize, usize> = BTreeMap::from([(from, from)]);
    let mut front = vec![from];
    while !front.is_empty() && !came_from.contains_key(&to) {
        let mut next = Vec::new();
        for at in front {
            for place in steps[at].after.iter().filter_map(|name| place(steps, name.as_str())) {
                came_from.entry(place).or_insert_with(|| {
                    next.push(place);
                    at
                });
            }
        }
        front = next;
    }
    let mut way = vec![to];
    while let Some(before) = way.last().map(|at| came_from.get(at)) {
        let before = *before?;
        if Some(&before) == way.last() {
            break;
        }
        way.push(before);
    }
    way.reverse();
    Some(way)
}

fn unknown(steps: &[Step], name: &str) -> FlowRule {
    let known: Vec<String> = steps.iter().map(|step| step.name.to_string()).collect();
    let nearest = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
    FlowRule::UnknownAfter { name: name.to_owned(), nearest, known }
}

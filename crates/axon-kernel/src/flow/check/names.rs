//! The names that expressions and templates use, and whether they are known where they do.

use std::collections::BTreeSet;

use super::order::{Order, place, way};
use super::{Check, Known};
use crate::flow::plan::Step;
use crate::flow::rule::FlowRule;
use crate::spec::unknown::nearest;

/// A list of steps, and the place in it that is looked at.
pub(super) struct Level<'f> {
    pub(super) steps: &'f [Step],
    pub(super) at: usize,
    pub(super) order: Order,
}

impl<'f> Check<'f> {
    /// Checks that what is used at `at` is known there.
    pub(super) fn names(&mut self, uses: Vec<String>, at: &str, known: &Known<'f>) {
        let names: BTreeSet<String> =
            uses.iter().map(|used| used.split('.').next().unwrap_or(used).to_owned()).collect();
        for name in names.into_iter().filter(|name| !known.has(name)) {
            if let Some(rule) = self.unknown(name, known) {
                self.add(at, rule);
            }
        }
    }

    fn unknown(&self, name: String, known: &Known<'f>) -> Option<FlowRule> {
        let known: Vec<String> = known.0.iter().map(|name| (*name).to_owned()).collect();
        for Level { steps, at, order } in self.levels.iter().rev() {
            let Some(there) = place(steps, &name) else { continue };
            // What is wrong with the order has been said.
            if !order.is_certain(*at) || !order.is_certain(there) {
                return None;
            }
            return Some(match way(steps, there, *at) {
                Some(way) => {
                    let mut names = vec![steps[*at].name.to_string()];
                    names.extend(way.iter().map(|place| steps[*place].name.to_string()));
                    FlowRule::Forward { name, steps: names }
                }
                None => FlowRule::NotCertain { name, known },
            });
        }
        let near = nearest(&name, known.iter().map(String::as_str)).map(str::to_owned);
        Some(FlowRule::UnknownName { name, nearest: near, known })
    }
}

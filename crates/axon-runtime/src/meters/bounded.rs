//! Names as labels: as many as there may be, and one for all others.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// The label of every name beyond the bound.
pub(super) const OTHER: &str = "other";

/// Names that may be labels. Those that are expected always may; of others the first ones that come.
#[derive(Debug)]
pub(super) struct Bounded {
    names: Mutex<Names>,
    most: usize,
}

#[derive(Debug, Default)]
struct Names {
    expected: BTreeSet<String>,
    others: BTreeSet<String>,
}

impl Bounded {
    /// Takes `most` names beside the expected ones.
    pub(super) fn new(most: usize) -> Self {
        Self { names: Mutex::default(), most }
    }

    /// Takes these names, whatever came before, and no longer those that were expected until now.
    pub(super) fn expect(&self, names: impl Iterator<Item = String>) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).expected = names.collect();
    }

    /// Returns the label of `name`.
    pub(super) fn label<'a>(&self, name: &'a str) -> &'a str {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.expected.contains(name) || names.others.contains(name) {
            return name;
        }
        if names.others.len() >= self.most {
            return OTHER;
        }
        names.others.insert(name.to_owned());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_bound_all_names_are_one_but_the_expected_ones() {
        let bounded = Bounded::new(2);
        let labels: Vec<&str> = ["a", "b", "c", "a"].map(|name| bounded.label(name)).to_vec();
        assert_eq!(labels, ["a", "b", OTHER, "a"]);
        bounded.expect(["z".to_owned()].into_iter());
        assert_eq!([bounded.label("z"), bounded.label("d")], ["z", OTHER]);
    }
}

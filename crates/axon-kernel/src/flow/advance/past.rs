//! What the steps of one list have come to so far, and what those after them see of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::flow::known::Known;
use crate::flow::plan::{Step, StepName};
use crate::flow::scope::Scope;

/// The steps of one list that are done.
#[derive(Default)]
pub(super) struct Past<'s> {
    done: Vec<Been<'s>>,
    /// Where each of them is in `done`.
    by_name: BTreeMap<&'s StepName, usize>,
}

/// A step that is done.
struct Been<'s> {
    name: &'s StepName,
    value: Value,
    known: Known,
    at: usize,
    /// What failed in it and was left out.
    failures: Vec<Value>,
    /// The steps that were done before it, and itself.
    since: BTreeSet<usize>,
}

impl<'s> Past<'s> {
    /// Adds what `step` has come to.
    pub(super) fn add(
        &mut self,
        step: &'s Step,
        (value, at): (Value, usize),
        failures: &[(usize, Value)],
    ) {
        let index = self.done.len();
        let mut since = self.before(step).unwrap_or_default();
        since.insert(index);
        let failures = failures.iter().map(|(_, failure)| failure.clone()).collect();
        let known = Known::from(&value);
        self.by_name.insert(&step.name, index);
        self.done.push(Been { name: &step.name, value, known, at, failures, since });
    }

    /// Returns what `step` sees: the steps that are certain to be done before it, and no others, so
    /// that it sees the same whatever else is faster. There is nothing if it has to wait.
    pub(super) fn scope_of<'a>(&self, step: &Step, scope: &Scope<'a>) -> Option<Scope<'a>> {
        let before = self.before(step)?;
        let mut seen = scope.clone();
        let mut failures = Vec::new();
        for been in before.iter().map(|index| &self.done[*index]) {
            seen.know(been.name.as_str(), been.known.clone());
            failures.extend(been.failures.iter().cloned());
            seen.reach(been.at);
        }
        seen.add_failures(failures);
        seen.follow(self.previous_of(step, scope.previous()));
        Some(seen)
    }

    /// Returns the output of the last one of `steps` and when all were done, if they are.
    pub(super) fn end(mut self, steps: &[Step]) -> Option<(Value, usize)> {
        if self.done.len() < steps.len() {
            return None;
        }
        let at = self.done.iter().map(|been| been.at).max().unwrap_or(0);
        Some((self.done.pop().map(|been| been.value).unwrap_or_default(), at))
    }

    /// Returns the steps that were done before `step`, if all are that it waits for.
    fn before(&self, step: &Step) -> Option<BTreeSet<usize>> {
        let mut before = BTreeSet::new();
        for name in &step.after {
            before.extend(&self.done[*self.by_name.get(name)?].since);
        }
        Some(before)
    }

    fn previous_of(&self, step: &Step, before: &Value) -> Value {
        let output = |name| self.by_name.get(name).map(|index| self.done[*index].value.clone());
        match step.after.as_slice() {
            [] => before.clone(),
            [one] => output(one).unwrap_or_default(),
            several => {
                let members =
                    several.iter().map(|name| (name.to_string(), output(name).unwrap_or_default()));
                Value::Object(members.collect::<Map<_, _>>())
            }
        }
    }
}

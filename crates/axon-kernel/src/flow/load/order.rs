//! The order of steps: each behind those that it waits for.

use std::collections::BTreeMap;

use crate::flow::plan::StepName;

/// Returns the places of steps in an order in which each comes behind those that it waits for, and
/// else as they were. Those that wait for each other come last.
pub(super) fn sorted(names: &[StepName], after: &[Vec<StepName>]) -> Vec<usize> {
    let mut places: BTreeMap<&StepName, usize> = BTreeMap::new();
    for (index, name) in names.iter().enumerate() {
        places.entry(name).or_insert(index);
    }
    let waits = |index: usize| after[index].iter().filter_map(|name| places.get(name));
    let mut left: Vec<usize> = (0..names.len()).collect();
    let mut order = Vec::with_capacity(names.len());
    let mut done = vec![false; names.len()];
    while !left.is_empty() {
        let ready = left.iter().position(|index| waits(*index).all(|place| done[*place]));
        let Some(ready) = ready else {
            order.extend(left);
            break;
        };
        let index = left.remove(ready);
        done[index] = true;
        order.push(index);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(steps: &[(&str, &[&str])]) -> Vec<usize> {
        let name = |text: &&str| StepName::try_from(*text).unwrap();
        let names: Vec<StepName> = steps.iter().map(|(step, _)| name(step)).collect();
        let after: Vec<Vec<StepName>> =
            steps.iter().map(|(_, after)| after.iter().map(name).collect()).collect();
        sorted(&names, &after)
    }

    #[test]
    fn steps_move_behind_what_they_wait_for_and_no_further() {
        assert_eq!(order(&[("a", &[]), ("b", &["a"]), ("c", &[])]), [0, 1, 2]);
        assert_eq!(order(&[("a", &["c"]), ("b", &[]), ("c", &[]), ("d", &["a"])]), [1, 2, 0, 3]);
        assert_eq!(order(&[("a", &["b"]), ("b", &["a"]), ("c", &["gone"])]), [2, 0, 1]);
        assert_eq!(order(&[("a", &["a"]), ("b", &[])]), [1, 0]);
        assert_eq!(order(&[]), [0_usize; 0]);
    }
}

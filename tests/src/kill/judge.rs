//! Says of one cell whether what was promised was kept.

use std::collections::BTreeMap;

use axon_kernel::event::{RunEvent, Sequenced};
use axon_kernel::ids::ToolCallId;
use axon_kernel::run::RunState;
use axon_kernel::store::RunSummary;
use serde_json::{Value, json};

use super::cell::{Boundary, Cell, Class, Fault, Shape, When};
use super::world::Counts;

/// What there was when the fault had struck.
#[derive(Clone, Debug, Default)]
pub struct AtFault {
    /// What the world had counted.
    pub counts: Counts,
    /// What was recorded of the run.
    pub records: Vec<Sequenced>,
}

/// Everything that is known of one cell when it is over.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The cell.
    pub cell: Cell,
    /// What its run called itself.
    pub name: String,
    /// Whether the caller was told that the run is accepted.
    pub accepted: bool,
    /// Why the caller was refused.
    pub refused: Option<String>,
    /// Why a run was refused that came while the disk failed.
    pub probed: Option<String>,
    /// What the caller was told at last.
    pub settled: Option<String>,
    /// What there was when the fault had struck.
    pub at_fault: AtFault,
    /// What the world has counted.
    pub counts: Counts,
    /// What is recorded.
    pub records: Vec<Sequenced>,
    /// What the store says of the run, if it has it.
    pub summary: Option<RunSummary>,
}

/// What came out of a cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The run completed.
    Done,
    /// The run waits for a person, because nobody can know whether a call took effect.
    Ambiguous,
    /// The run was refused, or nobody was told that it is accepted, and it is not there.
    Refused,
    /// A promise was broken.
    Violated(Vec<String>),
}

impl Verdict {
    /// Returns whether every promise was kept.
    #[must_use]
    pub fn is_good(&self) -> bool {
        !matches!(self, Self::Violated(_))
    }
}

/// Says what came out of a cell.
#[must_use]
pub fn judge(evidence: &Evidence) -> Verdict {
    let mut broken = Vec::new();
    let verdict = end(evidence, &mut broken);
    effects(evidence, &verdict, &mut broken);
    requests(evidence, &mut broken);
    record(evidence, &mut broken);
    disk(evidence, &mut broken);
    if broken.is_empty() { verdict } else { Verdict::Violated(broken) }
}

fn end(evidence: &Evidence, broken: &mut Vec<String>) -> Verdict {
    let cell = &evidence.cell;
    let Some(summary) = &evidence.summary else {
        if !cell.may_be_refused() || evidence.accepted {
            broken.push("an accepted run is lost".to_owned());
        }
        return Verdict::Refused;
    };
    let waits_for = summary.waits_for.as_deref();
    if summary.state == RunState::Paused && waits_for == Some("ambiguous") {
        if !cell.may_be_ambiguous() {
            broken.push(format!("ambiguous, although the record tells: {}", told(evidence)));
        }
        return Verdict::Ambiguous;
    }
    // Refused with a record: it must have ended, whoever ended it.
    if evidence.refused.is_some() && !summary.state.is_open() {
        return if summary.state == RunState::Completed { Verdict::Done } else { Verdict::Refused };
    }
    if evidence.refused.is_some() && !cell.may_be_refused() {
        broken.push(format!("refused: {:?}", evidence.refused));
    }
    match evidence.records.last().map(|last| &last.event) {
        Some(RunEvent::Completed(completed)) => {
            let output: Value = completed.output.decode().unwrap_or_default();
            let done = format!("done {}", evidence.name);
            let structured = cell.shape == Shape::Structured;
            let expected = if structured { json!({"answer": done}) } else { json!(done) };
            if output != expected {
                broken.push(format!("the answer is {output}"));
            }
        }
        _ => broken.push(format!(
            "it is {} ({waits_for:?}): {}",
            summary.state.label(),
            told(evidence)
        )),
    }
    Verdict::Done
}

fn effects(evidence: &Evidence, verdict: &Verdict, broken: &mut Vec<String>) {
    let Evidence { cell, counts, at_fault, .. } = evidence;
    let recorded = recorded_calls(&at_fault.records);
    for call in 1..=u32::try_from(cell.calls()).unwrap_or(u32::MAX) {
        let keys = counts.calls.get(&call).map_or(&[][..], Vec::as_slice);
        let most = if cell.class == Class::Once || cell.fault == Fault::Full { 1 } else { 2 };
        if keys.len() > most {
            broken.push(format!("call {call} took effect {} times", keys.len()));
        }
        if keys.is_empty() && *verdict == Verdict::Done {
            broken.push(format!("call {call} took no effect"));
        }
        if keys.windows(2).any(|pair| pair[0] != pair[1]) {
            broken.push(format!("call {call} came with several keys: {keys:?}"));
        }
        let before = at_fault.counts.calls.get(&call).map_or(0, Vec::len);
        if recorded.contains(&call) && keys.len() > before {
            broken.push(format!("call {call} was made again although its result is recorded"));
        }
    }
}

/// Returns the numbers of the calls whose results are recorded.
fn recorded_calls(records: &[Sequenced]) -> Vec<u32> {
    let mut calls = BTreeMap::<&ToolCallId, u32>::new();
    let mut returned = Vec::new();
    for record in records {
        if let RunEvent::ToolCalled(called) = &record.event {
            let args: Value = called.args.decode().unwrap_or_default();
            let number = args["call"].as_u64().and_then(|call| u32::try_from(call).ok());
            calls.insert(&called.tool_call_id, number.unwrap_or_default());
        } else if let RunEvent::ToolReturned(done) = &record.event {
            returned.extend(calls.get(&done.tool_call_id));
        }
    }
    returned
}

fn requests(evidence: &Evidence, broken: &mut Vec<String>) {
    let requests = &evidence.counts.requests;
    let again: usize = requests.values().map(|asked| asked.len() - 1).sum();
    if again > evidence.cell.may_pay_twice() {
        broken.push(format!("{again} requests were paid for again"));
    }
    let mut before: Option<&str> = None;
    for (step, asked) in requests {
        if asked.windows(2).any(|pair| pair[0] != pair[1]) {
            broken.push(format!("request {step} came with another history: {asked:?}"));
        }
        let Some(now) = asked.first() else { continue };
        if before.is_some_and(|before| !now.starts_with(before.strip_suffix(']').unwrap_or(before)))
        {
            broken.push(format!("request {step} does not begin with the one before it"));
        }
        before = Some(now);
    }
}

fn record(evidence: &Evidence, broken: &mut Vec<String>) {
    let Evidence { records, at_fault, summary, .. } = evidence;
    if summary.is_none() {
        return;
    }
    if !records.starts_with(&at_fault.records) {
        broken.push("what was recorded before the fault is not there any more".to_owned());
    }
    if records.windows(2).any(|pair| pair[0].seq >= pair[1].seq) {
        broken.push(format!("the numbers do not rise: {}", told(evidence)));
    }
    let ends = records.iter().filter(|record| record.event.is_terminal()).count();
    if ends > 1 {
        broken.push(format!("it has ended {ends} times: {}", told(evidence)));
    }
}

fn disk(evidence: &Evidence, broken: &mut Vec<String>) {
    let Evidence { cell, probed, refused, .. } = evidence;
    let is_right = |code: &str| match cell.fault {
        Fault::Full => code == "storage_full",
        Fault::Sync => code.starts_with("storage_"),
        Fault::Abort | Fault::Runner | Fault::Launcher => false,
    };
    if matches!(cell.fault, Fault::Full | Fault::Sync) && !probed.as_deref().is_some_and(is_right) {
        broken.push(format!("a new run met the failing disk and was told {probed:?}"));
    }
    let first = cell.boundary == Boundary::Accepted && cell.when == When::Before;
    if first && refused.as_deref().is_some_and(|code| !is_right(code)) {
        broken.push(format!("it was refused as {refused:?}"));
    }
}

fn told(evidence: &Evidence) -> String {
    let names: Vec<&str> = evidence.records.iter().map(|record| record.event.name()).collect();
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(class: Class) -> Evidence {
        let cell = Cell {
            boundary: Boundary::Effect,
            when: When::After,
            class,
            fault: Fault::Abort,
            shape: Shape::Structured,
        };
        Evidence {
            cell,
            name: "c1".to_owned(),
            accepted: true,
            refused: None,
            probed: None,
            settled: None,
            at_fault: AtFault::default(),
            counts: Counts::default(),
            records: Vec::new(),
            summary: None,
        }
    }

    fn broken(evidence: &Evidence) -> String {
        let Verdict::Violated(broken) = judge(evidence) else { return String::new() };
        broken.join("; ")
    }

    #[test]
    fn an_accepted_run_that_is_not_there_is_a_violation() {
        assert!(broken(&evidence(Class::Pure)).contains("lost"));
    }

    #[test]
    fn two_effects_of_a_once_tool_are_a_violation() {
        let mut evidence = evidence(Class::Once);
        evidence.counts.calls.insert(1, vec!["k".to_owned(), "k".to_owned()]);
        assert!(broken(&evidence).contains("call 1 took effect 2 times"));
    }

    #[test]
    fn another_key_or_another_history_for_the_same_step_is_a_violation() {
        let mut evidence = evidence(Class::Idempotent);
        evidence.counts.calls.insert(1, vec!["k".to_owned(), "other".to_owned()]);
        evidence.counts.requests.insert(0, vec!["[1]".to_owned(), "[2]".to_owned()]);
        evidence.counts.requests.insert(1, vec!["[3,4]".to_owned()]);
        let broken = broken(&evidence);
        assert!(broken.contains("several keys"), "{broken}");
        assert!(broken.contains("another history"), "{broken}");
        assert!(broken.contains("does not begin with"), "{broken}");
    }
}

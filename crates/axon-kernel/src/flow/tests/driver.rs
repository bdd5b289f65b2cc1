//! Whoever drives a flow: keeps what was begun and what has settled, and asks what comes next.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::ids::ToolCallId;

/// A run of a flow, as far as it has come.
pub(super) struct Run<'f> {
    pub(super) flow: &'f Flow,
    pub(super) message: Message,
    pub(super) calls: BTreeMap<ToolCallId, Call>,
    pub(super) settled: Vec<(ToolCallId, Settled)>,
    /// The calls in the order in which they were begun.
    pub(super) begun: Vec<ToolCallId>,
}

impl<'f> Run<'f> {
    pub(super) fn new(flow: &'f Flow, prompt: impl Into<Value>) -> Self {
        let (calls, settled, begun) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { flow, message: message(prompt), calls, settled, begun }
    }

    /// Asks what comes next, and begins what is to be begun.
    pub(super) fn next(&mut self) -> Progress {
        let progress = self.look();
        let Progress::Waits { wanted, begin } = &progress else { return progress };
        assert!(!wanted.is_empty(), "it waits for nothing");
        for (id, _) in &self.settled {
            assert!(!wanted.contains(id), "`{id}` is wanted, and has settled");
        }
        for call in begin {
            assert!(wanted.contains(&call.id), "`{}` is begun, and not wanted", call.id);
            let twice = self.calls.insert(call.id.clone(), call.clone());
            assert!(twice.is_none(), "`{}` is begun twice", call.id);
            self.begun.push(call.id.clone());
        }
        for id in wanted {
            assert!(self.calls.contains_key(id), "`{id}` is wanted, and not begun");
        }
        progress
    }

    pub(super) fn look(&self) -> Progress {
        let begun: BTreeSet<ToolCallId> = self.calls.keys().cloned().collect();
        self.flow.advance(&self.message, &begun, &self.settled, &Service)
    }

    /// Returns what is wanted, in a line.
    pub(super) fn wants(&mut self) -> String {
        match self.next() {
            Progress::Waits { wanted, .. } => {
                wanted.iter().map(ToolCallId::as_str).collect::<Vec<_>>().join(" ")
            }
            ended @ (Progress::Done(_) | Progress::Failed(_)) => panic!("{ended:?}"),
        }
    }

    pub(super) fn done(&mut self, id: &str, value: impl Into<Value>) -> &mut Self {
        self.settle(id, Settled::Done(value.into()))
    }

    pub(super) fn failed(&mut self, id: &str, kind: FailureKind) -> &mut Self {
        self.settle(id, Settled::Failed(Failure::new(kind, format!("no {id}"))))
    }

    fn settle(&mut self, id: &str, what: Settled) -> &mut Self {
        assert!(self.calls.contains_key(&ToolCallId::new(id)), "`{id}` was not begun");
        self.settled.push((ToolCallId::new(id), what));
        self
    }

    /// Returns what was asked by the call `id`.
    pub(super) fn asked(&self, id: &str) -> &Value {
        &self.calls[&ToolCallId::new(id)].prompt
    }

    pub(super) fn output(&mut self) -> Value {
        match self.next() {
            Progress::Done(value) => value,
            other @ (Progress::Waits { .. } | Progress::Failed(_)) => panic!("{other:?}"),
        }
    }

    pub(super) fn failure(&mut self) -> String {
        match self.next() {
            Progress::Failed(failure) => failure.to_string(),
            other @ (Progress::Waits { .. } | Progress::Done(_)) => panic!("{other:?}"),
        }
    }
}

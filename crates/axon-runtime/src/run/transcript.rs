//! The recorded messages of a run.

use axon_kernel::event::Checkpoint;
use axon_kernel::json::RawJson;
use axon_kernel::transcript::repair;
use serde_json::{Value, json};

/// Returns what is remembered of a turn in which others have answered: what was asked, and what came
/// of it, so that any agent can go on with it.
pub(super) fn exchange(prompt: &RawJson, output: &Value) -> [RawJson; 2] {
    let text = output.as_str().map_or_else(|| output.to_string(), str::to_owned);
    let asked = json!({
        "kind": "request",
        "parts": [{ "part_kind": "user-prompt", "content": prompt }],
    });
    let said = json!({
        "kind": "response",
        "parts": [{ "part_kind": "text", "content": text }],
    });
    [asked.into(), said.into()]
}

/// The recorded messages of a run, the history before it included.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    pub(super) messages: Vec<RawJson>,
    pub(super) usage: Option<RawJson>,
    /// How many messages the conversation holds already.
    pub(super) held: usize,
    /// How many of those still stand: an agent's history processor may rewrite the rest.
    pub(super) kept: usize,
    /// Whether an attempt can resume from here.
    pub(super) resumable: bool,
    /// What an earlier process recorded, which goes behind the history once that is read.
    pub(super) recorded: Vec<Checkpoint>,
}

impl Transcript {
    /// Begins after `history`, of which the conversation holds `held` messages. What no prompt can
    /// follow is repaired.
    pub(super) fn after(mut history: Vec<RawJson>, held: usize) -> Self {
        let mut kept = held.min(history.len());
        if let Some(repair) = repair(&history) {
            kept = kept.min(repair.base);
            repair.apply(&mut history);
        }
        Self { kept, held, messages: history, ..Self::default() }
    }

    pub(super) fn apply(&mut self, checkpoint: &Checkpoint) {
        self.kept = self.kept.min(checkpoint.base);
        self.messages.truncate(checkpoint.base);
        self.messages.extend_from_slice(&checkpoint.messages);
        self.usage = Some(checkpoint.usage.clone());
        self.resumable = true;
    }

    /// Returns what joins the conversation: how many of its messages stay, and which follow.
    pub(super) fn turn(&self) -> (usize, &[RawJson]) {
        (self.kept, self.messages.get(self.kept..).unwrap_or_default())
    }
}

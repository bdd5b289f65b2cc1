//! Approvals that hold for every call of a tool, as long as a run lasts.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Resolution, Resolved, RunTerms};
use crate::wire::{DeferredKind, DeferredRequest};

/// The tools whose calls nobody is asked about, in one run, and by whom that was decided.
///
/// They are of the agent that the run was accepted for: another one to which it falls back may mean
/// something else by the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing(BTreeMap<String, String>);

impl Standing {
    /// Returns the approvals that a run begins with.
    #[must_use]
    pub fn of(terms: &RunTerms) -> Self {
        Self::beforehand(&terms.approve)
    }

    /// Returns the approvals of tools that were given beforehand.
    #[must_use]
    pub fn beforehand(tools: &BTreeSet<String>) -> Self {
        let by = |tool: &String| (tool.clone(), "whoever asked for the run".to_owned());
        Self(tools.iter().map(by).collect())
    }

    /// Takes in what was decided about one of `requests`.
    pub fn learn(&mut self, requests: &[DeferredRequest], resolved: &Resolved) {
        let Resolution::Approve { always: true, .. } = resolved.resolution else { return };
        let call = requests.iter().rfind(|asked| asked.tool_call_id == resolved.tool_call_id);
        if let Some(request) = call {
            let by = if resolved.by.is_empty() { "somebody" } else { &resolved.by };
            self.0.entry(request.name.clone()).or_insert_with(|| by.to_owned());
        }
    }

    /// Returns the decisions that stand about `requests`: each as its own arguments are.
    #[must_use]
    pub fn decide(&self, requests: &[DeferredRequest]) -> Vec<Resolved> {
        let approvals = requests.iter().filter(|asked| asked.kind == DeferredKind::Approval);
        let decided = approvals.filter_map(|asked| {
            let by = self.0.get(&asked.name)?;
            Some(Resolved {
                tool_call_id: asked.tool_call_id.clone(),
                resolution: Resolution::approve(),
                by: format!("{by}, for every call of `{}` in this run", asked.name),
            })
        });
        decided.collect()
    }

    /// Forgets them: another agent answers.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

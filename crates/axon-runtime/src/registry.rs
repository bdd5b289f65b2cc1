//! The names of the runtime: one owner writes, anybody looks up.

mod directory;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axon_kernel::spec::{AgentName, AgentPath};
use tokio::sync::watch;

use crate::agent::AgentHandle;

pub use directory::{Directory, DirectoryWatch, Entry};

type Entries = Arc<BTreeMap<AgentName, AgentHandle>>;

/// The agents by name. It belongs to one runtime; nothing is global.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    entries: Arc<watch::Sender<Entries>>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self { entries: Arc::new(watch::Sender::default()) }
    }

    /// Enters `agent`, unless its name is taken.
    pub(crate) fn enter(&self, agent: AgentHandle) -> bool {
        self.entries.send_if_modified(|entries| {
            let free = !entries.contains_key(agent.name());
            if free {
                Arc::make_mut(entries).insert(agent.name().clone(), agent);
            }
            free
        })
    }

    pub(crate) fn remove(&self, name: &AgentName) -> Option<AgentHandle> {
        let mut removed = None;
        self.entries.send_if_modified(|entries| {
            removed = Arc::make_mut(entries).remove(name);
            removed.is_some()
        });
        if let Some(handle) = &removed {
            handle.services.meters.forget(name);
        }
        removed
    }

    /// Tells of names that come and go.
    fn watch(&self) -> watch::Receiver<Entries> {
        self.entries.subscribe()
    }

    /// Forgets everybody.
    pub(crate) fn clear(&self) {
        for (name, handle) in self.entries.send_replace(Entries::default()).iter() {
            handle.services.meters.forget(name);
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<AgentHandle> {
        let name = AgentName::try_from(name).ok()?;
        self.entries.borrow().get(&name).cloned()
    }

    pub(crate) fn all(&self) -> Vec<AgentHandle> {
        self.entries.borrow().values().cloned().collect()
    }

    /// Returns whether work that is handed to `agent` may come back to one of those above it: `path`
    /// goes down to `agent`.
    pub(crate) fn comes_back(&self, agent: &AgentHandle, path: &AgentPath) -> bool {
        let above: Vec<&str> = path.agents().rev().skip(1).collect();
        let mut seen = BTreeSet::from([agent.name().clone()]);
        let mut next = vec![agent.clone()];
        while let Some(agent) = next.pop() {
            if above.contains(&agent.name().as_str()) {
                return true;
            }
            let spec = agent.spec();
            for name in spec.delegates().chain(spec.successors()).chain(&spec.fallback.agent) {
                if seen.insert(name.clone()) {
                    next.extend(self.find(name.as_str()));
                }
            }
        }
        false
    }

    /// Returns the registered name that looks most like `name`.
    pub(crate) fn nearest(&self, name: &str) -> Option<String> {
        let entries = self.entries.borrow();
        nearest(name, entries.keys().map(AgentName::as_str)).map(str::to_owned)
    }
}

/// Returns the candidate that looks most like `name`, if one does at all.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

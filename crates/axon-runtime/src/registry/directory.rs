//! The registry as data: who takes messages here, under which name, and how they are.

use std::collections::BTreeSet;
use std::sync::Arc;

use axon_kernel::ids::Generation;
use axon_kernel::spec::{AgentName, Kind, Tag, ToolName};
use futures_util::future::{join_all, select_all};
use serde::Serialize;

use crate::agent::{AgentHandle, AgentState};
use crate::events::RuntimeEvents;
use crate::services::Services;

/// Who takes messages here: agents, routers and pipelines alike. It belongs to one runtime.
#[derive(Clone)]
pub struct Directory {
    services: Arc<Services>,
}

/// One that takes messages, as it was when it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The name that messages go to.
    pub name: AgentName,
    /// What it is.
    pub kind: Kind,
    /// What it is for, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Words by which it is found beside its name.
    pub tags: BTreeSet<Tag>,
    /// What it can do: its tools.
    pub capabilities: BTreeSet<ToolName>,
    /// How it is.
    #[serde(flatten)]
    pub state: AgentState,
    /// The generation of its first runner that is up; 0 for what has no runner.
    pub generation: Generation,
}

/// Tells of changes in a [`Directory`].
#[derive(Debug)]
pub struct DirectoryWatch {
    directory: Directory,
    events: RuntimeEvents,
    last: Option<Vec<Entry>>,
}

impl Directory {
    pub(crate) fn new(services: Arc<Services>) -> Self {
        Self { services }
    }

    /// Returns all entries, by name, each with the generation that serves now.
    pub async fn entries(&self) -> Vec<Entry> {
        let handles = self.services.registry.all();
        join_all(handles.iter().map(Entry::of)).await
    }

    /// Returns those that have all of these tags, by name.
    #[must_use]
    pub fn tagged(&self, tags: &[&str]) -> Vec<AgentHandle> {
        let mut found = self.services.registry.all();
        found.retain(|handle| {
            let spec = handle.spec();
            tags.iter().all(|tag| spec.tags.iter().any(|own| own.as_str() == *tag))
        });
        found
    }

    /// Returns those that have the tool called `capability`, by name.
    #[must_use]
    pub fn capable_of(&self, capability: &str) -> Vec<AgentHandle> {
        let mut found = self.services.registry.all();
        found.retain(|handle| handle.spec().tool(capability).is_some());
        found
    }

    /// Watches the entries. Nobody waits for whoever reads: one that is slow misses what lay between.
    ///
    /// ```no_run
    /// # async fn example(runtime: axon_runtime::Runtime) {
    /// let mut watch = runtime.directory().watch();
    /// while let Some(entries) = watch.next().await {
    ///     println!("{} take messages", entries.len());
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn watch(&self) -> DirectoryWatch {
        let events = self.services.events.listen();
        DirectoryWatch { directory: self.clone(), events, last: None }
    }

    /// Resolves when somebody comes or goes, or takes messages otherwise than before, from now on.
    fn changes(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut names = self.services.registry.watch();
        let handles = self.services.registry.all();
        let mut standings: Vec<_> = handles.iter().map(|handle| handle.agent.standings()).collect();
        async move {
            let standings = standings.iter_mut().map(|standing| Box::pin(standing.changed()));
            let standings: Vec<_> = standings.collect();
            let any = async {
                match standings.is_empty() {
                    true => std::future::pending().await,
                    false => drop(select_all(standings).await),
                }
            };
            tokio::select! {
                _changed = names.changed() => {}
                () = any => {}
            }
        }
    }
}

impl DirectoryWatch {
    /// Returns the entries: at first as they are, then whenever they have changed; `None` when the
    /// runtime is gone.
    pub async fn next(&mut self) -> Option<Vec<Entry>> {
        loop {
            // Whatever happens from here on is looked at again.
            let changes = self.directory.changes();
            let now = self.directory.entries().await;
            if self.last.as_ref() != Some(&now) {
                self.last = Some(now.clone());
                return Some(now);
            }
            tokio::select! {
                event = self.events.next() => drop(event?),
                () = changes => {}
            }
        }
    }
}

impl Entry {
    async fn of(handle: &AgentHandle) -> Self {
        let (spec, status) = (handle.spec(), handle.status_now().await);
        Self {
            name: spec.name.clone(),
            kind: spec.kind(),
            description: spec.description.clone(),
            tags: spec.tags.clone(),
            capabilities: spec.tools.iter().map(|tool| tool.name.clone()).collect(),
            state: status.state,
            generation: status.generation,
        }
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Directory").field(&self.services.registry).finish()
    }
}

//! The store that lasts as long as its process.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axon_kernel::event::RunEvent;
use axon_kernel::ids::{ConversationId, RunId};
use axon_kernel::json::RawJson;
use axon_kernel::store::{Durable, Store, StoreError, StoreFuture};

/// How many ended runs are kept; the oldest is forgotten first. Open runs are always kept.
const ENDED_RUNS: usize = 1024;

/// Keeps runs and conversations in memory: conversations for as long as the process lives, and of
/// the runs that have ended the last 1,024.
#[derive(Debug, Default)]
pub struct MemoryStore {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    runs: HashMap<RunId, Vec<RunEvent>>,
    ended: VecDeque<RunId>,
    conversations: HashMap<ConversationId, Vec<RawJson>>,
}

impl Kept {
    /// Counts `run` among the ended ones, and forgets the oldest of those beyond `limit`.
    fn forget_beyond(&mut self, limit: usize, run: &RunId) {
        self.ended.push_back(run.clone());
        if self.ended.len() > limit
            && let Some(oldest) = self.ended.pop_front()
        {
            self.runs.remove(&oldest);
        }
    }
}

impl MemoryStore {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append_now(
        &self,
        run: &RunId,
        expected: u64,
        events: &[RunEvent],
    ) -> Result<Durable, StoreError> {
        let mut kept = self.kept();
        let record = kept.runs.entry(run.clone()).or_default();
        check(run.as_str(), expected, record.len())?;
        record.extend_from_slice(events);
        let recorded = record.len() as u64;
        if events.iter().any(RunEvent::is_terminal) {
            kept.forget_beyond(ENDED_RUNS, run);
        }
        Ok(Durable { recorded })
    }

    fn extend_now(
        &self,
        conversation: &ConversationId,
        expected: usize,
        base: usize,
        messages: &[RawJson],
    ) -> Result<(), StoreError> {
        let mut kept = self.kept();
        let history = kept.conversations.entry(conversation.clone()).or_default();
        check(conversation.as_str(), expected as u64, history.len())?;
        history.truncate(base);
        history.extend_from_slice(messages);
        Ok(())
    }
}

fn check(key: &str, expected: u64, found: usize) -> Result<(), StoreError> {
    let found = found as u64;
    if found == expected {
        return Ok(());
    }
    Err(StoreError::Conflict { key: key.to_owned(), expected, found })
}

impl Store for MemoryStore {
    fn append<'a>(
        &'a self,
        run: &'a RunId,
        expected: u64,
        events: &'a [RunEvent],
    ) -> StoreFuture<'a, Durable> {
        Box::pin(async move { self.append_now(run, expected, events) })
    }

    fn events<'a>(&'a self, run: &'a RunId) -> StoreFuture<'a, Vec<RunEvent>> {
        Box::pin(async move {
            self.kept().runs.get(run).cloned().ok_or_else(|| StoreError::NotFound(run.clone()))
        })
    }

    fn history<'a>(&'a self, conversation: &'a ConversationId) -> StoreFuture<'a, Vec<RawJson>> {
        Box::pin(async move {
            Ok(self.kept().conversations.get(conversation).cloned().unwrap_or_default())
        })
    }

    fn extend_history<'a>(
        &'a self,
        conversation: &'a ConversationId,
        expected: usize,
        kept: usize,
        messages: &'a [RawJson],
    ) -> StoreFuture<'a, ()> {
        Box::pin(async move { self.extend_now(conversation, expected, kept, messages) })
    }
}

#[cfg(test)]
mod tests {
    use axon_kernel::event::{Cancelled, Resumed, RunEvent};

    use super::*;

    #[tokio::test]
    async fn a_stale_writer_is_refused() {
        let store = MemoryStore::default();
        let run = RunId::new("r1");
        let event = [RunEvent::Resumed(Resumed {})];
        assert_eq!(store.append(&run, 0, &event).await.unwrap(), Durable { recorded: 1 });
        let refused = store.append(&run, 0, &event).await.unwrap_err();
        assert!(matches!(refused, StoreError::Conflict { expected: 0, found: 1, .. }));
        assert_eq!(store.events(&run).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn of_ended_runs_the_newest_are_kept_and_open_ones_always() {
        let store = MemoryStore::default();
        let open = RunId::new("open");
        store.append(&open, 0, &[RunEvent::Resumed(Resumed {})]).await.unwrap();
        let end = [RunEvent::Cancelled(Cancelled { reason: String::new() })];
        for n in 0..=ENDED_RUNS {
            store.append(&RunId::new(n.to_string()), 0, &end).await.unwrap();
        }
        assert!(store.events(&open).await.is_ok());
        assert!(matches!(store.events(&RunId::new("0")).await, Err(StoreError::NotFound(_))));
        assert!(store.events(&RunId::new("1")).await.is_ok());
    }
}

//! The store that lasts as long as its process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axon_kernel::event::RunEvent;
use axon_kernel::ids::{ConversationId, RunId};
use axon_kernel::json::RawJson;
use axon_kernel::store::{Durable, Store, StoreError, StoreFuture};

/// Keeps runs and conversations in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    runs: HashMap<RunId, Vec<RunEvent>>,
    conversations: HashMap<ConversationId, Vec<RawJson>>,
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
        Ok(Durable { recorded: record.len() as u64 })
    }

    fn extend_now(
        &self,
        conversation: &ConversationId,
        expected: usize,
        messages: &[RawJson],
    ) -> Result<(), StoreError> {
        let mut kept = self.kept();
        let history = kept.conversations.entry(conversation.clone()).or_default();
        check(conversation.as_str(), expected as u64, history.len())?;
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
        messages: &'a [RawJson],
    ) -> StoreFuture<'a, ()> {
        Box::pin(async move { self.extend_now(conversation, expected, messages) })
    }
}

#[cfg(test)]
mod tests {
    use axon_kernel::event::{Resumed, RunEvent};

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
}

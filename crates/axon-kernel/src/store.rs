//! The door to the store: where runs and conversations are kept.

use std::future::Future;
use std::pin::Pin;

use crate::event::RunEvent;
use crate::ids::{ConversationId, RunId};
use crate::json::RawJson;

/// A boxed future of a store, so that the runtime can hold any store by one type.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Proof that what was handed to the store is as durable as the store makes things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// The number of recorded events of the run, after this append.
    pub recorded: u64,
}

/// Keeps the recorded events of runs, and the histories of conversations.
///
/// Every call is awaited before what it recorded is used.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Appends `events` to the record of `run`, which must hold `expected` events so far.
    fn append<'a>(
        &'a self,
        run: &'a RunId,
        expected: u64,
        events: &'a [RunEvent],
    ) -> StoreFuture<'a, Durable>;

    /// Returns the recorded events of `run`, oldest first.
    fn events<'a>(&'a self, run: &'a RunId) -> StoreFuture<'a, Vec<RunEvent>>;

    /// Returns the messages of `conversation`, oldest first; empty if there is none.
    fn history<'a>(&'a self, conversation: &'a ConversationId) -> StoreFuture<'a, Vec<RawJson>>;

    /// Lets a finished turn join `conversation`, which must hold `expected` messages so far: the
    /// first `kept` of them stay, and `messages` follow. A turn that rewrote nothing keeps all.
    fn extend_history<'a>(
        &'a self,
        conversation: &'a ConversationId,
        expected: usize,
        kept: usize,
        messages: &'a [RawJson],
    ) -> StoreFuture<'a, ()>;
}

/// Why the store refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else appended in between: the caller's view is stale.
    #[error("`{key}` holds {found} records, not {expected}: another writer was here")]
    Conflict {
        /// The run or conversation.
        key: String,
        /// What the caller expected.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// No such run.
    #[error("the store holds no run `{0}`")]
    NotFound(RunId),
    /// The store itself failed.
    #[error("the store failed")]
    Backend(#[source] Box<dyn std::error::Error + Send + Sync>),
}

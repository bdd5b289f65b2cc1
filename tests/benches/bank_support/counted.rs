//! A store that counts what is asked of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axon_kernel::event::Sequenced;
use axon_kernel::ids::{ConversationId, RunId};
use axon_kernel::json::RawJson;
use axon_kernel::store::{
    Append, Durable, Forget, Forgotten, RunQuery, RunSummary, Store, StoreFuture, StoreReport,
    TurnTaken,
};

/// A store, and how much it was asked to write.
#[derive(Debug)]
pub(crate) struct Counted {
    store: Arc<dyn Store>,
    appends: AtomicU64,
    events: AtomicU64,
}

impl Counted {
    /// Counts what is asked of `store`.
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, appends: AtomicU64::new(0), events: AtomicU64::new(0) }
    }

    /// Returns how many appends there were so far, and how many events they had.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.appends.load(Ordering::Relaxed), self.events.load(Ordering::Relaxed))
    }
}

impl Store for Counted {
    fn append<'a>(&'a self, append: Append<'a>) -> StoreFuture<'a, Durable> {
        self.appends.fetch_add(1, Ordering::Relaxed);
        self.events.fetch_add(append.events.len() as u64, Ordering::Relaxed);
        self.store.append(append)
    }

    fn records<'a>(&'a self, run: &'a RunId, after: u64) -> StoreFuture<'a, Vec<Sequenced>> {
        self.store.records(run, after)
    }

    fn run<'a>(&'a self, run: &'a RunId) -> StoreFuture<'a, RunSummary> {
        self.store.run(run)
    }

    fn runs<'a>(&'a self, query: &'a RunQuery) -> StoreFuture<'a, Vec<RunSummary>> {
        self.store.runs(query)
    }

    fn claim<'a>(&'a self, run: &'a RunId) -> StoreFuture<'a, RunSummary> {
        self.store.claim(run)
    }

    fn release<'a>(&'a self, run: &'a RunId) -> StoreFuture<'a, ()> {
        self.store.release(run)
    }

    fn take_turn<'a>(
        &'a self,
        conversation: &'a ConversationId,
        run: &'a RunId,
    ) -> StoreFuture<'a, TurnTaken> {
        self.store.take_turn(conversation, run)
    }

    fn history<'a>(&'a self, conversation: &'a ConversationId) -> StoreFuture<'a, Vec<RawJson>> {
        self.store.history(conversation)
    }

    fn forget<'a>(&'a self, what: &'a Forget) -> StoreFuture<'a, Forgotten> {
        self.store.forget(what)
    }

    fn import<'a>(&'a self, records: &'a [Sequenced]) -> StoreFuture<'a, RunSummary> {
        self.store.import(records)
    }

    fn report(&self, thorough: bool) -> StoreFuture<'_, StoreReport> {
        self.store.report(thorough)
    }

    fn is_durable(&self) -> bool {
        self.store.is_durable()
    }
}

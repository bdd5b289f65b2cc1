//! A store that stops before and after every append and tells the world.

use std::sync::Arc;

use axon_kernel::event::Sequenced;
use axon_kernel::ids::{ConversationId, RunId};
use axon_kernel::json::RawJson;
use axon_kernel::store::{
    Append, Durable, Forget, Forgotten, RunQuery, RunSummary, Store, StoreFuture, StoreReport,
    TurnTaken,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::world::Arrival;

/// A store that stops before and after every append and tells the [`World`](super::World).
#[derive(Debug)]
pub struct WatchedStore {
    inner: Arc<dyn Store>,
    world: String,
}

impl WatchedStore {
    /// Watches `inner` for the world at the address `world`.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, world: String) -> Self {
        Self { inner, world }
    }

    /// Tells the world, and goes on when it says so. A world that is gone stops nobody.
    async fn tell(&self, arrival: &Arrival) {
        let told = async {
            let mut stream = BufReader::new(TcpStream::connect(&self.world).await?);
            let mut line = serde_json::to_string(arrival)?;
            line.push('\n');
            stream.write_all(line.as_bytes()).await?;
            line.clear();
            stream.read_line(&mut line).await
        };
        let _told: std::io::Result<usize> = told.await;
    }
}

impl Store for WatchedStore {
    fn append<'a>(&'a self, append: Append<'a>) -> StoreFuture<'a, Durable> {
        Box::pin(async move {
            let run = append.run.clone();
            let events = append.events.iter().map(|event| event.event.name().to_owned()).collect();
            let mut arrival = Arrival::Append { run: run.clone(), done: false, events };
            self.tell(&arrival).await;
            let outcome = self.inner.append(append).await;
            if let Err(error) = &outcome {
                self.tell(&Arrival::Failed { run, code: error.code().to_owned() }).await;
                return outcome;
            }
            if let Arrival::Append { done, .. } = &mut arrival {
                *done = true;
            }
            self.tell(&arrival).await;
            outcome
        })
    }

    fn records<'a>(&'a self, run: &'a RunId, after: u64) -> StoreFuture<'a, Vec<Sequenced>> {
        self.inner.records(run, after)
    }

    fn run<'a>(&'a self, run: &'a RunId) -> StoreFuture<'a, RunSummary> {
        self.inner.run(run)
    }

    fn runs<'a>(&'a self, query: &'a RunQuery) -> StoreFuture<'a, Vec<RunSummary>> {
        self.inner.runs(query)
    }

    fn claim<'a>(&'a self, run: &'a RunId) -> StoreFuture<'a, RunSummary> {
        self.inner.claim(run)
    }

    fn release<'a>(&'a self, run: &'a RunId) -> StoreFuture<'a, ()> {
        self.inner.release(run)
    }

    fn take_turn<'a>(
        &'a self,
        conversation: &'a ConversationId,
        run: &'a RunId,
    ) -> StoreFuture<'a, TurnTaken> {
        self.inner.take_turn(conversation, run)
    }

    fn history<'a>(&'a self, conversation: &'a ConversationId) -> StoreFuture<'a, Vec<RawJson>> {
        self.inner.history(conversation)
    }

    fn forget<'a>(&'a self, what: &'a Forget) -> StoreFuture<'a, Forgotten> {
        self.inner.forget(what)
    }

    fn import<'a>(&'a self, records: &'a [Sequenced]) -> StoreFuture<'a, RunSummary> {
        self.inner.import(records)
    }

    fn report(&self, thorough: bool) -> StoreFuture<'_, StoreReport> {
        self.inner.report(thorough)
    }

    fn is_durable(&self) -> bool {
        self.inner.is_durable()
    }
}

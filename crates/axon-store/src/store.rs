//! The store itself: what is asked of it goes to the writer or to a reader.

use std::fmt;

use axon_kernel::event::Sequenced;
use axon_kernel::ids::{ConversationId, RunId};
use axon_kernel::json::RawJson;
use axon_kernel::store::{
    Append, Durable, Forget, Forgotten, RunQuery, RunSummary, Store, StoreError, StoreFuture,
    StoreReport, TurnTaken,
};
use tokio::sync::{mpsc, oneshot};

use crate::fault::Fault;
use crate::operation::{Addition, Answer, Operation, WrongAnswer};
use crate::readers::Readers;
use crate::rows::{Living, RunRow};
use crate::writer::Job;
use crate::{forget, owners, read, report};

/// A store in a database.
pub(crate) struct SqlStore {
    pub(crate) epoch: i64,
    pub(crate) queue: mpsc::Sender<Job>,
    pub(crate) readers: Readers,
}

impl fmt::Debug for SqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStore")
            .field("name", &self.readers.source.name())
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl SqlStore {
    async fn ask(&self, operation: Operation) -> Result<Answer, StoreError> {
        let gone = || StoreError::Stopped { detail: "its writer has ended".to_owned() };
        let (reply, answer) = oneshot::channel();
        let sent = self.queue.send(Job { operation, reply }).await;
        sent.map_err(|_closed| gone())?;
        answer.await.map_err(|_closed| gone())?
    }

    async fn summary(&self, run: &RunId) -> Result<RunSummary, StoreError> {
        let found = self.readers.read(|mut link| async move {
            let Some(row) = read::run(&mut link, run).await? else { return Ok((link, None)) };
            let living = match row.owner {
                Some(owner) if owner != self.epoch => {
                    owners::living(&self.readers.source, &mut link).await?
                }
                _ => Living::new(),
            };
            Ok((link, Some(row.summary(self.epoch, &living)?)))
        });
        found.await?.ok_or_else(|| StoreError::NotFound(run.clone()))
    }

    async fn list(&self, query: &RunQuery) -> Result<Vec<RunSummary>, StoreError> {
        let found = self.readers.read(|mut link| async move {
            if let Some(after) = &query.after
                && read::run(&mut link, after).await?.is_none()
            {
                return Ok((link, Err(StoreError::NotFound(after.clone()))));
            }
            let living = owners::living(&self.readers.source, &mut link).await?;
            let rows = read::runs(&mut link, query, &living).await?;
            let summary = |row: &RunRow| row.summary(self.epoch, &living);
            let found = rows.iter().map(summary).collect::<Result<_, Fault>>()?;
            Ok((link, Ok(found)))
        });
        found.await?
    }

    async fn forget_all(&self, what: &Forget) -> Result<Forgotten, StoreError> {
        let mut forgotten = Forgotten::default();
        loop {
            let so_far = forgotten.runs + forgotten.conversations;
            let at_most = what.at_most.saturating_sub(so_far).min(forget::AT_ONCE);
            if at_most == 0 {
                return Ok(forgotten);
            }
            let piece = Forget { at_most, ..what.clone() };
            let Answer::Forgotten(more) = self.ask(Operation::Forget(piece)).await? else {
                return Err(wrong());
            };
            forgotten.runs += more.runs;
            forgotten.conversations += more.conversations;
            if more.runs + more.conversations < at_most {
                return Ok(forgotten);
            }
        }
    }
}

fn wrong() -> StoreError {
    Fault::from(WrongAnswer).into()
}

impl Store for SqlStore {
    fn append<'a>(&'a self, append: Append<'a>) -> StoreFuture<'a, Durable> {
        Box::pin(async move {
            let addition = Addition::of(&append)?;
            let answer = self.ask(Operation::Append(addition)).await?;
            let Answer::Durable(durable) = answer else { return Err(wrong()) };
            Ok(durable)
        })
    }

    fn records<'a>(&'a self, run: &'a RunId, after: u64) -> StoreFuture<'a, Vec<Sequenced>> {
        Box::pin(async move {
            let found = self.readers.read(|mut link| async move {
                let found = read::records(&mut link, run, after).await?;
                Ok((link, found))
            });
            let found = found.await?;
            let (_, events) = found.ok_or_else(|| StoreError::NotFound(run.clone()))?;
            Ok(events)
        })
    }

    fn run<'a>(&'a self, run: &'a RunId) -> StoreFuture<'a, RunSummary> {
        Box::pin(self.summary(run))
    }

    fn runs<'a>(&'a self, query: &'a RunQuery) -> StoreFuture<'a, Vec<RunSummary>> {
        Box::pin(self.list(query))
    }

    fn claim<'a>(&'a self, run: &'a RunId) -> StoreFuture<'a, RunSummary> {
        Box::pin(async move {
            let answer = self.ask(Operation::Claim(run.clone())).await?;
            let Answer::Summary(summary) = answer else { return Err(wrong()) };
            Ok(summary)
        })
    }

    fn release<'a>(&'a self, run: &'a RunId) -> StoreFuture<'a, ()> {
        Box::pin(async move { self.ask(Operation::Release(run.clone())).await.map(drop) })
    }

    fn take_turn<'a>(
        &'a self,
        conversation: &'a ConversationId,
        run: &'a RunId,
    ) -> StoreFuture<'a, TurnTaken> {
        let (conversation, run) = (conversation.clone(), run.clone());
        Box::pin(async move {
            let answer = self.ask(Operation::TakeTurn { conversation, run }).await?;
            let Answer::Turn(taken) = answer else { return Err(wrong()) };
            Ok(taken)
        })
    }

    fn history<'a>(&'a self, conversation: &'a ConversationId) -> StoreFuture<'a, Vec<RawJson>> {
        Box::pin(async move {
            let found = self.readers.read(|mut link| async move {
                let found = read::history(&mut link, conversation).await?;
                Ok((link, found))
            });
            Ok(found.await?)
        })
    }

    fn forget<'a>(&'a self, what: &'a Forget) -> StoreFuture<'a, Forgotten> {
        Box::pin(self.forget_all(what))
    }

    fn import<'a>(&'a self, records: &'a [Sequenced]) -> StoreFuture<'a, RunSummary> {
        Box::pin(async move {
            let addition = Addition::of_record(records)?;
            let run = addition.run.clone();
            let answer = self.ask(Operation::Import(addition)).await?;
            if let Answer::Summary(summary) = answer {
                return Ok(summary);
            }
            // A commit that was in doubt has taken effect.
            self.summary(&run).await
        })
    }

    fn report(&self, thorough: bool) -> StoreFuture<'_, StoreReport> {
        Box::pin(async move {
            let source = &self.readers.source;
            let found = self.readers.read(|mut link| async move {
                let found = report::report(source, &mut link, self.epoch, thorough).await?;
                Ok((link, found))
            });
            Ok(found.await?)
        })
    }

    fn is_durable(&self) -> bool {
        true
    }
}

//! The one task that writes. It takes whatever waits into one transaction, so that many appends
//! share one wait for the disk.

use std::collections::HashMap;

use axon_kernel::ids::RunId;
use axon_kernel::store::{Durable, StoreError};
use tokio::sync::{mpsc, oneshot};

use crate::bulk::Texts;
use crate::chain;
use crate::draft::{Draft, Known};
use crate::fault::{Doing, Fault};
use crate::forget;
use crate::link::Link;
use crate::operation::{Addition, Answer, Operation};
use crate::owners::{self, Ownership};
use crate::rows::{signed, unsigned};
use crate::source::Source;
use crate::transaction::Transaction;

/// How many operations wait for the writer at most; who comes then waits for a place.
pub(crate) const QUEUE: usize = 1024;

/// How many operations one transaction takes at most.
const OPERATIONS: usize = 256;

/// About how many bytes one transaction takes at most (8 MiB).
const BYTES: usize = 8 * 1024 * 1024;

/// How often an operation that met another writer is tried again, alone.
const TRIES: usize = 4;

/// How many runs are remembered whose commit nobody confirmed. Each has one append under way, so
/// these are more than are open at the same time.
const DOUBTS: usize = 16 * 1024;

/// An operation, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) operation: Operation,
    pub(crate) reply: oneshot::Sender<Result<Answer, StoreError>>,
}

type Answers = Vec<Result<Answer, StoreError>>;

/// The writer's state.
#[derive(Debug)]
pub(crate) struct Writer {
    source: Source,
    link: Option<Link>,
    ownership: Ownership,
    texts: Texts,
    /// Where the records of runs ended before a commit that nobody confirmed. It is forgotten when
    /// an append of the same run is answered.
    doubts: HashMap<RunId, i64>,
    /// Why it writes no more.
    stopped: Option<String>,
}

impl Writer {
    pub(crate) fn new(source: Source, link: Link, ownership: Ownership) -> Self {
        Self {
            source,
            link: Some(link),
            ownership,
            texts: Texts::default(),
            doubts: HashMap::new(),
            stopped: None,
        }
    }

    /// Writes until nobody can ask any more, and what was asked is done.
    pub(crate) async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut next = queue.recv().await;
        while let Some(first) = next.take() {
            let batch = gather(first, &mut queue, &mut next);
            self.commit(batch).await;
            if next.is_none() {
                next = queue.recv().await;
            }
        }
        if let Some(link) = self.link.take() {
            link.close().await;
        }
    }

    async fn commit(&mut self, batch: Vec<Job>) {
        let operations: Vec<&Operation> = batch.iter().map(|job| &job.operation).collect();
        let answers = match self.attempt(&operations).await {
            Ok(answers) => answers,
            Err(fault) if fault.may_be_of_one() => self.one_by_one(&operations).await,
            Err(fault) => operations.iter().map(|_| Err(fault.clone().into())).collect(),
        };
        for (job, answer) in batch.into_iter().zip(answers) {
            // Whoever asked may have gone; what is recorded stays recorded.
            let _ = job.reply.send(answer);
        }
    }

    async fn one_by_one(&mut self, operations: &[&Operation]) -> Answers {
        let mut answers = Vec::with_capacity(operations.len());
        for operation in operations {
            answers.push(self.alone(operation).await);
        }
        answers
    }

    async fn alone(&mut self, operation: &Operation) -> Result<Answer, StoreError> {
        let mut tries = 1;
        loop {
            match self.attempt(&[operation]).await {
                Ok(mut answers) => return answers.pop().unwrap_or(Ok(Answer::Done)),
                Err(fault) if fault.is_a_race() && tries < TRIES => tries += 1,
                Err(fault) => return Err(fault.into()),
            }
        }
    }

    /// Carries `operations` out in one transaction.
    async fn attempt(&mut self, operations: &[&Operation]) -> Result<Answers, Fault> {
        let was_linked = self.link.is_some();
        let lost = match self.transact(operations).await {
            // The commit may have taken effect although nobody said so: look, on a new link.
            Err(Fault::Lost(detail)) if was_linked => detail,
            answers => return answers,
        };
        tracing::warn!(%lost, "the link to the store was lost in a transaction");
        self.transact(operations).await
    }

    async fn transact(&mut self, operations: &[&Operation]) -> Result<Answers, Fault> {
        if let Some(detail) = &self.stopped {
            return Err(Fault::Stopped(detail.clone()));
        }
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self.reconnect().await?,
        };
        match self.on(&mut link, operations).await {
            Ok(answers) => {
                self.link = Some(link);
                Ok(answers)
            }
            Err(fault) => {
                self.give_up(link, &fault).await;
                Err(self.source.explained(fault))
            }
        }
    }

    async fn on(&mut self, link: &mut Link, operations: &[&Operation]) -> Result<Answers, Fault> {
        link.begin().await?;
        if let [Operation::Forget(what)] = operations {
            let forgotten = forget::forget(link, &mut self.texts, what).await?;
            link.commit().await?;
            return Ok(vec![Ok(Answer::Forgotten(forgotten))]);
        }
        let ours = self.ownership.epoch;
        let mut transaction = Transaction { link, texts: &mut self.texts };
        let known = transaction.known(operations, &self.source, ours).await?;
        let settled: Vec<Option<Answer>> =
            operations.iter().map(|operation| settle(&self.doubts, operation, &known)).collect();
        let mut draft = Draft::new(ours, known);
        let mut answers = Answers::with_capacity(operations.len());
        for (operation, settled) in operations.iter().zip(settled) {
            let is_new = settled.is_none();
            let answer = settled.map_or_else(|| draft.apply(operation), Ok);
            if let (Operation::Append(addition), true, true) = (operation, is_new, answer.is_ok()) {
                transaction.write(&addition.writes).await?;
            }
            answers.push(answer);
        }
        transaction.flush(&draft).await?;
        self.finish(link, &draft).await.map_err(|fault| blame(operations, fault))?;
        for (operation, answer) in operations.iter().zip(&answers) {
            if let (Some(addition), Ok(_)) = (operation.addition(), answer) {
                self.doubts.remove(&addition.run);
            }
        }
        Ok(answers)
    }

    async fn finish(&mut self, link: &mut Link, draft: &Draft) -> Result<(), Fault> {
        let done = link.commit().await;
        if matches!(done, Err(Fault::Lost(_))) {
            if self.doubts.len() + draft.changed.len() > DOUBTS {
                self.doubts.clear();
            }
            // The first of a run's records is the last that is put in.
            let records = draft.records.iter().rev();
            self.doubts.extend(records.map(|record| (record.run.clone(), record.follows)));
        }
        done
    }

    /// Ends what is left of a transaction that failed, and decides what the failure means for the
    /// next one.
    async fn give_up(&mut self, mut link: Link, fault: &Fault) {
        if let Fault::Stopped(detail) = fault {
            tracing::error!(%detail, "the store stops writing for good: its disk failed");
            self.stopped = Some(detail.clone());
            return;
        }
        if matches!(fault, Fault::Lost(_)) {
            return;
        }
        let is_of_use = match link.rollback().await {
            Ok(()) => true,
            Err(Fault::Lost(_)) => false,
            // SQLite has rolled back by itself where it says that there is nothing to roll back.
            Err(_) => !link.is_postgres(),
        };
        if is_of_use {
            self.link = Some(link);
        }
    }

    /// Connects again, as the same owner as before.
    async fn reconnect(&mut self) -> Result<Link, Fault> {
        let mut link = Link::open(&self.source, Doing::Writing).await?;
        if link.is_postgres() && !owners::hold_session(&mut link, self.ownership.epoch).await? {
            return Err(Fault::Unavailable("an old session still holds its lock".to_owned()));
        }
        tracing::info!(store = self.source.name(), "the store is connected again");
        Ok(link)
    }
}

/// Takes what waits, up to the bounds of a transaction. What does not fit is left in `next`.
fn gather(first: Job, queue: &mut mpsc::Receiver<Job>, next: &mut Option<Job>) -> Vec<Job> {
    let mut bytes = first.operation.bytes();
    let mut batch = vec![first];
    while batch.len() < OPERATIONS && bytes < BYTES {
        let Ok(job) = queue.try_recv() else { break };
        if !fits(&batch, &job.operation) {
            *next = Some(job);
            break;
        }
        bytes += job.operation.bytes();
        batch.push(job);
    }
    batch
}

fn fits(batch: &[Job], operation: &Operation) -> bool {
    if operation.stands_alone() || batch.iter().any(|job| job.operation.stands_alone()) {
        return false;
    }
    let Some(turn) = operation.turn() else { return true };
    let turns = batch.iter().filter_map(|job| job.operation.turn());
    turns.into_iter().all(|other| other.conversation != turn.conversation)
}

/// Blames what a tool wrote for a commit that the database refused: it verifies some of its rules
/// only then.
fn blame(operations: &[&Operation], fault: Fault) -> Fault {
    let mut writes = operations.iter().filter_map(|operation| operation.addition()?.writes.last());
    match writes.next() {
        Some(write) => fault.blamed_on(&write.sql, true),
        None => fault,
    }
}

/// Returns the answer to an append that a commit without an answer has carried out already.
fn settle(doubts: &HashMap<RunId, i64>, operation: &Operation, known: &Known) -> Option<Answer> {
    let Addition { run, expected, entries, .. } = operation.addition()?;
    let (before, row) = (doubts.get(run)?, known.runs.get(run)?);
    let recorded = expected + entries.len() as u64;
    let head = entries
        .iter()
        .zip(signed(expected + 1)..)
        .fold(*before, |head, (entry, n)| chain::of_record(head, run.as_str(), &entry.facts(n)));
    let is_there = head == row.head && unsigned(row.recorded) == recorded;
    is_there.then_some(Answer::Durable(Durable { recorded }))
}

//! The store that lasts as long as its process.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axon_kernel::event::{Paused, RunEvent, Sequenced};
use axon_kernel::ids::{ConversationId, RunId};
use axon_kernel::json::RawJson;
use axon_kernel::run::{Replay, RunState};
use axon_kernel::store::{
    Append, Durable, Forget, Forgotten, Owner, RunQuery, RunSummary, Store, StoreError,
    StoreFuture, StoreReport, TurnEnd, TurnTaken,
};

/// How many ended runs are kept; the oldest is forgotten first. Open runs are always kept.
const ENDED_RUNS: usize = 1024;

/// How many runs one query returns at most.
const PAGE: usize = 1_000;

/// Keeps runs and conversations in memory: conversations for as long as the process lives, and of
/// the runs that have ended the last 1,024. Tools cannot write to it.
#[derive(Debug, Default)]
pub struct MemoryStore {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    runs: HashMap<RunId, KeptRun>,
    /// The runs in the order in which they were accepted.
    order: BTreeMap<u64, RunId>,
    next: u64,
    ended: VecDeque<RunId>,
    conversations: HashMap<ConversationId, Vec<RawJson>>,
    turns: HashMap<ConversationId, RunId>,
}

#[derive(Debug)]
struct KeptRun {
    number: u64,
    summary: RunSummary,
    records: Vec<Sequenced>,
}

impl KeptRun {
    fn begin(number: u64, run: &RunId, first: &Sequenced) -> Result<Self, StoreError> {
        let RunEvent::Accepted(accepted) = &first.event else {
            return Err(StoreError::NotFound(run.clone()));
        };
        let summary = RunSummary {
            run_id: run.clone(),
            agent: accepted.agent.clone(),
            conversation_id: accepted.conversation_id.clone(),
            parent: accepted.terms.parent.as_ref().map(|parent| parent.run_id.clone()),
            state: RunState::Queued,
            waits_for: None,
            accepted_at: first.at,
            updated_at: first.at,
            recorded: 0,
            owner: Owner::Us,
        };
        Ok(Self { number, summary, records: Vec::new() })
    }

    fn push(&mut self, events: &[Sequenced]) {
        for event in events {
            self.summary.updated_at = event.at;
            if let Some(state) = RunState::after(&event.event) {
                self.summary.state = state;
                self.summary.waits_for = waits_for(&event.event);
                if state == RunState::Paused || !state.is_open() {
                    self.summary.owner = Owner::Nobody;
                }
            }
            self.records.push(event.clone());
        }
        self.summary.recorded = self.records.len() as u64;
    }
}

fn waits_for(event: &RunEvent) -> Option<String> {
    let RunEvent::Paused(Paused { reason, .. }) = event else { return None };
    Some(reason.label().to_owned())
}

impl Kept {
    fn run(&self, run: &RunId) -> Result<&KeptRun, StoreError> {
        self.runs.get(run).ok_or_else(|| StoreError::NotFound(run.clone()))
    }

    fn append(&mut self, append: Append<'_>) -> Result<Durable, StoreError> {
        let Append { run, expected, events, turn, writes } = append;
        if let Some(write) = writes.first() {
            let detail = format!("a store in memory takes no writes of tools: {}", write.sql);
            return Err(StoreError::ReadOnly { detail });
        }
        let held = self.runs.get(run).map_or(0, |kept| kept.records.len());
        check(run.as_str(), expected, held)?;
        if let Some(turn) = &turn {
            let held = self.conversations.get(turn.conversation).map_or(0, Vec::len);
            check(turn.conversation.as_str(), turn.expected as u64, held)?;
        }
        if let (0, Some(first)) = (held, events.first()) {
            self.runs.insert(run.clone(), KeptRun::begin(self.next, run, first)?);
            self.order.insert(self.next, run.clone());
            self.next += 1;
        }
        if let Some(turn) = turn {
            self.extend(turn);
        }
        let kept = self.runs.get_mut(run).ok_or_else(|| StoreError::NotFound(run.clone()))?;
        kept.push(events);
        let recorded = kept.summary.recorded;
        if !kept.summary.state.is_open() {
            let conversation = kept.summary.conversation_id.clone();
            self.ended(run, conversation);
        }
        Ok(Durable { recorded })
    }

    fn extend(&mut self, turn: TurnEnd<'_>) {
        let history = self.conversations.entry(turn.conversation.clone()).or_default();
        history.truncate(turn.kept);
        history.extend_from_slice(turn.messages);
    }

    /// Ends the turn of `run`, counts it among the ended ones, and forgets the oldest of those.
    fn ended(&mut self, run: &RunId, conversation: Option<ConversationId>) {
        if let Some(conversation) = conversation
            && self.turns.get(&conversation) == Some(run)
        {
            self.turns.remove(&conversation);
        }
        self.ended.push_back(run.clone());
        if self.ended.len() > ENDED_RUNS
            && let Some(oldest) = self.ended.pop_front()
        {
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, run: &RunId) {
        if let Some(gone) = self.runs.remove(run) {
            self.order.remove(&gone.number);
        }
    }

    fn matching(&self, query: &RunQuery) -> Vec<RunSummary> {
        let after = query.after.as_ref().and_then(|after| self.runs.get(after));
        let end = after.map_or(self.next, |after| after.number);
        let limit = if query.limit == 0 { PAGE } else { query.limit.min(PAGE) };
        let newest = self.order.range(..end).rev();
        newest
            .filter_map(|(_, run)| self.runs.get(run))
            .map(|kept| &kept.summary)
            .filter(|summary| is_asked_for(summary, query))
            .take(limit)
            .cloned()
            .collect()
    }

    fn claim(&mut self, run: &RunId) -> Result<RunSummary, StoreError> {
        let kept = self.runs.get_mut(run).ok_or_else(|| StoreError::NotFound(run.clone()))?;
        let state = kept.summary.state;
        if !state.is_open() {
            return Err(StoreError::Ended { run: run.clone(), state });
        }
        if kept.summary.owner == Owner::Us {
            let owner = "this process".to_owned();
            return Err(StoreError::Owned { run: run.clone(), owner });
        }
        kept.summary.owner = Owner::Us;
        Ok(kept.summary.clone())
    }

    fn prune(&mut self, what: &Forget) -> Forgotten {
        let ended = self.ended.iter().rev().filter_map(|run| self.runs.get(run)).enumerate();
        let beyond = |number: usize| what.runs_beyond.is_some_and(|most| number as u64 >= most);
        let old = |at| what.runs_before.is_some_and(|before| at < before);
        let mut gone: Vec<RunId> = ended
            .filter(|(number, kept)| beyond(*number) || old(kept.summary.updated_at))
            .map(|(_, kept)| kept.summary.run_id.clone())
            .collect();
        gone.reverse();
        gone.truncate(usize::try_from(what.at_most).unwrap_or(usize::MAX));
        for run in &gone {
            self.forget(run);
        }
        self.ended.retain(|run| !gone.contains(run));
        // Conversations last as long as the process: nobody else could go on with them.
        Forgotten { runs: gone.len() as u64, conversations: 0 }
    }
}

fn is_asked_for(summary: &RunSummary, query: &RunQuery) -> bool {
    let claimable = summary.state.is_open() && summary.owner == Owner::Nobody;
    query.agent.as_ref().is_none_or(|agent| *agent == summary.agent)
        && query.conversation.as_ref().is_none_or(|id| summary.conversation_id.as_ref() == Some(id))
        && (query.states.is_empty() || query.states.contains(&summary.state))
        && (!query.unowned || claimable)
        && (!query.top_level || summary.parent.is_none())
}

fn check(key: &str, expected: u64, found: usize) -> Result<(), StoreError> {
    let found = found as u64;
    if found == expected {
        return Ok(());
    }
    Err(StoreError::Conflict { key: key.to_owned(), expected, found })
}

impl MemoryStore {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_turn_now(
        &self,
        conversation: &ConversationId,
        run: &RunId,
    ) -> Result<TurnTaken, StoreError> {
        let mut kept = self.kept();
        let holder = kept.turns.get(conversation).filter(|holder| *holder != run).cloned();
        if let Some(holder) = holder {
            return Ok(TurnTaken::Busy(kept.run(&holder)?.summary.clone()));
        }
        kept.turns.insert(conversation.clone(), run.clone());
        Ok(TurnTaken::Yes)
    }

    fn import_now(&self, records: &[Sequenced]) -> Result<RunSummary, StoreError> {
        let Some(first) = records.first() else {
            return Err(StoreError::NotFound(RunId::new("")));
        };
        let replay = Replay::read(records).map_err(|error| StoreError::Unfit {
            run: first.run_id.clone(),
            detail: error.to_string(),
        })?;
        if !replay.status.state().is_some_and(|state| state == RunState::Paused || !state.is_open())
        {
            let (run, detail) = (first.run_id.clone(), "it is still open".to_owned());
            return Err(StoreError::Unfit { run, detail });
        }
        let mut kept = self.kept();
        let append =
            Append { run: &first.run_id, expected: 0, events: records, turn: None, writes: &[] };
        kept.append(append)?;
        let imported = kept.runs.get_mut(&first.run_id);
        let imported = imported.ok_or_else(|| StoreError::NotFound(first.run_id.clone()))?;
        imported.summary.owner = Owner::Nobody;
        Ok(imported.summary.clone())
    }

    fn report_now(&self) -> StoreReport {
        let kept = self.kept();
        let count = |state| kept.runs.values().filter(|run| run.summary.state == state).count();
        let runs = RunState::ALL.map(|state| (state, count(state) as u64));
        StoreReport {
            name: "memory".to_owned(),
            durable: false,
            schema: 0,
            runs: runs.into_iter().filter(|(_, count)| *count > 0).collect(),
            conversations: kept.conversations.len() as u64,
            bytes: None,
            others: Vec::new(),
            damage: Vec::new(),
        }
    }
}

impl Store for MemoryStore {
    fn append<'a>(&'a self, append: Append<'a>) -> StoreFuture<'a, Durable> {
        Box::pin(async move { self.kept().append(append) })
    }

    fn records<'a>(&'a self, run: &'a RunId, after: u64) -> StoreFuture<'a, Vec<Sequenced>> {
        Box::pin(async move {
            let kept = self.kept();
            let records = &kept.run(run)?.records;
            Ok(records.iter().filter(|record| record.seq > after).cloned().collect())
        })
    }

    fn run<'a>(&'a self, run: &'a RunId) -> StoreFuture<'a, RunSummary> {
        Box::pin(async move { Ok(self.kept().run(run)?.summary.clone()) })
    }

    fn runs<'a>(&'a self, query: &'a RunQuery) -> StoreFuture<'a, Vec<RunSummary>> {
        Box::pin(async move { Ok(self.kept().matching(query)) })
    }

    fn claim<'a>(&'a self, run: &'a RunId) -> StoreFuture<'a, RunSummary> {
        Box::pin(async move { self.kept().claim(run) })
    }

    fn release<'a>(&'a self, run: &'a RunId) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            if let Some(kept) = self.kept().runs.get_mut(run) {
                kept.summary.owner = Owner::Nobody;
            }
            Ok(())
        })
    }

    fn take_turn<'a>(
        &'a self,
        conversation: &'a ConversationId,
        run: &'a RunId,
    ) -> StoreFuture<'a, TurnTaken> {
        Box::pin(async move { self.take_turn_now(conversation, run) })
    }

    fn history<'a>(&'a self, conversation: &'a ConversationId) -> StoreFuture<'a, Vec<RawJson>> {
        Box::pin(async move {
            Ok(self.kept().conversations.get(conversation).cloned().unwrap_or_default())
        })
    }

    fn forget<'a>(&'a self, what: &'a Forget) -> StoreFuture<'a, Forgotten> {
        Box::pin(async move { Ok(self.kept().prune(what)) })
    }

    fn import<'a>(&'a self, records: &'a [Sequenced]) -> StoreFuture<'a, RunSummary> {
        Box::pin(async move { self.import_now(records) })
    }

    fn report(&self, _thorough: bool) -> StoreFuture<'_, StoreReport> {
        Box::pin(async move { Ok(self.report_now()) })
    }

    fn is_durable(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use axon_kernel::event::{Accepted, Cancelled, Envelope, Parent, RunTerms, Started};
    use axon_kernel::ids::Attempt;
    use axon_kernel::spec::AgentPath;
    use axon_kernel::time::Timestamp;

    use super::*;

    fn place(run: &RunId, seq: u64, event: RunEvent) -> Sequenced {
        Sequenced { run_id: run.clone(), seq, attempt: Attempt(0), at: Timestamp(seq), event }
    }

    fn accepted(run: &RunId) -> Sequenced {
        let accepted = Accepted {
            agent: "a".to_owned().try_into().unwrap(),
            conversation_id: None,
            prompt: RawJson::null(),
            deps: None,
            terms: RunTerms::default(),
        };
        place(run, 1, RunEvent::Accepted(accepted))
    }

    async fn append(
        store: &MemoryStore,
        run: &RunId,
        expected: u64,
        events: &[Sequenced],
    ) -> Result<Durable, StoreError> {
        store.append(Append { run, expected, events, turn: None, writes: &[] }).await
    }

    #[tokio::test]
    async fn a_stale_writer_is_refused() {
        let store = MemoryStore::default();
        let run = RunId::new("r1");
        let recorded = append(&store, &run, 0, &[accepted(&run)]).await.unwrap();
        assert_eq!(recorded, Durable { recorded: 1 });
        let started = [place(&run, 2, RunEvent::Started(Started { queued_ms: 0 }))];
        let refused = append(&store, &run, 0, &started).await.unwrap_err();
        assert!(matches!(refused, StoreError::Conflict { expected: 0, found: 1, .. }));
        assert_eq!(store.records(&run, 0).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn of_ended_runs_the_newest_are_kept_and_open_ones_always() {
        let store = MemoryStore::default();
        let open = RunId::new("open");
        append(&store, &open, 0, &[accepted(&open)]).await.unwrap();
        let end = RunEvent::Cancelled(Cancelled { reason: String::new() });
        for n in 0..=ENDED_RUNS {
            let run = RunId::new(n.to_string());
            let events = [accepted(&run), place(&run, 2, end.clone())];
            append(&store, &run, 0, &events).await.unwrap();
        }
        assert!(store.run(&open).await.is_ok());
        assert!(matches!(store.run(&RunId::new("0")).await, Err(StoreError::NotFound(_))));
        assert!(store.run(&RunId::new("1")).await.is_ok());
    }

    #[tokio::test]
    async fn runs_below_others_can_be_left_out() {
        let store = MemoryStore::default();
        let (above, below) = (RunId::new("above"), RunId::new("below"));
        append(&store, &above, 0, &[accepted(&above)]).await.unwrap();
        let mut event = accepted(&below);
        if let RunEvent::Accepted(accepted) = &mut event.event {
            accepted.terms.parent = Some(Parent {
                run_id: above.clone(),
                tool_call_id: "c1".into(),
                path: AgentPath::of(&accepted.agent),
                envelope: Envelope::default(),
            });
        }
        append(&store, &below, 0, &[event]).await.unwrap();
        let found = store.runs(&RunQuery { top_level: true, ..RunQuery::default() }).await.unwrap();
        assert_eq!(found.iter().map(|run| &run.run_id).collect::<Vec<_>>(), [&above]);
        assert_eq!(store.run(&below).await.unwrap().parent, Some(above));
    }
}

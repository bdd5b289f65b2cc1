//! What a transaction will change, worked out in memory from the rows that it begins with.
//!
//! Each operation is checked before it changes anything here, so one that is refused leaves its
//! neighbours alone.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use axon_kernel::ids::{ConversationId, RunId};
use axon_kernel::run::RunState;
use axon_kernel::store::{Durable, StoreError, TurnTaken};

use crate::chain;
use crate::operation::{Addition, Answer, Entry, Operation, Turn, Unfit};
use crate::rows::{ConversationRow, Living, RunRow, unsigned};

/// What a store calls itself to one of its own tasks that wants what another one has.
const US: &str = "this process";

/// The rows that a transaction begins with, and who lives.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) runs: HashMap<RunId, RunRow>,
    pub(crate) turns: HashMap<ConversationId, RunId>,
    pub(crate) conversations: HashMap<ConversationId, ConversationRow>,
    /// The checksum of the last message that stays, where a turn rewrote some.
    pub(crate) anchors: HashMap<ConversationId, i64>,
    pub(crate) living: Living,
}

/// What a transaction will change.
#[derive(Debug)]
pub(crate) struct Draft {
    ours: i64,
    pub(crate) known: Known,
    pub(crate) changed: BTreeSet<RunId>,
    pub(crate) records: Vec<Record>,
    pub(crate) grown: BTreeSet<ConversationId>,
    /// From which number on the messages of a conversation go.
    pub(crate) cut: Vec<(ConversationId, i64)>,
    pub(crate) messages: Vec<Message>,
    /// Runs whose turn ends.
    pub(crate) ended: Vec<RunId>,
    pub(crate) taken: Vec<(ConversationId, RunId)>,
}

/// A record to be written.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) run: RunId,
    pub(crate) n: i64,
    pub(crate) entry: Entry,
    /// The checksum of the record before it.
    pub(crate) follows: i64,
    pub(crate) checksum: i64,
}

/// A message to be written.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) conversation: ConversationId,
    pub(crate) n: i64,
    pub(crate) body: Arc<str>,
    pub(crate) checksum: i64,
}

impl Draft {
    pub(crate) fn new(ours: i64, known: Known) -> Self {
        Self {
            ours,
            known,
            changed: BTreeSet::new(),
            records: Vec::new(),
            grown: BTreeSet::new(),
            cut: Vec::new(),
            messages: Vec::new(),
            ended: Vec::new(),
            taken: Vec::new(),
        }
    }

    /// Does `operation`, or refuses it and changes nothing.
    pub(crate) fn apply(&mut self, operation: &Operation) -> Result<Answer, StoreError> {
        match operation {
            Operation::Append(addition) => self.append(addition),
            Operation::Import(addition) => self.import(addition),
            Operation::Claim(run) => self.claim(run),
            Operation::Release(run) => self.release(run),
            Operation::TakeTurn { conversation, run } => self.take_turn(conversation, run),
            // Forgetting reads as it goes, so it is no part of a draft.
            Operation::Forget(_) => Ok(Answer::Done),
        }
    }

    fn append(&mut self, addition: &Addition) -> Result<Answer, StoreError> {
        let mut row = self.row_to_extend(addition)?;
        if addition.entries.first().is_some_and(|first| first.seq <= row.seq) {
            return Err(Unfit::Disordered.into());
        }
        let grown = addition.turn.as_ref().map(|turn| self.grown(turn)).transpose()?;
        self.extend(&mut row, addition);
        if !row.state.is_open() {
            self.end_turn(&row);
        }
        // A run that was paused before stays with whoever claimed it to go on with it.
        if addition.state.is_some_and(|(state, _)| !state.is_open() || state == RunState::Paused) {
            row.owner = None;
        }
        if let (Some(turn), Some(grown)) = (&addition.turn, grown) {
            self.grow(turn, grown, row.updated_at);
        }
        let recorded = unsigned(row.recorded);
        self.put(row);
        Ok(Answer::Durable(Durable { recorded }))
    }

    fn import(&mut self, addition: &Addition) -> Result<Answer, StoreError> {
        let mut row = self.row_to_extend(addition)?;
        self.extend(&mut row, addition);
        row.owner = None;
        let summary = row.summary(self.ours, &self.known.living)?;
        self.put(row);
        Ok(Answer::Summary(summary))
    }

    fn claim(&mut self, run: &RunId) -> Result<Answer, StoreError> {
        let mut row = self.open_row(run)?;
        let owner = match row.owner {
            Some(owner) if owner == self.ours => Some(US.to_owned()),
            Some(owner) => self.known.living.get(&owner).cloned(),
            None => None,
        };
        if let Some(owner) = owner {
            return Err(StoreError::Owned { run: run.clone(), owner });
        }
        row.owner = Some(self.ours);
        let summary = row.summary(self.ours, &self.known.living)?;
        self.put(row);
        Ok(Answer::Summary(summary))
    }

    fn release(&mut self, run: &RunId) -> Result<Answer, StoreError> {
        let mut row = self.row(run)?;
        if row.owner == Some(self.ours) {
            row.owner = None;
            self.put(row);
            return Ok(Answer::Done);
        }
        if row.owner.is_none() {
            return Ok(Answer::Done);
        }
        Err(StoreError::Fenced { run: run.clone() })
    }

    fn take_turn(
        &mut self,
        conversation: &ConversationId,
        run: &RunId,
    ) -> Result<Answer, StoreError> {
        let row = self.open_row(run)?;
        if row.owner != Some(self.ours) {
            return Err(StoreError::Fenced { run: run.clone() });
        }
        let holder = self.known.turns.get(conversation).cloned();
        if holder.as_ref() == Some(run) {
            return Ok(Answer::Turn(TurnTaken::Yes));
        }
        if let Some(holder) = holder {
            // A run that is over holds nothing, whoever failed to write that down.
            if let Some(other) = self.known.runs.get(&holder).filter(|row| row.state.is_open()) {
                let busy = other.summary(self.ours, &self.known.living)?;
                return Ok(Answer::Turn(TurnTaken::Busy(busy)));
            }
            self.ended.push(holder);
        }
        self.known.turns.insert(conversation.clone(), run.clone());
        self.taken.push((conversation.clone(), run.clone()));
        Ok(Answer::Turn(TurnTaken::Yes))
    }

    fn row(&self, run: &RunId) -> Result<RunRow, StoreError> {
        self.known.runs.get(run).cloned().ok_or_else(|| StoreError::NotFound(run.clone()))
    }

    fn open_row(&self, run: &RunId) -> Result<RunRow, StoreError> {
        let row = self.row(run)?;
        if row.state.is_open() {
            return Ok(row);
        }
        Err(StoreError::Ended { run: run.clone(), state: row.state })
    }

    /// Returns the row that `addition` goes on with, or a new one.
    fn row_to_extend(&self, addition: &Addition) -> Result<RunRow, StoreError> {
        let run = &addition.run;
        let conflict = |found| StoreError::Conflict {
            key: run.as_str().to_owned(),
            expected: addition.expected,
            found,
        };
        let Some(row) = self.known.runs.get(run) else {
            if addition.expected > 0 {
                return Err(conflict(0));
            }
            return new_row(self.ours, addition);
        };
        let found = unsigned(row.recorded);
        if addition.expected == 0 {
            return Err(conflict(found));
        }
        if !row.state.is_open() {
            return Err(StoreError::Ended { run: run.clone(), state: row.state });
        }
        if row.owner != Some(self.ours) {
            return Err(StoreError::Fenced { run: run.clone() });
        }
        if found != addition.expected {
            return Err(conflict(found));
        }
        Ok(row.clone())
    }

    fn extend(&mut self, row: &mut RunRow, addition: &Addition) {
        for entry in &addition.entries {
            row.recorded += 1;
            row.seq = entry.seq;
            row.updated_at = row.updated_at.max(entry.at);
            let (facts, follows) = (entry.facts(row.recorded), row.head);
            row.head = chain::of_record(row.head, row.id.as_str(), &facts);
            self.records.push(Record {
                run: row.id.clone(),
                n: row.recorded,
                entry: entry.clone(),
                follows,
                checksum: row.head,
            });
        }
        if let Some((state, waits_for)) = addition.state {
            row.state = state;
            row.waits_for = waits_for.map(Arc::from);
        }
    }

    /// Returns the conversation that `turn` adds to, cut to what stays of it.
    fn grown(&self, turn: &Turn) -> Result<ConversationRow, StoreError> {
        let empty = ConversationRow { key: None, messages: 0, head: chain::START, updated_at: 0 };
        let row = self.known.conversations.get(&turn.conversation).cloned().unwrap_or(empty);
        if row.messages != turn.expected {
            return Err(StoreError::Conflict {
                key: turn.conversation.as_str().to_owned(),
                expected: unsigned(turn.expected),
                found: unsigned(row.messages),
            });
        }
        if turn.kept == row.messages {
            return Ok(row);
        }
        let anchor = self.known.anchors.get(&turn.conversation).copied();
        let head = if turn.kept == 0 { Some(chain::START) } else { anchor };
        let head = head.ok_or_else(|| StoreError::Damaged {
            place: format!("conversation `{}`, message {}", turn.conversation, turn.kept),
            detail: "it is missing".to_owned(),
        })?;
        Ok(ConversationRow { messages: turn.kept, head, ..row })
    }

    fn grow(&mut self, turn: &Turn, mut row: ConversationRow, at: i64) {
        if row.messages < turn.expected {
            self.cut.push((turn.conversation.clone(), row.messages));
        }
        for body in &turn.messages {
            row.messages += 1;
            let id = turn.conversation.as_str();
            row.head = chain::of_message(row.head, id, row.messages, body);
            self.messages.push(Message {
                conversation: turn.conversation.clone(),
                n: row.messages,
                body: Arc::clone(body),
                checksum: row.head,
            });
        }
        row.updated_at = row.updated_at.max(at);
        self.grown.insert(turn.conversation.clone());
        self.known.conversations.insert(turn.conversation.clone(), row);
    }

    fn end_turn(&mut self, row: &RunRow) {
        let Some(conversation) = &row.conversation else { return };
        self.ended.push(row.id.clone());
        if self.known.turns.get(conversation) == Some(&row.id) {
            self.known.turns.remove(conversation);
            self.taken.retain(|(_, run)| *run != row.id);
        }
    }

    fn put(&mut self, row: RunRow) {
        self.changed.insert(row.id.clone());
        self.known.runs.insert(row.id.clone(), row);
    }
}

fn new_row(ours: i64, addition: &Addition) -> Result<RunRow, StoreError> {
    let opening = addition.opening.as_ref().ok_or(Unfit::Headless)?;
    let accepted_at = addition.entries.first().ok_or(Unfit::Empty)?.at;
    Ok(RunRow {
        key: None,
        id: addition.run.clone(),
        agent: Arc::clone(&opening.agent),
        conversation: opening.conversation.clone(),
        state: RunState::Queued,
        waits_for: None,
        accepted_at,
        updated_at: accepted_at,
        recorded: 0,
        seq: 0,
        head: chain::START,
        owner: Some(ours),
        parent: opening.parent.clone(),
    })
}

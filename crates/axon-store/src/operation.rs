//! What is asked of the writer, as it travels to it.

use std::sync::Arc;

use axon_kernel::event::{RunEvent, Sequenced};
use axon_kernel::ids::{ConversationId, RunId};
use axon_kernel::run::{Replay, RunState};
use axon_kernel::store::{
    Append, Durable, Forget, Forgotten, RunSummary, StoreError, TurnTaken, Write,
};

use crate::chain::Facts;
use crate::fault::Fault;
use crate::rows::signed;

/// One thing that the writer does, all of it or nothing.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Append(Addition),
    Import(Addition),
    Claim(RunId),
    Release(RunId),
    TakeTurn { conversation: ConversationId, run: RunId },
    Forget(Forget),
}

/// What the writer answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Durable(Durable),
    Summary(RunSummary),
    Turn(TurnTaken),
    Forgotten(Forgotten),
    Done,
}

/// Events that join a run's record, made ready to be written.
#[derive(Clone, Debug)]
pub(crate) struct Addition {
    pub(crate) run: RunId,
    pub(crate) expected: u64,
    pub(crate) entries: Vec<Entry>,
    /// What the run is, if the events begin with its acceptance.
    pub(crate) opening: Option<Opening>,
    /// Where the events leave it, if they change that, and what it waits for then.
    pub(crate) state: Option<(RunState, Option<&'static str>)>,
    pub(crate) turn: Option<Turn>,
    pub(crate) writes: Vec<Write>,
}

/// One event, as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) seq: i64,
    pub(crate) attempt: i64,
    pub(crate) at: i64,
    pub(crate) body: Arc<str>,
}

/// What a run is.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) agent: Arc<str>,
    pub(crate) conversation: Option<ConversationId>,
    pub(crate) parent: Option<RunId>,
}

/// What a turn adds to its conversation.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) conversation: ConversationId,
    pub(crate) expected: i64,
    pub(crate) kept: i64,
    pub(crate) messages: Vec<Arc<str>>,
}

/// A record that no store can take.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("a record has no events")]
    Empty,
    #[error("a record begins with `accepted`")]
    Headless,
    #[error("the events belong to several runs")]
    Mixed,
    #[error("the events' numbers do not rise")]
    Disordered,
}

impl From<Unfit> for StoreError {
    fn from(unfit: Unfit) -> Self {
        Self::Backend(Box::new(unfit))
    }
}

impl Addition {
    /// Makes `append` ready.
    pub(crate) fn of(append: &Append<'_>) -> Result<Self, StoreError> {
        append.writes.iter().try_for_each(|write| check(&write.sql))?;
        let turn = append.turn.map(|turn| Turn {
            conversation: turn.conversation.clone(),
            expected: signed(turn.expected as u64),
            kept: signed(turn.kept.min(turn.expected) as u64),
            messages: turn.messages.iter().map(|message| message.get().into()).collect(),
        });
        let addition = Self::of_events(append.run, append.events)?;
        Ok(Self { expected: append.expected, turn, writes: append.writes.to_vec(), ..addition })
    }

    /// Makes the whole record of a run ready.
    pub(crate) fn of_record(records: &[Sequenced]) -> Result<Self, StoreError> {
        let first = records.first().ok_or(Unfit::Empty)?;
        let unfit = |detail| StoreError::Unfit { run: first.run_id.clone(), detail };
        if let Some(wrong) = disorder(&first.run_id, records) {
            return Err(unfit(wrong.to_string()));
        }
        let replay = Replay::read(records).map_err(|error| unfit(error.to_string()))?;
        let state = replay.status.state();
        if !state.is_some_and(|state| !state.is_open() || state == RunState::Paused) {
            let detail = "it may still be under way where it comes from: cancel it there, or wait \
                          for its end";
            return Err(unfit(detail.to_owned()));
        }
        Self::of_events(&first.run_id, records)
    }

    fn of_events(run: &RunId, events: &[Sequenced]) -> Result<Self, StoreError> {
        if let Some(wrong) = disorder(run, events) {
            return Err(wrong.into());
        }
        let entries: Result<Vec<Entry>, serde_json::Error> = events.iter().map(Entry::of).collect();
        let entries = entries.map_err(|error| StoreError::Backend(Box::new(error)))?;
        Ok(Self {
            run: run.clone(),
            expected: 0,
            entries,
            opening: events.first().and_then(|event| Opening::of(&event.event)),
            state: events.iter().rev().find_map(|event| standing(&event.event)),
            turn: None,
            writes: Vec::new(),
        })
    }

    /// Returns about how many bytes it writes.
    pub(crate) fn bytes(&self) -> usize {
        let messages = self.turn.iter().flat_map(|turn| &turn.messages);
        self.entries.iter().map(|entry| &entry.body).chain(messages).map(|body| body.len()).sum()
    }
}

impl Entry {
    fn of(event: &Sequenced) -> Result<Self, serde_json::Error> {
        Ok(Self {
            seq: signed(event.seq),
            attempt: i64::from(event.attempt.0),
            at: signed(event.at.0),
            body: serde_json::to_string(&event.event)?.into(),
        })
    }
}

impl Entry {
    /// Returns what it holds as the record `n` of its run.
    pub(crate) fn facts(&self, n: i64) -> Facts<'_> {
        Facts { n, seq: self.seq, attempt: self.attempt, at: self.at, body: &self.body }
    }
}

impl Opening {
    pub(crate) fn of(event: &RunEvent) -> Option<Self> {
        let RunEvent::Accepted(accepted) = event else { return None };
        Some(Self {
            agent: accepted.agent.as_str().into(),
            conversation: accepted.conversation_id.clone(),
            parent: accepted.terms.parent.as_ref().map(|parent| parent.run_id.clone()),
        })
    }
}

impl Operation {
    /// Returns the run that it is about, if it is about one.
    pub(crate) fn run(&self) -> Option<&RunId> {
        match self {
            Self::Append(addition) | Self::Import(addition) => Some(&addition.run),
            Self::Claim(run) | Self::Release(run) | Self::TakeTurn { run, .. } => Some(run),
            Self::Forget(_) => None,
        }
    }

    /// Returns what it adds to a record, if it adds to one.
    pub(crate) fn addition(&self) -> Option<&Addition> {
        match self {
            Self::Append(addition) | Self::Import(addition) => Some(addition),
            Self::Claim(_) | Self::Release(_) | Self::TakeTurn { .. } | Self::Forget(_) => None,
        }
    }

    /// Returns the conversation that it adds to, if it adds to one.
    pub(crate) fn turn(&self) -> Option<&Turn> {
        if let Self::Append(addition) = self { addition.turn.as_ref() } else { None }
    }

    /// Returns whether it takes a transaction of its own: what it carries out is not known before.
    pub(crate) fn stands_alone(&self) -> bool {
        match self {
            Self::Append(addition) => !addition.writes.is_empty(),
            Self::Forget(_) => true,
            Self::Import(_) | Self::Claim(_) | Self::Release(_) | Self::TakeTurn { .. } => false,
        }
    }

    /// Returns about how many bytes it writes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Append(addition) | Self::Import(addition) => addition.bytes(),
            Self::Claim(_) | Self::Release(_) | Self::TakeTurn { .. } | Self::Forget(_) => 0,
        }
    }
}

/// Says why `events` are not a part of the record of `run`, in its order.
fn disorder(run: &RunId, events: &[Sequenced]) -> Option<Unfit> {
    if events.iter().any(|event| event.run_id != *run) {
        return Some(Unfit::Mixed);
    }
    let falls = events.windows(2).any(|pair| pair[0].seq >= pair[1].seq);
    falls.then_some(Unfit::Disordered)
}

/// Returns the state that `event` leaves a run in, and what a paused one waits for.
pub(crate) fn standing(event: &RunEvent) -> Option<(RunState, Option<&'static str>)> {
    let waits_for =
        if let RunEvent::Paused(paused) = event { Some(paused.reason.label()) } else { None };
    RunState::after(event).map(|state| (state, waits_for))
}

/// What a tool may do in the store's transaction.
const VERBS: [&str; 7] = ["create", "insert", "update", "delete", "replace", "with", "merge"];

/// Refuses what would end the transaction, or reach into the store's own tables.
fn check(sql: &str) -> Result<(), StoreError> {
    let refused = |detail: String| Err(StoreError::Write { sql: sql.to_owned(), detail });
    let text = sql.trim().trim_end_matches(';').to_ascii_lowercase();
    let is_of_a_word = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '$';
    let words = text.split(|letter| !is_of_a_word(letter));
    let verb = text.split(|letter: char| !letter.is_ascii_alphabetic()).next();
    if words.clone().any(|word| word.starts_with("axon_")) {
        return refused("names that begin with `axon_` are the store's own".to_owned());
    }
    // SQLite's driver counts from one, and crashes where there is a zeroth.
    if words.clone().any(|word| word.ends_with('0') && word.trim_end_matches('0') == "$") {
        return refused("its parameters are counted from `$1`".to_owned());
    }
    if text.contains(';') || !verb.is_some_and(|verb| VERBS.contains(&verb)) {
        let verbs = VERBS.join(", ").to_ascii_uppercase();
        return refused(format!("it has to be one statement without a `;`, of {verbs}"));
    }
    Ok(())
}

/// An answer that does not fit its question is a mistake of this crate's.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the writer gave another answer than was asked for")]
pub(crate) struct WrongAnswer;

impl From<WrongAnswer> for Fault {
    fn from(wrong: WrongAnswer) -> Self {
        Self::other(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_writes_to_tables_of_its_own_only() {
        for fine in [
            "INSERT INTO taxon_names VALUES (1)",
            " create table if not exists t (id INT);",
            "UPDATE my_axon_copy SET a$axon_ = $10",
        ] {
            assert!(check(fine).is_ok(), "{fine}");
        }
        for (sql, why) in [
            ("DELETE FROM axon_runs", "axon_"),
            ("INSERT INTO t SELECT * FROM \"AXON_runs\"", "axon_"),
            ("DELETE FROM main.axon_runs", "axon_"),
            ("COMMIT", "CREATE, INSERT"),
            ("DELETE FROM t; COMMIT", "without a `;`"),
            ("", "MERGE"),
            ("INSERT INTO t VALUES ($1, $00)", "`$1`"),
        ] {
            let Err(StoreError::Write { sql: named, detail }) = check(sql) else {
                panic!("`{sql}` is not refused")
            };
            assert!(named == sql && detail.contains(why), "{sql}: {detail}");
        }
    }
}

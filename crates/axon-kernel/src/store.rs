//! The door to the store: where runs and conversations are kept, and who may write to them.
//!
//! Several processes may use one store at the same time. Each open run has at most one owner: the
//! store that took it on or claimed it. A store is known to live by a lock that the operating
//! system or the database frees when its process ends, however that ends; what a dead one owned
//! can be claimed. Every write checks the owner in its own transaction, so one that was taken for
//! dead and is not can do no harm: it is refused as [`StoreError::Fenced`].

use std::future::Future;
use std::pin::Pin;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::Sequenced;
use crate::ids::{ConversationId, RunId};
use crate::json::RawJson;
use crate::run::RunState;
use crate::spec::AgentName;
use crate::time::Timestamp;

/// A boxed future of a store, so that the runtime can hold any store by one type.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Proof that what was handed to the store is as durable as the store makes things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// The number of recorded events of the run, after this append.
    pub recorded: u64,
}

/// What is added to the record of one run, all of it or nothing.
#[derive(Clone, Copy, Debug)]
pub struct Append<'a> {
    /// The run. It is new if nothing is recorded of it: its first event says what it is.
    pub run: &'a RunId,
    /// The number of events that are recorded of it so far.
    pub expected: u64,
    /// The events, in order.
    pub events: &'a [Sequenced],
    /// What joins the run's conversation with them.
    pub turn: Option<TurnEnd<'a>>,
    /// What else is written with them: a tool's own tables in the same database.
    pub writes: &'a [Write],
}

/// What a turn adds to its conversation.
#[derive(Clone, Copy, Debug)]
pub struct TurnEnd<'a> {
    /// The conversation.
    pub conversation: &'a ConversationId,
    /// How many messages it must hold so far.
    pub expected: usize,
    /// How many of them stay. A turn that rewrote nothing keeps all.
    pub kept: usize,
    /// The messages that follow.
    pub messages: &'a [RawJson],
}

/// A statement that is carried out in the store's own transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// One statement of SQL, in the database's own dialect. Names that begin with `axon_` are the
    /// store's.
    pub sql: String,
    /// Its parameters: null, booleans, numbers and texts as such; anything else as JSON text.
    pub parameters: Vec<serde_json::Value>,
    /// How many rows it has to change; otherwise nothing of the whole is recorded.
    pub changes: Option<u64>,
}

/// What is known of a run without reading its record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunSummary {
    /// The run.
    pub run_id: RunId,
    /// The agent that it was accepted for.
    pub agent: AgentName,
    /// The conversation that it is a turn of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
    /// The run whose tool call it answers, if it is below another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<RunId>,
    /// Where it stands.
    pub state: RunState,
    /// What a paused run waits for, in a word: `approval`, `ambiguous`, `changed`, `quarantined`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When something was last recorded of it.
    pub updated_at: Timestamp,
    /// How many events are recorded of it.
    pub recorded: u64,
    /// Who drives it.
    pub owner: Owner,
}

impl RunSummary {
    /// Returns whether the run is under way but nobody drives it: its process went.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        matches!(self.state, RunState::Queued | RunState::Running) && self.owner == Owner::Nobody
    }
}

/// Who drives a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// Nobody: it has ended, waits for a person, or its process has gone.
    Nobody,
    /// This store.
    Us,
    /// Another process that lives, as it calls itself.
    Other(String),
}

/// Which runs are asked for. The newest come first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunQuery {
    /// Of this agent only.
    pub agent: Option<AgentName>,
    /// Of this conversation only.
    pub conversation: Option<ConversationId>,
    /// In one of these states only; none means all.
    pub states: Vec<RunState>,
    /// Only such that can be claimed: open, and nobody drives them.
    pub unowned: bool,
    /// Only such that answer no call of another run.
    pub top_level: bool,
    /// Only those after this one in the order: the last of the page before.
    pub after: Option<RunId>,
    /// At most so many; 0 means the store's own bound of 1,000.
    pub limit: usize,
}

/// Whether a run has the turn of its conversation.
#[derive(Clone, Debug, PartialEq)]
pub enum TurnTaken {
    /// It has, until it ends. A pause keeps it.
    Yes,
    /// Another run has it.
    Busy(RunSummary),
}

/// What is forgotten.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forget {
    /// Runs that ended before this moment.
    pub runs_before: Option<Timestamp>,
    /// Of the ended runs, those beyond the newest so many.
    pub runs_beyond: Option<u64>,
    /// Conversations that nothing was added to since this moment, and that no open run is of.
    pub conversations_before: Option<Timestamp>,
    /// At most so many runs and conversations in one go.
    pub at_most: u64,
}

/// What was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Forgotten {
    /// How many runs.
    pub runs: u64,
    /// How many conversations.
    pub conversations: u64,
}

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoreReport {
    /// What it is and where, without secrets: `SQLite .axon/axon.db`.
    pub name: String,
    /// Whether what it holds outlasts the process.
    pub durable: bool,
    /// The version of its schema.
    pub schema: i64,
    /// How many runs it holds, by state.
    pub runs: Vec<(RunState, u64)>,
    /// How many conversations it holds.
    pub conversations: u64,
    /// How many bytes it takes on disk, where that is known.
    pub bytes: Option<u64>,
    /// The other processes that use it now, as they call themselves.
    pub others: Vec<String>,
    /// What is damaged, with its place. Looked for only if a thorough check was asked for.
    pub damage: Vec<String>,
}

/// Keeps the records of runs, and the histories of conversations.
///
/// Every call is awaited before what it recorded is used.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Adds to the record of a run. A first append takes the run on, and this store owns it then;
    /// an append that pauses or ends the run gives it up; one that ends it ends its turn, too.
    fn append<'a>(&'a self, append: Append<'a>) -> StoreFuture<'a, Durable>;

    /// Returns the recorded events of `run` with a number above `after`, oldest first.
    fn records<'a>(&'a self, run: &'a RunId, after: u64) -> StoreFuture<'a, Vec<Sequenced>>;

    /// Returns what is known of `run`.
    fn run<'a>(&'a self, run: &'a RunId) -> StoreFuture<'a, RunSummary>;

    /// Returns the runs that `query` asks for, newest first.
    fn runs<'a>(&'a self, query: &'a RunQuery) -> StoreFuture<'a, Vec<RunSummary>>;

    /// Becomes the owner of an open run that nobody living owns. One that this store owns already is
    /// refused, too: of several tasks that want it, one gets it.
    fn claim<'a>(&'a self, run: &'a RunId) -> StoreFuture<'a, RunSummary>;

    /// Gives a run up without ending it: whoever comes next may claim it.
    fn release<'a>(&'a self, run: &'a RunId) -> StoreFuture<'a, ()>;

    /// Takes the turn of `conversation` for `run`, which this store owns, if nobody else has it.
    fn take_turn<'a>(
        &'a self,
        conversation: &'a ConversationId,
        run: &'a RunId,
    ) -> StoreFuture<'a, TurnTaken>;

    /// Returns the messages of `conversation`, oldest first; empty if there is none.
    fn history<'a>(&'a self, conversation: &'a ConversationId) -> StoreFuture<'a, Vec<RawJson>>;

    /// Forgets what is old: of runs, only such that have ended.
    fn forget<'a>(&'a self, what: &'a Forget) -> StoreFuture<'a, Forgotten>;

    /// Takes in the whole record of a run from another store. A run that it has already is refused
    /// as a [`StoreError::Conflict`]; one that has neither ended nor is paused, which may still be
    /// under way where it comes from, as [`StoreError::Unfit`]. Nobody owns it.
    fn import<'a>(&'a self, records: &'a [Sequenced]) -> StoreFuture<'a, RunSummary>;

    /// Says what it is and what it holds; `thorough` reads everything and verifies it.
    fn report(&self, thorough: bool) -> StoreFuture<'_, StoreReport>;

    /// Returns whether what it holds outlasts the process.
    fn is_durable(&self) -> bool;
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
    /// Another process that lives drives the run.
    #[error("run `{run}` belongs to {owner}")]
    Owned {
        /// The run.
        run: RunId,
        /// Who.
        owner: String,
    },
    /// The run was taken from this store, which was taken for dead: it may write nothing more.
    #[error("run `{run}` was taken over by another process")]
    Fenced {
        /// The run.
        run: RunId,
    },
    /// The run has ended: nobody can go on with it.
    #[error("run `{run}` is {}", state.label())]
    Ended {
        /// The run.
        run: RunId,
        /// How.
        state: RunState,
    },
    /// There is no space, or the file may not grow. Nothing was recorded; it can be tried again.
    #[error("there is no space to record anything: {detail}")]
    Full {
        /// What the database said.
        detail: String,
    },
    /// Somebody else holds the database, or it cannot be reached. Nothing was recorded; it can be
    /// tried again.
    #[error("the store cannot be written to at the moment: {detail}")]
    Unavailable {
        /// What the database said.
        detail: String,
    },
    /// The file may not be written to.
    #[error("the store may not be written to: {detail}")]
    ReadOnly {
        /// What the database said.
        detail: String,
    },
    /// A record is none that can be taken in. Nothing was recorded.
    #[error("the record of run `{run}` cannot be taken in: {detail}")]
    Unfit {
        /// The run.
        run: RunId,
        /// Why, and what to do.
        detail: String,
    },
    /// What is stored is not what was stored.
    #[error("the store is damaged at {place}: {detail}")]
    Damaged {
        /// Where.
        place: String,
        /// What is wrong there.
        detail: String,
    },
    /// A newer Axon has written it.
    #[error("the store has schema version {found}, and this Axon knows versions up to {known}")]
    Newer {
        /// Its version.
        found: i64,
        /// The newest version that is known here.
        known: i64,
    },
    /// A write of the tool's own changed another number of rows than it had to. Nothing was
    /// recorded.
    #[error("a write changed {found} rows, not {expected}: {sql}")]
    Changes {
        /// The statement.
        sql: String,
        /// How many it had to change.
        expected: u64,
        /// How many it would have changed.
        found: u64,
    },
    /// A write of the tool's own failed: a rule of its table, its syntax, or that it may not be
    /// written here at all. Nothing was recorded.
    #[error("a write failed, and nothing was recorded: {detail}: {sql}")]
    Write {
        /// The statement.
        sql: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The writer stopped for good, because the disk failed under it. What it had acknowledged
    /// before stands; only a new process can go on.
    #[error("the store has stopped writing, because its disk failed: {detail}")]
    Stopped {
        /// What the database said.
        detail: String,
    },
    /// The store itself failed.
    #[error("the store failed")]
    Backend(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// Returns whether the same call may succeed later, with nothing changed but the surroundings.
    #[must_use]
    pub fn may_heal(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Unavailable { .. })
    }

    /// Returns the code by which every door names this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "unknown_run",
            Self::Conflict { .. } | Self::Fenced { .. } => "run_conflict",
            Self::Owned { .. } => "run_owned",
            Self::Ended { .. } => "run_ended",
            Self::Unfit { .. } => "record_unfit",
            Self::Full { .. } => "storage_full",
            Self::Unavailable { .. } => "storage_unavailable",
            Self::ReadOnly { .. } => "storage_read_only",
            Self::Damaged { .. } => "storage_damaged",
            Self::Newer { .. } => "storage_newer",
            Self::Changes { .. } | Self::Write { .. } | Self::Stopped { .. } | Self::Backend(_) => {
                "storage_failed"
            }
        }
    }
}

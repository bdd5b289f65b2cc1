//! The rows of runs and conversations, as they are read and written.

use std::collections::BTreeMap;
use std::sync::Arc;

use axon_kernel::ids::{ConversationId, RunId};
use axon_kernel::run::RunState;
use axon_kernel::store::{Owner, RunSummary};
use axon_kernel::time::Timestamp;

use crate::fault::Fault;
use crate::link::Row;

/// The columns of a run, in the order in which [`RunRow::read`] takes them.
macro_rules! run_columns {
    () => {
        "r.key, r.id, r.agent, r.conversation, r.state, r.waits_for, \
         r.accepted_at, r.updated_at, r.recorded, r.seq, r.head, r.owner, r.parent"
    };
}
pub(crate) use run_columns;

/// How many columns of a run there are: others stand behind them.
pub(crate) const RUN_COLUMNS: usize = 13;

/// Who lives: the epochs of the stores that are open now, with what they call themselves.
pub(crate) type Living = BTreeMap<i64, String>;

/// One run, without its records.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RunRow {
    /// Its key in the other tables; none until it is stored.
    pub(crate) key: Option<i64>,
    pub(crate) id: RunId,
    pub(crate) agent: Arc<str>,
    pub(crate) conversation: Option<ConversationId>,
    pub(crate) state: RunState,
    pub(crate) waits_for: Option<Arc<str>>,
    pub(crate) accepted_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) recorded: i64,
    pub(crate) seq: i64,
    pub(crate) head: i64,
    pub(crate) owner: Option<i64>,
    pub(crate) parent: Option<RunId>,
}

impl RunRow {
    pub(crate) fn read(row: &Row) -> Result<Self, Fault> {
        let id = RunId::new(row.text(1)?);
        let state = row.text(4)?;
        let state = RunState::from_label(&state).ok_or_else(|| {
            Fault::damaged(format!("run `{id}`"), format!("`{state}` is no state"))
        })?;
        Ok(Self {
            key: Some(row.int(0)?),
            id,
            agent: row.text(2)?.into(),
            conversation: row.maybe_text(3)?.map(ConversationId::new),
            state,
            waits_for: row.maybe_text(5)?.map(Arc::from),
            accepted_at: row.int(6)?,
            updated_at: row.int(7)?,
            recorded: row.int(8)?,
            seq: row.int(9)?,
            head: row.int(10)?,
            owner: row.maybe_int(11)?,
            parent: row.maybe_text(12)?.map(RunId::new),
        })
    }

    /// Returns what a caller sees of it; `ours` is the epoch of this store.
    pub(crate) fn summary(&self, ours: i64, living: &Living) -> Result<RunSummary, Fault> {
        let agent = (*self.agent).try_into().map_err(|error| {
            Fault::damaged(format!("run `{}`", self.id), format!("its agent: {error}"))
        })?;
        Ok(RunSummary {
            run_id: self.id.clone(),
            agent,
            conversation_id: self.conversation.clone(),
            parent: self.parent.clone(),
            state: self.state,
            waits_for: self.waits_for.as_deref().map(str::to_owned),
            accepted_at: Timestamp(unsigned(self.accepted_at)),
            updated_at: Timestamp(unsigned(self.updated_at)),
            recorded: unsigned(self.recorded),
            owner: match self.owner {
                None => Owner::Nobody,
                Some(owner) if owner == ours => Owner::Us,
                Some(owner) => living.get(&owner).cloned().map_or(Owner::Nobody, Owner::Other),
            },
        })
    }
}

/// One conversation, without its messages.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConversationRow {
    /// Its key in the other tables; none until it is stored.
    pub(crate) key: Option<i64>,
    pub(crate) messages: i64,
    pub(crate) head: i64,
    pub(crate) updated_at: i64,
}

/// Returns `value` as the databases hold numbers. What is too large for them is no moment and no
/// count that anybody reaches.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Returns a number that [`signed`] gave.
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

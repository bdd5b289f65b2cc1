//! One transaction: what it reads first, and what it writes in the end.

use std::collections::{BTreeSet, HashMap};

use axon_kernel::ids::{ConversationId, RunId};
use axon_kernel::store::Write;

use crate::bulk::{Bulk, Texts};
use crate::draft::{Draft, Known};
use crate::fault::Fault;
use crate::link::{Link, Value};
use crate::operation::Operation;
use crate::owners;
use crate::rows::{ConversationRow, RunRow, run_columns};
use crate::source::Source;

const RUNS: Bulk = Bulk {
    head: concat!("SELECT ", run_columns!(), " FROM axon_runs r WHERE r.id IN (VALUES "),
    columns: 1,
    tail: ")",
};
// Rows are locked in one order, so that two writers wait for each other and never in a circle.
const RUNS_LOCKED: Bulk = Bulk {
    head: concat!("SELECT ", run_columns!(), " FROM axon_runs r WHERE r.id = ANY(ARRAY(VALUES "),
    columns: 1,
    tail: ")) ORDER BY r.id FOR UPDATE",
};
const TURNS: Bulk = Bulk {
    head: "SELECT conversation, run FROM axon_turns WHERE conversation IN (VALUES ",
    columns: 1,
    tail: ")",
};
const CONVERSATIONS: Bulk = Bulk {
    head: "SELECT id, key, messages, head, updated_at FROM axon_conversations \
           WHERE id IN (VALUES ",
    columns: 1,
    tail: ")",
};
const CONVERSATIONS_LOCKED: Bulk = Bulk {
    head: "SELECT id, key, messages, head, updated_at FROM axon_conversations \
           WHERE id = ANY(ARRAY(VALUES ",
    columns: 1,
    tail: ")) ORDER BY id FOR UPDATE",
};
const NEW_RUNS: Bulk = Bulk {
    head: "INSERT INTO axon_runs (id, agent, conversation, state, waits_for, accepted_at, \
           updated_at, recorded, seq, head, owner, parent) VALUES ",
    columns: 12,
    tail: " RETURNING id, key",
};
const CHANGED_RUNS: Bulk = Bulk {
    head: "WITH v(key, state, waits_for, updated_at, recorded, seq, head, owner) AS (VALUES ",
    columns: 8,
    tail: ") UPDATE axon_runs SET state = v.state, waits_for = v.waits_for, \
           updated_at = v.updated_at, recorded = v.recorded, seq = v.seq, head = v.head, \
           owner = v.owner FROM v WHERE axon_runs.key = v.key",
};
const RECORDS: Bulk = Bulk {
    head: "INSERT INTO axon_records (run, n, seq, attempt, at, body, checksum) VALUES ",
    columns: 7,
    tail: "",
};
const NEW_CONVERSATIONS: Bulk = Bulk {
    head: "INSERT INTO axon_conversations (id, messages, head, updated_at) VALUES ",
    columns: 4,
    tail: " RETURNING id, key",
};
const CHANGED_CONVERSATIONS: Bulk = Bulk {
    head: "WITH v(key, messages, head, updated_at) AS (VALUES ",
    columns: 4,
    tail: ") UPDATE axon_conversations SET messages = v.messages, head = v.head, \
           updated_at = v.updated_at FROM v WHERE axon_conversations.key = v.key",
};
const MESSAGES: Bulk = Bulk {
    head: "INSERT INTO axon_messages (conversation, n, body, checksum) VALUES ",
    columns: 4,
    tail: "",
};
const ENDED_TURNS: Bulk =
    Bulk { head: "DELETE FROM axon_turns WHERE run IN (VALUES ", columns: 1, tail: ")" };
const TAKEN_TURNS: Bulk =
    Bulk { head: "INSERT INTO axon_turns (conversation, run) VALUES ", columns: 2, tail: "" };

/// A transaction on `link`.
#[derive(Debug)]
pub(crate) struct Transaction<'a> {
    pub(crate) link: &'a mut Link,
    pub(crate) texts: &'a mut Texts,
}

impl Transaction<'_> {
    /// Reads every row that `operations` depend on.
    pub(crate) async fn known(
        &mut self,
        operations: &[&Operation],
        source: &Source,
        ours: i64,
    ) -> Result<Known, Fault> {
        let mut known = Known::default();
        let mut runs: BTreeSet<RunId> =
            operations.iter().filter_map(|operation| operation.run().cloned()).collect();
        self.read_turns(operations, &mut known).await?;
        runs.extend(known.turns.values().cloned());
        self.read_runs(&runs, &mut known).await?;
        self.read_conversations(operations, &mut known).await?;
        let foreign = |row: &RunRow| row.owner.is_some_and(|owner| owner != ours);
        let asks = |operation: &&Operation| {
            matches!(operation, Operation::Claim(_) | Operation::TakeTurn { .. })
        };
        if operations.iter().any(asks) && known.runs.values().any(foreign) {
            known.living = owners::living(source, self.link).await?;
        }
        Ok(known)
    }

    async fn read_runs(&mut self, runs: &BTreeSet<RunId>, known: &mut Known) -> Result<(), Fault> {
        let keys: Vec<Value> = runs.iter().map(|run| run.as_str().into()).collect();
        let bulk = if self.link.is_postgres() { &RUNS_LOCKED } else { &RUNS };
        for row in self.texts.fetch(self.link, bulk, &keys).await? {
            let row = RunRow::read(&row)?;
            known.runs.insert(row.id.clone(), row);
        }
        Ok(())
    }

    async fn read_turns(
        &mut self,
        operations: &[&Operation],
        known: &mut Known,
    ) -> Result<(), Fault> {
        let keys: BTreeSet<&ConversationId> = operations
            .iter()
            .filter_map(|operation| match operation {
                Operation::TakeTurn { conversation, .. } => Some(conversation),
                Operation::Append(_)
                | Operation::Import(_)
                | Operation::Claim(_)
                | Operation::Release(_)
                | Operation::Forget(_) => None,
            })
            .collect();
        let keys: Vec<Value> = keys.into_iter().map(|key| key.as_str().into()).collect();
        for row in self.texts.fetch(self.link, &TURNS, &keys).await? {
            known.turns.insert(ConversationId::new(row.text(0)?), RunId::new(row.text(1)?));
        }
        Ok(())
    }

    async fn read_conversations(
        &mut self,
        operations: &[&Operation],
        known: &mut Known,
    ) -> Result<(), Fault> {
        let turns: Vec<_> = operations.iter().filter_map(|operation| operation.turn()).collect();
        let keys: BTreeSet<&ConversationId> = turns.iter().map(|turn| &turn.conversation).collect();
        let keys: Vec<Value> = keys.into_iter().map(|key| key.as_str().into()).collect();
        let postgres = self.link.is_postgres();
        let bulk = if postgres { &CONVERSATIONS_LOCKED } else { &CONVERSATIONS };
        for row in self.texts.fetch(self.link, bulk, &keys).await? {
            let found = ConversationRow {
                key: Some(row.int(1)?),
                messages: row.int(2)?,
                head: row.int(3)?,
                updated_at: row.int(4)?,
            };
            known.conversations.insert(ConversationId::new(row.text(0)?), found);
        }
        for turn in turns.into_iter().filter(|turn| turn.kept < turn.expected) {
            let Some(key) = known.conversations.get(&turn.conversation).and_then(|row| row.key)
            else {
                continue;
            };
            let rows = self
                .link
                .fetch(
                    "SELECT checksum FROM axon_messages WHERE conversation = $1 AND n = $2",
                    &[key.into(), turn.kept.into()],
                )
                .await?;
            if let Some(row) = rows.first() {
                known.anchors.insert(turn.conversation.clone(), row.int(0)?);
            }
        }
        Ok(())
    }

    /// Writes what `draft` changes.
    pub(crate) async fn flush(&mut self, draft: &Draft) -> Result<(), Fault> {
        let keys = self.flush_runs(draft).await?;
        let records: Vec<Value> = draft
            .records
            .iter()
            .filter_map(|record| Some((keys.get(&record.run)?, record)))
            .flat_map(|(key, record)| {
                [
                    Value::Int(*key),
                    record.n.into(),
                    record.entry.seq.into(),
                    record.entry.attempt.into(),
                    record.entry.at.into(),
                    (&record.entry.body).into(),
                    record.checksum.into(),
                ]
            })
            .collect();
        self.texts.execute(self.link, &RECORDS, &records).await?;
        self.flush_conversations(draft).await?;
        let ended: Vec<Value> = draft.ended.iter().map(|run| run.as_str().into()).collect();
        self.texts.execute(self.link, &ENDED_TURNS, &ended).await?;
        let taken: Vec<Value> = draft
            .taken
            .iter()
            .flat_map(|(conversation, run)| [conversation.as_str().into(), run.as_str().into()])
            .collect();
        self.texts.execute(self.link, &TAKEN_TURNS, &taken).await?;
        Ok(())
    }

    async fn flush_runs<'d>(&mut self, draft: &'d Draft) -> Result<HashMap<&'d RunId, i64>, Fault> {
        let rows = || draft.changed.iter().filter_map(|run| draft.known.runs.get(run));
        let mut keys: HashMap<&RunId, i64> =
            rows().filter_map(|row| Some((&row.id, row.key?))).collect();
        let new: Vec<Value> =
            rows().filter(|row| row.key.is_none()).flat_map(new_run_values).collect();
        for row in self.texts.fetch(self.link, &NEW_RUNS, &new).await? {
            let id = RunId::new(row.text(0)?);
            if let Some(stored) = draft.known.runs.get(&id) {
                keys.insert(&stored.id, row.int(1)?);
            }
        }
        let changed: Vec<Value> = rows().filter_map(changed_run_values).flatten().collect();
        self.texts.execute(self.link, &CHANGED_RUNS, &changed).await?;
        Ok(keys)
    }

    async fn flush_conversations(&mut self, draft: &Draft) -> Result<(), Fault> {
        let rows = || {
            let known = &draft.known.conversations;
            draft.grown.iter().filter_map(|id| Some((id, known.get(id)?)))
        };
        let mut keys: HashMap<&ConversationId, i64> =
            rows().filter_map(|(id, row)| Some((id, row.key?))).collect();
        let new: Vec<Value> = rows()
            .filter(|(_, row)| row.key.is_none())
            .flat_map(|(id, row)| {
                [id.as_str().into(), row.messages.into(), row.head.into(), row.updated_at.into()]
            })
            .collect();
        for row in self.texts.fetch(self.link, &NEW_CONVERSATIONS, &new).await? {
            let id = ConversationId::new(row.text(0)?);
            if let Some(stored) = draft.grown.get(&id) {
                keys.insert(stored, row.int(1)?);
            }
        }
        let changed: Vec<Value> = rows()
            .filter_map(|(_, row)| {
                let key = row.key?;
                Some([key.into(), row.messages.into(), row.head.into(), row.updated_at.into()])
            })
            .flatten()
            .collect();
        self.texts.execute(self.link, &CHANGED_CONVERSATIONS, &changed).await?;
        for (conversation, kept) in &draft.cut {
            let Some(key) = keys.get(conversation) else { continue };
            self.link
                .execute(
                    "DELETE FROM axon_messages WHERE conversation = $1 AND n > $2",
                    &[(*key).into(), (*kept).into()],
                )
                .await?;
        }
        let messages: Vec<Value> = draft
            .messages
            .iter()
            .filter_map(|message| Some((*keys.get(&message.conversation)?, message)))
            .flat_map(|(key, message)| {
                [key.into(), message.n.into(), (&message.body).into(), message.checksum.into()]
            })
            .collect();
        self.texts.execute(self.link, &MESSAGES, &messages).await?;
        Ok(())
    }

    /// Carries out what a tool writes of its own.
    pub(crate) async fn write(&mut self, writes: &[Write]) -> Result<(), Fault> {
        for write in writes {
            let values: Vec<Value> = write.parameters.iter().map(parameter).collect();
            let found = self.link.execute_once(write.sql.as_str(), &values).await?;
            if let Some(expected) = write.changes.filter(|expected| *expected != found) {
                return Err(Fault::Changes { sql: write.sql.clone(), expected, found });
            }
        }
        Ok(())
    }
}

fn new_run_values(row: &RunRow) -> [Value; 12] {
    [
        row.id.as_str().into(),
        (&row.agent).into(),
        row.conversation.as_ref().map(ConversationId::as_str).into(),
        row.state.label().into(),
        row.waits_for.as_deref().into(),
        row.accepted_at.into(),
        row.updated_at.into(),
        row.recorded.into(),
        row.seq.into(),
        row.head.into(),
        row.owner.into(),
        row.parent.as_ref().map(RunId::as_str).into(),
    ]
}

fn changed_run_values(row: &RunRow) -> Option<[Value; 8]> {
    Some([
        row.key?.into(),
        row.state.label().into(),
        row.waits_for.as_deref().into(),
        row.updated_at.into(),
        row.recorded.into(),
        row.seq.into(),
        row.head.into(),
        row.owner.into(),
    ])
}

fn parameter(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::String(text) => text.as_str().into(),
        serde_json::Value::Number(number) => number.as_i64().map_or_else(
            || number.as_f64().map_or_else(|| Value::from(&*number.to_string()), Value::Float),
            Value::Int,
        ),
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
            value.to_string().as_str().into()
        }
    }
}

//! Forgetting what is old, a bounded piece at a time.

use axon_kernel::store::{Forget, Forgotten};

use crate::bulk::{Bulk, Texts};
use crate::fault::Fault;
use crate::link::{Link, Row, Value};
use crate::rows::signed;

/// How many runs and conversations one transaction forgets at most, so that nobody waits long.
pub(crate) const AT_ONCE: u64 = 64;

const RECORDS: Bulk =
    Bulk { head: "DELETE FROM axon_records WHERE run IN (VALUES ", columns: 1, tail: ")" };
const RUNS: Bulk =
    Bulk { head: "DELETE FROM axon_runs WHERE key IN (VALUES ", columns: 1, tail: ")" };
const MESSAGES: Bulk = Bulk {
    head: "DELETE FROM axon_messages WHERE conversation IN (VALUES ",
    columns: 1,
    tail: ")",
};
const CONVERSATIONS: Bulk =
    Bulk { head: "DELETE FROM axon_conversations WHERE key IN (VALUES ", columns: 1, tail: ")" };

/// Forgets up to [`AT_ONCE`] of what `what` names, within the transaction that `link` is in.
pub(crate) async fn forget(
    link: &mut Link,
    texts: &mut Texts,
    what: &Forget,
) -> Result<Forgotten, Fault> {
    let mut left = what.at_most.min(AT_ONCE);
    let mut forgotten = Forgotten::default();
    if let Some(before) = what.runs_before {
        let sql = "SELECT key FROM axon_runs \
                   WHERE state NOT IN ('queued', 'running', 'paused') AND updated_at < $1 \
                   ORDER BY updated_at, key LIMIT $2";
        let old = link.fetch(sql, &[signed(before.0).into(), signed(left).into()]).await?;
        forgotten.runs += remove(link, texts, [&RECORDS, &RUNS], &old).await?;
        left -= forgotten.runs.min(left);
    }
    if let Some(newest) = what.runs_beyond {
        let ended = "SELECT count(*) FROM axon_runs \
                     WHERE state NOT IN ('queued', 'running', 'paused')";
        let beyond = link.number(ended, &[]).await?.saturating_sub(signed(newest)).max(0);
        let sql = "SELECT key FROM axon_runs \
                   WHERE state NOT IN ('queued', 'running', 'paused') \
                   ORDER BY updated_at, key LIMIT $1";
        let old = link.fetch(sql, &[beyond.min(signed(left)).into()]).await?;
        let runs = remove(link, texts, [&RECORDS, &RUNS], &old).await?;
        forgotten.runs += runs;
        left -= runs.min(left);
    }
    if let Some(before) = what.conversations_before {
        let sql = "SELECT c.key FROM axon_conversations c WHERE c.updated_at < $1 \
                   AND NOT EXISTS (SELECT 1 FROM axon_runs r WHERE r.conversation = c.id \
                   AND r.state IN ('queued', 'running', 'paused')) \
                   ORDER BY c.updated_at, c.key LIMIT $2";
        let old = link.fetch(sql, &[signed(before.0).into(), signed(left).into()]).await?;
        forgotten.conversations = remove(link, texts, [&MESSAGES, &CONVERSATIONS], &old).await?;
    }
    Ok(forgotten)
}

/// Deletes what belongs to the keys in `rows` from two tables, and returns how many of the second
/// there were.
async fn remove(
    link: &mut Link,
    texts: &mut Texts,
    tables: [&Bulk; 2],
    rows: &[Row],
) -> Result<u64, Fault> {
    let keys: Result<Vec<Value>, Fault> =
        rows.iter().map(|row| row.int(0).map(Value::Int)).collect();
    let keys = keys?;
    let [parts, wholes] = tables;
    texts.execute(link, parts, &keys).await?;
    texts.execute(link, wholes, &keys).await
}

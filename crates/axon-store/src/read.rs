//! Reading runs and conversations back, and finding out whether they are what was stored.

use axon_kernel::event::{RunEvent, Sequenced};
use axon_kernel::ids::{Attempt, ConversationId, RunId};
use axon_kernel::json::RawJson;
use axon_kernel::run::RunState;
use axon_kernel::store::RunQuery;
use axon_kernel::time::Timestamp;

use crate::chain::{self, Facts};
use crate::fault::Fault;
use crate::link::{Link, Row, Value};
use crate::rows::{Living, RUN_COLUMNS, RunRow, run_columns, signed, unsigned};

/// How many runs one question gives at most.
const PAGE: usize = 1000;

/// Returns the row of `run`.
pub(crate) async fn run(link: &mut Link, run: &RunId) -> Result<Option<RunRow>, Fault> {
    let sql = concat!("SELECT ", run_columns!(), " FROM axon_runs r WHERE r.id = $1");
    let rows = link.fetch(sql, &[run.as_str().into()]).await?;
    rows.first().map(RunRow::read).transpose()
}

/// Returns the row of `run` with its events beyond the place `after`; nothing if there is no such
/// run. Both are of the same moment, and both are verified.
pub(crate) async fn records(
    link: &mut Link,
    run: &RunId,
    after: u64,
) -> Result<Option<(RunRow, Vec<Sequenced>)>, Fault> {
    // The last record before the place comes along: the chain goes on from its checksum.
    let sql = concat!(
        "SELECT ",
        run_columns!(),
        ", e.n, e.seq, e.attempt, e.at, e.body, e.checksum \
         FROM axon_runs r LEFT JOIN axon_records e ON e.run = r.key AND e.n >= coalesce(\
         (SELECT max(b.n) FROM axon_records b WHERE b.run = r.key AND b.seq <= $2), 0) \
         WHERE r.id = $1 ORDER BY e.n"
    );
    let rows = link.fetch(sql, &[run.as_str().into(), signed(after).into()]).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let row = RunRow::read(first)?;
    let mut chain = Chain { run, last: 0, head: chain::START };
    let mut events = Vec::with_capacity(rows.len());
    for found in &rows {
        if found.maybe_int(RUN_COLUMNS)?.is_some()
            && let Some(event) = chain.follow(found, signed(after))?
        {
            events.push(event);
        }
    }
    chain.end(&row)?;
    Ok(Some((row, events)))
}

/// How far the record of a run was followed.
struct Chain<'a> {
    run: &'a RunId,
    last: i64,
    head: i64,
}

impl Chain<'_> {
    /// Verifies the next record, and returns its event if its place is beyond `after`.
    fn follow(&mut self, row: &Row, after: i64) -> Result<Option<Sequenced>, Fault> {
        let n = row.int(RUN_COLUMNS)?;
        let place = || format!("run `{}`, record {n}", self.run);
        let body = row.text(RUN_COLUMNS + 4).map_err(|fault| at(place(), &fault))?;
        let number = |at| row.int(RUN_COLUMNS + at);
        let (seq, attempt, at_, checksum) = (number(1)?, number(2)?, number(3)?, number(5)?);
        let is_anchor = self.last == 0 && seq <= after;
        if !is_anchor {
            if n != self.last + 1 {
                let missing = format!("run `{}`, record {}", self.run, self.last + 1);
                return Err(Fault::damaged(missing, "it is missing"));
            }
            let facts = Facts { n, seq, attempt, at: at_, body: &body };
            if chain::of_record(self.head, self.run.as_str(), &facts) != checksum {
                return Err(Fault::damaged(place(), "its checksum is another"));
            }
        }
        (self.last, self.head) = (n, checksum);
        if is_anchor {
            return Ok(None);
        }
        let event: RunEvent = serde_json::from_str(&body)
            .map_err(|error| Fault::damaged(place(), error.to_string()))?;
        let attempt = Attempt(u32::try_from(attempt).unwrap_or(u32::MAX));
        Ok(Some(Sequenced {
            run_id: self.run.clone(),
            seq: unsigned(seq),
            attempt,
            at: Timestamp(unsigned(at_)),
            event,
        }))
    }

    /// Verifies that nothing is missing at the end.
    fn end(&self, row: &RunRow) -> Result<(), Fault> {
        if self.last < row.recorded {
            let place = format!("run `{}`, record {}", self.run, self.last + 1);
            return Err(Fault::damaged(place, "it is missing"));
        }
        if self.last > row.recorded || self.head != row.head {
            let detail = "its records do not end as it says";
            return Err(Fault::damaged(format!("run `{}`", self.run), detail));
        }
        Ok(())
    }
}

fn at(place: String, fault: &Fault) -> Fault {
    if let Fault::Damaged { detail, .. } = fault {
        return Fault::damaged(place, detail.clone());
    }
    fault.clone()
}

/// Returns the messages of `conversation`, verified.
pub(crate) async fn history(
    link: &mut Link,
    conversation: &ConversationId,
) -> Result<Vec<RawJson>, Fault> {
    let sql = "SELECT c.messages, c.head, m.n, m.body, m.checksum FROM axon_conversations c \
               LEFT JOIN axon_messages m ON m.conversation = c.key WHERE c.id = $1 ORDER BY m.n";
    let rows = link.fetch(sql, &[conversation.as_str().into()]).await?;
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let (count, end) = (first.int(0)?, first.int(1)?);
    let place = |n: i64| format!("conversation `{conversation}`, message {n}");
    let (mut last, mut head) = (0, chain::START);
    let mut messages = Vec::with_capacity(rows.len());
    for row in &rows {
        let Some(n) = row.maybe_int(2)? else { continue };
        if n != last + 1 {
            return Err(Fault::damaged(place(last + 1), "it is missing"));
        }
        let body = row.text(3).map_err(|fault| at(place(n), &fault))?;
        let checksum = row.int(4)?;
        if chain::of_message(head, conversation.as_str(), n, &body) != checksum {
            return Err(Fault::damaged(place(n), "its checksum is another"));
        }
        let message =
            RawJson::parse(&body).map_err(|error| Fault::damaged(place(n), error.to_string()))?;
        messages.push(message);
        (last, head) = (n, checksum);
    }
    if last < count {
        return Err(Fault::damaged(place(last + 1), "it is missing"));
    }
    if last > count || head != end {
        let detail = "its messages do not end as it says";
        return Err(Fault::damaged(format!("conversation `{conversation}`"), detail));
    }
    Ok(messages)
}

/// Returns the runs that `query` asks for.
pub(crate) async fn runs(
    link: &mut Link,
    query: &RunQuery,
    living: &Living,
) -> Result<Vec<RunRow>, Fault> {
    let (sql, values) = question(query, living);
    link.fetch(sql, &values).await?.iter().map(RunRow::read).collect()
}

fn question(query: &RunQuery, living: &Living) -> (String, Vec<Value>) {
    let mut values: Vec<Value> = Vec::new();
    let mut conditions: Vec<String> = Vec::new();
    let mut bind = |value: Value| {
        values.push(value);
        format!("${}", values.len())
    };
    if let Some(agent) = &query.agent {
        conditions.push(format!("r.agent = {}", bind(agent.as_str().into())));
    }
    if let Some(conversation) = &query.conversation {
        conditions.push(format!("r.conversation = {}", bind(conversation.as_str().into())));
    }
    let wanted = |state: &RunState| query.states.is_empty() || query.states.contains(state);
    if query.unowned || !query.states.is_empty() {
        let states = RunState::ALL.into_iter().filter(|state| state.is_open() || !query.unowned);
        // The labels stand in the text, so that the index of the open runs is seen to fit.
        let labels: Vec<String> =
            states.filter(wanted).map(|state| format!("'{}'", state.label())).collect();
        let labels = if labels.is_empty() { "''".to_owned() } else { labels.join(", ") };
        conditions.push(format!("r.state IN ({labels})"));
    }
    if query.unowned {
        conditions.push("r.state IN ('queued', 'running', 'paused')".to_owned());
        let living: Vec<String> = living.keys().map(|epoch| bind((*epoch).into())).collect();
        let taken = if living.is_empty() { "0".to_owned() } else { living.join(", ") };
        conditions.push(format!("(r.owner IS NULL OR r.owner NOT IN ({taken}))"));
    }
    if query.top_level {
        conditions.push("r.parent IS NULL".to_owned());
    }
    if let Some(after) = &query.after {
        conditions.push(format!(
            "(r.accepted_at, r.id) < (SELECT a.accepted_at, a.id FROM axon_runs a WHERE a.id = {})",
            bind(after.as_str().into())
        ));
    }
    let limit = if query.limit == 0 { PAGE } else { query.limit.min(PAGE) };
    let limit = bind(signed(limit as u64).into());
    let conditions = if conditions.is_empty() {
        String::new()
    } else {
        format!("WHERE {}", conditions.join(" AND "))
    };
    let columns = run_columns!();
    let sql = format!(
        "SELECT {columns} FROM axon_runs r {conditions} \
         ORDER BY r.accepted_at DESC, r.id DESC LIMIT {limit}"
    );
    (sql, values)
}

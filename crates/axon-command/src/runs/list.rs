//! `axon runs`: the newest runs, where they stand, and what is to be done about them.

use std::collections::HashMap;
use std::sync::Arc;

use axon_kernel::ids::ConversationId;
use axon_kernel::json::excerpt;
use axon_kernel::run::RunState;
use axon_kernel::store::{RunQuery, RunSummary, Store, StoreError};
use axon_kernel::time::Timestamp;
use axon_runtime::{RunRecords, WaitingRun};
use serde::Serialize;

use super::find::short;
use super::next::{next, state};
use super::{age, now, until};
use crate::args::{ListArgs, Wanted};
use crate::exit::Exit;
use crate::report::Report;
use crate::session::Session;
use crate::show;
use crate::suggestion::here;
use crate::terminal::{self, BOLD, DIM, YELLOW, printable, styled};

/// How much of a call's arguments is shown, in bytes.
const SHOWN_BYTES: usize = 120;

/// How many interrupted runs are counted; beyond that, there are many.
const COUNTED: usize = 100;

/// A run as a line of JSON.
#[derive(Debug, Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    run: &'a RunSummary,
    interrupted: bool,
    /// What a paused run waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<&'a WaitingRun>,
    /// The commands that go on with it.
    next: &'a [String],
}

/// A run and the commands that go on with it.
struct Listed {
    run: RunSummary,
    /// What it waits for, if it is paused and its record can be read.
    waiting: Option<WaitingRun>,
    next: Vec<String>,
}

pub(super) async fn run(args: ListArgs, session: &mut Session) -> Result<Exit, Report> {
    let place = session.shown_place()?;
    let json = args.json;
    let Some(store) = session.store_to_read().await? else {
        return none(json, &format!("nothing has been recorded in {place} yet"));
    };
    let mut listed = Vec::new();
    let is_overview = !json && args.is_any();
    let found = match is_overview {
        true => overview(&args, &store).await?,
        false => matching(args, store.as_ref()).await?,
    };
    for run in found {
        listed.push(Listed::new(run, &store).await);
    }
    match (listed.is_empty(), json) {
        (true, _) => return none(json, &format!("{place} holds no such run")),
        (false, true) => {
            for Listed { run, waiting, next } in &listed {
                let (interrupted, waiting) = (run.is_interrupted(), waiting.as_ref());
                show::line(&Line { run, interrupted, waiting, next })?;
            }
        }
        (false, false) => {
            for line in table(&listed, now()) {
                terminal::answer_in_style(&line)?;
            }
        }
    }
    Ok(Exit::OK)
}

fn none(json: bool, why: &str) -> Result<Exit, Report> {
    if !json {
        terminal::say(why);
    }
    Ok(Exit::OK)
}

/// Returns what whoever looks has to know: the runs that are open, however old, and then the newest
/// others. Those that answer a call of another one are seen there (`axon runs show`), and here only
/// if that one has ended.
async fn overview(args: &ListArgs, store: &Arc<dyn Store>) -> Result<Vec<RunSummary>, StoreError> {
    let limit = usize::from(args.limit);
    let states = vec![RunState::Queued, RunState::Running, RunState::Paused];
    let open = RunQuery { states, limit: COUNTED, ..RunQuery::default() };
    let mut found = Vec::new();
    let mut parents = HashMap::new();
    for run in store.runs(&open).await? {
        let is_below = match &run.parent {
            None => false,
            Some(parent) => match parents.get(parent) {
                Some(is_open) => *is_open,
                None => {
                    let is_open =
                        store.run(parent).await.is_ok_and(|parent| parent.state.is_open());
                    parents.insert(parent.clone(), is_open);
                    is_open
                }
            },
        };
        if !is_below {
            found.push(run);
        }
    }
    let mut query = RunQuery { limit: COUNTED, top_level: true, ..RunQuery::default() };
    loop {
        let page = store.runs(&query).await?;
        let is_last = page.len() < COUNTED;
        query.after = page.last().map(|run| run.run_id.clone());
        for run in page.into_iter().filter(|run| !run.state.is_open()) {
            if found.len() >= limit {
                return Ok(found);
            }
            found.push(run);
        }
        if is_last {
            return Ok(found);
        }
    }
}

/// Returns the runs that are asked for, newest first.
async fn matching(args: ListArgs, store: &dyn Store) -> Result<Vec<RunSummary>, StoreError> {
    let limit = usize::from(args.limit);
    let only_interrupted = args.state.as_slice() == [Wanted::Interrupted];
    let mut query = RunQuery {
        agent: args.agent,
        conversation: args.conversation.map(ConversationId::new),
        states: states(&args.state),
        unowned: only_interrupted,
        top_level: false,
        after: None,
        limit,
    };
    let mut found = Vec::new();
    loop {
        let page = store.runs(&query).await?;
        let is_last = page.len() < limit;
        query.after = page.last().map(|run| run.run_id.clone());
        found.extend(page.into_iter().filter(|run| is_wanted(run, &args.state)));
        if is_last || found.len() >= limit {
            found.truncate(limit);
            return Ok(found);
        }
    }
}

/// Returns the states on record that the wanted ones stand for.
fn states(wanted: &[Wanted]) -> Vec<RunState> {
    let states = |wanted: &Wanted| match wanted {
        Wanted::State(state) => vec![*state],
        Wanted::Interrupted => vec![RunState::Queued, RunState::Running],
    };
    let mut states: Vec<RunState> = wanted.iter().flat_map(states).collect();
    states.sort();
    states.dedup();
    states
}

fn is_wanted(run: &RunSummary, wanted: &[Wanted]) -> bool {
    let fits = |wanted: &Wanted| match wanted {
        Wanted::State(state) => run.state == *state && !run.is_interrupted(),
        Wanted::Interrupted => run.is_interrupted(),
    };
    wanted.is_empty() || wanted.iter().any(fits)
}

impl Listed {
    /// Puts to a run the commands that go on with it. What it waits for stands in its record only.
    async fn new(run: RunSummary, store: &Arc<dyn Store>) -> Self {
        let replay = match run.state {
            // A record that cannot be read does not hide the other runs.
            RunState::Paused => RunRecords::new(store.clone()).replay(&run.run_id).await.ok(),
            RunState::Queued
            | RunState::Running
            | RunState::Completed
            | RunState::Failed
            | RunState::Cancelled
            | RunState::Rejected => None,
        };
        let next = next(&run, replay.as_ref());
        let next = next.iter().map(|command| here(command)).collect();
        let waiting = replay.and_then(|replay| WaitingRun::of(run.run_id.clone(), replay));
        Self { run, waiting, next }
    }

    /// Returns what the run waits for, and until when.
    fn waits(&self, now: Timestamp) -> Vec<String> {
        let Some(waiting) = &self.waiting else { return Vec::new() };
        let calls = waiting.requests.iter().map(|request| {
            // What another agent asks is shown, and decided under the name of the call that waits here.
            let asked = request.asked();
            let args = excerpt(asked.args.get(), SHOWN_BYTES);
            printable(&format!("{} {args}  ({})", asked.name, request.tool_call_id))
        });
        let limit = waiting.expires.map(|expiry| until(expiry, now));
        calls.chain(limit).collect()
    }
}

fn table(listed: &[Listed], now: Timestamp) -> Vec<String> {
    let row = |listed: &Listed| {
        let run = &listed.run;
        [
            short(&run.run_id).to_owned(),
            run.agent.to_string(),
            printable(&state(run)),
            age::short(now.since(run.accepted_at)),
        ]
    };
    let head = ["RUN", "AGENT", "STATE", "AGE"].map(str::to_owned);
    let rows: Vec<[String; 4]> = listed.iter().map(row).collect();
    let mut widths = [0; 4];
    for row in std::iter::once(&head).chain(&rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let padded = |row: &[String; 4]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ")
    };
    let mut lines = vec![styled(DIM, padded(&head).trim_end())];
    for (row, listed) in rows.iter().zip(listed) {
        let Listed { run, next, .. } = listed;
        let line = padded(row);
        let line = if run.state.is_open() { styled(BOLD, line.trim_end()) } else { line };
        // The first command stands beside the run, the others below it.
        let (beside, below) = next.split_at(next.len().min(1));
        let beside = beside.iter().map(|command| styled(YELLOW, command));
        let cells = std::iter::once(line.trim_end().to_owned()).chain(beside);
        lines.push(cells.collect::<Vec<_>>().join("  "));
        let indent = " ".repeat(widths.iter().sum::<usize>() + 8);
        let waits = listed.waits(now);
        lines.extend(waits.iter().map(|line| format!("{indent}{}", styled(DIM, line))));
        lines.extend(below.iter().map(|command| format!("{indent}{}", styled(YELLOW, command))));
    }
    lines
}

/// Returns the run that keeps a conversation's turn although nobody drives it: it was interrupted,
/// or it waits for a person.
pub(crate) async fn held(
    conversation: &ConversationId,
    store: &dyn Store,
) -> Result<Option<RunSummary>, StoreError> {
    let query = RunQuery {
        conversation: Some(conversation.clone()),
        states: vec![RunState::Queued, RunState::Running, RunState::Paused],
        unowned: true,
        limit: 1,
        ..RunQuery::default()
    };
    Ok(store.runs(&query).await?.pop())
}

/// Returns a line about the runs whose process has gone, if there are any.
pub(crate) async fn interrupted(store: &dyn Store) -> Option<String> {
    let query = RunQuery {
        states: vec![RunState::Queued, RunState::Running],
        unowned: true,
        limit: COUNTED,
        ..RunQuery::default()
    };
    // What cannot be counted is no reason to fail.
    let count = store.runs(&query).await.ok()?.len();
    match count {
        0 => None,
        1 => Some("1 run was interrupted: axon runs".to_owned()),
        COUNTED => Some(format!("{COUNTED} runs or more were interrupted: axon runs")),
        count => Some(format!("{count} runs were interrupted: axon runs")),
    }
}

#[cfg(test)]
mod tests {
    use axon_kernel::ids::RunId;
    use axon_kernel::store::Owner;

    use super::*;

    fn run(id: &str, state: RunState, owner: Owner) -> RunSummary {
        RunSummary {
            run_id: RunId::new(id),
            agent: "bank_support".parse().unwrap(),
            conversation_id: None,
            parent: None,
            state,
            waits_for: None,
            accepted_at: Timestamp(0),
            updated_at: Timestamp(0),
            recorded: 1,
            owner,
        }
    }

    fn plain(lines: &[String]) -> Vec<String> {
        lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
    }

    #[test]
    fn a_list_says_where_runs_stand_and_what_goes_on_with_them() {
        let runs = [
            run("r1", RunState::Running, Owner::Nobody),
            run("r2", RunState::Running, Owner::Other("process 7".to_owned())),
            run("r3", RunState::Completed, Owner::Nobody),
        ];
        let listed: Vec<Listed> = runs
            .into_iter()
            .map(|run| Listed { next: next(&run, None), waiting: None, run })
            .collect();
        let lines = plain(&table(&listed, Timestamp(65_000)));
        assert_eq!(
            lines,
            [
                "RUN  AGENT         STATE                 AGE",
                "r1   bank_support  interrupted           1m  axon runs resume r1",
                "r2   bank_support  running in process 7  1m  axon runs events r2",
                "r3   bank_support  completed             1m",
            ]
        );
    }

    #[test]
    fn interrupted_runs_are_no_running_ones() {
        let gone = run("r1", RunState::Running, Owner::Nobody);
        let lives = run("r2", RunState::Running, Owner::Us);
        let running = [Wanted::State(RunState::Running)];
        assert!(!is_wanted(&gone, &running) && is_wanted(&lives, &running));
        let interrupted = [Wanted::Interrupted];
        assert!(is_wanted(&gone, &interrupted) && !is_wanted(&lives, &interrupted));
        assert_eq!(states(&interrupted), [RunState::Queued, RunState::Running]);
    }
}

//! `axon runs show`: one run, as its record tells it.

mod steps;

use axon_kernel::event::{PauseReason, RunEvent, Sequenced};
use axon_kernel::ids::idempotency_key;
use axon_kernel::json::{RawJson, excerpt};
use axon_kernel::run::Replay;
use axon_kernel::store::{Owner, RunSummary};
use axon_runtime::RunRecords;
use serde_json::Value;

use super::next::{Wants, next, state, waiting};
use super::{age, find, now, store_with, until};
use crate::args::RunArg;
use crate::exit::Exit;
use crate::report::Report;
use crate::session::Session;
use crate::show::{readable, usage};
use crate::suggestion::here;
use crate::terminal::{self, BOLD, DIM, YELLOW, printable, styled};

/// How much of a prompt or an answer is shown, in bytes.
const SHOWN_BYTES: usize = 2000;

pub(super) async fn run(args: &RunArg, session: &mut Session) -> Result<Exit, Report> {
    let store = store_with(&args.run, session).await?;
    let run = find(store.as_ref(), &args.run).await?;
    let records = RunRecords::new(store).events(&run.run_id, 0).await?;
    let replay = Replay::read(&records)?;
    for line in summary(&run, &replay, &records) {
        terminal::answer_in_style(&line)?;
    }
    terminal::answer_in_style(&styled(BOLD, "steps"))?;
    for line in steps::steps(&records, replay.accepted_at) {
        terminal::answer_in_style(&format!("  {line}"))?;
    }
    for line in ending(&run, &replay, &records) {
        terminal::answer_in_style(&line)?;
    }
    Ok(Exit::OK)
}

/// Returns what is known of the run as a whole.
fn summary(run: &RunSummary, replay: &Replay, records: &[Sequenced]) -> Vec<String> {
    let mut lines = vec![format!("{} {}", styled(BOLD, "run"), run.run_id)];
    let mut line = |label: &str, value: &str| {
        let value = printable(value).replace('\n', "\n               ");
        lines.push(format!("  {label:12} {value}"));
    };
    line("agent", run.agent.as_str());
    if replay.agent != run.agent {
        let how = if replay.handoffs.is_empty() { "it fell back" } else { "it was handed on" };
        line("answers", &format!("`{}`, to which {how}", replay.agent));
    }
    line("state", &state(run));
    if let Some(conversation) = &run.conversation_id {
        line("conversation", conversation.as_str());
    }
    let since = age::short(now().since(run.accepted_at));
    line("accepted", &format!("{} ({since} ago)", age::date(run.accepted_at)));
    if let (true, Owner::Nobody) = (run.state.is_open(), &run.owner) {
        let since = age::short(now().since(run.updated_at));
        line("untouched", &format!("for {since}"));
    }
    if let Some(used) = used(records) {
        line("used", &used);
    }
    if let Some(deps) = &replay.accepted.deps {
        line("deps", &excerpt(deps.get(), SHOWN_BYTES));
    }
    line("prompt", &excerpt(&readable(&replay.accepted.prompt), SHOWN_BYTES));
    lines
}

/// Returns what the run has used, as its last checkpoint or its end says.
fn used(records: &[Sequenced]) -> Option<String> {
    records.iter().rev().find_map(|record| {
        if let RunEvent::Completed(completed) = &record.event {
            Some(usage(&completed.usage))
        } else if let RunEvent::Checkpoint(checkpoint) = &record.event {
            Some(usage(&checkpoint.usage))
        } else {
            None
        }
    })
}

/// Returns how the run ended, or what it waits for and how to go on.
fn ending(run: &RunSummary, replay: &Replay, records: &[Sequenced]) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(RunEvent::Completed(completed)) = records.last().map(|record| &record.event) {
        lines.push(styled(BOLD, "answer"));
        let answer = excerpt(&readable(&completed.output), SHOWN_BYTES);
        lines.push(format!("  {}", printable(&answer).replace('\n', "\n  ")));
    }
    if let (Some(pause), true) = (&replay.pause, run.state.is_open()) {
        lines.push(styled(BOLD, "waits for"));
        lines.extend(waits_for(run, replay, &pause.reason).iter().map(|line| format!("  {line}")));
        if let Some(expiry) = replay.expires() {
            lines.push(format!("  {}", styled(DIM, &until(expiry, now()))));
        }
    }
    let next = next(run, Some(replay));
    if !next.is_empty() {
        lines.push(styled(BOLD, "next"));
        lines.extend(next.iter().map(|command| format!("  {}", styled(YELLOW, &here(command)))));
    }
    lines
}

fn waits_for(run: &RunSummary, replay: &Replay, reason: &PauseReason) -> Vec<String> {
    let mut lines: Vec<String> = waiting(replay)
        .iter()
        .map(|waiting| {
            let what = match waiting.wants {
                Wants::Approval => "an approval of",
                Wants::Answer => "an answer to",
                Wants::Certainty => "somebody who knows whether this took effect:",
            };
            let args = excerpt(&plain(&waiting.args), SHOWN_BYTES);
            printable(&format!("{what} {} {args}  ({})", waiting.tool, waiting.call))
        })
        .collect();
    match reason {
        PauseReason::Ambiguous { tool_call_id, failure } => {
            if let Some(called) = replay.calls.get(tool_call_id) {
                let key = idempotency_key(&run.run_id, called.step, tool_call_id);
                lines.push(styled(DIM, &printable(&format!("its idempotency key is {key}"))));
            }
            lines.push(styled(DIM, &printable(&format!("it was under way when: {failure}"))));
        }
        PauseReason::Changed { was, is } => {
            lines
                .push(format!("a word about the definition of `{}`, which has changed", run.agent));
            let digests = format!("digest {was} then, {is} when it was taken up");
            lines.push(styled(DIM, &printable(&digests)));
        }
        PauseReason::Quarantined { recoveries } => lines.push(format!(
            "somebody who looks at it: {recoveries} processes in a row took it over and died"
        )),
        PauseReason::Approval { .. } | PauseReason::Interrupted { .. } => {}
    }
    if lines.is_empty() {
        lines.push("nothing any more: everything is decided".to_owned());
    }
    lines
}

/// Returns arguments as JSON. They may come as the text of their JSON.
fn plain(json: &RawJson) -> String {
    match json.decode() {
        Ok(Value::String(inner)) if RawJson::parse(&inner).is_ok() => inner,
        _ => json.to_string(),
    }
}

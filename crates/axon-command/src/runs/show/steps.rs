//! The steps of a run, a line for each.

use axon_kernel::event::{
    Resolution, Resolved, RunEvent, Sequenced, StateChanged, ToolOutcome, ToolReturned,
};
use axon_kernel::json::excerpt;
use axon_kernel::policy::Decision;
use axon_kernel::time::Timestamp;
use clap::builder::styling::Style;

use super::plain;
use crate::show::readable;
use crate::terminal::{CYAN, DIM, GREEN, RED, YELLOW, printable, styled};

/// How much of arguments, results and reasons is shown, in bytes.
const SHOWN_BYTES: usize = 200;

/// A wait that is worth a line, in milliseconds.
const LONG_WAIT_MS: u64 = 1000;

/// Returns a line for each step, with its time since the run was accepted.
pub(super) fn steps(records: &[Sequenced], accepted: Timestamp) -> Vec<String> {
    let line = |record: &Sequenced| {
        let (style, text) = step(&record.event, record.attempt.0)?;
        let since = record.at.since(accepted);
        let time = format!("{:>5}.{:03}", since.as_secs(), since.subsec_millis());
        Some(format!("{}  {}", styled(DIM, &time), styled(style, &printable(&text))))
    };
    records.iter().filter_map(line).collect()
}

/// Returns what an event looks like; nothing of those that only the machine needs.
fn step(event: &RunEvent, attempt: u32) -> Option<(Style, String)> {
    use RunEvent as E;
    let plain_style = Style::new();
    Some(match event {
        E::Started(started) if started.queued_ms >= LONG_WAIT_MS => {
            (DIM, format!("waited {} ms for its turn", started.queued_ms))
        }
        E::AttemptStarted(begun) => {
            let offline = if begun.offline { ", which only plays a model" } else { "" };
            (plain_style, format!("attempt {attempt} with {}{offline}", begun.model))
        }
        E::Steered(steered) => {
            (CYAN, format!("was told more: {}", brief(&readable(&steered.content))))
        }
        E::ToolCalled(called) => {
            let (effect, args) = (called.effect.label(), plain(&called.args));
            (
                CYAN,
                format!("→ {} {}  ({effect}, {})", called.name, brief(&args), called.tool_call_id),
            )
        }
        E::ToolReturned(returned) => ended(returned),
        E::StateChanged(changed) => (DIM, format!("changed the state: {}", changed_keys(changed))),
        E::HandedOff(handed) => {
            (CYAN, format!("handed to {}: {}", handed.to, brief(&handed.reason)))
        }
        E::Checkpoint(checkpoint) => {
            let messages = checkpoint.base + checkpoint.messages.len();
            (DIM, format!("recorded up to message {messages}"))
        }
        E::AttemptFailed(failed) => (RED, format!("! {}", brief(&failed.failure.to_string()))),
        E::Decided(decided) => {
            (YELLOW, format!("  {}", decision(&decided.decision, &decided.reason)))
        }
        E::Retracted(_) => (YELLOW, "what that attempt said does not count".to_owned()),
        E::Paused(_) => (YELLOW, "paused".to_owned()),
        E::Resolved(resolved) => (YELLOW, resolution(resolved)),
        E::Resumed(_) => (plain_style, "went on".to_owned()),
        E::Recovered(recovered) => {
            let times = recovered.recoveries;
            (YELLOW, format!("another process took it over (take-over {times} in a row)"))
        }
        E::Completed(completed) => (GREEN, format!("completed after {} ms", completed.duration_ms)),
        E::Failed(failed) => (RED, format!("failed: {}", brief(&failed.failure.to_string()))),
        E::Rejected(failed) => (RED, format!("rejected: {}", brief(&failed.failure.to_string()))),
        E::Cancelled(cancelled) => (RED, format!("cancelled: {}", cancelled.reason)),
        E::Accepted(_)
        | E::Started(_)
        | E::TextDelta(_)
        | E::ThinkingDelta(_)
        | E::PartialOutput(_)
        | E::Model(_)
        | E::Log(_)
        | E::ToolProgress(_)
        | E::Delegated(_) => return None,
    })
}

fn ended(returned: &ToolReturned) -> (Style, String) {
    let (name, result) = (&returned.name, brief(returned.result.get()));
    match returned.outcome {
        ToolOutcome::Ok => (GREEN, format!("← {name} {result}")),
        ToolOutcome::Retry => (YELLOW, format!("← {name} asks to be called again: {result}")),
        ToolOutcome::Failed => (RED, format!("← {name} failed: {result}")),
        ToolOutcome::Deferred => (YELLOW, format!("← {name} waits for a decision")),
    }
}

fn changed_keys(changed: &StateChanged) -> String {
    let removed = changed.patch.removed.iter();
    changed.patch.set.keys().chain(removed).cloned().collect::<Vec<_>>().join(", ")
}

fn brief(text: &str) -> String {
    excerpt(text.lines().next().unwrap_or_default(), SHOWN_BYTES)
}

fn decision(decision: &Decision, reason: &str) -> String {
    match decision {
        Decision::Retry { after_ms } => format!("{reason}; again after {after_ms} ms"),
        Decision::Fallback { .. } | Decision::Escalate | Decision::Fail | Decision::Ask { .. } => {
            reason.to_owned()
        }
    }
}

fn resolution(resolved: &Resolved) -> String {
    let what = match &resolved.resolution {
        Resolution::Approve { args, always } => {
            let with = args.as_ref().map(|args| format!(" with {}", brief(args.get())));
            let always = if *always { ", and every further call of its tool" } else { "" };
            format!("approved{}{always}", with.unwrap_or_default())
        }
        Resolution::Deny { message: None } => "denied".to_owned(),
        Resolution::Deny { message: Some(message) } => format!("denied: {}", brief(message)),
        Resolution::Answer { result } => format!("answered: {}", brief(&readable(result))),
        Resolution::Retry => "made again".to_owned(),
        Resolution::Skip { result } => format!("taken as done, with {}", brief(result.get())),
        Resolution::Fail { message: None } => "given up".to_owned(),
        Resolution::Fail { message: Some(message) } => format!("given up: {}", brief(message)),
    };
    if let Some((by, said)) = resolved.handed_on() {
        let by = if by.is_empty() { String::new() } else { format!(", by {by}") };
        let call = &resolved.tool_call_id;
        return format!("what {call} waited for was decided: {said}{by}");
    }
    let by = if resolved.by.is_empty() { String::new() } else { format!(", by {}", resolved.by) };
    format!("{} was {what}{by}", resolved.tool_call_id)
}

#[cfg(test)]
mod tests {
    use axon_kernel::event::{PauseReason, Paused, ToolCalled};
    use axon_kernel::ids::{Attempt, RunId, ToolCallId};
    use axon_kernel::json::RawJson;
    use axon_kernel::spec::Effect;

    use super::*;

    fn record(at: u64, event: RunEvent) -> Sequenced {
        Sequenced {
            run_id: RunId::new("r1"),
            seq: at,
            attempt: Attempt(1),
            at: Timestamp(at),
            event,
        }
    }

    #[test]
    fn steps_say_what_was_called_and_who_decided() {
        let records = [
            record(
                1_500,
                RunEvent::ToolCalled(ToolCalled {
                    tool_call_id: ToolCallId::new("c1"),
                    name: "pay".to_owned(),
                    args: RawJson::parse(r#"{"amount":5}"#).unwrap(),
                    effect: Effect::Once,
                    step: 1,
                }),
            ),
            record(
                2_000,
                RunEvent::Paused(Paused::until_decided(PauseReason::Quarantined { recoveries: 3 })),
            ),
            record(
                61_000,
                RunEvent::Resolved(Resolved {
                    tool_call_id: ToolCallId::new("c1"),
                    resolution: Resolution::approve(),
                    by: "ada".to_owned(),
                }),
            ),
        ];
        let lines: Vec<String> = steps(&records, Timestamp(1_000))
            .iter()
            .map(|line| anstream::adapter::strip_str(line).to_string())
            .collect();
        assert_eq!(
            lines,
            [
                "    0.500  → pay {\"amount\":5}  (once, c1)",
                "    1.000  paused",
                "   60.000  c1 was approved, by ada",
            ]
        );
    }
}

//! Runs that wait for a person, told to that person.

use axon_kernel::event::PauseReason;
use axon_kernel::failure::FailureKind;
use axon_kernel::ids::{ConversationId, RunId};
use axon_kernel::json::excerpt;
use axon_kernel::run::{Replay, RunState};
use axon_kernel::store::RunSummary;
use axon_kernel::wire::{DeferredRequest, Handed};

use super::Report;
use crate::exit::Exit;
use crate::runs::{Waiting, Wants, next, now, out_of_pause, short, until, waiting};

/// How much of a call's arguments is shown, in bytes.
const SHOWN_BYTES: usize = 400;

impl Report {
    /// The run waits for a person: what it waits for, and the commands that go on.
    pub(crate) fn paused(run: &RunId, reason: &PauseReason, replay: Option<&Replay>) -> Self {
        let waiting = replay.map(waiting).unwrap_or_default();
        // Also where the call is one of another agent's, which this run waits for.
        let in_doubt = matches!(reason, PauseReason::Ambiguous { .. })
            || !waiting.is_empty() && waiting.iter().all(|call| call.wants == Wants::Certainty);
        let (code, what) = match reason {
            _ if in_doubt => {
                ("ambiguous", "nobody knows whether a tool call took effect, so the run waits")
            }
            PauseReason::Approval { .. } | PauseReason::Ambiguous { .. } => {
                ("approval_needed", "the run waits for a person's decision")
            }
            PauseReason::Changed { .. } => {
                ("definition_changed", "the agent's definition has changed, so the run waits")
            }
            PauseReason::Quarantined { .. } => {
                ("run_quarantined", "the run was taken over again and again, so it is left alone")
            }
            PauseReason::Interrupted { .. } => {
                ("run_interrupted", "the process ends, and the run is left open in its store")
            }
        };
        let exit = if in_doubt { Exit::of_undecided(true) } else { Exit::of_pause(reason) };
        let mut report = Self::new(code, exit, what);
        report.why.extend(waiting.iter().map(wanted));
        report.why.extend(behind(reason));
        let expires = replay.and_then(Replay::expires);
        report.why.extend(expires.map(|expiry| until(expiry, now())));
        report.todo = match replay {
            Some(replay) => out_of_pause(run, replay),
            None => vec![format!("axon runs show {}", short(run))],
        };
        if in_doubt {
            report.todo.push(
                "a tool that may be repeated says so in agent.toml: effect = \"pure\" or \
                 \"idempotent\"; one that can find out by itself has `reconcile`"
                    .to_owned(),
            );
        }
        report
    }

    /// Says that a run cannot be gone on with, because nothing outlasts this process.
    pub(crate) fn of_lost_run(mut self) -> Self {
        self.todo = vec!["run it with a store, so that it can be gone on with".to_owned()];
        self.because("the store is in memory, and the run is gone with this process")
    }

    /// Somebody has to decide before the run can go on.
    pub(crate) fn undecided(run: &RunId, replay: &Replay) -> Self {
        let waiting = waiting(replay);
        let is_certainty = waiting.iter().any(|call| call.wants == Wants::Certainty);
        let exit = Exit::of_undecided(is_certainty);
        let mut report = Self::new("run_undecided", exit, "the run cannot go on before a decision");
        report.why.extend(waiting.iter().map(wanted));
        report.todo = out_of_pause(run, replay);
        report
    }

    /// The last turn of a conversation has not ended, and nobody drives it.
    pub(crate) fn conversation_held(conversation: &ConversationId, by: &RunSummary) -> Self {
        let why = match by.state {
            RunState::Paused => "waits for a person",
            RunState::Queued
            | RunState::Running
            | RunState::Completed
            | RunState::Failed
            | RunState::Cancelled
            | RunState::Rejected => "was interrupted",
        };
        let exit = Exit::of_failure(FailureKind::Busy);
        let what = format!("conversation `{conversation}` takes no turn before its last one ends");
        let mut report = Self::new("conversation_busy", exit, what);
        report.why.push(format!("run {} {why}", short(&by.run_id)));
        report.todo.extend(next(by, None));
        report.todo.push(format!("axon runs cancel {}", short(&by.run_id)));
        report
    }
}

/// Returns what is wanted about a call: what is really to be decided, where another agent asks.
pub(crate) fn wanted(waiting: &Waiting) -> String {
    let Waiting { call, tool, args, wants, handed, question } = waiting;
    if let Some(question) = question {
        let by = handed.as_ref().map(|handed| format!("agent `{}`", handed.agent));
        let by = by.unwrap_or_else(|| "the run".to_owned());
        return format!("{by} asks: {} (call {call})", excerpt(question, SHOWN_BYTES));
    }
    if let Some(handed) = handed {
        return format!("{} (call {call})", wanted_there(handed));
    }
    let what = match wants {
        Wants::Approval => "it wants to call",
        Wants::Answer => "it waits for the result of",
        Wants::Certainty => "it may have called",
    };
    format!("{what} `{tool}` with {} (call {call})", excerpt(args.get(), SHOWN_BYTES))
}

/// Returns what the run of another agent waits for.
pub(crate) fn wanted_there(handed: &Handed) -> String {
    let agent = handed.agent.as_str().rsplit('/').next().unwrap_or_default();
    let Some(requests) = &handed.requests else {
        let (what, run) = (&handed.waits_for, short(&handed.run_id));
        return format!("agent `{agent}` waits for a person in run {run} ({what})");
    };
    let asked = |request: &DeferredRequest| match request.handed() {
        Some(deeper) => wanted_there(&deeper),
        None => format!("`{}` with {}", request.name, excerpt(request.args.get(), SHOWN_BYTES)),
    };
    let asked: Vec<String> = requests.iter().map(asked).collect();
    format!("agent `{agent}` wants to call {}", asked.join(", and "))
}

/// Returns what is behind a pause, beside the calls.
fn behind(reason: &PauseReason) -> Option<String> {
    match reason {
        PauseReason::Ambiguous { failure, .. } => Some(format!("then: {failure}")),
        PauseReason::Changed { was, is } => {
            Some(format!("its digest was {was} when the run began, and is {is}"))
        }
        PauseReason::Quarantined { recoveries } => {
            Some(format!("{recoveries} processes in a row took it over and got no further"))
        }
        PauseReason::Interrupted { reason } => Some(reason.clone()),
        PauseReason::Approval { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_without_its_record_still_says_where_to_look() {
        let run = RunId::new("0199aa00-1111-7222-8333-5f3a9c01d2e4");
        let reason = PauseReason::Quarantined { recoveries: 3 };
        let report = Report::paused(&run, &reason, None);
        assert_eq!(report.todo, ["axon runs show 5f3a9c01d2e4"]);
        assert!(report.why[0].contains("3 processes"), "{:?}", report.why);
        assert_eq!(report.of_lost_run().todo.len(), 1);
    }
}

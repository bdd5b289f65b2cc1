//! Where a run stands, in words, and the commands that go on with it.

use axon_kernel::event::PauseReason;
use axon_kernel::ids::{RunId, ToolCallId};
use axon_kernel::json::RawJson;
use axon_kernel::run::{Replay, RunState};
use axon_kernel::store::{Owner, RunSummary};
use axon_kernel::wire::{DeferredKind, DeferredRequest, Handed};

use super::find::short;
use super::now;
use crate::suggestion::quoted;

/// A call that a run waits for a decision about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Waiting {
    pub(crate) call: ToolCallId,
    /// The tool's name.
    pub(crate) tool: String,
    pub(crate) args: RawJson,
    pub(crate) wants: Wants,
    /// What waits, where the call is handed to another agent.
    pub(crate) handed: Option<Handed>,
    /// The question, where a person is asked one in words.
    pub(crate) question: Option<String>,
}

/// What has to be decided about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    /// Whether it may be made.
    Approval,
    /// What it returns: a question to a person, or a call that is made elsewhere.
    Answer,
    /// Whether it took effect.
    Certainty,
}

impl From<DeferredRequest> for Waiting {
    fn from(requested: DeferredRequest) -> Self {
        let (handed, asked) = (requested.handed(), requested.asked());
        let DeferredRequest { tool_call_id: call, name: tool, args, .. } = requested;
        let in_doubt = asked.handed().is_some_and(|handed| handed.waits_for == "ambiguous");
        let wants = match asked.kind {
            _ if in_doubt => Wants::Certainty,
            DeferredKind::Approval => Wants::Approval,
            DeferredKind::Question | DeferredKind::External => Wants::Answer,
        };
        Self { call, tool, args, wants, handed, question: asked.question() }
    }
}

/// Returns the calls that somebody has to decide about before a run can go on.
pub(crate) fn waiting(replay: &Replay) -> Vec<Waiting> {
    let doubts = replay.doubts.iter().map(|call| {
        let called = replay.calls.get(call);
        Waiting {
            call: call.clone(),
            tool: called.map_or_else(|| "unknown".to_owned(), |called| called.name.clone()),
            args: called.map_or_else(RawJson::null, |called| called.args.clone()),
            wants: Wants::Certainty,
            handed: None,
            question: None,
        }
    });
    doubts.chain(replay.open_requests().into_iter().map(Waiting::from)).collect()
}

/// Returns where a run stands.
pub(crate) fn state(run: &RunSummary) -> String {
    match (run.state, &run.owner) {
        (RunState::Queued | RunState::Running, Owner::Nobody) => "interrupted".to_owned(),
        (RunState::Queued | RunState::Running, Owner::Other(owner)) => {
            format!("{} in {owner}", run.state.label())
        }
        (RunState::Paused, _) => match run.waits_for.as_deref() {
            Some("approval") => "paused for approval".to_owned(),
            Some("changed") => "paused: its agent has changed".to_owned(),
            Some(reason) => reason.to_owned(),
            None => "paused".to_owned(),
        },
        (state, _) => state.label().to_owned(),
    }
}

/// Returns the commands that go on with an open run; `replay` is needed of a paused one.
pub(crate) fn next(run: &RunSummary, replay: Option<&Replay>) -> Vec<String> {
    let id = short(&run.run_id);
    if run.is_interrupted() {
        return vec![format!("axon runs resume {id}")];
    }
    match (run.state, replay) {
        (RunState::Paused, Some(replay)) => out_of_pause(&run.run_id, replay),
        (RunState::Paused, None) => vec![format!("axon runs show {id}")],
        (RunState::Queued | RunState::Running, _) => vec![format!("axon runs events {id}")],
        (RunState::Completed | RunState::Failed | RunState::Cancelled | RunState::Rejected, _) => {
            Vec::new()
        }
    }
}

/// Returns the commands that lead out of the pause that a run is in.
pub(crate) fn out_of_pause(run: &RunId, replay: &Replay) -> Vec<String> {
    let id = short(run);
    let waiting = waiting(replay);
    if !replay.expired(now()).is_empty() {
        return vec![format!("axon runs resume {id}")];
    }
    if !waiting.is_empty() {
        return waiting.iter().flat_map(|call| decisions(id, call)).collect();
    }
    match replay.pause.as_ref().map(|pause| &pause.reason) {
        Some(PauseReason::Changed { .. }) => {
            vec![format!("axon runs resume {id} --allow-changed"), format!("axon runs cancel {id}")]
        }
        Some(PauseReason::Quarantined { .. }) => {
            vec![format!("axon runs resume {id}"), format!("axon runs cancel {id}")]
        }
        Some(
            PauseReason::Approval { .. }
            | PauseReason::Ambiguous { .. }
            | PauseReason::Interrupted { .. },
        )
        | None => {
            vec![format!("axon runs resume {id}")]
        }
    }
}

fn decisions(id: &str, waiting: &Waiting) -> Vec<String> {
    // A call has the id that its model gave it, which may be any text.
    let word = quoted(waiting.call.as_str());
    let is_option = waiting.call.as_str().starts_with('-');
    let call = if is_option { format!("-- {word}") } else { word.to_string() };
    if let Some(handed) = &waiting.handed
        && handed.requests.is_none()
        && waiting.wants != Wants::Certainty
    {
        // It is decided there; then this run only has to go on.
        let there = format!("axon runs show {}", short(&handed.run_id));
        return vec![there, format!("axon approve {id} {call}")];
    }
    match waiting.wants {
        Wants::Approval => {
            vec![format!("axon approve {id} {call}"), format!("axon deny {id} {call}")]
        }
        Wants::Answer => vec![format!("axon answer {id} TEXT --call={word}")],
        Wants::Certainty => ["--skip", "--retry", "--fail"]
            .map(|verdict| match is_option {
                true => format!("axon runs resolve {id} {verdict} {call}"),
                false => format!("axon runs resolve {id} {call} {verdict}"),
            })
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use axon_kernel::event::{
        Accepted, AttemptBegun, Paused, Resolution, Resolved, RunEvent, RunTerms, Sequenced,
        Started, ToolCalled,
    };
    use axon_kernel::failure::{Failure, FailureKind};
    use axon_kernel::ids::{Attempt, Generation};
    use axon_kernel::spec::Effect;
    use axon_kernel::time::Timestamp;

    use super::*;

    /// Reads a run that called `pay` once, and in which `events` followed.
    fn replay(events: Vec<RunEvent>) -> Replay {
        let accepted = Accepted {
            agent: "a".parse().unwrap(),
            conversation_id: None,
            prompt: RawJson::null(),
            deps: None,
            terms: RunTerms::default(),
        };
        let begun = AttemptBegun { generation: Generation(1), model: "m".into(), offline: true };
        let called = ToolCalled {
            tool_call_id: ToolCallId::new("c1"),
            name: "pay".to_owned(),
            args: RawJson::parse("{}").unwrap(),
            effect: Effect::Once,
            step: 1,
        };
        let mut all = vec![
            RunEvent::Accepted(accepted),
            RunEvent::Started(Started { queued_ms: 0 }),
            RunEvent::AttemptStarted(begun),
            RunEvent::ToolCalled(called),
        ];
        all.extend(events);
        let place = |(seq, event)| Sequenced {
            run_id: RunId::new("r1"),
            seq,
            attempt: Attempt(1),
            at: Timestamp(seq),
            event,
        };
        let records: Vec<Sequenced> = (1..).zip(all).map(place).collect();
        Replay::read(&records).unwrap()
    }

    fn paused(reason: PauseReason) -> RunEvent {
        RunEvent::Paused(Paused::until_decided(reason))
    }

    fn ambiguous() -> RunEvent {
        let failure = Box::new(Failure::new(FailureKind::RunnerDied, "gone"));
        paused(PauseReason::Ambiguous { tool_call_id: ToolCallId::new("c1"), failure })
    }

    #[test]
    fn an_ambiguous_call_is_named_with_its_tool_until_it_is_decided() {
        let open = replay(vec![ambiguous()]);
        assert_eq!(waiting(&open)[0].tool, "pay");
        let commands = out_of_pause(&RunId::new("r1"), &open);
        assert_eq!(commands[0], "axon runs resolve r1 c1 --skip");
        let decided = RunEvent::Resolved(Resolved {
            tool_call_id: ToolCallId::new("c1"),
            resolution: Resolution::Retry,
            by: String::new(),
        });
        let commands = out_of_pause(&RunId::new("r1"), &replay(vec![ambiguous(), decided]));
        assert_eq!(commands, ["axon runs resume r1"]);
    }

    #[test]
    fn questions_are_answered_and_approvals_approved() {
        let requests = r#"[{"tool_call_id":"c2","name":"refund","args":{},"kind":"approval"},
            {"tool_call_id":"c3","name":"ask","args":{},"kind":"external"}]"#;
        let requests = RawJson::parse(requests).unwrap();
        let returned = RunEvent::ToolReturned(axon_kernel::event::ToolReturned {
            tool_call_id: ToolCallId::new("c1"),
            name: "pay".to_owned(),
            outcome: axon_kernel::event::ToolOutcome::Ok,
            result: RawJson::null(),
        });
        let open = replay(vec![returned, paused(PauseReason::Approval { requests })]);
        assert_eq!(
            out_of_pause(&RunId::new("r1"), &open),
            ["axon approve r1 c2", "axon deny r1 c2", "axon answer r1 TEXT --call=c3"]
        );
    }
}

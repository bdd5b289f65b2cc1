use proptest::prelude::*;

use super::*;
use crate::event::*;
use crate::failure::{Failure, FailureKind};
use crate::ids::Generation;
use crate::json::RawJson;
use crate::policy::Decision;
use crate::spec::AgentName;

fn call(n: u8) -> ToolCallId {
    ToolCallId::new(format!("c{n}"))
}

fn failure() -> Failure {
    Failure::new(FailureKind::Internal, "x")
}

fn event_of_work() -> impl Strategy<Value = RunEvent> {
    let text = || TextDelta { text: "t".into() };
    prop_oneof![
        Just(RunEvent::Accepted(Accepted {
            agent: AgentName::try_from("a".to_owned()).unwrap(),
            conversation_id: None,
            prompt: RawJson::null(),
            deps: None,
            terms: RunTerms::default(),
        })),
        Just(RunEvent::Started(Started { queued_ms: 0 })),
        Just(RunEvent::AttemptStarted(AttemptBegun {
            generation: Generation::FIRST,
            model: "m".into(),
            offline: false,
        })),
        Just(RunEvent::TextDelta(text())),
        Just(RunEvent::ThinkingDelta(text())),
        Just(RunEvent::PartialOutput(PartialValue { value: RawJson::null() })),
        (0..4_u8, prop_oneof![Just(Effect::Pure), Just(Effect::Once)]).prop_map(|(n, effect)| {
            RunEvent::ToolCalled(ToolCalled {
                tool_call_id: call(n),
                name: "t".into(),
                args: RawJson::null(),
                effect,
                step: 0,
            })
        }),
        (0..4_u8).prop_map(|n| RunEvent::ToolReturned(ToolReturned {
            tool_call_id: call(n),
            name: "t".into(),
            outcome: ToolOutcome::Ok,
            result: RawJson::null(),
        })),
    ]
}

fn event_of_order() -> impl Strategy<Value = RunEvent> {
    let failed = || Failed { failure: failure(), history: Vec::new(), escalated: false };
    prop_oneof![
        Just(RunEvent::Checkpoint(Checkpoint {
            base: 0,
            messages: Vec::new(),
            usage: RawJson::null(),
            delivered: Vec::new(),
            hands_on: false,
        })),
        Just(RunEvent::AttemptFailed(AttemptFailure { failure: failure() })),
        Just(RunEvent::Decided(Decided { decision: Decision::Fail, reason: String::new() })),
        Just(RunEvent::Retracted(Retracted {})),
        Just(RunEvent::Paused(Paused::until_decided(PauseReason::Approval {
            requests: RawJson::null()
        }))),
        Just(RunEvent::Resolved(Resolved {
            tool_call_id: call(0),
            resolution: Resolution::Retry,
            by: String::new(),
        })),
        Just(RunEvent::Resumed(Resumed { timeout_ms: 0, definition: None })),
        Just(RunEvent::Recovered(Recovered { recoveries: 1, timeout_ms: None, definition: None })),
        Just(RunEvent::Completed(Completed {
            output: RawJson::null(),
            usage: RawJson::null(),
            model: "m".into(),
            offline: false,
            attempts: 1,
            duration_ms: 1,
        })),
        Just(RunEvent::Failed(failed())),
        Just(RunEvent::Cancelled(Cancelled { reason: String::new() })),
        Just(RunEvent::Rejected(failed())),
    ]
}

fn any_event() -> impl Strategy<Value = RunEvent> {
    prop_oneof![event_of_work(), event_of_order()]
}

proptest! {
    #[test]
    fn no_order_of_events_yields_two_outcomes(events in prop::collection::vec(any_event(), 0..64)) {
        let (mut status, mut outcomes) = (RunStatus::New, 0);
        for event in &events {
            let was_terminal = status.is_terminal();
            if let Ok(next) = status.next(event) {
                prop_assert!(!was_terminal, "{status} took {}", event.name());
                prop_assert_eq!(next.is_terminal(), event.is_terminal());
                outcomes += u32::from(event.is_terminal());
                status = next;
            }
        }
        prop_assert!(outcomes <= 1);
        prop_assert_eq!(outcomes == 1, status.is_terminal());
    }

    #[test]
    fn every_open_run_can_still_be_ended(events in prop::collection::vec(any_event(), 0..64)) {
        let mut status = RunStatus::New;
        for event in &events {
            status = status.next(event).unwrap_or(status);
        }
        let failed = RunEvent::Failed(Failed { failure: failure(), history: Vec::new(), escalated: false });
        let can_end = status.next(&failed).is_ok();
        prop_assert_eq!(can_end, !status.is_terminal() && status != RunStatus::New);
    }

    #[test]
    fn only_calls_that_began_can_return(events in prop::collection::vec(any_event(), 0..64)) {
        let mut status = RunStatus::New;
        for event in &events {
            let before = status.clone();
            let Ok(next) = status.next(event) else { continue };
            if let RunEvent::ToolReturned(returned) = event {
                let RunStatus::Running { pending } = before else {
                    return Err(TestCaseError::fail("returned outside a run"));
                };
                prop_assert!(pending.has(&returned.tool_call_id));
            }
            status = next;
        }
    }
}

#[test]
fn a_new_attempt_forgets_the_calls_of_the_old_one() {
    let running =
        RunStatus::Running { pending: PendingCalls::default().with(&call(1), Effect::Once) };
    let RunStatus::Running { pending } = &running else { unreachable!() };
    assert!(pending.has(&call(1)));
    let next = running.next(&RunEvent::AttemptStarted(AttemptBegun {
        generation: Generation(2),
        model: "m".into(),
        offline: false,
    }));
    assert_eq!(next, Ok(RunStatus::Running { pending: PendingCalls::default() }));
}

use super::*;
use crate::event::{
    AttemptBegun, AttemptFailure, Resolved, RunTerms, Started, ToolCalled, ToolReturned,
};
use crate::failure::FailureKind;
use crate::ids::{Generation, MessageId, RunId};

fn call(id: &str) -> ToolCallId {
    ToolCallId::new(id)
}

fn accepted() -> RunEvent {
    RunEvent::Accepted(Accepted {
        agent: AgentName::try_from("a".to_owned()).unwrap(),
        conversation_id: None,
        prompt: RawJson::null(),
        deps: None,
        terms: RunTerms { timeout_ms: 60_000, ..RunTerms::default() },
    })
}

fn started() -> RunEvent {
    RunEvent::Started(Started { queued_ms: 0 })
}

fn begun() -> RunEvent {
    let generation = Generation::FIRST;
    RunEvent::AttemptStarted(AttemptBegun { generation, model: "m".into(), offline: false })
}

fn called(id: &str, effect: Effect) -> RunEvent {
    let (tool_call_id, name, args) = (call(id), "t".to_owned(), RawJson::null());
    RunEvent::ToolCalled(ToolCalled { tool_call_id, name, args, effect, step: 1 })
}

fn returned(id: &str, outcome: ToolOutcome) -> RunEvent {
    let result = RawJson::from(&serde_json::json!(id));
    RunEvent::ToolReturned(ToolReturned {
        tool_call_id: call(id),
        name: "t".into(),
        outcome,
        result,
    })
}

fn checkpoint(delivered: &[&str]) -> RunEvent {
    let delivered = delivered.iter().map(|id| MessageId::new(*id)).collect();
    let (messages, usage) = (vec![RawJson::null()], RawJson::null());
    RunEvent::Checkpoint(Checkpoint { base: 0, messages, usage, delivered, hands_on: false })
}

fn steered(id: &str) -> RunEvent {
    RunEvent::Steered(Steered { message_id: MessageId::new(id), content: RawJson::null() })
}

fn decided(decision: Decision) -> RunEvent {
    RunEvent::Decided(Decided { decision, reason: String::new() })
}

fn failed_attempt() -> RunEvent {
    let failure = Failure::new(FailureKind::RunnerDied, "it died");
    RunEvent::AttemptFailed(AttemptFailure { failure })
}

fn resolved(id: &str, resolution: Resolution) -> RunEvent {
    RunEvent::Resolved(Resolved { tool_call_id: call(id), resolution, by: String::new() })
}

fn approval(ids: &[&str]) -> RunEvent {
    let request =
        |id: &&str| serde_json::json!({"tool_call_id": id, "name": "t", "kind": "approval"});
    let requests: Vec<serde_json::Value> = ids.iter().map(request).collect();
    let requests = RawJson::from(&serde_json::Value::from(requests));
    RunEvent::Paused(Paused::until_decided(PauseReason::Approval { requests }))
}

/// Reads a record whose events came a second apart, the first one at second 0.
fn replay(events: Vec<RunEvent>) -> Replay {
    let place = |(seq, event)| Sequenced {
        run_id: RunId::new("r"),
        seq,
        attempt: Attempt(u32::from(seq > 2)),
        at: Timestamp((seq - 1) * 1000),
        event,
    };
    let records: Vec<Sequenced> = (1..).zip(events).map(place).collect();
    Replay::read(&records).unwrap()
}

fn running(events: impl IntoIterator<Item = RunEvent>) -> Replay {
    replay([accepted(), started(), begun()].into_iter().chain(events).collect())
}

#[test]
fn a_once_call_without_a_result_is_in_doubt_until_somebody_decides_or_a_checkpoint_has_it() {
    let once = || called("c", Effect::Once);
    assert_eq!(running([once()]).undecided(), [call("c")]);
    assert_eq!(running([once(), returned("c", ToolOutcome::Failed)]).undecided(), [call("c")]);
    assert_eq!(running([once(), begun()]).undecided(), [call("c")], "another attempt forgets none");
    let settled = [
        vec![once(), returned("c", ToolOutcome::Ok)],
        vec![once(), returned("c", ToolOutcome::Deferred)],
        vec![once(), checkpoint(&[])],
        vec![once(), resolved("c", Resolution::Retry)],
        vec![called("c", Effect::Idempotent)],
    ];
    for events in settled {
        assert_eq!(running(events.clone()).undecided(), [], "{events:?}");
    }
}

#[test]
fn a_call_that_asked_before_it_did_anything_has_done_nothing() {
    let once = || called("c", Effect::Once);
    let asked = running([once(), returned("c", ToolOutcome::Deferred)]);
    assert!(!asked.committed && asked.results.is_empty());
    let failed = running([once(), returned("c", ToolOutcome::Failed)]);
    assert!(failed.committed);
}

#[test]
fn a_call_that_is_made_again_is_in_doubt_again() {
    let events =
        [called("c", Effect::Once), resolved("c", Resolution::Retry), called("c", Effect::Once)];
    assert_eq!(running(events).undecided(), [call("c")]);
}

#[test]
fn what_somebody_says_that_a_call_returned_is_its_result() {
    let result = RawJson::from(&serde_json::json!({"done": true}));
    let skip = resolved("c", Resolution::Skip { result: result.clone() });
    let replay = running([called("c", Effect::Once), skip]);
    assert_eq!(replay.results.get(&call("c")), Some(&result));
}

#[test]
fn an_approval_waits_for_every_call_and_is_kept_until_the_next_checkpoint() {
    let approve = |id| resolved(id, Resolution::approve());
    let waiting = running([approval(&["a", "b"]), approve("a")]);
    assert_eq!(waiting.undecided(), [call("b")]);
    let resumed = || RunEvent::Resumed(Resumed { timeout_ms: 5_000, definition: None });
    let events = [approval(&["a", "b"]), approve("a"), approve("b"), resumed()];
    let going_on = running(events.clone());
    assert_eq!((going_on.requests.len(), going_on.resolutions.len()), (2, 2));
    assert_eq!(going_on.deadline, Timestamp(6_000 + 5_000), "its clock stood while it waited");
    let behind = running(events.into_iter().chain([checkpoint(&[])]));
    assert_eq!((behind.requests.len(), behind.resolutions.len()), (0, 0));
}

#[test]
fn a_deadline_is_the_acceptance_and_a_time_whoever_takes_the_run_over() {
    let recovered =
        |timeout_ms| RunEvent::Recovered(Recovered { recoveries: 1, timeout_ms, definition: None });
    assert_eq!(running([recovered(None)]).deadline, Timestamp(60_000));
    assert_eq!(running([recovered(Some(1_000))]).deadline, Timestamp(3_000 + 1_000));
}

#[test]
fn takeovers_count_until_the_run_gets_further() {
    let recovered = |recoveries| {
        RunEvent::Recovered(Recovered { recoveries, timeout_ms: None, definition: None })
    };
    let twice = running([recovered(1), begun(), recovered(2)]);
    assert_eq!((twice.recoveries, twice.attempted), (2, false));
    assert!(running([recovered(1), begun()]).attempted);
    assert_eq!(running([recovered(1), begun(), checkpoint(&[])]).recoveries, 0);
}

#[test]
fn a_retry_that_was_put_off_is_due_when_it_was_due() {
    let retry = decided(Decision::Retry { after_ms: 10_000 });
    let waits = running([failed_attempt(), retry.clone()]);
    assert_eq!(waits.due, Some(Timestamp(4_000 + 10_000)));
    assert_eq!(waits.chain(|_| 3).sentences(), ["retried 1 of 3 after runner_died"]);
    assert_eq!(running([failed_attempt(), retry, begun()]).due, None);
}

#[test]
fn another_agent_begins_with_the_prompt() {
    let other = AgentName::try_from("b".to_owned()).unwrap();
    let fallback = decided(Decision::Fallback { to: FallbackTo::Agent(other.clone()) });
    let events =
        [steered("m"), checkpoint(&["m"]), called("c", Effect::Pure), failed_attempt(), fallback];
    let replay = running(events);
    assert_eq!(replay.agent, other);
    assert!(replay.checkpoints.is_empty() && replay.calls.is_empty());
    assert_eq!(replay.untold.len(), 1, "it was told nothing yet");
}

#[test]
fn a_message_is_told_again_unless_a_checkpoint_has_it() {
    let replay = running([steered("m"), steered("n"), checkpoint(&["m"])]);
    let untold: Vec<&str> = replay.untold.iter().map(|m| m.message_id.as_str()).collect();
    assert_eq!((untold, replay.told.len()), (vec!["n"], 1));
}

#[test]
fn a_record_that_is_none_is_refused() {
    assert!(matches!(Replay::read(&[]), Err(ReplayError::NoBeginning)));
    let place = |seq, event| Sequenced {
        run_id: RunId::new("r"),
        seq,
        attempt: Attempt(0),
        at: Timestamp(0),
        event,
    };
    let records = [place(1, accepted()), place(7, checkpoint(&[]))];
    assert!(matches!(Replay::read(&records), Err(ReplayError::Illegal { seq: 7, .. })));
    assert!(matches!(Replay::read(&records[1..]), Err(ReplayError::NoBeginning)));
}

#[test]
fn a_decision_is_replaced_by_the_next_one_about_the_same_call() {
    let skip = resolved("c", Resolution::Skip { result: RawJson::null() });
    let replaced = running([called("c", Effect::Once), skip, resolved("c", Resolution::Retry)]);
    assert!(replaced.results.is_empty(), "the call is made again");
}

#[test]
fn a_run_that_was_given_up_makes_no_further_attempt() {
    let given_up = running([failed_attempt(), decided(Decision::Fail)]);
    assert_eq!(given_up.given_up.unwrap().kind, FailureKind::RunnerDied);
    let retried = running([failed_attempt(), decided(Decision::Retry { after_ms: 1 })]);
    assert_eq!(retried.given_up, None);
}

fn always() -> Resolution {
    Resolution::Approve { args: None, always: true }
}

fn requests(ids: &[&str]) -> Vec<DeferredRequest> {
    let RunEvent::Paused(Paused { reason, .. }) = approval(ids) else { unreachable!() };
    Pause { reason, since: Timestamp(0), expires: None }.requests()
}

#[test]
fn an_approval_for_the_whole_run_stands_over_checkpoints_but_not_for_another_agent() {
    let once = running([approval(&["a"]), resolved("a", Resolution::approve())]);
    assert_eq!(once.standing.decide(&requests(&["b"])), []);
    let resumed = RunEvent::Resumed(Resumed { timeout_ms: 5_000, definition: None });
    let events = vec![approval(&["a"]), resolved("a", always()), resumed, checkpoint(&[])];
    let stands = running(events.clone()).standing.decide(&requests(&["b"]));
    assert_eq!(stands[0].resolution, Resolution::approve(), "with its own arguments");
    assert_eq!(stands[0].by, "somebody, for every call of `t` in this run");
    let other = FallbackTo::Agent(AgentName::try_from("b".to_owned()).unwrap());
    let fallback = [failed_attempt(), decided(Decision::Fallback { to: other })];
    let elsewhere = running(events.into_iter().chain(fallback));
    assert_eq!(elsewhere.standing.decide(&requests(&["b"])), []);
}

#[test]
fn what_was_approved_beforehand_stands_from_the_beginning() {
    let RunEvent::Accepted(mut asked) = accepted() else { unreachable!() };
    asked.terms.approve.insert("t".to_owned());
    let replay = replay(vec![RunEvent::Accepted(asked), started(), begun()]);
    let stands = replay.standing.decide(&requests(&["a"]));
    assert_eq!(stands[0].by, "whoever asked for the run, for every call of `t` in this run");
}

#[test]
fn a_pause_that_is_over_decides_about_the_calls_that_nobody_decided_about() {
    let until = |then| {
        let RunEvent::Paused(paused) = approval(&["a", "b"]) else { unreachable!() };
        let expires = Some(Expiry { at: Timestamp(63_000), timeout_ms: 60_000, then });
        RunEvent::Paused(Paused { expires, ..paused })
    };
    let waits = running([until(OnTimeout::Deny), resolved("a", Resolution::approve())]);
    assert_eq!(waits.expired(Timestamp(62_999)), []);
    let [denied] = waits.expired(Timestamp(63_000)).try_into().unwrap();
    let message = Some("Nobody decided about this call within 1m.".to_owned());
    assert_eq!(denied.tool_call_id, call("b"));
    assert_eq!(denied.resolution, Resolution::Deny { message: message.clone() });
    let failing = running([until(OnTimeout::Fail)]).expired(Timestamp(63_000));
    assert!(
        failing.iter().all(|at| at.resolution == Resolution::Fail { message: message.clone() })
    );
    let decided = ["a", "b"].map(|id| resolved(id, Resolution::approve()));
    let over = running([until(OnTimeout::Fail)].into_iter().chain(decided));
    assert_eq!((over.expires(), over.expired(Timestamp(99_000))), (None, Vec::new()));
}

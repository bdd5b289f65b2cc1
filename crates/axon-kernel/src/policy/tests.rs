//! The ladder, row by row, and what holds for any policy and any failures.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::failure::KIND_TABLE;

const BUDGET: Budget = Budget { remaining: Duration::from_secs(60), jitter: 0.5 };
const FRESH: Tried = Tried { failed_before: 0, fallback_model: false, fallback_agent: false };

fn retried(failed_before: u32) -> Tried {
    Tried { failed_before, ..FRESH }
}

fn agent(fallback: Fallback) -> AgentSpec {
    let mut spec = AgentSpec::new(AgentName::try_from("bank").unwrap());
    spec.model = Some(ModelName::try_from("openai:gpt-5").unwrap());
    spec.fallback = fallback;
    spec
}

fn both() -> Fallback {
    Fallback {
        model: Some(ModelName::try_from("openai:gpt-5-mini").unwrap()),
        agent: Some(AgentName::try_from("simple").unwrap()),
    }
}

fn to_model() -> Decision {
    Decision::Fallback { to: FallbackTo::Model(both().model.unwrap()) }
}

fn to_agent() -> Decision {
    Decision::Fallback { to: FallbackTo::Agent(both().agent.unwrap()) }
}

fn with_rule(kind: FailureKind, rule: PolicyRule) -> Policy {
    let mut spec = agent(both());
    spec.policy.insert(kind, rule);
    Policy::of(&spec)
}

fn falling_back(kind: FailureKind) -> Policy {
    with_rule(kind, PolicyRule { then: Some(Then::Fallback), ..PolicyRule::default() })
}

fn decide_by(policy: &Policy, kind: FailureKind, tried: Tried) -> Decision {
    policy.decide(&Failure::new(kind, "x"), &tried, &Seen::Nothing, &BUDGET)
}

fn decide(kind: FailureKind, tried: Tried) -> Decision {
    decide_by(&Policy::of(&agent(both())), kind, tried)
}

fn is_retry(decision: &Decision) -> bool {
    matches!(decision, Decision::Retry { .. })
}

#[test]
fn transient_failures_are_retried_then_fall_back_then_fail() {
    for kind in [FailureKind::ModelOverloaded, FailureKind::ModelTimeout, FailureKind::Busy] {
        assert!(is_retry(&decide(kind, retried(2))));
        assert_eq!(decide(kind, retried(3)), to_model());
        let tried = Tried { fallback_model: true, ..retried(3) };
        assert!(is_retry(&decide(kind, Tried { failed_before: 2, ..tried })));
        assert_eq!(decide(kind, tried), to_agent());
        assert_eq!(decide(kind, Tried { fallback_agent: true, ..tried }), Decision::Fail);
        assert_eq!(decide_by(&Policy::default(), kind, retried(3)), Decision::Fail);
    }
}

#[test]
fn bad_behavior_gets_one_fresh_attempt_and_a_fallback() {
    for kind in [FailureKind::OutputInvalid, FailureKind::ModelBehavior] {
        assert!(is_retry(&decide(kind, FRESH)));
        assert_eq!(decide(kind, retried(1)), to_model());
        assert_eq!(decide_by(&Policy::default(), kind, retried(1)), Decision::Fail);
    }
}

#[test]
fn a_sick_runner_is_never_answered_with_another_model() {
    for kind in [FailureKind::RunnerDied, FailureKind::Decode] {
        assert_eq!(decide(kind, retried(2)), Decision::Retry { after_ms: 0 });
        assert_eq!(decide(kind, retried(3)), Decision::Fail);
        assert_eq!(decide_by(&falling_back(kind), kind, retried(3)), to_agent());
    }
}

#[test]
fn an_unmapped_exception_gets_one_fresh_attempt() {
    assert!(is_retry(&decide(FailureKind::Internal, FRESH)));
    assert_eq!(decide(FailureKind::Internal, retried(1)), Decision::Fail);
}

#[test]
fn a_tools_failure_ends_the_run_unless_a_rule_says_more() {
    for kind in [FailureKind::Tool, FailureKind::Toolset] {
        assert_eq!(decide(kind, FRESH), Decision::Fail);
        assert_eq!(decide_by(&falling_back(kind), kind, FRESH), to_model());
    }
}

#[test]
fn what_would_fail_again_is_never_retried_blindly() {
    for kind in [
        FailureKind::ContextWindow,
        FailureKind::OutputTokenLimit,
        FailureKind::UsageLimit,
        FailureKind::ContentFilter,
        FailureKind::FallbackExhausted,
    ] {
        assert_eq!(decide(kind, FRESH), to_model());
        assert_eq!(decide_by(&Policy::default(), kind, FRESH), Decision::Fail);
    }
}

#[test]
fn credentials_escalate_at_once_and_fall_back_only_by_a_rule() {
    for kind in [
        FailureKind::ModelAuth,
        FailureKind::ModelNotFound,
        FailureKind::ModelQuota,
        FailureKind::ModelRejected,
    ] {
        assert_eq!(decide(kind, FRESH), Decision::Escalate);
        let policy = falling_back(kind);
        assert_eq!(decide_by(&policy, kind, FRESH), to_model());
        let tried = Tried { fallback_model: true, fallback_agent: true, ..FRESH };
        assert_eq!(decide_by(&policy, kind, tried), Decision::Escalate);
    }
}

#[test]
fn deadlines_cancels_and_wrong_definitions_are_final_even_with_a_rule() {
    let rule = PolicyRule { retry: Some(5), then: Some(Then::Fallback), backoff: None };
    for kind in [FailureKind::RunTimeout, FailureKind::Cancelled, FailureKind::Config] {
        assert_eq!(decide_by(&with_rule(kind, rule), kind, FRESH), Decision::Fail);
    }
}

#[test]
fn a_rule_that_ends_the_run_keeps_the_fallback_out() {
    let kind = FailureKind::ModelServer;
    for (then, end) in [(Then::Fail, Decision::Fail), (Then::Escalate, Decision::Escalate)] {
        let rule = PolicyRule { then: Some(then), ..PolicyRule::default() };
        assert_eq!(decide_by(&with_rule(kind, rule), kind, retried(3)), end);
    }
}

#[test]
fn an_answer_that_is_final_is_not_retried_but_may_fall_back() {
    let mut failure = Failure::new(FailureKind::ModelHttp, "418");
    let decide = |failure: &Failure| {
        Policy::of(&agent(both())).decide(failure, &FRESH, &Seen::Nothing, &BUDGET)
    };
    assert!(is_retry(&decide(&failure)));
    failure.retryable = false;
    assert_eq!(decide(&failure), to_model());
}

#[test]
fn a_possible_effect_is_repeated_by_nobody() {
    let policy = Policy::of(&agent(both()));
    let call = ToolCallId::new("c1");
    let seen = Seen::Effect(call.clone());
    let decide =
        |kind, tried: Tried| policy.decide(&Failure::new(kind, "x"), &tried, &seen, &BUDGET);
    let ask = Decision::Ask { tool_call_id: call };
    for tried in [FRESH, retried(3), Tried { fallback_agent: true, ..retried(3) }] {
        assert_eq!(decide(FailureKind::RunnerDied, tried), ask);
    }
    assert_eq!(decide(FailureKind::ModelServer, FRESH), ask, "in place of a retry");
    assert_eq!(decide(FailureKind::ContextWindow, FRESH), ask, "in place of a fallback");
    assert_eq!(decide(FailureKind::Tool, FRESH), Decision::Fail);
    assert_eq!(decide(FailureKind::ModelAuth, FRESH), Decision::Escalate);
    assert_eq!(decide(FailureKind::Cancelled, FRESH), Decision::Fail);
}

#[test]
fn after_a_recorded_effect_the_run_goes_on_but_nobody_begins_it_anew() {
    let policy = Policy::of(&agent(both()));
    let decide = |kind, tried: Tried| {
        policy.decide(&Failure::new(kind, "x"), &tried, &Seen::Recorded, &BUDGET)
    };
    assert!(is_retry(&decide(FailureKind::RunnerDied, FRESH)));
    assert!(is_retry(&decide(FailureKind::ModelServer, FRESH)));
    assert_eq!(decide(FailureKind::ModelServer, retried(3)), to_model());
    let tried = Tried { fallback_model: true, ..retried(3) };
    assert_eq!(decide(FailureKind::ModelServer, tried), Decision::Fail);
}

#[test]
fn a_wait_beyond_the_deadline_is_not_begun() {
    let mut failure = Failure::new(FailureKind::ModelRateLimited, "slow down");
    let decide = |policy: &Policy, failure: &Failure, budget: &Budget| {
        policy.decide(failure, &FRESH, &Seen::Nothing, budget)
    };
    failure.retry_after = Some(120.0);
    assert_eq!(decide(&Policy::default(), &failure, &BUDGET), Decision::Fail);
    let policy = Policy::of(&agent(both()));
    assert_eq!(decide(&policy, &failure, &BUDGET), to_model());
    let late = Budget { remaining: Duration::ZERO, jitter: 0.5 };
    assert_eq!(decide(&policy, &failure, &late), Decision::Fail);
    failure.retry_after = Some(2.0);
    assert_eq!(decide(&policy, &failure, &BUDGET), Decision::Retry { after_ms: 2100 });
}

#[test]
fn waits_double_up_to_a_bound_and_are_spread() {
    let after = |failed_before, jitter| {
        let budget = Budget { jitter, ..BUDGET };
        let rule = PolicyRule { retry: Some(100), ..PolicyRule::default() };
        let policy = with_rule(FailureKind::ModelServer, rule);
        let failure = Failure::new(FailureKind::ModelServer, "x");
        let decision = policy.decide(&failure, &retried(failed_before), &Seen::Nothing, &budget);
        let Decision::Retry { after_ms } = decision else { panic!("{decision:?}") };
        after_ms
    };
    assert_eq!([after(0, 1.0), after(1, 1.0), after(2, 1.0)], [200, 400, 800]);
    assert_eq!([after(0, 0.0), after(50, 1.0), after(99, 0.0)], [100, 10_000, 5_000]);
}

#[test]
fn the_model_that_just_failed_is_no_fallback() {
    let mut fallback = both();
    fallback.model = Some(ModelName::try_from("openai:gpt-5").unwrap());
    let policy = Policy::of(&agent(fallback));
    assert_eq!(decide_by(&policy, FailureKind::ModelServer, retried(3)), to_agent());
}

#[test]
fn a_decision_to_fall_back_says_to_whom_on_the_wire_and_in_the_log() {
    let decision = serde_json::to_value(to_model()).unwrap();
    let expected = serde_json::json!({ "fallback": { "to": { "model": "openai:gpt-5-mini" } } });
    assert_eq!(decision, expected);
    assert_eq!(serde_json::from_value::<Decision>(decision).unwrap(), to_model());
    let failure = Failure::new(FailureKind::ModelServer, "x");
    assert_eq!(
        reason(&failure, Attempt(2), &to_agent()),
        "attempt 2 ended with model_server: fell back to agent `simple`"
    );
}

fn any_kind() -> impl Strategy<Value = FailureKind> {
    (0..KIND_TABLE.len()).prop_map(|at| KIND_TABLE[at].kind)
}

fn any_rule() -> impl Strategy<Value = PolicyRule> {
    let then = prop_oneof![
        Just(None),
        Just(Some(Then::Fail)),
        Just(Some(Then::Escalate)),
        Just(Some(Then::Fallback)),
    ];
    (prop::option::of(0..6_u32), then).prop_map(|(retry, then)| PolicyRule {
        retry,
        then,
        backoff: None,
    })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let rules = prop::collection::btree_map(any_kind(), any_rule(), 0..KIND_TABLE.len());
    (rules, any::<[bool; 2]>()).prop_map(|(policy, [model, other])| {
        let mut spec = agent(both());
        spec.policy = policy;
        spec.fallback.model = spec.fallback.model.filter(|_| model);
        spec.fallback.agent = spec.fallback.agent.filter(|_| other);
        Policy::of(&spec)
    })
}

prop_compose! {
    fn any_failure()(
        kind in any_kind(),
        retryable in any::<bool>(),
        retry_after in prop::option::of(-1.0..100.0_f64),
    ) -> Failure {
        Failure { retryable, retry_after, ..Failure::new(kind, "x") }
    }
}

fn any_seen() -> impl Strategy<Value = Seen> {
    prop_oneof![
        4 => Just(Seen::Nothing),
        4 => Just(Seen::Text),
        2 => Just(Seen::Recorded),
        1 => Just(Seen::Effect(ToolCallId::new("c1"))),
    ]
}

proptest! {
    #[test]
    fn every_run_ends_within_its_limits_whatever_fails(
        policy in any_policy(),
        failures in prop::collection::vec((any_failure(), any_seen(), 0.0..1.0_f64), 1..40),
    ) {
        let mut chain = Chain::default();
        let mut retries: BTreeMap<(usize, FailureKind), u32> = BTreeMap::new();
        let mut fallbacks = 0;
        // At most 27 kinds with 5 retries each, before and after each of two fallbacks.
        for (failure, seen, jitter) in failures.iter().cycle().take(500) {
            let budget = Budget { remaining: Duration::from_secs(60), jitter: *jitter };
            let tried = chain.tried(failure.kind);
            let decision = policy.decide(failure, &tried, seen, &budget);
            let allowed = policy.retries(failure.kind);
            chain.push(Attempt::FIRST, failure, &decision, allowed);
            let goes_on = match &decision {
                Decision::Retry { after_ms } => {
                    let count = retries.entry((fallbacks, failure.kind)).or_default();
                    *count += 1;
                    prop_assert!(*count <= allowed);
                    prop_assert!(Duration::from_millis(*after_ms) < budget.remaining);
                    true
                }
                Decision::Fallback { to } => {
                    fallbacks += 1;
                    match to {
                        FallbackTo::Model(_) => {
                            prop_assert_ne!(failure.kind.row().row, Row::Process);
                        }
                        FallbackTo::Agent(_) => prop_assert_ne!(seen, &Seen::Recorded),
                    }
                    true
                }
                Decision::Escalate | Decision::Fail | Decision::Ask { .. } => false,
            };
            prop_assert!(!goes_on || !matches!(seen, Seen::Effect(_)), "an effect was repeated");
            if !goes_on {
                prop_assert!(fallbacks <= 2);
                prop_assert!(!chain.sentences().is_empty());
                return Ok(());
            }
        }
        prop_assert!(false, "still going on after {} decisions", chain.sentences().len());
    }

    #[test]
    fn no_effect_is_ever_repeated(
        policy in any_policy(),
        failure in any_failure(),
        (failed_before, fallback_model, fallback_agent) in any::<(u32, bool, bool)>(),
    ) {
        let tried = Tried { failed_before, fallback_model, fallback_agent };
        let seen = Seen::Effect(ToolCallId::new("c1"));
        let decision = policy.decide(&failure, &tried, &seen, &BUDGET);
        let ends = matches!(
            decision,
            Decision::Ask { .. } | Decision::Escalate | Decision::Fail
        );
        prop_assert!(ends);
    }
}

#[test]
fn a_call_in_doubt_is_settled_by_its_rule_and_made_again_no_more_often_than_the_failure_allows() {
    let (policy, failure) = (Policy::default(), Failure::new(FailureKind::RunnerDied, "it died"));
    let settle = |rule, failed_before| {
        let tried = Tried { failed_before, ..Tried::default() };
        policy.settle(rule, &failure, &tried).map(|resolution| resolution.label())
    };
    assert_eq!(settle(OnAmbiguous::Ask, 0), None);
    assert_eq!(settle(OnAmbiguous::Skip, 9), Some("skip"));
    assert_eq!(settle(OnAmbiguous::Fail, 0), Some("fail"));
    let allowed = policy.retries(FailureKind::RunnerDied);
    assert_eq!(settle(OnAmbiguous::Retry, allowed), Some("retry"));
    assert_eq!(settle(OnAmbiguous::Retry, allowed + 1), None, "a person looks at it");
}

//! What a user sees of the time that runs wait for a person.

use super::*;
use crate::event::Expiry;
use crate::time::Timestamp;

pub(super) fn settings() -> impl Strategy<Value = ApprovalsSpec> {
    let then = prop_oneof![Just(OnTimeout::Deny), Just(OnTimeout::Fail)];
    prop::option::of((span(), then)).prop_map(|limit| match limit {
        Some((timeout, on_timeout)) => ApprovalsSpec { timeout: Some(timeout), on_timeout },
        None => ApprovalsSpec::default(),
    })
}

#[test]
fn a_run_waits_for_ever_unless_a_time_is_given() {
    let spec = load("model = 'test'").unwrap();
    assert_eq!(spec.approvals.expiry(Timestamp(5)), None);
    let spec = load("model = 'test'\n[approvals]\ntimeout = '2s'").unwrap();
    let expiry = Expiry { at: Timestamp(2_005), timeout_ms: 2_000, then: OnTimeout::Deny };
    assert_eq!(spec.approvals.expiry(Timestamp(5)), Some(expiry));
    assert!(expiry.is_over(Timestamp(2_005)) && !expiry.is_over(Timestamp(2_004)));
    let spec = load(FULL).unwrap();
    assert_eq!(spec.approvals.timeout, Some(Duration::from_secs(24 * 60 * 60)));
    assert_eq!(spec.approvals.on_timeout, OnTimeout::Fail);
}

#[test]
fn how_long_a_run_waits_may_change_under_it() {
    let mut spec = load(FULL).unwrap();
    let digest = spec.digest();
    spec.approvals = ApprovalsSpec::default();
    assert_eq!(spec.digest(), digest, "its messages do not depend on it");
}

#[test]
fn what_cannot_time_out_is_told_with_its_place() {
    assert_eq!(
        problems("model = 'test'\n[approvals]\non_timeout = 'fail'"),
        ["agent.toml:3:14: approvals.on_timeout: nothing times out: give approvals.timeout, too"]
    );
    let found = problems("model = 'test'\n[approvals]\ntimeout = '1h'\non_timeout = 'wait'");
    assert!(found[0].contains("unknown variant `wait`, expected `deny` or `fail`"), "{found:?}");
}

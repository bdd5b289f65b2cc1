//! The failure ladder: what a run does after a failure. Restarting a process is not decided here:
//! that is the agent's, on evidence about the process.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, FailureKind, Row};
use crate::ids::{Attempt, ToolCallId};
use crate::spec::{Backoff, PolicyRule, Then};

/// What a run does after a failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Another attempt from the last checkpoint.
    Retry {
        /// Milliseconds to wait first.
        after_ms: u64,
    },
    /// Hand the failure to whoever handed the message over.
    Escalate,
    /// End the run with the failure.
    Fail,
    /// Stop until a person says whether the call took effect.
    Ask {
        /// The call in doubt.
        tool_call_id: ToolCallId,
    },
}

/// What the failed attempt had already let out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing since the last checkpoint.
    Nothing,
    /// Text or partial output, which a retry retracts.
    Text,
    /// A call with effect `once` that may have taken effect.
    Effect(ToolCallId),
}

/// What a decision may spend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Time left until the run's deadline.
    pub remaining: Duration,
    /// A number in `0.0..1.0` from the caller's random source, for jitter.
    pub jitter: f64,
}

/// How an agent answers failures: the ladder's defaults, with what its definition overrides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    rules: BTreeMap<FailureKind, PolicyRule>,
}

impl Policy {
    /// Makes a policy of the overrides that an agent's definition names.
    #[must_use]
    pub fn new(rules: BTreeMap<FailureKind, PolicyRule>) -> Self {
        Self { rules }
    }

    /// Returns how many retries `kind` is allowed.
    #[must_use]
    pub fn retries(&self, kind: FailureKind) -> u32 {
        self.rule(kind).retry.unwrap_or_else(|| default_retries(kind.row().row))
    }

    fn rule(&self, kind: FailureKind) -> PolicyRule {
        self.rules.get(&kind).copied().unwrap_or_default()
    }

    /// Decides what a run does after `failure` of its attempt `attempt`.
    ///
    /// `failed_before` counts the earlier failures of the same kind in this run, so that each kind
    /// has its own limit.
    #[must_use]
    pub fn decide(
        &self,
        failure: &Failure,
        failed_before: u32,
        seen: &Seen,
        budget: &Budget,
    ) -> Decision {
        let row = failure.kind.row().row;
        if let (Seen::Effect(call), Row::Process) = (seen, row) {
            // Whether or not a retry is left: nobody knows what happened, so somebody must say.
            return Decision::Ask { tool_call_id: call.clone() };
        }
        if failed_before < self.retries(failure.kind) && may_repeat(failure, row) {
            if let Seen::Effect(call) = seen {
                return Decision::Ask { tool_call_id: call.clone() };
            }
            let bounds = self.rule(failure.kind).backoff.or(default_backoff(row));
            let after = wait(failure, failed_before, budget.jitter, bounds);
            if after < budget.remaining {
                return Decision::Retry { after_ms: crate::event::millis(after) };
            }
        }
        match (self.rule(failure.kind).then, row) {
            (Some(Then::Escalate), _) | (None, Row::Credentials) => Decision::Escalate,
            _ => Decision::Fail,
        }
    }
}

/// Returns the bounds of the wait before a retry; none where nothing gets better by waiting.
fn default_backoff(row: Row) -> Option<Backoff> {
    (row != Row::Process)
        .then_some(Backoff { min: Duration::from_millis(200), max: Duration::from_secs(10) })
}

fn default_retries(row: Row) -> u32 {
    match row {
        Row::Transient | Row::Process => 3,
        Row::Behavior | Row::Unmapped => 1,
        Row::Tool | Row::Deterministic | Row::Credentials | Row::Configuration | Row::Stopped => 0,
    }
}

fn may_repeat(failure: &Failure, row: Row) -> bool {
    let declared_final = failure.kind == FailureKind::ModelHttp && !failure.retryable;
    !declared_final && !matches!(row, Row::Stopped | Row::Configuration)
}

fn wait(failure: &Failure, failed_before: u32, jitter: f64, bounds: Option<Backoff>) -> Duration {
    let jitter = jitter.clamp(0.0, 1.0);
    let min = bounds.map_or(Duration::ZERO, |bounds| bounds.min);
    if let Some(asked) = failure.retry_after() {
        return asked.saturating_add(min.mul_f64(jitter));
    }
    let max = bounds.map_or(Duration::ZERO, |bounds| bounds.max);
    let doubled = min.saturating_mul(1 << failed_before.min(20)).min(max);
    doubled.mul_f64(0.5 + jitter / 2.0)
}

/// Returns the sentence that a decision is logged and shown with.
#[must_use]
pub fn reason(failure: &Failure, attempt: Attempt, decision: &Decision) -> String {
    let kind = failure.kind;
    match decision {
        Decision::Retry { after_ms } => {
            format!("attempt {attempt} ended with {kind}: retried after {after_ms} ms")
        }
        Decision::Escalate => {
            format!("attempt {attempt} ended with {kind}: escalated, it cannot heal itself")
        }
        Decision::Fail => format!("attempt {attempt} ended with {kind}: given up"),
        Decision::Ask { tool_call_id } => format!(
            "attempt {attempt} ended with {kind} while call {tool_call_id} may have taken effect: \
             a person must decide"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { remaining: Duration::from_secs(60), jitter: 0.5 };

    fn decide(kind: FailureKind, before: u32, seen: &Seen) -> Decision {
        Policy::default().decide(&Failure::new(kind, "x"), before, seen, &BUDGET)
    }

    #[test]
    fn transient_failures_are_retried_to_a_limit() {
        let kind = FailureKind::ModelOverloaded;
        assert!(matches!(decide(kind, 2, &Seen::Text), Decision::Retry { .. }));
        assert_eq!(decide(kind, 3, &Seen::Text), Decision::Fail);
    }

    #[test]
    fn credentials_escalate_at_once() {
        for kind in [FailureKind::ModelAuth, FailureKind::ModelQuota, FailureKind::ModelNotFound] {
            assert_eq!(decide(kind, 0, &Seen::Nothing), Decision::Escalate);
        }
    }

    #[test]
    fn a_possible_effect_is_never_repeated() {
        let call = ToolCallId::new("c1");
        let seen = Seen::Effect(call.clone());
        let decision = decide(FailureKind::RunnerDied, 0, &seen);
        assert_eq!(decision, Decision::Ask { tool_call_id: call });
    }

    #[test]
    fn deadlines_and_cancels_are_final_even_with_a_rule() {
        let rule = PolicyRule { retry: Some(5), ..PolicyRule::default() };
        let policy = Policy::new([(FailureKind::RunTimeout, rule)].into());
        let failure = Failure::new(FailureKind::RunTimeout, "late");
        assert_eq!(policy.decide(&failure, 0, &Seen::Nothing, &BUDGET), Decision::Fail);
    }

    #[test]
    fn a_wait_beyond_the_deadline_is_not_begun() {
        let mut failure = Failure::new(FailureKind::ModelRateLimited, "slow down");
        failure.retry_after = Some(120.0);
        let decision = Policy::default().decide(&failure, 0, &Seen::Nothing, &BUDGET);
        assert_eq!(decision, Decision::Fail);
        failure.retry_after = Some(2.0);
        let decision = Policy::default().decide(&failure, 0, &Seen::Nothing, &BUDGET);
        assert_eq!(decision, Decision::Retry { after_ms: 2100 });
    }
}

//! The failure ladder: what a run does after a failure. Restarting a process is not decided here:
//! that is the agent's, on evidence about the process.

mod chain;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::Resolution;
use crate::failure::{Failure, FailureKind, Row};
use crate::ids::{Attempt, ToolCallId};
use crate::json::RawJson;
use crate::spec::{
    AgentName, AgentSpec, Backoff, Fallback, ModelName, OnAmbiguous, PolicyRule, Then,
};

pub use chain::Chain;

/// What a run does after a failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Another attempt from the last checkpoint.
    Retry {
        /// Milliseconds to wait first.
        after_ms: u64,
    },
    /// Let somebody else answer.
    Fallback {
        /// Who.
        to: FallbackTo,
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

impl Decision {
    /// Returns the name used in data and on metric labels.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Retry { .. } => "retry",
            Self::Fallback { .. } => "fallback",
            Self::Escalate => "escalate",
            Self::Fail => "fail",
            Self::Ask { .. } => "ask",
        }
    }
}

/// Who answers in place of an agent's own model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FallbackTo {
    /// Another model, in the same run, from its last checkpoint.
    Model(ModelName),
    /// Another agent, which gets the prompt.
    Agent(AgentName),
}

impl fmt::Display for FallbackTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model(model) => write!(f, "model `{model}`"),
            Self::Agent(agent) => write!(f, "agent `{agent}`"),
        }
    }
}

/// What a run has tried before a failure; [`Chain::tried`] knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// How often the same kind of failure came before, since the run began or last fell back: each
    /// kind has its own limit, and each model gets it anew.
    pub failed_before: u32,
    /// Whether the fallback model is used up.
    pub fallback_model: bool,
    /// Whether the fallback agent is used up. Nothing is tried after it.
    pub fallback_agent: bool,
}

/// What the failed attempt had already let out: the gravest of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing since the last checkpoint.
    Nothing,
    /// Text or partial output, which a retry retracts.
    Text,
    /// A call with effect `once` took effect, and its result is in the last checkpoint: a further
    /// attempt goes on behind it, but another agent, which begins with the prompt, would repeat it.
    Recorded,
    /// A call with effect `once` may have taken effect, and its result is in no checkpoint.
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
    fallback: Fallback,
}

impl Policy {
    /// Makes the policy of an agent.
    ///
    /// A fallback model that is the agent's model already is none: that would be a blind retry.
    #[must_use]
    pub fn of(agent: &AgentSpec) -> Self {
        let mut fallback = agent.fallback.clone();
        fallback.model = fallback.model.filter(|model| agent.model.as_ref() != Some(model));
        Self { rules: agent.policy.clone(), fallback }
    }

    /// Returns how many retries `kind` is allowed.
    #[must_use]
    pub fn retries(&self, kind: FailureKind) -> u32 {
        self.rule(kind).retry.unwrap_or_else(|| default_retries(kind.row().row))
    }

    /// Decides about a call that may have taken effect, by the tool's own `rule`: nothing means that
    /// a person has to. It is made again no more often than the `failure` may be retried.
    #[must_use]
    pub fn settle(
        &self,
        rule: OnAmbiguous,
        failure: &Failure,
        tried: &Tried,
    ) -> Option<Resolution> {
        match rule {
            OnAmbiguous::Ask => None,
            OnAmbiguous::Retry => {
                (tried.failed_before <= self.retries(failure.kind)).then_some(Resolution::Retry)
            }
            OnAmbiguous::Skip => Some(Resolution::Skip { result: RawJson::null() }),
            OnAmbiguous::Fail => Some(Resolution::Fail { message: None }),
        }
    }

    fn rule(&self, kind: FailureKind) -> PolicyRule {
        self.rules.get(&kind).copied().unwrap_or_default()
    }

    /// Decides what a run does after `failure`: it is retried, falls back, is escalated or fails,
    /// the first of these that its row, its rule and its deadline allow.
    ///
    /// What may have taken effect is never repeated, neither by a retry nor by anybody else: then
    /// a person is asked. After an effect that is recorded no other agent gets the prompt.
    #[must_use]
    pub fn decide(
        &self,
        failure: &Failure,
        tried: &Tried,
        seen: &Seen,
        budget: &Budget,
    ) -> Decision {
        let kind = failure.kind;
        let next = self
            .retry(failure, tried, budget)
            .or_else(|| self.fall_back(kind, tried, budget))
            .filter(|next| !(*seen == Seen::Recorded && begins_anew(next)))
            .unwrap_or_else(|| self.give_up(kind));
        let Seen::Effect(call) = seen else { return next };
        // With its runner gone nobody knows what happened, whether or not anything is left to try.
        let unknown = kind.row().row == Row::Process;
        if unknown || matches!(next, Decision::Retry { .. } | Decision::Fallback { .. }) {
            return Decision::Ask { tool_call_id: call.clone() };
        }
        next
    }

    fn retry(&self, failure: &Failure, tried: &Tried, budget: &Budget) -> Option<Decision> {
        let row = failure.kind.row().row;
        let left = tried.failed_before < self.retries(failure.kind) && !tried.fallback_agent;
        if !left || !may_repeat(failure, row) {
            return None;
        }
        let bounds = self.rule(failure.kind).backoff.or(default_backoff(row));
        let after = wait(failure, tried.failed_before, budget.jitter, bounds);
        (after < budget.remaining)
            .then(|| Decision::Retry { after_ms: crate::event::millis(after) })
    }

    fn fall_back(&self, kind: FailureKind, tried: &Tried, budget: &Budget) -> Option<Decision> {
        let row = kind.row().row;
        let wanted = match (self.rule(kind).then, row) {
            (_, Row::Stopped | Row::Configuration) => false,
            (Some(then), _) => then == Then::Fallback,
            (None, row) => matches!(row, Row::Transient | Row::Behavior | Row::Deterministic),
        };
        if !wanted || tried.fallback_agent || budget.remaining.is_zero() {
            return None;
        }
        // Another model does not help where the process is at fault.
        let model = (!tried.fallback_model && row != Row::Process)
            .then(|| self.fallback.model.clone().map(FallbackTo::Model))
            .flatten();
        let to = model.or_else(|| self.fallback.agent.clone().map(FallbackTo::Agent))?;
        Some(Decision::Fallback { to })
    }

    fn give_up(&self, kind: FailureKind) -> Decision {
        match (self.rule(kind).then, kind.row().row) {
            (Some(Then::Escalate), _) => Decision::Escalate,
            (None | Some(Then::Fallback), Row::Credentials) => Decision::Escalate,
            _ => Decision::Fail,
        }
    }
}

/// Returns whether the prompt is answered from its beginning.
fn begins_anew(decision: &Decision) -> bool {
    matches!(decision, Decision::Fallback { to: FallbackTo::Agent(_) })
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
        Decision::Fallback { to } => {
            format!("attempt {attempt} ended with {kind}: fell back to {to}")
        }
        Decision::Escalate => format!("attempt {attempt} ended with {kind}: escalated"),
        Decision::Fail => format!("attempt {attempt} ended with {kind}: given up"),
        Decision::Ask { tool_call_id } => format!(
            "attempt {attempt} ended with {kind} while call {tool_call_id} may have taken effect: \
             a person must decide"
        ),
    }
}

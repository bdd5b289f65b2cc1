//! What was tried, in order: the sentences that a run's final error is shown with.

use super::{Decision, FallbackTo, Tried};
use crate::failure::{Failure, FailureKind};
use crate::ids::Attempt;

/// The longest text of a failure in a sentence, in bytes.
const MAX_TEXT: usize = 300;

/// The decisions of one run, in order.
///
/// ```
/// # use axon_kernel::failure::{Failure, FailureKind};
/// # use axon_kernel::ids::Attempt;
/// # use axon_kernel::policy::{Chain, Decision};
/// let mut chain = Chain::default();
/// let failure = Failure::new(FailureKind::ModelTimeout, "no answer");
/// chain.push(Attempt(1), &failure, &Decision::Retry { after_ms: 200 }, 1);
/// chain.push(Attempt(2), &failure, &Decision::Fail, 1);
/// assert_eq!(
///     chain.sentences(),
///     ["retried 1 of 1 after model_timeout", "failed with model_timeout: no answer (attempt 2)"]
/// );
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chain {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
struct Step {
    attempt: Attempt,
    kind: FailureKind,
    status_code: Option<u16>,
    text: String,
    decision: Decision,
    allowed: u32,
}

impl Chain {
    /// Adds what was decided after `failure` of `attempt`; its kind has `allowed_retries` in all.
    pub fn push(
        &mut self,
        attempt: Attempt,
        failure: &Failure,
        decision: &Decision,
        allowed_retries: u32,
    ) {
        self.steps.push(Step {
            attempt,
            kind: failure.kind,
            status_code: failure.status_code,
            text: crate::json::excerpt(&one_line(&failure.message), MAX_TEXT),
            decision: decision.clone(),
            allowed: allowed_retries,
        });
    }

    /// Returns what was tried before a further failure of `kind`.
    #[must_use]
    pub fn tried(&self, kind: FailureKind) -> Tried {
        let fell_back = |to: fn(&FallbackTo) -> bool| {
            self.steps.iter().any(|step| step.fallback().is_some_and(to))
        };
        Tried {
            failed_before: u32::try_from(failed_before(&self.steps, kind)).unwrap_or(u32::MAX),
            fallback_model: fell_back(|to| matches!(to, FallbackTo::Model(_))),
            fallback_agent: fell_back(|to| matches!(to, FallbackTo::Agent(_))),
        }
    }

    /// Returns the chain as sentences, retries in a row after one kind of failure as one of them.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let mut told = Vec::new();
        let mut from = 0;
        while let Some(step) = self.steps.get(from) {
            let rest = &self.steps[from..];
            let row = rest.iter().take_while(|next| next.is_retry() && next.kind == step.kind);
            let count = row.count().max(1);
            told.push(self.sentence(from, &rest[..count]));
            from += count;
        }
        told
    }

    /// Returns the sentence of the steps `group`, which begin at `from`.
    fn sentence(&self, from: usize, group: &[Step]) -> String {
        let Some(last) = group.last() else { return String::new() };
        let kind = named(group);
        match &last.decision {
            Decision::Retry { .. } => {
                let count = failed_before(&self.steps[..from], last.kind) + group.len();
                format!("retried {count} of {} after {kind}", last.allowed)
            }
            Decision::Fallback { to } => format!("fell back to {to} after {kind}"),
            Decision::Escalate => last.ended(&format!("escalated {kind}")),
            Decision::Fail => last.ended(&format!("failed with {kind}")),
            Decision::Ask { tool_call_id } => format!(
                "stopped for a person after {kind}: call `{tool_call_id}` may have taken effect"
            ),
        }
    }
}

impl Step {
    fn is_retry(&self) -> bool {
        matches!(self.decision, Decision::Retry { .. })
    }

    fn fallback(&self) -> Option<&FallbackTo> {
        if let Decision::Fallback { to } = &self.decision { Some(to) } else { None }
    }

    fn ended(&self, how: &str) -> String {
        let attempt = self.attempt;
        match self.text.is_empty() {
            true => format!("{how} (attempt {attempt})"),
            false => format!("{how}: {} (attempt {attempt})", self.text),
        }
    }
}

/// Returns how often `kind` is in `steps` since the last fallback.
fn failed_before(steps: &[Step], kind: FailureKind) -> usize {
    let since = steps.iter().rev().take_while(|step| step.fallback().is_none());
    since.filter(|step| step.kind == kind).count()
}

/// Returns the kind of the steps `group` with every status that the provider gave.
fn named(group: &[Step]) -> String {
    let mut codes: Vec<String> = Vec::new();
    for code in group.iter().filter_map(|step| step.status_code) {
        let code = code.to_string();
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    let kind = group.first().map(|step| step.kind.label()).unwrap_or_default();
    if codes.is_empty() { kind.to_owned() } else { format!("{kind} ({})", codes.join(", ")) }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ToolCallId;
    use crate::spec::{AgentName, ModelName};

    const RETRY: Decision = Decision::Retry { after_ms: 200 };

    fn failure(kind: FailureKind, status_code: Option<u16>) -> Failure {
        Failure { status_code, ..Failure::new(kind, "upstream is down") }
    }

    fn chain(steps: &[(FailureKind, Option<u16>, Decision)]) -> Chain {
        let mut chain = Chain::default();
        let mut attempt = Attempt::FIRST;
        for (kind, code, decision) in steps {
            chain.push(attempt, &failure(*kind, *code), decision, 3);
            attempt = attempt.next();
        }
        chain
    }

    fn to_model() -> Decision {
        Decision::Fallback { to: FallbackTo::Model(ModelName::try_from("openai:mini").unwrap()) }
    }

    fn to_agent() -> Decision {
        Decision::Fallback { to: FallbackTo::Agent(AgentName::try_from("simple").unwrap()) }
    }

    #[test]
    fn retries_in_a_row_are_one_sentence() {
        use FailureKind::{ModelOverloaded, ModelRateLimited, ModelServer};
        let chain = chain(&[
            (ModelRateLimited, Some(429), RETRY),
            (ModelRateLimited, Some(429), RETRY),
            (ModelOverloaded, Some(529), to_model()),
            (ModelServer, Some(500), RETRY),
            (ModelServer, Some(502), RETRY),
            (ModelServer, None, to_agent()),
            (ModelServer, Some(503), Decision::Fail),
        ]);
        assert_eq!(
            chain.sentences(),
            [
                "retried 2 of 3 after model_rate_limited (429)",
                "fell back to model `openai:mini` after model_overloaded (529)",
                "retried 2 of 3 after model_server (500, 502)",
                "fell back to agent `simple` after model_server",
                "failed with model_server (503): upstream is down (attempt 7)",
            ]
        );
    }

    #[test]
    fn retries_of_different_kinds_are_counted_apart() {
        use FailureKind::{ModelConnection, ModelTimeout};
        let chain = chain(&[
            (ModelTimeout, None, RETRY),
            (ModelConnection, None, RETRY),
            (ModelTimeout, None, RETRY),
            (ModelTimeout, None, RETRY),
            (ModelTimeout, None, Decision::Escalate),
        ]);
        assert_eq!(
            chain.sentences(),
            [
                "retried 1 of 3 after model_timeout",
                "retried 1 of 3 after model_connection",
                "retried 3 of 3 after model_timeout",
                "escalated model_timeout: upstream is down (attempt 5)",
            ]
        );
    }

    #[test]
    fn a_call_in_doubt_is_named() {
        let ask = Decision::Ask { tool_call_id: ToolCallId::new("c1") };
        assert_eq!(
            chain(&[(FailureKind::RunnerDied, None, ask)]).sentences(),
            ["stopped for a person after runner_died: call `c1` may have taken effect"]
        );
        assert!(Chain::default().sentences().is_empty());
    }

    #[test]
    fn a_fallback_begins_a_new_count() {
        use FailureKind::ModelServer;
        let mut steps = vec![(ModelServer, None, RETRY), (ModelServer, None, RETRY)];
        let tried = chain(&steps).tried(ModelServer);
        assert_eq!(tried, Tried { failed_before: 2, ..Tried::default() });
        assert_eq!(chain(&steps).tried(FailureKind::Busy), Tried::default());
        steps.push((ModelServer, None, to_model()));
        let tried = chain(&steps).tried(ModelServer);
        assert_eq!(tried, Tried { fallback_model: true, ..Tried::default() });
        steps.push((ModelServer, None, to_agent()));
        let tried = chain(&steps).tried(ModelServer);
        assert_eq!(tried, Tried { fallback_model: true, fallback_agent: true, ..Tried::default() });
    }
}

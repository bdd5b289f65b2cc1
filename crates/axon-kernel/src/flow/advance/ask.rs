//! Questions: who is asked, how often, and who instead.

use serde_json::{Value, json};

use super::Call;
use super::walk::{Came, Failed, Walk, Way, at_step, within};
use crate::failure::{Cause, Failure, FailureKind, Row};
use crate::flow::expression::{ExpressionError, as_text};
use crate::flow::plan::{Ask, Edge, OnFailure, Route, Target};
use crate::flow::scope::Scope;
use crate::ids::ToolCallId;
use crate::json::excerpt;

/// How often an agent is asked again that chose a target which is none.
const ROUTED_AGAIN: u32 = 2;

/// What was asked in vain, and what those got who were asked.
pub(super) struct Asked {
    prompt: Value,
    deps: Option<Value>,
}

impl Asked {
    /// Asks what came before.
    pub(super) fn of(prompt: &Value) -> Self {
        Self { prompt: prompt.clone(), deps: None }
    }
}

impl Walk<'_> {
    /// Asks whom to ask, and then that one. A choice that is none is told so, and asked again.
    pub(super) fn route(&mut self, route: &Route, path: &str, scope: &Scope<'_>) -> Way {
        let mut note: Option<String> = None;
        let mut at = scope.since();
        for again in 0..=ROUTED_AGAIN {
            // Another question than the step's own, also for those who are asked instead.
            let round = if again == 0 { String::new() } else { format!("@{}", again + 1) };
            let place = format!("{path}?{round}");
            let chosen = match self.ask(&route.by, &place, scope, note.as_deref())? {
                Came::Done(chosen, when) => {
                    at = at.max(when);
                    chosen
                }
                other @ (Came::Pending | Came::LeftOut(..)) => return Ok(other),
            };
            let name = chosen.get("to").unwrap_or(&chosen);
            let found = route.to.iter().find(|ask| Some(ask.target.name()) == name.as_str());
            if let Some(ask) = found {
                let mut scope = scope.clone();
                scope.bind("route", &chosen);
                scope.reach(at);
                return self.ask(ask, &within(path, ask.target.name()), &scope, None);
            }
            note = Some(corrected(name, &route.to));
        }
        let by = route.by.target.name();
        let message = at_step(path, &format!("`{by}` chose none of those that it can choose"));
        let failed = Failed::new(FailureKind::ModelBehavior, message, at);
        Err(Box::new(Failed { asked: vec![route.by.target.clone()], ..*failed }))
    }

    /// Asks somebody, as often as it takes; `note` is told beside the question.
    pub(super) fn ask(
        &mut self,
        ask: &Ask,
        path: &str,
        scope: &Scope<'_>,
        note: Option<&str>,
    ) -> Way {
        let mut tried = 0;
        let failed = loop {
            tried += 1;
            let id = if tried == 1 { path.to_owned() } else { format!("{path}#{tried}") };
            let made = |id| call(ask, id, scope, note).map_err(|error| Failed::of(&error, scope));
            match self.call(ToolCallId::new(id), made) {
                Err(failed) if tried > ask.retries() || !is_worth_it(&failed.failure) => {
                    break failed;
                }
                Err(_) => {}
                Ok(came) => return Ok(came),
            }
        };
        let mut failed = failed;
        failed.failure.message = at_step(path, &failed.failure.message);
        failed.asked.push(ask.target.clone());
        let asked = Asked {
            prompt: question(ask, scope, note)
                .unwrap_or_else(|_unrendered| asked(scope.previous(), scope.message())),
            deps: ask.deps.as_ref().and_then(|deps| deps.value(scope).ok()),
        };
        self.rescue(path, failed, &ask.edge.on_failure, &asked)
    }

    /// Does what is to be done when something has failed for good. Whoever has failed with it
    /// already is not asked again.
    pub(super) fn rescue(
        &mut self,
        path: &str,
        failed: Box<Failed>,
        on_failure: &OnFailure,
        asked: &Asked,
    ) -> Way {
        let others = match on_failure {
            OnFailure::Fail => return Err(failed),
            OnFailure::Skip => {
                let Failed { failure, at, .. } = *failed;
                let told = json!({
                    "step": path, "kind": failure.kind.label(), "error": failure.message,
                });
                self.failures.push((at, told));
                return Ok(Came::LeftOut(at, Some(failure)));
            }
            OnFailure::Ask(others) => others,
        };
        let mut failed = failed;
        for target in others {
            let may_be = !failed.failure.acted || *target == Target::Human;
            if failed.asked.contains(target) || !may_be {
                continue;
            }
            let id = ToolCallId::new(format!("{path}!{}", target.name()));
            let made = |id| Ok(instead(id, target.clone(), (asked, &failed.failure)));
            match self.call(id, made) {
                Err(another) => failed = also_failed(failed, target, *another),
                Ok(came) => return Ok(came),
            }
        }
        Err(failed)
    }
}

fn call(
    ask: &Ask,
    id: ToolCallId,
    scope: &Scope<'_>,
    note: Option<&str>,
) -> Result<Call, ExpressionError> {
    let Edge { timeout, breaker, .. } = ask.edge;
    let deps = ask.deps.as_ref().map(|deps| deps.value(scope)).transpose()?;
    let prompt = question(ask, scope, note)?;
    Ok(Call { id, target: ask.target.clone(), prompt, deps, timeout, breaker })
}

/// Returns what somebody is asked, with a note beside it.
fn question(ask: &Ask, scope: &Scope<'_>, note: Option<&str>) -> Result<Value, ExpressionError> {
    let asked = match &ask.prompt {
        Some(template) => template.text(scope)?.into(),
        None => asked(scope.previous(), scope.message()),
    };
    let Some(note) = note else { return Ok(asked) };
    Ok(match asked {
        Value::Array(parts) => parts.into_iter().chain([note.into()]).collect(),
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Object(_)) => format!("{}\n\n{note}", as_text(other)).into(),
    })
}

/// Returns a value as a question: a text, or the content parts that the flow itself was given. A list
/// that somebody answered is none: else an answer could say what is fetched.
fn asked(previous: &Value, message: &Value) -> Value {
    match previous.is_array() && previous == message {
        true => previous.clone(),
        false => as_text(previous.clone()).into(),
    }
}

/// Returns the call of somebody who is asked because another one has failed.
fn instead(id: ToolCallId, target: Target, (asked, failure): (&Asked, &Failure)) -> Call {
    let prompt = match target {
        Target::Human => {
            let prompt = as_text(asked.prompt.clone());
            let why = &failure.message;
            format!("{prompt}\n\n(A person is asked because nobody else could answer: {why})")
                .into()
        }
        Target::Agent(_) | Target::Balanced { .. } => asked.prompt.clone(),
    };
    let deps = asked.deps.clone();
    Call { id, target, prompt, deps, timeout: None, breaker: None }
}

/// Returns the failure of something that `target` was asked for in vain, too.
fn also_failed(failed: Box<Failed>, target: &Target, another: Failed) -> Box<Failed> {
    let Failed { failure, mut asked, .. } = *failed;
    asked.push(target.clone());
    let before = Cause { class: String::new(), message: failure.message };
    let message = format!("instead of it `{}`: {}", target.name(), another.failure.message);
    let acted = failure.acted || another.failure.acted;
    let failure = Failure { message, acted, cause: Some(before), ..another.failure };
    Box::new(Failed { failure, at: another.at, asked })
}

/// Returns what an agent is told that chose a target which is none.
fn corrected(chosen: &Value, targets: &[Ask]) -> String {
    let chosen = excerpt(&as_text(chosen.clone()), 80);
    let names: Vec<&str> = targets.iter().map(|ask| ask.target.name()).collect();
    format!("(`{chosen}` cannot be chosen: choose one of {})", names.join(", "))
}

/// Returns whether asking again may help, and does no harm.
fn is_worth_it(failure: &Failure) -> bool {
    let row = failure.kind.row().row;
    let spent = failure.kind == FailureKind::UsageLimit;
    row.heals()
        && !failure.acted
        && failure.kind != FailureKind::Cancelled
        && !spent
        && row != Row::Configuration
}

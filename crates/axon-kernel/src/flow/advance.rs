//! What comes next in a flow, given what has become of its calls so far.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::expression::{ExpressionError, as_text};
use super::plan::{
    Arm, Ask, Does, Edge, Flow, Join, OnFailure, Over, Repeat, Route, Step, StepName, Target,
};
use super::scope::Scope;
use crate::breaker::BreakerSettings;
use crate::failure::{Cause, Failure, FailureKind, Row};
use crate::ids::ToolCallId;
use crate::json::excerpt;
use crate::spec::PromptName;

/// How many items one step is made for at most.
pub const MAX_ITEMS: usize = 1000;

/// How many calls one run of a flow makes at most.
const MAX_CALLS: usize = 10_000;

/// How often an agent is asked again that chose a target which is none.
const ROUTED_AGAIN: u32 = 2;

/// What a flow was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The prompt: text, or a list of content parts.
    pub prompt: Value,
    /// What the caller gave, without its secrets.
    pub deps: Value,
}

/// A call that is to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Its name: the same whenever the flow comes here.
    pub id: ToolCallId,
    /// Who is asked.
    pub target: Target,
    /// What.
    pub prompt: Value,
    /// What else those get; nothing where the flow's own deps are meant.
    pub deps: Option<Value>,
    /// How long an answer may take.
    pub timeout: Option<Duration>,
    /// When it is left alone for a while.
    pub breaker: Option<BreakerSettings>,
}

/// What has become of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Settled {
    /// An answer.
    Done(Value),
    /// None.
    Failed(Failure),
}

/// What comes next.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// These calls are wanted; any other one that is under way is wanted no more.
    Waits {
        /// All of them.
        wanted: BTreeSet<ToolCallId>,
        /// Those that have not begun.
        begin: Vec<Call>,
    },
    /// The output.
    Done(Value),
    /// There will be none.
    Failed(Failure),
}

/// Whom a call went to, for whoever draws it.
pub type Whom = Target;

/// The Rust functions of a service. They must return the same for the same: they are called again
/// whenever it is asked what comes next.
pub trait Functions {
    /// Calls the function `name` with what came before.
    ///
    /// # Errors
    ///
    /// Why it gave nothing.
    fn call(&self, name: &PromptName, previous: &Value) -> Result<Value, String>;
}

/// No functions.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFunctions;

impl Functions for NoFunctions {
    fn call(&self, name: &PromptName, _previous: &Value) -> Result<Value, String> {
        Err(format!("no Rust function is registered as `{name}`"))
    }
}

impl Flow {
    /// Returns what comes next.
    ///
    /// `begun` are the calls that were begun, `settled` is what has become of some of them, in the
    /// order in which that was recorded.
    pub fn advance(
        &self,
        message: &Message,
        begun: &BTreeSet<ToolCallId>,
        settled: &[(ToolCallId, Settled)],
        functions: &dyn Functions,
    ) -> Progress {
        let scope = Scope::new(message, functions);
        let mut walk = Walk::new(begun, settled);
        let came = walk.steps(&self.steps, "", &scope);
        let came = match came {
            Came::Failed(failure) => walk.rescue("", failure, &self.on_failure, &message.prompt),
            other => other,
        };
        match came {
            Came::Failed(failure) => Progress::Failed(failure),
            Came::Done(value, _) => Progress::Done(value),
            Came::Skipped(_) => Progress::Done(Value::Null),
            Came::Pending if walk.wanted.len().max(begun.len()) > MAX_CALLS => {
                let message = format!("a flow makes at most {MAX_CALLS} calls in one run");
                Progress::Failed(Failure::new(FailureKind::UsageLimit, message))
            }
            Came::Pending => {
                Progress::Waits { wanted: walk.wanted.into_iter().collect(), begin: walk.begin }
            }
        }
    }
}

/// What a part of the flow has come to.
enum Came {
    /// It waits for calls.
    Pending,
    /// It is done, with its output; it was as soon as so many calls had settled.
    Done(Value, usize),
    /// It failed and was left out.
    Skipped(usize),
    Failed(Failure),
}

impl From<ExpressionError> for Came {
    fn from(error: ExpressionError) -> Self {
        Self::Failed(Failure::new(FailureKind::Config, error.to_string()))
    }
}

/// One walk through the flow.
struct Walk<'a> {
    begun: &'a BTreeSet<ToolCallId>,
    settled: BTreeMap<&'a ToolCallId, (usize, &'a Settled)>,
    wanted: Vec<ToolCallId>,
    begin: Vec<Call>,
    /// What was left out, in the order of the walk.
    failures: Vec<Value>,
}

impl<'a> Walk<'a> {
    fn new(begun: &'a BTreeSet<ToolCallId>, settled: &'a [(ToolCallId, Settled)]) -> Self {
        let numbered = settled.iter().enumerate();
        let settled = numbered.map(|(at, (id, settled))| (id, (at + 1, settled))).collect();
        Self { begun, settled, wanted: Vec::new(), begin: Vec::new(), failures: Vec::new() }
    }

    /// Walks through steps that wait for each other.
    fn steps(&mut self, steps: &[Step], place: &str, scope: &Scope<'_>) -> Came {
        let mark = self.mark();
        let mut scope = scope.clone();
        let before = scope.previous().clone();
        let mut outputs: BTreeMap<&StepName, Value> = BTreeMap::new();
        let (mut pending, mut at) = (false, 0);
        for step in steps {
            if !step.after.iter().all(|name| outputs.contains_key(name)) {
                pending = true;
                continue;
            }
            scope.follow(previous_of(step, &outputs, &before));
            scope.bind("failures", &Value::Array(self.failures.clone()));
            let (value, when) = match self.step(step, place, &scope) {
                Came::Pending => {
                    pending = true;
                    continue;
                }
                Came::Failed(failure) => {
                    self.forget(mark);
                    return Came::Failed(failure);
                }
                Came::Done(value, when) => (value, when),
                Came::Skipped(when) => (Value::Null, when),
            };
            at = at.max(when);
            scope.bind(step.name.as_str(), &value);
            outputs.insert(&step.name, value);
        }
        if pending {
            return Came::Pending;
        }
        let last = steps.last().and_then(|step| outputs.remove(&step.name));
        Came::Done(last.unwrap_or_default(), at)
    }

    fn step(&mut self, step: &Step, place: &str, scope: &Scope<'_>) -> Came {
        let path = within(place, step.name.as_str());
        match step.when.as_ref().map(|when| when.holds(scope)).transpose() {
            Ok(Some(false)) => return Came::Done(Value::Null, 0),
            Ok(_) => {}
            Err(error) => return error.into(),
        }
        let came = match (&step.over, &step.repeat) {
            (Some(over), _) => self.over(over, &step.does, &path, scope),
            (None, Some(repeat)) => self.repeat(repeat, &step.does, &path, scope),
            (None, None) => self.does(&step.does, &path, scope),
        };
        match came {
            Came::Failed(failure) => {
                self.rescue(&path, failure, &step.on_failure, scope.previous())
            }
            other => other,
        }
    }

    fn does(&mut self, does: &Does, path: &str, scope: &Scope<'_>) -> Came {
        match does {
            Does::Ask(ask) => self.ask(ask, path, scope),
            Does::Route(route) => self.route(route, path, scope),
            Does::Choose(arms) => self.choose(arms, path, scope),
            Does::Parallel { branches, join } => self.parallel((branches, *join), path, scope),
            Does::Steps(steps) => self.steps(steps, path, scope),
            Does::Code(name) => match scope.call(name) {
                Ok(value) => Came::Done(value, 0),
                Err(error) => {
                    let message = at_step(path, &error.to_string());
                    Came::Failed(Failure::new(FailureKind::Tool, message))
                }
            },
        }
    }

    fn choose(&mut self, arms: &[Arm], path: &str, scope: &Scope<'_>) -> Came {
        for arm in arms {
            match arm.when.as_ref().map_or(Ok(true), |when| when.holds(scope)) {
                Ok(true) => return self.does(&arm.does, path, scope),
                Ok(false) => {}
                Err(error) => return error.into(),
            }
        }
        Came::Done(Value::Null, 0)
    }

    /// Makes a step for each item: as many at once as it says, those first that come first.
    fn over(&mut self, over: &Over, does: &Does, path: &str, scope: &Scope<'_>) -> Came {
        let items = match over.list.value(scope) {
            Ok(Value::Array(items)) if items.len() <= MAX_ITEMS => items,
            Ok(Value::Array(items)) => {
                let found = items.len();
                return config(format!("`{path}` has {found} items, and at most {MAX_ITEMS} go"));
            }
            Ok(other) => {
                let found = excerpt(&other.to_string(), 80);
                return config(format!("`{:?}` is no list: {found}", over.list));
            }
            Err(error) => return error.into(),
        };
        let mark = self.mark();
        let (mut waiting, mut left_out, mut at) = (0, 0, 0);
        let (wanted, mut outputs) = (items.len(), Vec::new());
        for (index, item) in items.into_iter().enumerate() {
            if waiting >= over.max_concurrency.get() {
                break;
            }
            let mut scope = scope.clone();
            scope.bind("item", &item);
            scope.bind("index", &index.into());
            scope.follow(item);
            match self.does(does, &format!("{path}.{index}"), &scope) {
                Came::Pending => waiting += 1,
                Came::Skipped(when) => (left_out, at) = (left_out + 1, at.max(when)),
                Came::Done(value, when) => {
                    at = at.max(when);
                    outputs.push(value);
                }
                Came::Failed(failure) => {
                    self.forget(mark);
                    return Came::Failed(failure);
                }
            }
        }
        let need = (over.need as usize).min(wanted);
        if wanted - left_out < need {
            self.forget(mark);
            let why = self.failures.last().and_then(|failure| failure["error"].as_str());
            let why = why.unwrap_or_default().to_owned();
            let message = format!("{left_out} of {wanted} failed, and {need} are needed: {why}");
            return Came::Failed(Failure::new(FailureKind::Tool, at_step(path, &message)));
        }
        if waiting > 0 { Came::Pending } else { Came::Done(outputs.into(), at) }
    }

    fn repeat(&mut self, repeat: &Repeat, does: &Does, path: &str, scope: &Scope<'_>) -> Came {
        let (mut scope, mut at) = (scope.clone(), 0);
        let mut last = Value::Null;
        for iteration in 1..=repeat.at_most.get() {
            scope.bind("iteration", &iteration.into());
            scope.bind("last", &last);
            match self.does(does, &format!("{path}@{iteration}"), &scope) {
                Came::Done(value, when) => (last, at) = (value, at.max(when)),
                other => return other,
            }
            scope.bind("last", &last);
            scope.follow(last.clone());
            match repeat.until.holds(&scope) {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => return error.into(),
            }
        }
        Came::Done(last, at)
    }

    fn parallel(
        &mut self,
        (branches, join): (&[Step], Join),
        path: &str,
        scope: &Scope<'_>,
    ) -> Came {
        let mark = self.mark();
        let (mut pending, mut done, mut failed) = (false, Vec::new(), Vec::new());
        for branch in branches {
            match self.step(branch, path, scope) {
                Came::Pending => pending = true,
                Came::Done(value, at) => done.push((at, branch.name.as_str(), value)),
                Came::Skipped(at) => done.push((at, branch.name.as_str(), Value::Null)),
                Came::Failed(failure) => failed.push(failure),
            }
        }
        let need = match join {
            Join::All => branches.len(),
            Join::First => 1,
            Join::Quorum(need) => need.get() as usize,
        };
        if branches.len() - failed.len() < need {
            self.forget(mark);
            let kind = failed.last().map_or(FailureKind::Tool, |failure| failure.kind);
            let all: Vec<&str> = failed.iter().map(|failure| failure.message.as_str()).collect();
            return Came::Failed(Failure::new(kind, all.join("; ")));
        }
        if done.len() < need {
            debug_assert!(pending, "what neither failed nor is done is pending");
            return Came::Pending;
        }
        // Those that came first, however many have come meanwhile.
        done.sort_by_key(|(at, ..)| *at);
        done.truncate(need);
        if need < branches.len() {
            self.forget(mark);
        }
        let at = done.last().map_or(0, |(at, ..)| *at);
        let first = done.first().map(|(_, _, value)| value.clone());
        let all = || done.iter().map(|(_, name, value)| ((*name).to_owned(), value.clone()));
        match join {
            Join::First => Came::Done(first.unwrap_or_default(), at),
            Join::All | Join::Quorum(_) => Came::Done(Value::Object(all().collect()), at),
        }
    }

    /// Asks whom to ask, and then that one. A choice that is none is told so, and asked again.
    fn route(&mut self, route: &Route, path: &str, scope: &Scope<'_>) -> Came {
        let mut scope = scope.clone();
        let asked = scope.previous().clone();
        for again in 0..=ROUTED_AGAIN {
            let place = if again == 0 { path.to_owned() } else { format!("{path}@{}", again + 1) };
            let chosen = match self.ask(&route.by, &place, &scope) {
                Came::Done(chosen, _) => chosen,
                other => return other,
            };
            let name = chosen.get("to").unwrap_or(&chosen);
            let found = route.to.iter().find(|ask| Some(ask.target.name()) == name.as_str());
            if let Some(ask) = found {
                scope.bind("route", &chosen);
                scope.follow(asked);
                return self.ask(ask, &within(path, ask.target.name()), &scope);
            }
            let names: Vec<&str> = route.to.iter().map(|ask| ask.target.name()).collect();
            scope.follow(corrected(&asked, name, &names));
        }
        let by = route.by.target.name();
        let message = format!("`{by}` chose none of those that it can choose");
        Came::Failed(Failure::new(FailureKind::ModelBehavior, at_step(path, &message)))
    }

    /// Asks somebody, as often as it takes.
    fn ask(&mut self, ask: &Ask, path: &str, scope: &Scope<'_>) -> Came {
        let prompt = || match &ask.prompt {
            Some(template) => template.text(scope).map(Value::from),
            None => Ok(asked(scope.previous())),
        };
        let mut tried = 0;
        let failure = loop {
            tried += 1;
            let id = if tried == 1 { path.to_owned() } else { format!("{path}#{tried}") };
            let made = |id| {
                let deps = ask.deps.as_ref().map(|deps| deps.value(scope)).transpose()?;
                let Edge { timeout, breaker, .. } = ask.edge;
                let target = ask.target.clone();
                Ok(Call { id, target, prompt: prompt()?, deps, timeout, breaker })
            };
            match self.call(ToolCallId::new(id), made) {
                Came::Failed(failure) if tried > ask.edge.retry || !is_worth_it(&failure) => {
                    break failure;
                }
                Came::Failed(_) => {}
                other => return other,
            }
        };
        let failure = Failure { message: at_step(path, &failure.message), ..failure };
        match prompt() {
            Ok(prompt) => self.rescue(path, failure, &ask.edge.on_failure, &prompt),
            Err(error) => error.into(),
        }
    }

    /// Does what is to be done when something has failed for good.
    fn rescue(
        &mut self,
        path: &str,
        failure: Failure,
        on_failure: &OnFailure,
        prompt: &Value,
    ) -> Came {
        let others = match on_failure {
            OnFailure::Fail => return Came::Failed(failure),
            OnFailure::Skip => {
                let at = self.settled_below(path);
                self.failures.push(json!({
                    "step": path, "kind": failure.kind.label(), "error": failure.message,
                }));
                return Came::Skipped(at);
            }
            OnFailure::Ask(others) => others,
        };
        let mut failure = failure;
        for target in others {
            let id = format!("{path}!{}", target.name());
            let made = |id| Ok(instead(id, target.clone(), (prompt, &failure)));
            match self.call(ToolCallId::new(id), made) {
                Came::Failed(another) => {
                    let before = Cause { class: String::new(), message: failure.message };
                    let name = target.name();
                    let message = format!("instead of it `{name}`: {}", another.message);
                    failure = Failure { message, cause: Some(before), ..another };
                }
                other => return other,
            }
        }
        Came::Failed(failure)
    }

    /// Wants one call, unless it has settled.
    fn call(
        &mut self,
        id: ToolCallId,
        make: impl FnOnce(ToolCallId) -> Result<Call, ExpressionError>,
    ) -> Came {
        match self.settled.get(&id) {
            Some((at, Settled::Done(value))) => return Came::Done(value.clone(), *at),
            Some((_, Settled::Failed(failure))) => return Came::Failed(failure.clone()),
            None => {}
        }
        if !self.begun.contains(&id) {
            match make(id.clone()) {
                Ok(call) => self.begin.push(call),
                Err(error) => return error.into(),
            }
        }
        self.wanted.push(id);
        Came::Pending
    }

    /// Returns how many calls had settled when the last one below `path` did.
    fn settled_below(&self, path: &str) -> usize {
        let below = self.settled.iter().filter(|(id, _)| id.as_str().starts_with(path));
        below.map(|(_, (at, _))| *at).max().unwrap_or(0)
    }

    fn mark(&self) -> (usize, usize) {
        (self.wanted.len(), self.begin.len())
    }

    /// Wants nothing any more that was wanted since `mark`.
    fn forget(&mut self, (wanted, begin): (usize, usize)) {
        self.wanted.truncate(wanted);
        self.begin.truncate(begin);
    }
}

/// Returns what comes before a step.
fn previous_of(step: &Step, outputs: &BTreeMap<&StepName, Value>, before: &Value) -> Value {
    match step.after.as_slice() {
        [] => before.clone(),
        [one] => outputs.get(one).cloned().unwrap_or_default(),
        several => {
            let members = several
                .iter()
                .map(|name| (name.to_string(), outputs.get(name).cloned().unwrap_or_default()));
            Value::Object(members.collect::<Map<_, _>>())
        }
    }
}

/// Returns what somebody is asked: a text, or a list of content parts.
fn asked(previous: &Value) -> Value {
    let is_part = |item: &Value| item.is_string() || item.get("kind").is_some();
    match previous {
        Value::Array(items) if !items.is_empty() && items.iter().all(is_part) => previous.clone(),
        other => as_text(other.clone()).into(),
    }
}

/// Returns the call of somebody who is asked because another one has failed.
fn instead(id: ToolCallId, target: Target, (prompt, failure): (&Value, &Failure)) -> Call {
    let asked = asked(prompt);
    let prompt = match target {
        Target::Human => {
            format!("{}\n\n(asked because {})", as_text(asked), failure.message).into()
        }
        Target::Agent(_) | Target::Balanced { .. } => asked,
    };
    Call { id, target, prompt, deps: None, timeout: None, breaker: None }
}

/// Returns the message with which an agent is asked again that chose a target which is none.
fn corrected(asked: &Value, chosen: &Value, names: &[&str]) -> Value {
    let chosen = excerpt(&as_text(chosen.clone()), 80);
    let note = format!("(`{chosen}` cannot be chosen: choose one of {})", names.join(", "));
    match asked {
        Value::Array(parts) => parts.iter().cloned().chain([note.into()]).collect(),
        other => format!("{}\n\n{note}", as_text(other.clone())).into(),
    }
}

/// Returns whether asking again may help.
fn is_worth_it(failure: &Failure) -> bool {
    let row = failure.kind.row().row;
    let spent = failure.kind == FailureKind::UsageLimit;
    row.heals() && failure.kind != FailureKind::Cancelled && !spent && row != Row::Configuration
}

fn within(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

fn at_step(path: &str, message: &str) -> String {
    format!("step `{path}`: {message}")
}

fn config(message: String) -> Came {
    Came::Failed(Failure::new(FailureKind::Config, message))
}

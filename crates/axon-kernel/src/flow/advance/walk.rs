//! The walk through a flow: what each of its parts has come to.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::ask::Asked;
use super::past::Past;
use super::{Call, MAX_ITEMS, Settled};
use crate::failure::{Failure, FailureKind};
use crate::flow::expression::ExpressionError;
use crate::flow::plan::{Arm, Does, Join, Over, Repeat, Step, Target};
use crate::flow::scope::Scope;
use crate::ids::ToolCallId;
use crate::json::excerpt;

/// What a part of the flow has come to, or why it failed.
pub(super) type Way = Result<Came, Box<Failed>>;

/// What a part of the flow that did not fail has come to.
pub(super) enum Came {
    /// It waits for calls.
    Pending,
    /// It is done, with its output, as soon as so many calls had settled.
    Done(Value, usize),
    /// It was left out as soon as so many calls had settled: because it failed, or because its
    /// condition does not hold.
    LeftOut(usize, Option<Failure>),
}

/// Why a part of the flow failed for good.
pub(super) struct Failed {
    pub(super) failure: Failure,
    /// It failed as soon as so many calls had settled.
    pub(super) at: usize,
    /// Who has failed with it: nobody is asked twice for want of an answer.
    pub(super) asked: Vec<Target>,
}

impl Failed {
    pub(super) fn new(kind: FailureKind, message: impl Into<String>, at: usize) -> Box<Self> {
        Box::new(Self { failure: Failure::new(kind, message), at, asked: Vec::new() })
    }

    /// Makes the failure of something that cannot be worked out in `scope`.
    pub(super) fn of(error: &ExpressionError, scope: &Scope<'_>) -> Box<Self> {
        Self::new(FailureKind::Config, error.to_string(), scope.since())
    }
}

/// One walk through the flow.
pub(super) struct Walk<'a> {
    begun: &'a BTreeSet<ToolCallId>,
    settled: BTreeMap<&'a ToolCallId, (usize, &'a Settled)>,
    pub(super) wanted: Vec<ToolCallId>,
    pub(super) begin: Vec<Call>,
    /// What failed and was left out as soon as so many calls had settled, in the order of the walk.
    pub(super) failures: Vec<(usize, Value)>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        begun: &'a BTreeSet<ToolCallId>,
        recorded: &'a [(ToolCallId, Settled)],
    ) -> Self {
        let mut settled = BTreeMap::new();
        for (index, (id, what)) in recorded.iter().enumerate() {
            settled.entry(id).or_insert((index + 1, what));
        }
        Self { begun, settled, wanted: Vec::new(), begin: Vec::new(), failures: Vec::new() }
    }

    /// Walks through steps that wait for each other.
    pub(super) fn steps(&mut self, steps: &[Step], place: &str, scope: &Scope<'_>) -> Way {
        let mark = self.mark();
        let mut past = Past::default();
        let mut failed: Option<Box<Failed>> = None;
        for step in steps {
            let Some(scope) = past.scope_of(step, scope) else { continue };
            let known = self.failures.len();
            match self.step(step, place, &scope) {
                Ok(Came::Pending) => {}
                Ok(Came::Done(value, at)) => past.add(step, (value, at), &self.failures[known..]),
                Ok(Came::LeftOut(at, _)) => {
                    past.add(step, (Value::Null, at), &self.failures[known..]);
                }
                Err(another) => failed = Some(first(failed, another)),
            }
        }
        if let Some(failed) = failed {
            self.forget(mark);
            return Err(failed);
        }
        Ok(past
            .end(steps)
            .map_or(Came::Pending, |(value, at)| Came::Done(value, at.max(scope.since()))))
    }

    fn step(&mut self, step: &Step, place: &str, scope: &Scope<'_>) -> Way {
        let path = within(place, step.name.as_str());
        let known = self.failures.len();
        let way = self.made(step, &path, scope);
        let decided = match &way {
            Ok(Came::Pending) => usize::MAX,
            Ok(Came::Done(_, at) | Came::LeftOut(at, _)) => *at,
            Err(failed) => failed.at,
        };
        let mut index = 0;
        self.failures.retain(|(at, _)| {
            index += 1;
            index <= known || *at <= decided
        });
        way.or_else(|failed| {
            self.rescue(&path, failed, &step.on_failure, &Asked::of(scope.previous()))
        })
    }

    fn made(&mut self, step: &Step, path: &str, scope: &Scope<'_>) -> Way {
        let holds = step.when.as_ref().map_or(Ok(true), |when| when.holds(scope));
        if !holds.map_err(|error| Failed::of(&error, scope))? {
            return Ok(Came::LeftOut(scope.since(), None));
        }
        match (&step.over, &step.repeat) {
            (Some(over), _) => self.over(over, &step.does, path, scope),
            (None, Some(repeat)) => self.repeat(repeat, &step.does, path, scope),
            (None, None) => self.does(&step.does, path, scope),
        }
    }

    pub(super) fn does(&mut self, does: &Does, path: &str, scope: &Scope<'_>) -> Way {
        match does {
            Does::Ask(ask) => self.ask(ask, path, scope, None),
            Does::Route(route) => self.route(route, path, scope),
            Does::Choose(arms) => self.choose(arms, path, scope),
            Does::Parallel { branches, join } => self.parallel((branches, *join), path, scope),
            Does::Steps(steps) => self.steps(steps, path, scope),
            Does::Code(name) => {
                let value = scope.call(name).map_err(|error| {
                    let message = at_step(path, &error.to_string());
                    Failed::new(FailureKind::Tool, message, scope.since())
                })?;
                Ok(Came::Done(value, scope.since()))
            }
            Does::Fail(message) => {
                let message = at_step(path, message);
                Err(Failed::new(FailureKind::Config, message, scope.since()))
            }
        }
    }

    fn choose(&mut self, arms: &[Arm], path: &str, scope: &Scope<'_>) -> Way {
        for arm in arms {
            let holds = arm.when.as_ref().map_or(Ok(true), |when| when.holds(scope));
            if holds.map_err(|error| Failed::of(&error, scope))? {
                return self.does(&arm.does, path, scope);
            }
        }
        Ok(Came::Done(Value::Null, scope.since()))
    }

    /// Makes a step for each item: as many at once as it says, those first that come first.
    fn over(&mut self, over: &Over, does: &Does, path: &str, scope: &Scope<'_>) -> Way {
        let items = list_of(over, path, scope)?;
        let mark = self.mark();
        let (mut waiting, mut left_out) = (0, Vec::new());
        let (wanted, mut outputs, mut failed) = (items.len(), Vec::new(), None);
        let at_once = over.max_concurrency.get() as usize;
        let mut ended: Vec<usize> = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            if waiting >= at_once {
                break;
            }
            let mut scope = scope.clone();
            // It had to wait until so many of those before it had ended.
            ended.sort_unstable();
            scope.reach(index.checked_sub(at_once).map_or(0, |nth| ended[nth]));
            scope.bind("item", &item);
            scope.bind("index", &index.into());
            scope.follow(item);
            match self.does(does, &format!("{path}.{index}"), &scope) {
                Ok(Came::Pending) => waiting += 1,
                Ok(Came::LeftOut(when, why)) => {
                    ended.push(when);
                    left_out.push((when, why));
                }
                Ok(Came::Done(value, when)) => {
                    ended.push(when);
                    outputs.push(value);
                }
                Err(another) => {
                    ended.push(another.at);
                    failed = Some(first(failed, another));
                }
            }
        }
        if let Some(another) = too_few(over, path, (wanted, left_out)) {
            failed = Some(first(failed, another));
        }
        match failed {
            Some(failed) => {
                self.forget(mark);
                Err(failed)
            }
            None if waiting > 0 => Ok(Came::Pending),
            None => {
                let at = ended.into_iter().fold(scope.since(), usize::max);
                Ok(Came::Done(outputs.into(), at))
            }
        }
    }

    fn repeat(&mut self, repeat: &Repeat, does: &Does, path: &str, scope: &Scope<'_>) -> Way {
        let mut scope = scope.clone();
        let mut last = Value::Null;
        scope.bind("last", &last);
        for iteration in 1..=repeat.at_most.get() {
            scope.bind("iteration", &iteration.into());
            match self.does(does, &format!("{path}@{iteration}"), &scope)? {
                Came::Done(value, at) => {
                    scope.reach(at);
                    last = value;
                }
                other @ (Came::Pending | Came::LeftOut(..)) => return Ok(other),
            }
            scope.bind("last", &last);
            scope.follow(last.clone());
            if repeat.until.holds(&scope).map_err(|error| Failed::of(&error, &scope))? {
                break;
            }
        }
        Ok(Came::Done(last, scope.since()))
    }

    fn parallel(
        &mut self,
        (branches, join): (&[Step], Join),
        path: &str,
        scope: &Scope<'_>,
    ) -> Way {
        let mark = self.mark();
        let (mut done, mut lost) = (Vec::new(), Vec::new());
        for (index, branch) in branches.iter().enumerate() {
            match self.step(branch, path, scope) {
                Ok(Came::Pending) => {}
                Ok(Came::Done(value, at)) => done.push((at, index, value)),
                Ok(Came::LeftOut(at, _)) if join == Join::All => {
                    done.push((at, index, Value::Null));
                }
                // What was left out has not succeeded, so it wins no race.
                Ok(Came::LeftOut(at, _)) => lost.push((at, None)),
                Err(failed) => lost.push((failed.at, Some(failed))),
            }
        }
        let need = match join {
            Join::All => branches.len(),
            Join::First => 1,
            Join::Quorum(need) => need.get() as usize,
        };
        if branches.len() < need + lost.len() {
            self.forget(mark);
            lost.sort_by_key(|(at, _)| *at);
            lost.truncate((branches.len() + 1).saturating_sub(need));
            return Err(together(path, lost));
        }
        if done.len() < need {
            return Ok(Came::Pending);
        }
        if need < branches.len() {
            self.forget(mark);
        }
        Ok(joined(branches, join, (done, need), scope))
    }

    /// Wants one call, unless it has settled.
    pub(super) fn call(
        &mut self,
        id: ToolCallId,
        make: impl FnOnce(ToolCallId) -> Result<Call, Box<Failed>>,
    ) -> Way {
        match self.settled.get(&id) {
            Some((at, Settled::Done(value))) => return Ok(Came::Done(value.clone(), *at)),
            Some((at, Settled::Failed(failure))) => {
                let failure = failure.clone();
                return Err(Box::new(Failed { failure, at: *at, asked: Vec::new() }));
            }
            None => {}
        }
        if !self.begun.contains(&id) {
            self.begin.push(make(id.clone())?);
        }
        self.wanted.push(id);
        Ok(Came::Pending)
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

/// Returns the failure that came first.
fn first(one: Option<Box<Failed>>, another: Box<Failed>) -> Box<Failed> {
    match one {
        Some(one) if one.at <= another.at => one,
        Some(_) | None => another,
    }
}

fn list_of(over: &Over, path: &str, scope: &Scope<'_>) -> Result<Vec<Value>, Box<Failed>> {
    let config =
        |message: String| Failed::new(FailureKind::Config, at_step(path, &message), scope.since());
    match over.list.value(scope).map_err(|error| Failed::of(&error, scope))? {
        Value::Array(items) if items.len() <= MAX_ITEMS => Ok(items),
        Value::Array(items) => {
            let found = items.len();
            Err(config(format!("there are {found} items, and at most {MAX_ITEMS} can be")))
        }
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Object(_)) => {
            let found = excerpt(&other.to_string(), 80);
            Err(config(format!("`{:?}` is no list: {found}", over.list)))
        }
    }
}

/// Returns the failure of a step that too few items are left of.
fn too_few(
    over: &Over,
    path: &str,
    (wanted, mut left_out): (usize, Vec<(usize, Option<Failure>)>),
) -> Option<Box<Failed>> {
    let need = (over.need as usize).min(wanted);
    if wanted >= need + left_out.len() {
        return None;
    }
    left_out.sort_by_key(|(at, _)| *at);
    let (at, why) = left_out.swap_remove(wanted - need);
    let kind = why.as_ref().map_or(FailureKind::Tool, |failure| failure.kind);
    let why = why.map(|failure| failure.message).unwrap_or_default();
    let failed = wanted - need + 1;
    let message = format!("{failed} of {wanted} failed, and {need} are needed: {why}");
    Some(Failed::new(kind, at_step(path, &message), at))
}

/// Returns the failure of a step too many of whose branches are lost.
fn together(path: &str, lost: Vec<(usize, Option<Box<Failed>>)>) -> Box<Failed> {
    let at = lost.last().map_or(0, |(at, _)| *at);
    let failed: Vec<Box<Failed>> = lost.into_iter().filter_map(|(_, failed)| failed).collect();
    let Some(last) = failed.last() else {
        let message = at_step(path, "too few of its branches were made");
        return Failed::new(FailureKind::Tool, message, at);
    };
    let kind = last.failure.kind;
    let all: Vec<&str> = failed.iter().map(|failed| failed.failure.message.as_str()).collect();
    let message = all.join("; ");
    let asked = failed.into_iter().flat_map(|failed| failed.asked).collect();
    Box::new(Failed { asked, ..*Failed::new(kind, message, at) })
}

/// Returns the output of a step, enough of whose branches are done.
fn joined(
    branches: &[Step],
    join: Join,
    (mut done, need): (Vec<(usize, usize, Value)>, usize),
    scope: &Scope<'_>,
) -> Came {
    // Those that came first, however many have come meanwhile.
    done.sort_by_key(|(at, ..)| *at);
    done.truncate(need);
    let at = done.iter().map(|(at, ..)| *at).fold(scope.since(), usize::max);
    if join == Join::First {
        return Came::Done(done.pop().map(|(.., value)| value).unwrap_or_default(), at);
    }
    done.sort_by_key(|(_, index, _)| *index);
    let members =
        done.into_iter().map(|(_, index, value)| (branches[index].name.to_string(), value));
    Came::Done(Value::Object(members.collect()), at)
}

pub(super) fn within(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

pub(super) fn at_step(path: &str, message: &str) -> String {
    format!("step `{path}`: {message}")
}

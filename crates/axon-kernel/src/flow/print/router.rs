//! A router as its file.

use std::collections::BTreeMap;

use super::{name, no_form};
use crate::flow::file::{ConditionFile, EdgeFile, RouterFile, RuleFile, SchemaTable};
use crate::flow::load::Edges;
use crate::flow::place::{Others, ask_of};
use crate::flow::plan::{Arm, Ask, Does, Edge, Flow, Join, OnFailure, Step, Target};
use crate::flow::rule::NO_RULE;
use crate::spec::{AgentName, AgentSpec, PrintError};

pub(super) fn file(spec: &AgentSpec, flow: &Flow) -> Result<RouterFile, PrintError> {
    let step = match flow.steps.as_slice() {
        [step] if *step == Step::of_router(step.does.clone()) => step,
        _ => return Err(no_form("/steps", "a router of other steps than its one")),
    };
    let output = spec.output.as_ref().and_then(|output| output.schema.as_ref());
    let mut file = RouterFile {
        description: spec.description.clone(),
        tags: spec.tags.clone(),
        input: flow.input.as_ref().map(SchemaTable::from),
        deps: spec.deps.schema.as_ref().map(SchemaTable::from),
        output: output.map(SchemaTable::from),
        limits: spec.limits.clone(),
        approvals: spec.approvals,
        conversation: spec.conversation,
        metadata: spec.metadata.clone(),
        ..RouterFile::default()
    };
    let others = Others::of(flow, &step.does);
    let named =
        |target: Option<&Target>| target.map(|target| name(target, "/fallback")).transpose();
    (file.fallback, file.on_escalate) = (named(others.fallback)?, named(others.on_escalate)?);
    let all: Vec<AgentName> = file.fallback.iter().chain(&file.on_escalate).cloned().collect();
    if flow.on_failure != Edges::asked(&all) {
        return Err(no_form("/on_failure", "more than `fallback` and `on_escalate`"));
    }
    does(&step.does, &mut file, all)?;
    Ok(file)
}

fn does(does: &Does, file: &mut RouterFile, mut others: Vec<AgentName>) -> Result<(), PrintError> {
    let asks: Vec<&Ask> = match does {
        Does::Route(route) => {
            let by = Ask { edge: route.by.edge.clone(), ..Ask::of(route.by.target.clone()) };
            if by != route.by || by.edge.on_failure != OnFailure::Fail {
                return Err(no_form("/by", "an agent that is asked in a way of its own"));
            }
            file.by = Some(name(&by.target, "/by")?);
            every(file, [&by.edge].into_iter());
            route.to.iter().collect()
        }
        Does::Choose(arms) => rules(arms, file)?,
        Does::Ask(ask) => return balance(ask, file, &others),
        Does::Parallel { branches, join } => {
            file.broadcast = Some(*join);
            if *join != Join::All {
                others.clear();
            }
            branches.iter().map(branch).collect::<Result<_, _>>()?
        }
        Does::Steps(_) | Does::Code(_) | Does::Fail(_) => {
            return Err(no_form("/steps", "a router that hands nothing on"));
        }
    };
    if file.by.is_none() {
        every(file, asks.iter().map(|ask| &ask.edge));
    }
    if file.rules.is_empty() {
        file.to = asks.iter().map(|ask| name(&ask.target, "/to")).collect::<Result<_, _>>()?;
    }
    edges(file, &asks, others)
}

fn branch(step: &Step) -> Result<&Ask, PrintError> {
    let ask = ask_of(&step.does).filter(|ask| {
        let plain = Step::new(step.name.clone(), step.does.clone());
        step.name.as_str() == ask.target.name() && *step == plain
    });
    ask.ok_or_else(|| no_form("/broadcast", "a branch that does more than ask"))
}

fn rules<'f>(arms: &'f [Arm], file: &mut RouterFile) -> Result<Vec<&'f Ask>, PrintError> {
    let refused = || no_form("/rules", "a choice of other forms than rules");
    let (last, rules) = arms.split_last().ok_or_else(refused)?;
    let mut asks = Vec::new();
    for arm in rules {
        let ask = ask_of(&arm.does).ok_or_else(refused)?;
        let when = ConditionFile::from(arm.when.as_ref().ok_or_else(refused)?);
        file.rules.push(RuleFile { to: name(&ask.target, "/rules")?, when });
        asks.push(ask);
    }
    let last_of_all = match &last.does {
        Does::Ask(ask) => {
            asks.push(ask);
            Some(name(&ask.target, "/fallback")?)
        }
        Does::Fail(message) if message == NO_RULE => None,
        Does::Fail(_)
        | Does::Route(_)
        | Does::Choose(_)
        | Does::Parallel { .. }
        | Does::Steps(_)
        | Does::Code(_) => return Err(refused()),
    };
    if last.when.is_some() || last_of_all != file.fallback || file.rules.is_empty() {
        return Err(refused());
    }
    Ok(asks)
}

fn balance(ask: &Ask, file: &mut RouterFile, others: &[AgentName]) -> Result<(), PrintError> {
    let Target::Balanced { by, of } = &ask.target else {
        return Err(no_form("/to", "a router that has nothing to choose"));
    };
    (file.balance, file.to) = (Some(*by), of.clone());
    every(file, [&ask.edge].into_iter());
    let edge = Edge { on_failure: Edges::asked(others), ..ask.edge.clone() };
    if *ask != (Ask { edge, ..Ask::of(ask.target.clone()) }) {
        return Err(no_form("/balance", "somebody who is asked in a way of his own"));
    }
    Ok(())
}

/// Says for all what is the same for all of `edges`.
fn every<'e>(file: &mut RouterFile, edges: impl Iterator<Item = &'e Edge> + Clone) {
    let Some(first) = edges.clone().next() else { return };
    let all = |same: fn(&Edge, &Edge) -> bool| edges.clone().all(|edge| same(edge, first));
    file.timeout = first.timeout.filter(|_| all(|one, two| one.timeout == two.timeout));
    file.breaker = first.breaker.filter(|_| all(|one, two| one.breaker == two.breaker));
    file.retry = if all(|one, two| one.retry == two.retry) { first.retry } else { 0 };
}

/// Says for each one how it is asked where that departs from what is said for all.
fn edges(file: &mut RouterFile, asks: &[&Ask], others: Vec<AgentName>) -> Result<(), PrintError> {
    let every = Edge {
        timeout: file.timeout,
        retry: file.retry,
        breaker: file.breaker,
        on_failure: OnFailure::Fail,
    };
    let mut edges = Edges { every, single: BTreeMap::new(), others };
    for ask in asks {
        let (name, edge) = (name(&ask.target, "/to")?, &ask.edge);
        if edges.single.contains_key(&name) {
            continue;
        }
        let usual = edges.ask(&name).edge.on_failure == edge.on_failure;
        let first = match &edge.on_failure {
            OnFailure::Ask(others) if !usual => others.first(),
            OnFailure::Ask(_) | OnFailure::Fail | OnFailure::Skip => None,
        };
        let single = EdgeFile {
            timeout: edge.timeout.filter(|_| edge.timeout != file.timeout),
            retry: Some(edge.retry).filter(|retry| *retry != file.retry),
            breaker: edge.breaker.filter(|_| edge.breaker != file.breaker),
            fallback: first.map(|first| super::name(first, "/edges")).transpose()?,
        };
        if single != EdgeFile::default() {
            edges.single.insert(name, single);
        }
    }
    for ask in asks {
        if edges.ask(&name(&ask.target, "/to")?) != **ask {
            return Err(no_form("/edges", "somebody who is asked in a way of his own"));
        }
    }
    file.edges = edges.single;
    Ok(())
}

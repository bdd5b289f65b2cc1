//! From a `router.toml` to a flow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde_json::Value;

use super::{Common, Load, does_nothing};
use crate::flow::file::{EdgeFile, RouterFile, RuleFile};
use crate::flow::plan::{
    Arm, Ask, Does, Edge, Flow, FlowKind, Join, OnFailure, Route, Step, Target,
};
use crate::flow::rule::{FlowRule, NO_RULE};
use crate::spec::source::child;
use crate::spec::unknown::nearest;
use crate::spec::{AgentName, AgentSpec, Broken, Rule, What};

/// What a router can do.
const DOES: [&str; 4] = ["by", "rules", "balance", "broadcast"];

pub(super) fn schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(RouterFile::schema)
}

/// How those are asked whom messages go to.
pub(in crate::flow) struct Edges {
    pub(in crate::flow) every: Edge,
    pub(in crate::flow) single: BTreeMap<AgentName, EdgeFile>,
    /// Who is asked when one of them fails.
    pub(in crate::flow) others: Vec<AgentName>,
}

impl Load<'_, '_> {
    /// Puts the router together, adding a problem for each part that cannot be.
    pub(super) fn router(mut self, name: AgentName, mut file: RouterFile) -> AgentSpec {
        let common = Common {
            description: file.description.take(),
            tags: std::mem::take(&mut file.tags),
            deps: file.deps.take(),
            output: file.output.take(),
            limits: std::mem::take(&mut file.limits),
            approvals: file.approvals,
            conversation: file.conversation,
            metadata: std::mem::take(&mut file.metadata),
        };
        let mut spec = self.common(name, common);
        let others = others(file.fallback.iter().chain(&file.on_escalate));
        if let ([one], true) = (others.as_slice(), file.rules.is_empty()) {
            // Alone, an agent is a fallback and a person escalates, whichever was written.
            self.source.moves.renamed = match (&file.fallback, Target::named(one.clone())) {
                (Some(_), Target::Human) => Some(("/fallback", "/on_escalate")),
                (None, Target::Agent(_)) => Some(("/on_escalate", "/fallback")),
                (_, _) => None,
            };
        }
        let edges = file.edges.clone();
        spec.flow = Some(Flow {
            kind: FlowKind::Router,
            input: self.table("/input", file.input.take()),
            on_failure: Edges::asked(&others),
            steps: vec![Step::of_router(self.routes(file, others))],
        });
        self.source.add_broken(spec.check().map_err(|broken| where_said(broken, &edges)));
        spec
    }

    fn routes(&mut self, mut file: RouterFile, others: Vec<AgentName>) -> Does {
        let edges = Edges {
            every: Edge {
                timeout: file.timeout,
                retry: file.retry,
                breaker: file.breaker,
                on_failure: OnFailure::Fail,
            },
            single: std::mem::take(&mut file.edges),
            others,
        };
        let given: Vec<&'static str> = DOES
            .into_iter()
            .zip([
                file.by.is_some(),
                !file.rules.is_empty(),
                file.balance.is_some(),
                file.broadcast.is_some(),
            ])
            .filter_map(|(key, given)| given.then_some(key))
            .collect();
        if given.len() != 1 {
            let nothing = "it does not say to whom messages go";
            self.source.add_at("", What::OneOf { nothing, given, valid: &DOES });
            return does_nothing();
        }
        self.check_edges(&file, &edges);
        let ask = |name: &AgentName| edges.ask(name);
        if let Some(by) = file.by {
            let by = Ask { edge: edges.every.clone(), ..Ask::of(Target::named(by)) };
            return Does::Route(Route { by, to: file.to.iter().map(ask).collect() });
        }
        if let Some(by) = file.balance {
            let edge = Edge { on_failure: Edges::asked(&edges.others), ..edges.every };
            return Does::Ask(Ask { edge, ..Ask::of(Target::Balanced { by, of: file.to }) });
        }
        if let Some(join) = file.broadcast {
            return broadcast(&file.to, join, edges);
        }
        self.rules(file.rules, file.fallback.as_ref(), &edges)
    }

    fn rules(&mut self, rules: Vec<RuleFile>, last: Option<&AgentName>, edges: &Edges) -> Does {
        let rules = rules.into_iter().enumerate();
        let mut arms: Vec<Arm> = rules
            .map(|(index, rule)| {
                let when = self.condition(&format!("/rules/{index}/when"), rule.when);
                Arm { when: Some(when), does: Does::Ask(edges.ask(&rule.to)) }
            })
            .collect();
        let last = match last {
            Some(name) => Does::Ask(edges.ask(name)),
            None => Does::Fail(NO_RULE.to_owned()),
        };
        arms.push(Arm { when: None, does: last });
        Does::Choose(arms)
    }

    fn check_edges(&mut self, file: &RouterFile, edges: &Edges) {
        if !file.rules.is_empty() && !file.to.is_empty() {
            self.needless("", "to", "is what the rules say");
        }
        if file.balance.is_some() && !edges.single.is_empty() {
            self.needless("", "edges", "does not go with `balance`: all are asked in the same way");
            return;
        }
        let fallback = file.fallback.iter().filter(|_| !file.rules.is_empty());
        let targets: Vec<&AgentName> =
            file.to.iter().chain(file.rules.iter().map(|rule| &rule.to)).chain(fallback).collect();
        for (name, edge) in &edges.single {
            let pointer = child("/edges", name.as_str());
            if !targets.contains(&name) {
                let names = || targets.iter().map(|target| target.as_str());
                let near = nearest(name.as_str(), names()).map(str::to_owned);
                let known: BTreeSet<String> = names().map(str::to_owned).collect();
                let known = known.into_iter().collect();
                let rule = FlowRule::NoTarget { name: name.to_string(), nearest: near, known };
                self.source.add_at(&pointer, Rule::from(rule));
            }
            if edge.fallback.as_ref() == Some(name) {
                self.source.add_at(&child(&pointer, "fallback"), Rule::OwnFallback);
            }
        }
    }
}

impl Edges {
    /// Returns how the one called `name` is asked.
    pub(in crate::flow) fn ask(&self, name: &AgentName) -> Ask {
        let single = self.single.get(name);
        let first = single.and_then(|edge| edge.fallback.as_ref());
        let others = others(first.into_iter().chain(&self.others).filter(|other| *other != name));
        let edge = Edge {
            timeout: single.and_then(|edge| edge.timeout).or(self.every.timeout),
            retry: single.and_then(|edge| edge.retry).unwrap_or(self.every.retry),
            breaker: single.and_then(|edge| edge.breaker).or(self.every.breaker),
            on_failure: Edges::asked(&others),
        };
        Ask { edge, ..Ask::of(Target::named(name.clone())) }
    }

    /// Returns what happens where `others` are asked after a failure.
    pub(in crate::flow) fn asked(others: &[AgentName]) -> OnFailure {
        match others {
            [] => OnFailure::Fail,
            some => OnFailure::Ask(some.iter().cloned().map(Target::named).collect()),
        }
    }
}

fn broadcast(to: &[AgentName], join: Join, mut edges: Edges) -> Does {
    // Nobody stands in for one of them as long as the others may do.
    if join != Join::All {
        edges.others.clear();
    }
    let branches = to.iter().map(|name| {
        let step = name.as_str().try_into().expect("names of agents and steps have one rule");
        Step::new(step, Does::Ask(edges.ask(name)))
    });
    Does::Parallel { branches: branches.collect(), join }
}

/// Returns rules about how somebody is asked with the place where that is said: for one, or for
/// all, and then the rule is broken once.
fn where_said(broken: Vec<Broken>, edges: &BTreeMap<AgentName, EdgeFile>) -> Vec<Broken> {
    let said = |name: &str, key: &str| {
        edges.get(name).is_some_and(|edge| match key {
            "timeout" => edge.timeout.is_some(),
            "retry" => edge.retry.is_some(),
            _ => edge.breaker.is_some(),
        })
    };
    let mut found: Vec<Broken> = Vec::new();
    for Broken { pointer, rule } in broken {
        let parts: Vec<&str> = pointer.splitn(4, '/').collect();
        let pointer = match parts.as_slice() {
            ["", "edges", name, rest] => {
                let key = rest.split('/').next().unwrap_or(rest);
                if said(name, key) || key == "fallback" { pointer } else { format!("/{rest}") }
            }
            _ => pointer,
        };
        let broken = Broken { pointer, rule };
        if !found.contains(&broken) {
            found.push(broken);
        }
    }
    found
}

/// Returns names without doubles.
fn others<'n>(names: impl Iterator<Item = &'n AgentName>) -> Vec<AgentName> {
    let mut others: Vec<AgentName> = Vec::new();
    for name in names {
        if !others.contains(name) {
            others.push(name.clone());
        }
    }
    others
}

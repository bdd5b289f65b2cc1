//! Who is named in a definition, and where.

use crate::flow::place::in_file;
use crate::flow::plan::{Ask, Does, OnFailure, Step, Target};
use crate::spec::{AgentName, AgentSpec, ToolTarget};

/// Returns everybody whom `spec` names, with the place in its file as a JSON pointer.
pub(super) fn named(spec: &AgentSpec) -> Vec<(String, &AgentName)> {
    let mut named = Vec::new();
    for (index, tool) in spec.tools.iter().enumerate() {
        match &tool.target {
            ToolTarget::Agent(name) => named.push((format!("/tools/{index}/agent"), name)),
            ToolTarget::Handoff(targets) => {
                let targets = targets.iter().enumerate();
                named.extend(targets.flat_map(|(index, target)| {
                    let at = move |_| format!("/handoff/to/{index}");
                    target.agents().iter().map(move |name| (at(name), name))
                }));
            }
            ToolTarget::Python(_) | ToolTarget::Rust(_) | ToolTarget::Own => {}
        }
    }
    let fallback = spec.fallback.agent.iter();
    named.extend(fallback.map(|name| ("/fallback/agent".to_owned(), name)));
    if let Some(flow) = &spec.flow {
        let mut walk = Walk { named: Vec::new() };
        walk.on_failure("", &flow.on_failure);
        walk.steps("/steps", &flow.steps);
        let in_file = |(at, name): (String, _)| (in_file(flow, &at), name);
        named.extend(walk.named.into_iter().map(in_file));
    }
    named
}

/// Returns the agents that `target` names, with their places below that of the question.
pub(super) fn targets<'f>(at: &str, target: &'f Target) -> Vec<(String, &'f AgentName)> {
    match target {
        Target::Agent(name) => vec![(format!("{at}/agent"), name)],
        Target::Balanced { of, .. } => {
            let of = of.iter().enumerate();
            of.map(|(index, name)| (format!("{at}/balance/of/{index}"), name)).collect()
        }
        Target::Human => Vec::new(),
    }
}

/// Returns those who are asked after a failure at `at`, with their places.
pub(super) fn others<'f>(at: &str, on_failure: &'f OnFailure) -> Vec<(String, &'f AgentName)> {
    let OnFailure::Ask(others) = on_failure else { return Vec::new() };
    let others = others.iter().enumerate();
    others
        .flat_map(|(index, target)| {
            target.agents().iter().map(move |name| (format!("{at}/on_failure/{index}"), name))
        })
        .collect()
}

struct Walk<'f> {
    named: Vec<(String, &'f AgentName)>,
}

impl<'f> Walk<'f> {
    fn on_failure(&mut self, at: &str, on_failure: &'f OnFailure) {
        self.named.extend(others(at, on_failure));
    }

    fn steps(&mut self, at: &str, steps: &'f [Step]) {
        for (index, step) in steps.iter().enumerate() {
            let at = format!("{at}/{index}");
            self.does(&at, &step.does);
            self.on_failure(&at, &step.on_failure);
        }
    }

    fn does(&mut self, at: &str, does: &'f Does) {
        match does {
            Does::Ask(ask) => self.ask(at, ask),
            Does::Route(route) => {
                self.ask(&format!("{at}/route/by"), &route.by);
                for (index, ask) in route.to.iter().enumerate() {
                    self.ask(&format!("{at}/route/to/{index}"), ask);
                }
            }
            Does::Choose(arms) => {
                for (index, arm) in arms.iter().enumerate() {
                    self.does(&format!("{at}/choose/{index}"), &arm.does);
                }
            }
            Does::Parallel { branches, .. } => self.steps(&format!("{at}/parallel"), branches),
            Does::Steps(steps) => self.steps(&format!("{at}/steps"), steps),
            Does::Code(_) | Does::Fail(_) => {}
        }
    }

    fn ask(&mut self, at: &str, ask: &'f Ask) {
        self.named.extend(targets(at, &ask.target));
        self.on_failure(at, &ask.edge.on_failure);
    }
}

/// Returns the first place in the file of `spec`'s flow where `name` is asked.
pub(super) fn place_of(spec: &AgentSpec, name: &AgentName) -> String {
    let mut named = named(spec).into_iter();
    named.find(|(_, other)| *other == name).map(|(at, _)| at).unwrap_or_default()
}

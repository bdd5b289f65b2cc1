//! All definitions as a flowchart of Mermaid.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::System;
use super::words;
use crate::flow::place::ask_of;
use crate::flow::plan::{Ask, Does, Flow, FlowKind, OnFailure, Step, Target};
use crate::spec::{AgentName, AgentSpec, Kind, ToolTarget};

/// The person who is asked.
const HUMAN: &str = "human";

impl System<'_> {
    /// Returns all definitions as a flowchart of Mermaid: agents as boxes, routers as rhombs,
    /// pipelines as boxes with their steps inside. Dashed arrows go to those who are asked after a
    /// failure, or who go on with a run.
    #[must_use]
    pub fn mermaid(&self) -> String {
        let mut chart = Chart { text: "flowchart TD\n".to_owned(), depth: 1, steps: 0 };
        let mut missing: BTreeMap<&AgentName, ()> = BTreeMap::new();
        for spec in self.specs.values() {
            for (_, name) in super::who::named(spec) {
                if !self.specs.contains_key(name) {
                    missing.insert(name, ());
                }
            }
        }
        let mut arrows = Vec::new();
        for spec in self.specs.values() {
            chart.definition(spec, &mut arrows);
        }
        for name in missing.keys() {
            chart.line(&format!("{}[/{}/]", id(name), quoted(&format!("{name} (missing)"))));
        }
        if arrows.iter().any(|arrow| arrow.ends_with(&format!(" {HUMAN}"))) {
            chart.line(&format!("{HUMAN}([{}])", quoted("a person")));
        }
        for arrow in arrows {
            chart.line(&arrow);
        }
        chart.text
    }
}

struct Chart {
    text: String,
    depth: usize,
    /// How many steps have been drawn.
    steps: usize,
}

impl Chart {
    fn line(&mut self, line: &str) {
        let indent = "    ".repeat(self.depth);
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "{indent}{line}");
    }

    fn definition(&mut self, spec: &AgentSpec, arrows: &mut Vec<String>) {
        let (id, name) = (id(&spec.name), quoted(spec.name.as_str()));
        match (&spec.flow, spec.kind()) {
            (Some(flow), Kind::Pipeline) => {
                self.begin(&format!("subgraph {id}[{name}]"));
                self.steps(&flow.steps, arrows);
                self.end();
            }
            (Some(_), _) => self.line(&format!("{id}{{{name}}}")),
            (None, _) => self.line(&format!("{id}[{name}]")),
        }
        match &spec.flow {
            Some(flow) => self.flow(&id, flow, arrows),
            None => agent(&id, spec, arrows),
        }
    }

    fn begin(&mut self, line: &str) {
        self.line(line);
        self.depth += 1;
    }

    fn end(&mut self) {
        self.depth -= 1;
        self.line("end");
    }

    fn flow(&mut self, id: &str, flow: &Flow, arrows: &mut Vec<String>) {
        if flow.kind == FlowKind::Router {
            let mut own = Vec::new();
            self.router(id, &flow.steps, &mut own);
            // One arrow says that somebody stands in for all.
            let all = others(&flow.on_failure).into_iter().map(|other| format!(" {other}"));
            let all: Vec<String> = all.collect();
            let dashed = format!("{id} -.->");
            own.retain(|arrow| {
                !arrow.starts_with(&dashed) || !all.iter().any(|other| arrow.ends_with(other))
            });
            arrows.extend(own);
        }
        fallback(id, &flow.on_failure, arrows);
    }

    /// Draws whom a router asks, whose one step it stands for itself.
    fn router(&mut self, id: &str, steps: &[Step], arrows: &mut Vec<String>) {
        match steps {
            [step] => match &step.does {
                Does::Parallel { branches, join } => {
                    let label = format!("{} of all", words::join(*join));
                    let asked = branches.iter().filter_map(|branch| ask_of(&branch.does));
                    asked.for_each(|ask| asks(id, ask, &label, arrows));
                }
                does @ (Does::Ask(_)
                | Does::Route(_)
                | Does::Choose(_)
                | Does::Steps(_)
                | Does::Code(_)
                | Does::Fail(_)) => self.does(id, does, arrows),
            },
            steps => {
                self.steps(steps, arrows);
            }
        }
    }

    /// Draws steps and the order between them, and returns the name of the last one.
    fn steps(&mut self, steps: &[Step], arrows: &mut Vec<String>) -> Option<String> {
        let mut ids: BTreeMap<&str, String> = BTreeMap::new();
        let begin = self.next();
        self.line(&format!("{begin}(( ))"));
        let mut last = None;
        for step in steps {
            let own = self.step(step, arrows);
            let label = words::made(step).join(", ");
            let before: Vec<&String> =
                step.after.iter().filter_map(|name| ids.get(name.as_str())).collect();
            for from in if before.is_empty() { vec![&begin] } else { before } {
                self.line(&arrow(from, "==>", &label, &own));
            }
            ids.insert(step.name.as_str(), own.clone());
            last = Some(own);
        }
        last
    }

    /// Draws one step, and returns its name.
    fn step(&mut self, step: &Step, arrows: &mut Vec<String>) -> String {
        let (id, name) = (self.next(), quoted(step.name.as_str()));
        match &step.does {
            Does::Steps(_) | Does::Parallel { .. } => {
                let join = match &step.does {
                    Does::Parallel { join, .. } => format!(": {}", words::join(*join)),
                    Does::Ask(_)
                    | Does::Route(_)
                    | Does::Choose(_)
                    | Does::Steps(_)
                    | Does::Code(_)
                    | Does::Fail(_) => String::new(),
                };
                self.begin(&format!("subgraph {id}[{}]", quoted(&format!("{}{join}", step.name))));
                self.does(&id, &step.does, arrows);
                self.end();
            }
            does @ (Does::Choose(_) | Does::Route(_)) => {
                self.line(&format!("{id}{{{name}}}"));
                self.does(&id, does, arrows);
            }
            Does::Ask(_) => {
                self.line(&format!("{id}[{name}]"));
                self.does(&id, &step.does, arrows);
            }
            does @ (Does::Code(_) | Does::Fail(_)) => {
                let label = quoted(&format!("{}: {}", step.name, words::does(does)));
                self.line(&format!("{id}[[{label}]]"));
            }
        }
        fallback(&id, &step.on_failure, arrows);
        id
    }

    /// Draws what is done at `id`.
    fn does(&mut self, id: &str, does: &Does, arrows: &mut Vec<String>) {
        match does {
            Does::Ask(ask) => asks(id, ask, "", arrows),
            Does::Route(route) => {
                asks(id, &route.by, "chosen by", arrows);
                route.to.iter().for_each(|ask| asks(id, ask, "", arrows));
            }
            Does::Choose(arms) => {
                for arm in arms {
                    let when = arm.when.as_ref().map(words::condition);
                    let label = when.unwrap_or_else(|| "else".to_owned());
                    self.arm(id, &arm.does, (&label, arrows));
                }
            }
            Does::Parallel { branches, .. } => {
                for branch in branches {
                    self.branch(branch, arrows);
                }
            }
            Does::Steps(steps) => {
                self.steps(steps, arrows);
            }
            Does::Code(_) | Does::Fail(_) => {}
        }
    }

    fn arm(&mut self, id: &str, does: &Does, (label, arrows): (&str, &mut Vec<String>)) {
        if let Does::Ask(ask) = does {
            return asks(id, ask, label, arrows);
        }
        let inner = self.next();
        match does {
            Does::Steps(_) | Does::Parallel { .. } => {
                self.begin(&format!("subgraph {inner}[{}]", quoted(&words::does(does))));
                self.does(&inner, does, arrows);
                self.end();
            }
            Does::Choose(_) | Does::Route(_) => {
                self.line(&format!("{inner}{{{}}}", quoted(&words::does(does))));
                self.does(&inner, does, arrows);
            }
            Does::Ask(_) | Does::Code(_) | Does::Fail(_) => {
                self.line(&format!("{inner}[[{}]]", quoted(&words::does(does))));
            }
        }
        arrows.push(arrow(id, "-->", label, &inner));
    }

    fn branch(&mut self, branch: &Step, arrows: &mut Vec<String>) {
        let inner = self.step(branch, arrows);
        let label = words::made(branch).join(", ");
        if !label.is_empty() {
            let begin = self.next();
            self.line(&format!("{begin}(( ))"));
            self.line(&arrow(&begin, "==>", &label, &inner));
        }
    }

    fn next(&mut self) -> String {
        self.steps += 1;
        format!("s{}", self.steps)
    }
}

fn agent(id: &str, spec: &AgentSpec, arrows: &mut Vec<String>) {
    for tool in &spec.tools {
        match &tool.target {
            ToolTarget::Agent(name) => {
                let label = format!("tool {}", tool.name);
                arrows.push(arrow(id, "-->", &label, &self::id(name)));
            }
            ToolTarget::Handoff(targets) => {
                for other in targets.iter().flat_map(ids) {
                    arrows.push(arrow(id, "-.->", "hands over", &other));
                }
            }
            ToolTarget::Python(_) | ToolTarget::Rust(_) | ToolTarget::Own => {}
        }
    }
    if let Some(name) = &spec.fallback.agent {
        arrows.push(arrow(id, "-.->", "fallback", &self::id(name)));
    }
}

fn asks(id: &str, ask: &Ask, label: &str, arrows: &mut Vec<String>) {
    let balance = match &ask.target {
        Target::Balanced { by, .. } => Some(words::balance(*by).to_owned()),
        Target::Agent(_) | Target::Human => None,
    };
    let own = Some(label.to_owned()).filter(|label| !label.is_empty());
    let skips = (ask.edge.on_failure == OnFailure::Skip).then(|| "else left out".to_owned());
    let label: Vec<String> =
        own.into_iter().chain(balance).chain(words::edge(&ask.edge)).chain(skips).collect();
    for other in ids(&ask.target) {
        arrows.push(arrow(id, "-->", &label.join(", "), &other));
    }
    for other in others(&ask.edge.on_failure) {
        let label = format!("if {} fails", ask.target.name());
        arrows.push(arrow(id, "-.->", &label, &other));
    }
}

fn fallback(id: &str, on_failure: &OnFailure, arrows: &mut Vec<String>) {
    for other in others(on_failure) {
        arrows.push(arrow(id, "-.->", "fallback", &other));
    }
}

/// Returns those who are asked after a failure.
fn others(on_failure: &OnFailure) -> Vec<String> {
    match on_failure {
        OnFailure::Ask(others) => others.iter().flat_map(ids).collect(),
        OnFailure::Fail | OnFailure::Skip => Vec::new(),
    }
}

fn ids(target: &Target) -> Vec<String> {
    match target {
        Target::Human => vec![HUMAN.to_owned()],
        Target::Agent(_) | Target::Balanced { .. } => target.agents().iter().map(id).collect(),
    }
}

/// Returns what a definition is called in the chart: no word of Mermaid begins like this.
fn id(name: &AgentName) -> String {
    format!("a_{name}")
}

fn arrow(from: &str, line: &str, label: &str, to: &str) -> String {
    match label {
        "" => format!("{from} {line} {to}"),
        label => format!("{from} {line}|{}| {to}", quoted(label)),
    }
}

/// Returns a label as Mermaid takes it: in quotes, with codes for what means something else.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '#' | '&' | '<' | '>' | '[' | ']' | '{' | '}' | '(' | ')' | '|' | '`' | ';' => {
                // Writing to a String does not fail.
                let _ = write!(quoted, "#{};", u32::from(character));
            }
            control if control.is_control() => quoted.push(' '),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

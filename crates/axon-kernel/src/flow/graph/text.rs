//! All definitions as an indented tree, for terminals.

use std::fmt::Write;

use super::System;
use super::words;
use crate::flow::plan::{Does, Flow, FlowKind, Step};
use crate::spec::{AgentSpec, ToolTarget};

/// One line of the tree, and what is below it.
struct Line {
    name: String,
    about: String,
    below: Vec<Line>,
}

impl Line {
    fn new(name: impl Into<String>, about: impl Into<String>) -> Self {
        Self { name: name.into(), about: about.into(), below: Vec::new() }
    }
}

impl System<'_> {
    /// Returns all definitions as an indented tree, with a line break after each line: by name, with
    /// what each does below it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for spec in self.specs.values() {
            let kind = spec.kind();
            let about = spec.description.as_deref().map(words::shown);
            let about = about.map(|about| format!(": {about}")).unwrap_or_default();
            // Writing to a String does not fail.
            let _ = writeln!(text, "{}  {kind}{about}", spec.name);
            draw(&mut text, "", &below(spec));
        }
        text
    }
}

fn draw(text: &mut String, indent: &str, lines: &[Line]) {
    let width = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or_default();
    for (index, Line { name, about, below }) in lines.iter().enumerate() {
        let last = index + 1 == lines.len();
        let (arm, under) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let line = format!("{indent}{arm}{name:width$}  {about}");
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}", line.trim_end());
        draw(text, &format!("{indent}{under}"), below);
    }
}

fn below(spec: &AgentSpec) -> Vec<Line> {
    if let Some(flow) = &spec.flow {
        return self::flow(flow);
    }
    let mut lines = Vec::new();
    for tool in &spec.tools {
        match &tool.target {
            ToolTarget::Agent(name) => {
                lines.push(Line::new(name.as_str(), format!("asked by the tool {}", tool.name)));
            }
            ToolTarget::Handoff(targets) => lines.extend(
                targets
                    .iter()
                    .map(|target| Line::new(words::target(target), "may go on with its runs")),
            ),
            ToolTarget::Python(_) | ToolTarget::Rust(_) | ToolTarget::Own => {}
        }
    }
    let fallback = spec.fallback.agent.iter();
    lines.extend(fallback.map(|name| Line::new(name.as_str(), "asked when it fails")));
    lines
}

fn flow(flow: &Flow) -> Vec<Line> {
    let mut lines = match (flow.kind, flow.steps.as_slice()) {
        (FlowKind::Router, [step]) => router(step),
        (FlowKind::Router | FlowKind::Pipeline, steps) => self::steps(steps),
    };
    if let Some(other) = words::on_failure(&flow.on_failure) {
        lines.push(Line::new("(failure)", other));
    }
    lines
}

/// Returns the parts of a router's one step: its name says nothing.
fn router(step: &Step) -> Vec<Line> {
    match &step.does {
        Does::Ask(ask) => vec![Line::new("(each message)", words::ask(ask))],
        does @ (Does::Route(_)
        | Does::Choose(_)
        | Does::Parallel { .. }
        | Does::Steps(_)
        | Does::Code(_)
        | Does::Fail(_)) => {
            let line = Line::new("(each message)", words::does(does));
            vec![Line { below: inside(does), ..line }]
        }
    }
}

fn steps(steps: &[Step]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut before = None;
    for step in steps {
        let mut line = self::step(step);
        let usual = step.after.iter().collect::<Vec<_>>() == Vec::from_iter(before);
        if !usual {
            let names: Vec<&str> = step.after.iter().map(|name| name.as_str()).collect();
            let after = if names.is_empty() {
                "at once".to_owned()
            } else {
                format!("after {}", names.join(", "))
            };
            let comma = if line.about.is_empty() { "" } else { ", " };
            line.about = format!("{}{comma}{after}", line.about);
        }
        before = Some(&step.name);
        lines.push(line);
    }
    lines
}

fn step(step: &Step) -> Line {
    let does = match &step.does {
        Does::Ask(ask) if ask.target.name() == step.name.as_str() => words::how(ask),
        does @ (Does::Ask(_)
        | Does::Route(_)
        | Does::Choose(_)
        | Does::Parallel { .. }
        | Does::Steps(_)
        | Does::Code(_)
        | Does::Fail(_)) => vec![words::does(does)],
    };
    let about = does.into_iter().chain(words::made(step));
    let about: Vec<String> = about.chain(words::on_failure(&step.on_failure)).collect();
    let line = Line::new(step.name.as_str(), about.join(", "));
    Line { below: inside(&step.does), ..line }
}

fn inside(does: &Does) -> Vec<Line> {
    match does {
        Does::Route(route) => {
            let by = Line::new("(choice)", words::ask(&route.by));
            let to = route
                .to
                .iter()
                .map(|ask| Line::new(words::target(&ask.target), words::how(ask).join(", ")));
            [by].into_iter().chain(to).collect()
        }
        Does::Choose(arms) => arms
            .iter()
            .map(|arm| {
                let when = arm.when.as_ref().map(words::condition);
                let name = when.map_or_else(|| "else".to_owned(), |when| format!("when {when}"));
                Line { below: inside(&arm.does), ..Line::new(name, words::does(&arm.does)) }
            })
            .collect(),
        Does::Parallel { branches, .. } => branches.iter().map(step).collect(),
        Does::Steps(steps) => self::steps(steps),
        Does::Ask(_) | Does::Code(_) | Does::Fail(_) => Vec::new(),
    }
}

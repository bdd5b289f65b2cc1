//! All definitions of a service together: who asks whom, and whether that can work.

mod circle;
mod mermaid;
mod shape;
mod text;
mod types;
mod who;
mod words;

use std::collections::BTreeMap;
use std::fmt;

use self::shape::Shapes;
use crate::schema::Mismatch;
use crate::schema::fit::{Node, fits_raw};
use crate::spec::source::dotted;
use crate::spec::unknown::nearest;
use crate::spec::{AgentName, AgentSpec, Kind, Position, Problem, ToolTarget, What};

/// All agents, routers and pipelines of a service.
///
/// ```
/// # use axon_kernel::flow::System;
/// # use axon_kernel::spec::{AgentName, AgentSpec, FileText};
/// let text = "[[steps]]\nname = 'plan'\nagent = 'planer'";
/// let file = FileText { path: "pipeline.toml", text };
/// let name = AgentName::try_from("research")?;
/// let research = AgentSpec::pipeline_from_toml(name, file, &|_| None, &|_| Err("".into()))?;
/// let planner = AgentSpec::new(AgentName::try_from("planner")?);
/// let problems = System::new([&research, &planner]).check();
/// assert_eq!(
///     problems[0].to_string(),
///     "research: steps[0].agent: there is no agent, router or pipeline `planer`; \
///      did you mean `planner`?"
/// );
/// assert_eq!(problems[0].position.map(|at| (at.line, at.column)), Some((3, 9)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct System<'s> {
    specs: BTreeMap<&'s AgentName, &'s AgentSpec>,
}

/// Something that cannot work between definitions.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphProblem {
    /// Whose definition it is in.
    pub agent: AgentName,
    /// Where in its file, as a JSON pointer.
    pub pointer: String,
    /// Where that stands, if the definition came from a file.
    pub position: Option<Position>,
    /// What it is.
    pub what: GraphError,
}

/// What cannot work between definitions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Somebody is named who does not exist.
    #[error(
        "there is no agent, router or pipeline `{name}`{}",
        .nearest.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
    )]
    NoAgent {
        /// The name.
        name: AgentName,
        /// The name that looks most like it.
        nearest: Option<String>,
    },
    /// A router or a pipeline asks itself, if through others.
    #[error("it asks itself: {}", .names.join(" -> "))]
    Circle {
        /// The way, with the first one again at the end.
        names: Vec<String>,
    },
    /// A step is made for the items of what is no list.
    #[error("`{list}` never is a list: {mismatch}")]
    NoList {
        /// The expression.
        list: String,
        /// Why.
        mismatch: Mismatch,
    },
    /// An expression or a template takes what is never there.
    #[error("`{of}` {why}")]
    NoMember {
        /// Of what.
        of: String,
        /// Why.
        why: String,
    },
    /// A router or a pipeline is asked what it never takes.
    #[error("what `{name}` is asked never fits its input: {mismatch}")]
    Input {
        /// Who is asked.
        name: AgentName,
        /// Why.
        mismatch: Mismatch,
    },
    /// Somebody gets deps that he never takes.
    #[error("the deps that `{name}` gets never fit its own: {mismatch}")]
    Deps {
        /// Who is asked.
        name: AgentName,
        /// Why.
        mismatch: Mismatch,
    },
    /// What comes out in the end never is what is promised.
    #[error("the answer never fits this: {mismatch}")]
    Output {
        /// Why.
        mismatch: Mismatch,
    },
    /// An agent that has to choose never does.
    #[error("`{name}` chooses nobody: its answer {why}")]
    NoChoice {
        /// The agent.
        name: AgentName,
        /// Why.
        why: String,
    },
    /// An agent can choose somebody to whom no messages go.
    #[error(
        "`{name}` can choose {}, to whom no messages go; they go to {}",
        .others.join(", "),
        .known.join(", ")
    )]
    NoTargets {
        /// The agent.
        name: AgentName,
        /// Whom it can choose.
        others: Vec<String>,
        /// To whom messages go.
        known: Vec<String>,
    },
    /// A run is handed on to what has no runs to go on with.
    #[error("`{name}` is a {kind}, and a run can be handed on to agents and people only")]
    HandoffToFlow {
        /// Who.
        name: AgentName,
        /// What that is.
        kind: Kind,
    },
    /// A run is handed on to an agent that answers something else.
    #[error("what `{name}` answers is not what this agent does: {mismatch}")]
    Handoff {
        /// Who.
        name: AgentName,
        /// Why.
        mismatch: Mismatch,
    },
}

impl fmt::Display for GraphProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.agent)?;
        if !self.pointer.is_empty() {
            write!(f, "{}: ", dotted(&self.pointer))?;
        }
        self.what.fmt(f)
    }
}

impl GraphProblem {
    /// Returns it as a problem of the file of its definition.
    #[must_use]
    pub fn in_file(self) -> Problem {
        Problem {
            position: self.position,
            key: dotted(&self.pointer),
            what: What::Graph(self.what),
        }
    }
}

impl<'s> System<'s> {
    /// Takes all definitions. Of two with one name, the last one counts.
    pub fn new(specs: impl IntoIterator<Item = &'s AgentSpec>) -> Self {
        Self { specs: specs.into_iter().map(|spec| (&spec.name, spec)).collect() }
    }

    /// Checks what no definition can tell by itself: that all exist who are named, that no router
    /// and no pipeline asks itself, and that what is handed on can fit.
    ///
    /// Only what can never work is told. Whether the service has the Rust functions that are named
    /// is not looked into.
    #[must_use]
    pub fn check(&self) -> Vec<GraphProblem> {
        let mut found = Found::default();
        for spec in self.specs.values() {
            self.check_names(spec, &mut found);
        }
        self.check_circles(&mut found);
        let shapes = Shapes::new(&self.specs);
        for spec in self.specs.values() {
            self.check_types(spec, &shapes, &mut found);
            self.check_handoff(spec, &shapes, &mut found);
        }
        found
            .problems
            .sort_by(|one, other| (&one.agent, one.position).cmp(&(&other.agent, other.position)));
        found.problems
    }

    fn check_names(&self, spec: &AgentSpec, found: &mut Found) {
        for (pointer, name) in who::named(spec) {
            if !self.specs.contains_key(name) {
                let names = self.specs.keys().map(|known| known.as_str());
                let nearest = nearest(name.as_str(), names).map(str::to_owned);
                let what = GraphError::NoAgent { name: name.clone(), nearest };
                found.add(spec, pointer, what);
            }
        }
    }

    fn check_handoff(&self, spec: &AgentSpec, shapes: &Shapes<'_>, found: &mut Found) {
        let targets = spec.tools.iter().filter_map(|tool| match &tool.target {
            ToolTarget::Handoff(targets) => Some(targets),
            ToolTarget::Python(_)
            | ToolTarget::Rust(_)
            | ToolTarget::Agent(_)
            | ToolTarget::Own => None,
        });
        let own = shapes.answer(&spec.name);
        for (index, target) in targets.flatten().enumerate() {
            let pointer = format!("/handoff/to/{index}");
            for other in target.agents().iter().filter_map(|name| self.specs.get(name)) {
                let name = other.name.clone();
                if other.kind() != Kind::Agent {
                    let what = GraphError::HandoffToFlow { name, kind: other.kind() };
                    found.add(spec, pointer.clone(), what);
                    continue;
                }
                let answer = shapes.answer(&other.name);
                if let Err(mismatch) = fits_raw(Node::root(&answer), Node::root(&own)) {
                    let what = GraphError::Handoff { name, mismatch };
                    found.add(spec, pointer.clone(), what);
                }
            }
        }
    }
}

/// The problems that were found.
#[derive(Default)]
struct Found {
    problems: Vec<GraphProblem>,
}

impl Found {
    fn add(&mut self, spec: &AgentSpec, pointer: impl Into<String>, what: GraphError) {
        let pointer = pointer.into();
        let position = spec.position(&pointer);
        let problem = GraphProblem { agent: spec.name.clone(), pointer, position, what };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}

//! What a flow is.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::expression::{Expression, Given, TextTemplate};
use crate::breaker::BreakerSettings;
use crate::schema::Schema;
use crate::spec::{AgentName, PromptName, ToolName};

/// The name of a step, by which later steps speak of its output. It has the grammar of a tool's.
pub type StepName = ToolName;

/// The word for a person, where else the name of an agent stands.
const HUMAN: &str = "human";

/// What means something else in expressions and templates than the output of a step: what they know
/// besides, and the words of the language.
const RESERVED: [&str; 27] = [
    "input",
    "prompt",
    "deps",
    "previous",
    "item",
    "index",
    "iteration",
    "last",
    "failures",
    "route",
    "loop",
    "self",
    "range",
    "dict",
    "namespace",
    "debug",
    "true",
    "false",
    "none",
    "and",
    "or",
    "not",
    "in",
    "is",
    "if",
    "else",
    "set",
];

/// Returns whether `name` means something else in expressions and templates, so that no step can
/// have it.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// What a router or a pipeline does with a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// What it is called in lists and trees.
    pub kind: FlowKind,
    /// What its message has to be like; any text where this is missing.
    pub input: Option<Schema>,
    /// Its steps, each behind those that it waits for. The output of the last one is the flow's.
    pub steps: Vec<Step>,
    /// What happens when a step has failed for good.
    pub on_failure: OnFailure,
}

/// Which kind of flow it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FlowKind {
    /// It hands each message to one or several others.
    Router,
    /// It makes an answer in steps.
    Pipeline,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What others know it by.
    pub name: StepName,
    /// The steps that it waits for: all of them stand before it in its list. It sees their outputs,
    /// and those of the steps that these wait for, and of no others.
    pub after: Vec<StepName>,
    /// Whether it is made at all: one that is not has the output `null`.
    pub when: Option<Condition>,
    /// The list for whose items it is made.
    pub over: Option<Over>,
    /// How often it is made anew.
    pub repeat: Option<Repeat>,
    /// What is done.
    pub does: Does,
    /// What happens when that has failed.
    pub on_failure: OnFailure,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Does {
    /// Asks somebody.
    Ask(Ask),
    /// Has an agent say whom to ask, and asks that one.
    Route(Route),
    /// Does what the first arm says whose condition holds. Without one the output is `null`.
    Choose(Vec<Arm>),
    /// Does several things at the same time.
    Parallel {
        /// The things: none waits for another.
        branches: Vec<Step>,
        /// Which of them it waits for.
        join: Join,
    },
    /// Does one thing after the other.
    Steps(Vec<Step>),
    /// Has a Rust function of the service work the output out of what came before.
    Code(PromptName),
    /// Fails, for this reason.
    Fail(String),
}

/// A question for somebody.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// Who is asked.
    pub target: Target,
    /// What; by default what came before.
    pub prompt: Option<TextTemplate>,
    /// What else those get who are asked; by default the flow's own deps, as far as they fit.
    pub deps: Option<Given>,
    /// How they are asked.
    pub edge: Edge,
}

/// How somebody is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edge {
    /// How long an answer may take.
    pub timeout: Option<Duration>,
    /// How often it is asked again.
    pub retry: u32,
    /// When it is left alone for a while.
    pub breaker: Option<BreakerSettings>,
    /// What happens when it has failed.
    pub on_failure: OnFailure,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An agent, a router or a pipeline.
    Agent(AgentName),
    /// One of several that do the same.
    Balanced {
        /// By which rule.
        by: Balance,
        /// Which.
        of: Vec<AgentName>,
    },
    /// A person.
    Human,
}

/// By which rule messages are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// One after the other.
    RoundRobin,
    /// To the one with the least runs under way and waiting.
    LeastInFlight,
    /// By conversation: as long as the same ones are there, the same one is asked again.
    Conversation,
}

/// A choice that an agent makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The agent. It answers an object whose `to` names one of the targets.
    pub by: Ask,
    /// Whom it can choose, and how they are asked.
    pub to: Vec<Ask>,
}

/// One of several ways to go.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    /// When it is gone; always where this is missing.
    pub when: Option<Condition>,
    /// What is done then.
    pub does: Does,
}

/// Which of several things are waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Join {
    /// All: the output is an object with the output of each by its name.
    #[default]
    All,
    /// The first that succeeds: its output is the output. The others are called off. One that is
    /// left out has not succeeded.
    First,
    /// So many that succeed: an object with their outputs by name. The others are called off.
    Quorum(NonZeroU32),
}

/// The items of a list, each of which has the step made for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Over {
    /// The list.
    pub list: Expression,
    /// How many are under way at the same time.
    pub max_concurrency: NonZeroU32,
    /// How many have to succeed, where failed ones are skipped.
    pub need: u32,
}

/// Until when something is made anew.
#[derive(Clone, Debug, PartialEq)]
pub struct Repeat {
    /// It is not made again once this holds of its `last` output.
    pub until: Condition,
    /// How often it is made at most; then the last output stands.
    pub at_most: NonZeroU32,
}

/// What happens when something has failed for good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Whatever holds it fails, too.
    #[default]
    Fail,
    /// It is left out: its output is `null`, and `failures` has it.
    Skip,
    /// Others are asked the same instead, one after the other, except for those who have failed with
    /// it already.
    Ask(Vec<Target>),
}

impl Flow {
    /// Returns every agent, router and pipeline that the flow may ask.
    pub fn targets(&self) -> Vec<&AgentName> {
        let mut found = Vec::new();
        self.on_failure.collect(&mut found);
        self.steps.iter().for_each(|step| step.collect(&mut found));
        found
    }

    /// Returns whether `name` only chooses, and is itself none of those who may be chosen.
    #[must_use]
    pub fn is_chooser(&self, name: &AgentName) -> bool {
        self.steps.iter().any(|step| {
            let Does::Route(route) = &step.does else { return false };
            let is = |ask: &Ask| ask.target.agents().contains(name);
            is(&route.by) && !route.to.iter().any(is)
        })
    }

    /// Returns the Rust functions that the flow calls.
    #[must_use]
    pub fn functions(&self) -> Vec<&PromptName> {
        let mut found = Vec::new();
        self.steps.iter().for_each(|step| step.collect_code(&mut found));
        found
    }
}

impl FlowKind {
    /// Returns the name used in data.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Pipeline => "pipeline",
        }
    }

    /// Returns the name of the file that defines one.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Router => "router.toml",
            Self::Pipeline => "pipeline.toml",
        }
    }
}

impl fmt::Display for FlowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl Target {
    /// Returns the agents that may be asked.
    #[must_use]
    pub fn agents(&self) -> &[AgentName] {
        match self {
            Self::Agent(name) => std::slice::from_ref(name),
            Self::Balanced { of, .. } => of,
            Self::Human => &[],
        }
    }

    /// Reads a target by its name: `human` is a person.
    #[must_use]
    pub fn named(name: AgentName) -> Self {
        if name.as_str() == HUMAN { Self::Human } else { Self::Agent(name) }
    }

    /// Returns the name that it is known by among other targets.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Agent(name) => name.as_str(),
            Self::Balanced { of, .. } => of.first().map_or("", AgentName::as_str),
            Self::Human => HUMAN,
        }
    }
}

impl From<AgentName> for Target {
    fn from(name: AgentName) -> Self {
        Self::named(name)
    }
}

impl Ask {
    /// Asks `target` with what came before.
    #[must_use]
    pub fn of(target: Target) -> Self {
        Self { target, prompt: None, deps: None, edge: Edge::default() }
    }

    /// Returns how often it is asked again; a person who has refused is not.
    pub(super) fn retries(&self) -> u32 {
        match self.target {
            Target::Human => 0,
            Target::Agent(_) | Target::Balanced { .. } => self.edge.retry,
        }
    }

    fn collect<'a>(&'a self, found: &mut Vec<&'a AgentName>) {
        found.extend(self.target.agents());
        self.edge.on_failure.collect(found);
    }
}

impl OnFailure {
    fn collect<'a>(&'a self, found: &mut Vec<&'a AgentName>) {
        if let Self::Ask(targets) = self {
            found.extend(targets.iter().flat_map(Target::agents));
        }
    }
}

impl Step {
    /// Makes a step that does something once, behind nothing.
    #[must_use]
    pub fn new(name: StepName, does: Does) -> Self {
        Self {
            name,
            after: Vec::new(),
            when: None,
            over: None,
            repeat: None,
            does,
            on_failure: OnFailure::Fail,
        }
    }

    /// Makes the one step of a router, named after what it does.
    ///
    /// # Panics
    ///
    /// Never: the names are ones.
    #[must_use]
    pub fn of_router(does: Does) -> Self {
        let name = StepName::try_from(does.of_router()).expect("the name keeps the rule of names");
        Self::new(name, does)
    }

    fn collect<'a>(&'a self, found: &mut Vec<&'a AgentName>) {
        self.on_failure.collect(found);
        self.does.collect(found);
    }

    fn collect_code<'a>(&'a self, found: &mut Vec<&'a PromptName>) {
        let over = self.over.iter().filter_map(|over| over.list.code());
        let until = self.repeat.iter().filter_map(|repeat| repeat.until.code());
        found.extend(over.chain(until).chain(self.when.iter().filter_map(Condition::code)));
        self.does.collect_code(found);
    }
}

impl Does {
    /// Returns what a router calls its one step that does this.
    fn of_router(&self) -> &'static str {
        match self {
            Self::Route(_) => "route",
            Self::Choose(_) => "choose",
            Self::Parallel { .. } => "broadcast",
            Self::Ask(_) | Self::Steps(_) | Self::Code(_) | Self::Fail(_) => "answer",
        }
    }

    fn collect<'a>(&'a self, found: &mut Vec<&'a AgentName>) {
        match self {
            Self::Ask(ask) => ask.collect(found),
            Self::Route(route) => {
                [&route.by].into_iter().chain(&route.to).for_each(|ask| ask.collect(found));
            }
            Self::Choose(arms) => arms.iter().for_each(|arm| arm.does.collect(found)),
            Self::Parallel { branches: steps, .. } | Self::Steps(steps) => {
                steps.iter().for_each(|step| step.collect(found));
            }
            Self::Code(_) | Self::Fail(_) => {}
        }
    }

    fn collect_code<'a>(&'a self, found: &mut Vec<&'a PromptName>) {
        let asks: Vec<&Ask> = match self {
            Self::Ask(ask) => vec![ask],
            Self::Route(route) => [&route.by].into_iter().chain(&route.to).collect(),
            Self::Choose(arms) => {
                for arm in arms {
                    found.extend(arm.when.iter().filter_map(Condition::code));
                    arm.does.collect_code(found);
                }
                Vec::new()
            }
            Self::Parallel { branches: steps, .. } | Self::Steps(steps) => {
                steps.iter().for_each(|step| step.collect_code(found));
                Vec::new()
            }
            Self::Code(name) => {
                found.push(name);
                Vec::new()
            }
            Self::Fail(_) => Vec::new(),
        };
        found.extend(asks.into_iter().filter_map(|ask| ask.prompt.as_ref()?.code()));
    }
}

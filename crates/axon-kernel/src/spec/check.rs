//! The rules that agents and settings keep, whether they come from a file or from Rust code.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::{
    AgentName, AgentSpec, Backoff, ByteSize, Effect, GroupName, OnAmbiguous, OnTimeout,
    RunnerProgram, Then, ToolSpec, ToolTarget,
};
use crate::failure::{FailureKind, Row};
use crate::flow::{FlowRule, Target};
use crate::json::MAX_DEPTH;
use crate::prompt::PromptError;
use crate::provider::{self, ProviderError};
use crate::schema::SchemaError;

/// The shortest heartbeat that tells a stuck runner from a busy one.
const MIN_HEARTBEAT: Duration = Duration::from_millis(100);

/// The least memory with which a runner is of any use.
const MIN_MEMORY: ByteSize = ByteSize::from_mib(32);

/// The shortest life of a runner, and the shortest time on the processor, that is of any use.
const MIN_LIFE: Duration = Duration::from_secs(1);

/// A rule that is broken, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {rule}")]
pub struct Broken {
    /// The place, as a JSON pointer into the file.
    pub pointer: String,
    /// The rule.
    pub rule: Rule,
}

/// A rule that an agent or a setting breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// There is nothing to ask.
    #[error(
        "the agent has no model: write model = \"provider:model\" (or runner.module for an agent \
         that Python code defines)"
    )]
    NoModel,
    /// The model's provider is not known.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// Two tools have one name.
    #[error("a second tool is called `{name}`: names of tools must differ")]
    DuplicateTool {
        /// The name.
        name: String,
    },
    /// A key is about calls that must not be repeated, and the tool's may be.
    #[error(
        "only calls with effect = \"once\" can be in doubt, and this tool has effect = \"{}\": \
         leave `{key}` out",
        .effect.label()
    )]
    NeverAmbiguous {
        /// The key.
        key: &'static str,
        /// The effect of the tool.
        effect: Effect,
    },
    /// A key is about calls in doubt, and the calls of another agent never are.
    #[error(
        "`{key}` says nothing of a tool that asks an agent: its run is begun once, and says itself \
         which of its calls are in doubt; leave `{key}` out"
    )]
    AgentTool {
        /// The key.
        key: &'static str,
    },
    /// A key says of a tool of the agent defined in Python what only that one can say.
    #[error(
        "`{key}` of a tool that the Python agent brings is said there: leave it out, or give \
         `python`, `rust` or `agent` for a tool beside those"
    )]
    OwnTool {
        /// The key.
        key: &'static str,
    },
    /// A tool is said to be the Python agent's, and there is no such agent.
    #[error("the tool has nothing to call: only an agent with runner.module brings its own tools")]
    NoModule,
    /// A number is too small or too large.
    #[error("{found} is out of range: give a number from {min} to {max}")]
    Range {
        /// The number.
        found: u64,
        /// The smallest that is allowed.
        min: u64,
        /// The largest that is allowed.
        max: u64,
    },
    /// A time is too short.
    #[error("{} is too short: give at least {}", human(*.found), human(*.min))]
    TooShort {
        /// The time.
        found: Duration,
        /// The shortest that is allowed.
        min: Duration,
    },
    /// An amount of memory is too small.
    #[error("{found} is too little: give at least {min}")]
    TooLittle {
        /// The amount.
        found: ByteSize,
        /// The least that is allowed.
        min: ByteSize,
    },
    /// A runner that somebody else started is to be reached without a token.
    #[error("a runner at a url needs a token: name the variable that holds it in token_env")]
    NoToken,
    /// A token is named that nothing is asked for.
    #[error("only a runner at a url is asked for with a token: leave token_env out, or give a url")]
    TokenOfNothing,
    /// The bounds of a wait are in the wrong order.
    #[error("backoff.min must not be longer than backoff.max")]
    Backoff,
    /// An agent's fallback is the agent itself.
    #[error("the agent cannot fall back to itself: name another agent")]
    OwnFallback,
    /// An agent hands its runs on to itself.
    #[error("the agent cannot hand a run on to itself: name another")]
    OwnHandoff,
    /// A rule falls back, and there is nothing to fall back to.
    #[error(
        "there is nothing to fall back to: add [fallback] with a model or an agent, or write \
         then = \"fail\""
    )]
    NoFallback,
    /// A rule about a sick runner falls back, and only another model is named.
    #[error(
        "another model does not help where the runner is at fault: name an agent in [fallback]"
    )]
    NoFallbackAgent,
    /// A rule falls back where a run has to end.
    #[error("`{kind}` ends a run for good: nothing can answer in its place")]
    FinalKind {
        /// The kind of failure.
        kind: FailureKind,
    },
    /// It is said what happens when nobody decides in time, and no time is given.
    #[error("nothing times out: give approvals.timeout, too")]
    NoApprovalTimeout,
    /// A breaker's times are in the wrong order.
    #[error("open must not be longer than max_open")]
    OpenTimes,
    /// A rate limit limits nothing.
    #[error("a rate limit needs a number of `requests`, of `tokens`, or both")]
    NoRate,
    /// A group has no agents.
    #[error("a group needs at least one agent")]
    EmptyGroup,
    /// An agent is in a second group, or twice in one.
    #[error("the agent `{agent}` is in the group `{group}` already: it can be in one, once")]
    SecondGroup {
        /// The agent.
        agent: AgentName,
        /// The group that names it first.
        group: GroupName,
    },
    /// A group has a name that means something else in the tree.
    #[error("a group cannot be called `{group}`: an agent or a part of the tree is")]
    GroupName {
        /// The group.
        group: GroupName,
    },
    /// There is no such agent.
    #[error(
        "there is no agent `{name}`{}",
        .nearest.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
    )]
    NoAgent {
        /// The name.
        name: AgentName,
        /// The agent whose name looks most like it.
        nearest: Option<String>,
    },
    /// A command names no program.
    #[error("a command needs at least the program's name")]
    EmptyCommand,
    /// A URL cannot be one.
    #[error("`{url}` is not a URL: write it like http://127.0.0.1:9000")]
    Url {
        /// The text.
        url: String,
    },
    /// A text that a process cannot be given.
    #[error("a NUL character cannot be handed to a process")]
    Nul,
    /// A schema cannot be used.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// An answer is of no kind.
    #[error("an output needs a schema, or mode = \"text\" for plain text")]
    NoOutputSchema,
    /// A key is about structured output, and the output is plain text.
    #[error(
        "mode = \"text\" is plain text: leave `{key}` out, or choose the mode \"auto\", \"tool\", \
         \"native\" or \"prompted\""
    )]
    TextOutput {
        /// The key.
        key: &'static str,
    },
    /// Instructions cannot be used.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// What a router or a pipeline does cannot be done.
    #[error(transparent)]
    Flow(#[from] FlowRule),
    /// A value nests too deep.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

impl AgentSpec {
    /// Checks the rules that the types do not express.
    ///
    /// # Errors
    ///
    /// Every rule that is broken, with its place.
    pub fn check(&self) -> Result<(), Vec<Broken>> {
        let mut broken = Broke::default();
        self.check_model(&mut broken);
        self.check_tools(&mut broken);
        self.check_runner(&mut broken);
        self.check_limits(&mut broken);
        self.check_ladder(&mut broken);
        if let Some(output) = &self.output {
            output.check(&mut broken);
        }
        if let Some(flow) = &self.flow {
            crate::flow::check::check(self, flow, &mut broken);
        }
        for (pointer, values) in [
            ("/model_settings", self.model_settings.values().collect::<Vec<_>>()),
            ("/metadata", self.metadata.values().collect()),
            ("/capabilities", self.capabilities.iter().collect()),
        ] {
            if values.into_iter().any(|value| too_deep(value, MAX_DEPTH - 2)) {
                broken.add(pointer, Rule::TooDeep);
            }
        }
        broken.into_result()
    }

    fn check_model(&self, broken: &mut Broke) {
        if self.model.is_none() && self.runner.module.is_none() && self.flow.is_none() {
            broken.add("/model", Rule::NoModel);
        }
        for (pointer, model) in [("/model", &self.model), ("/fallback/model", &self.fallback.model)]
        {
            if let Some(model) = model
                && let Err(error) = provider::of(model)
            {
                broken.add(pointer, error);
            }
        }
        if let Some(url) = self.provider.as_ref().and_then(|provider| provider.base_url.as_deref())
            && !is_url(url)
        {
            broken.add("/provider/base_url", Rule::Url { url: url.to_owned() });
        }
        broken.range("/retries/tools", self.retries.tools.map(u64::from), 0..=100);
        broken.range("/retries/output", self.retries.output.map(u64::from), 0..=100);
    }

    fn check_tools(&self, broken: &mut Broke) {
        let mut names = BTreeSet::new();
        for (index, tool) in self.tools.iter().enumerate() {
            if !names.insert(tool.name.as_str()) {
                let name = tool.name.to_string();
                broken.add(format!("/tools/{index}/name"), Rule::DuplicateTool { name });
            }
            if let Some(schema) = &tool.parameters
                && let Err(error) = schema.clone().for_arguments()
            {
                broken.add(format!("/tools/{index}/parameters"), error);
            }
            let retries = tool.max_retries.map(u64::from);
            broken.range(format!("/tools/{index}/max_retries"), retries, 0..=100);
            if tool.target == ToolTarget::Own {
                self.check_own_tool(index, tool, broken);
            }
            if let ToolTarget::Handoff(targets) = &tool.target {
                self.check_handoff(targets, broken);
            }
            if let ToolTarget::Agent(_) = &tool.target {
                for key in about_doubt(tool) {
                    broken.add(format!("/tools/{index}/{key}"), Rule::AgentTool { key });
                }
            } else if tool.effect != Effect::Once {
                for key in about_doubt(tool) {
                    let effect = tool.effect;
                    let rule = Rule::NeverAmbiguous { key, effect };
                    broken.add(format!("/tools/{index}/{key}"), rule);
                }
            }
        }
    }

    fn check_handoff(&self, targets: &[Target], broken: &mut Broke) {
        if targets.is_empty() {
            broken.add("/handoff/to", FlowRule::Empty { key: "to" });
        }
        let mut names = BTreeSet::new();
        for (index, target) in targets.iter().enumerate() {
            let (at, name) = (format!("/handoff/to/{index}"), target.name().to_owned());
            if target.agents() == [self.name.clone()] {
                broken.add(at, Rule::OwnHandoff);
            } else if !names.insert(target.name()) {
                broken.add(at, FlowRule::Doubled { name });
            }
        }
    }

    fn check_own_tool(&self, index: usize, tool: &ToolSpec, broken: &mut Broke) {
        if self.runner.module.is_none() {
            broken.add(format!("/tools/{index}"), Rule::NoModule);
        }
        let said = [
            ("description", tool.description.is_some()),
            ("parameters", tool.parameters.is_some()),
            ("strict", tool.strict.is_some()),
            ("sequential", tool.sequential),
            ("timeout", tool.timeout.is_some()),
            ("max_retries", tool.max_retries.is_some()),
        ];
        for (key, _) in said.into_iter().filter(|(_, said)| *said) {
            broken.add(format!("/tools/{index}/{key}"), Rule::OwnTool { key });
        }
    }

    fn check_runner(&self, broken: &mut Broke) {
        let runner = &self.runner;
        match &runner.program {
            RunnerProgram::Python { python } => {
                if python.as_deref().is_some_and(has_nul) {
                    broken.add("/runner/python", Rule::Nul);
                }
            }
            RunnerProgram::Command(command) => {
                if command.first().is_none_or(String::is_empty) {
                    broken.add("/runner/command", Rule::EmptyCommand);
                }
                if command.iter().any(|part| has_nul(part)) {
                    broken.add("/runner/command", Rule::Nul);
                }
            }
            RunnerProgram::Url(url) => {
                if !is_url(url) {
                    broken.add("/runner/url", Rule::Url { url: url.clone() });
                }
            }
        }
        for (variable, _) in runner.env.iter().filter(|(_, value)| has_nul(value)) {
            broken.add(format!("/runner/env/{variable}"), Rule::Nul);
        }
        match (&runner.program, &runner.token_env) {
            (RunnerProgram::Url(_), None) => broken.add("/runner/url", Rule::NoToken),
            (RunnerProgram::Python { .. } | RunnerProgram::Command(_), Some(_)) => {
                broken.add("/runner/token_env", Rule::TokenOfNothing);
            }
            (_, _) => {}
        }
        broken.range("/runner/replicas", Some(runner.replicas.get().into()), 1..=64);
        broken.at_least("/runner/heartbeat", Some(runner.heartbeat), MIN_HEARTBEAT);
        self.check_process(broken);
    }

    fn check_process(&self, broken: &mut Broke) {
        let (recycle, limits) = (&self.runner.recycle, &self.runner.limits);
        broken.at_least("/runner/recycle/age", recycle.age, MIN_LIFE);
        broken.range("/runner/recycle/requests", recycle.requests, 1..=1_000_000_000);
        broken.memory("/runner/recycle/memory", recycle.memory);
        broken.memory("/runner/limits/memory", limits.memory);
        broken.at_least("/runner/limits/cpu_time", limits.cpu_time, MIN_LIFE);
        broken.range("/runner/limits/open_files", limits.open_files, 64..=1_048_576);
    }

    fn check_limits(&self, broken: &mut Broke) {
        let limits = &self.limits;
        broken.range("/limits/concurrency", Some(limits.concurrency.get().into()), 1..=10_000);
        broken.range("/limits/queue", Some(limits.queue.into()), 0..=100_000);
        let parallel = Some(limits.parallel_tools.get().into());
        broken.range("/limits/parallel_tools", parallel, 1..=1_000);
        broken.range("/limits/requests", Some(limits.requests), 1..=1_000_000);
        let approvals = &self.approvals;
        if approvals.timeout.is_none() && approvals.on_timeout != OnTimeout::default() {
            broken.add("/approvals/on_timeout", Rule::NoApprovalTimeout);
        }
    }

    fn check_ladder(&self, broken: &mut Broke) {
        let intensity = self.supervision.intensity;
        let restarts = Some(intensity.max_restarts.into());
        broken.range("/supervision/intensity/max_restarts", restarts, 0..=1_000);
        broken.backoff("/supervision/backoff", Some(self.supervision.backoff));
        for (kind, rule) in &self.policy {
            broken.range(format!("/policy/{kind}/retry"), rule.retry.map(u64::from), 0..=100);
            broken.backoff(format!("/policy/{kind}/backoff"), rule.backoff);
            if rule.then == Some(Then::Fallback)
                && let Err(rule) = self.can_fall_back(*kind)
            {
                broken.add(format!("/policy/{kind}/then"), rule);
            }
        }
        if self.fallback.agent.as_ref() == Some(&self.name) {
            broken.add("/fallback/agent", Rule::OwnFallback);
        }
    }

    fn can_fall_back(&self, kind: FailureKind) -> Result<(), Rule> {
        match kind.row().row {
            Row::Stopped | Row::Configuration => Err(Rule::FinalKind { kind }),
            _ if self.fallback.is_empty() => Err(Rule::NoFallback),
            Row::Process if self.fallback.agent.is_none() => Err(Rule::NoFallbackAgent),
            Row::Transient
            | Row::Behavior
            | Row::Process
            | Row::Unmapped
            | Row::Tool
            | Row::Deterministic
            | Row::Credentials => Ok(()),
        }
    }
}

/// Returns the keys of `tool` that say what happens to a call in doubt.
fn about_doubt(tool: &ToolSpec) -> impl Iterator<Item = &'static str> {
    let on_ambiguous = (tool.on_ambiguous != OnAmbiguous::default()).then_some("on_ambiguous");
    on_ambiguous.into_iter().chain(tool.reconcile.is_some().then_some("reconcile"))
}

/// The rules that are broken so far.
#[derive(Default)]
pub(crate) struct Broke(Vec<Broken>);

impl Broke {
    pub(crate) fn into_result(self) -> Result<(), Vec<Broken>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }

    pub(crate) fn add(&mut self, pointer: impl Into<String>, rule: impl Into<Rule>) {
        self.0.push(Broken { pointer: pointer.into(), rule: rule.into() });
    }

    pub(crate) fn range(
        &mut self,
        pointer: impl Into<String>,
        found: Option<u64>,
        allowed: std::ops::RangeInclusive<u64>,
    ) {
        if let Some(found) = found.filter(|found| !allowed.contains(found)) {
            let (min, max) = allowed.into_inner();
            self.add(pointer, Rule::Range { found, min, max });
        }
    }

    fn at_least(&mut self, pointer: &str, found: Option<Duration>, min: Duration) {
        if let Some(found) = found.filter(|found| *found < min) {
            self.add(pointer, Rule::TooShort { found, min });
        }
    }

    fn memory(&mut self, pointer: &str, found: Option<ByteSize>) {
        if let Some(found) = found.filter(|found| *found < MIN_MEMORY) {
            self.add(pointer, Rule::TooLittle { found, min: MIN_MEMORY });
        }
    }

    pub(crate) fn backoff(&mut self, pointer: impl Into<String>, backoff: Option<Backoff>) {
        if backoff.is_some_and(|backoff| backoff.min > backoff.max) {
            self.add(pointer, Rule::Backoff);
        }
    }
}

fn human(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(time)
}

fn has_nul(text: &str) -> bool {
    text.contains('\0')
}

fn is_url(url: &str) -> bool {
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    host.is_some_and(|host| {
        host.starts_with(|first: char| first.is_alphanumeric() || first == '[')
            && !host.contains(|c: char| c.is_whitespace() || c.is_control())
    })
}

fn too_deep(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|item| too_deep(item, levels - 1)),
        Value::Object(members) => {
            levels == 0 || members.values().any(|item| too_deep(item, levels - 1))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

//! What a runner is told about an agent: the `spec` of each attempt, and at launch what may be
//! called.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{AgentSpec, Effect, OutputSpec, PythonTarget, Retries, ToolSpec, ToolTarget};

/// One Python object that a generation of the runner may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callable {
    /// The object.
    pub target: PythonTarget,
    /// What it is used as.
    pub role: Role,
    /// What a call may have done to the world; tools only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

/// What a Python object is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A tool.
    Tool,
    /// What makes the live dependencies of a run.
    DepsFactory,
    /// A model, or what makes one.
    Model,
    /// The context manager around the runner's life.
    Lifespan,
    /// What gives further instructions.
    Instructions,
    /// What finds out whether a call of a tool took effect.
    Reconcile,
}

impl AgentSpec {
    /// Returns every Python object that a runner of this agent may use, each role of it once.
    ///
    /// A function behind two tools has the stricter of their effects.
    #[must_use]
    pub fn callables(&self) -> Vec<Callable> {
        let mut found: BTreeMap<(Role, PythonTarget), Option<Effect>> = BTreeMap::new();
        for tool in &self.tools {
            if let ToolTarget::Python(target) = &tool.target {
                let effect = found.entry((Role::Tool, target.clone())).or_default();
                *effect = (*effect).max(Some(tool.effect));
            }
        }
        let factory = self.deps.factory.iter().map(|target| (Role::DepsFactory, target.clone()));
        let models = self.model.iter().chain(&self.fallback.model);
        let models = models.filter_map(|model| model.python_target());
        let lifespan = self.runner.lifespan.iter().map(|target| (Role::Lifespan, target.clone()));
        let instructions =
            self.dynamic_instructions.iter().map(|target| (Role::Instructions, target.clone()));
        let reconcile = self.tools.iter().filter_map(|tool| tool.reconcile.clone());
        let others = factory
            .chain(models.map(|target| (Role::Model, target)))
            .chain(lifespan)
            .chain(instructions)
            .chain(reconcile.map(|target| (Role::Reconcile, target)));
        found.extend(others.map(|key| (key, None)));
        found
            .into_iter()
            .map(|((role, target), effect)| Callable { target, role, effect })
            .collect()
    }

    /// Returns the `spec` of `POST /v1/runs`, without what is not set.
    ///
    /// Instructions are not in it: they are rendered for each run. Neither are the parameters of
    /// Rust and agent tools that the file does not give: whoever registers the tool knows them.
    /// What is done about an ambiguous call is decided in Rust, so that is not in it either.
    #[must_use]
    pub fn to_wire(&self) -> Map<String, Value> {
        let mut spec = Map::new();
        // An agent that Python code defines has a name and a description of its own there, which
        // nothing can override; ours are what callers know it by.
        if self.runner.module.is_none() {
            put(&mut spec, "name", Some(self.name.as_str()));
            put(&mut spec, "description", self.description.as_deref());
        }
        put(&mut spec, "model", self.model.as_ref().map(|model| model.as_str()));
        put(&mut spec, "module", self.runner.module.as_ref().map(|module| module.as_str()));
        put(&mut spec, "model_settings", filled(&self.model_settings));
        put(&mut spec, "retries", retries(self.retries));
        put(&mut spec, "end_strategy", self.end_strategy.map(|strategy| json!(strategy)));
        put(&mut spec, "tool_timeout", self.tool_timeout.map(seconds));
        if !self.capabilities.is_empty() {
            put(&mut spec, "capabilities", Some(self.capabilities.clone()));
        }
        put(&mut spec, "metadata", filled(&self.metadata));
        put(&mut spec, "provider", self.provider.as_ref().map(|provider| json!(provider)));
        if !self.tools.is_empty() {
            let tools: Vec<Value> = self.tools.iter().map(|tool| wire_tool(tool).into()).collect();
            put(&mut spec, "tools", Some(tools));
        }
        put(&mut spec, "output", self.output.as_ref().map(wire_output));
        put(&mut spec, "deps_factory", self.deps.factory.as_ref().map(|target| target.as_str()));
        if !self.dynamic_instructions.is_empty() {
            put(&mut spec, "dynamic_instructions", Some(json!(self.dynamic_instructions)));
        }
        spec
    }
}

fn put(into: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        into.insert(key.to_owned(), value.into());
    }
}

fn filled(map: &Map<String, Value>) -> Option<Value> {
    (!map.is_empty()).then(|| Value::Object(map.clone()))
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

fn retries(retries: Retries) -> Option<Value> {
    let mut counts = Map::new();
    put(&mut counts, "tools", retries.tools);
    put(&mut counts, "output", retries.output);
    filled(&counts)
}

fn wire_tool(tool: &ToolSpec) -> Map<String, Value> {
    let target = match &tool.target {
        ToolTarget::Python(target) => format!("python:{target}"),
        ToolTarget::Rust(_) | ToolTarget::Handoff(_) => "rust".to_owned(),
        ToolTarget::Agent(_) => "agent".to_owned(),
        ToolTarget::Own => "module".to_owned(),
    };
    let mut wire = Map::new();
    put(&mut wire, "name", Some(tool.name.as_str()));
    put(&mut wire, "description", tool.described());
    put(&mut wire, "target", Some(target));
    put(&mut wire, "effect", Some(tool.effect.label()));
    put(&mut wire, "parameters", tool.wire_parameters());
    put(&mut wire, "strict", tool.strict);
    put(&mut wire, "sequential", tool.sequential.then_some(true));
    put(&mut wire, "timeout", tool.timeout.map(seconds));
    put(&mut wire, "max_retries", tool.max_retries);
    put(&mut wire, "requires_approval", tool.requires_approval.then_some(true));
    wire
}

fn wire_output(output: &OutputSpec) -> Map<String, Value> {
    let mut wire = Map::new();
    put(&mut wire, "mode", Some(json!(output.mode)));
    put(&mut wire, "schema", output.wire_schema());
    put(&mut wire, "name", output.name.as_ref().map(|name| name.as_str()));
    put(&mut wire, "description", output.description.as_deref());
    put(&mut wire, "strict", output.strict);
    wire
}

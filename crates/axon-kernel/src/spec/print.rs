//! An agent printed as the `agent.toml` that gives it again.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::file::{AgentFile, DepsFile, HandoffFile, OutputFile, RunnerFile, ToolFile};
use super::interpolate::escape;
use super::source::child;
use super::{
    AgentName, AgentSpec, DEFAULT_CANCEL_GRACE, DEFAULT_HEARTBEAT, DEFAULT_START_TIMEOUT,
    RunnerProgram, SchemaSource, ToolSpec, ToolTarget,
};
use crate::flow::Target;

/// Something that Rust code has put together, and that no file can give.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrintError {
    /// A value that no TOML file can hold.
    #[error("{pointer} is {found}, which TOML cannot hold")]
    Value {
        /// Where it stands, as a JSON pointer.
        pointer: String,
        /// What it is.
        found: &'static str,
    },
    /// A shape that the file has no words for.
    #[error("{} is {found}, which no file can say", if .pointer.is_empty() { "this" } else { .pointer })]
    Shape {
        /// Where it would stand, as a JSON pointer.
        pointer: String,
        /// What it is.
        found: &'static str,
    },
}

/// What was written where a variable was filled in, by JSON pointer.
///
/// It plays no part in what an agent is: two agents are equal whichever way they were written.
#[derive(Clone, Default)]
pub(super) struct Written(BTreeMap<String, Filled>);

#[derive(Clone)]
struct Filled {
    written: String,
    value: String,
}

impl Written {
    /// Notes that `written` stands at `pointer`, and came to mean `value`.
    pub(super) fn note(&mut self, pointer: &str, written: &str, value: &str) {
        let filled = Filled { written: written.to_owned(), value: value.to_owned() };
        self.0.insert(pointer.to_owned(), filled);
    }

    /// Returns `message` about the value at `pointer` without what a variable was filled in with,
    /// which may be secret.
    pub(super) fn hide(&self, pointer: &str, message: &str) -> String {
        match self.0.get(pointer) {
            Some(filled) if !filled.value.is_empty() => {
                message.replace(&filled.value, &filled.written)
            }
            Some(_) | None => message.to_owned(),
        }
    }

    /// Returns the same, with each pointer as `moved` gives it.
    pub(super) fn moved(&self, moved: impl Fn(&String) -> String) -> Self {
        Self(self.0.iter().map(|(pointer, filled)| (moved(pointer), filled.clone())).collect())
    }

    /// Returns what to print for `value` at `pointer`: as it was written, unless it has changed.
    fn restore(&self, pointer: &str, value: &str) -> String {
        match self.0.get(pointer) {
            Some(filled) if filled.value == value => filled.written.clone(),
            _ => escape(value),
        }
    }
}

impl PartialEq for Written {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl AgentSpec {
    /// Returns the `agent.toml`, `router.toml` or `pipeline.toml` that gives this definition again,
    /// with schemas in line.
    ///
    /// Where the definition's own file has a variable, it is printed, and not its value.
    ///
    /// # Errors
    ///
    /// [`PrintError`] if Rust code filled in what TOML cannot hold, a `null`, or an integer beyond
    /// 64 bits with sign, or what no file can say. A spec from a file has none.
    pub fn to_toml(&self) -> Result<String, PrintError> {
        let file = match &self.flow {
            Some(flow) => crate::flow::print::file(self, flow)?,
            None => self.agent_file()?,
        };
        fits(&file)?;
        let file = self.restored(file, "");
        let table = toml::Value::try_from(file).expect("checked to fit just above");
        Ok(toml::to_string_pretty(&table).expect("a table of checked values prints"))
    }

    fn agent_file(&self) -> Result<Value, PrintError> {
        let balanced = |target: &Target| matches!(target, Target::Balanced { .. });
        let handed = |tool: &ToolSpec| matches!(&tool.target, ToolTarget::Handoff(targets) if targets.iter().any(balanced));
        if self.tools.iter().any(handed) {
            let (pointer, found) = ("/handoff/to".to_owned(), "one of several");
            return Err(PrintError::Shape { pointer, found });
        }
        Ok(serde_json::to_value(AgentFile::from(self))
            .expect("every key of an agent's file is text, so it has a JSON form"))
    }

    /// Puts back what was written, all through `value`.
    fn restored(&self, value: Value, pointer: &str) -> Value {
        match value {
            Value::String(text) => self.written.restore(pointer, &text).into(),
            Value::Array(items) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| self.restored(item, &format!("{pointer}/{index}")))
                .collect(),
            Value::Object(members) => members
                .into_iter()
                .map(|(key, item)| {
                    let item = self.restored(item, &child(pointer, &key));
                    (key, item)
                })
                .collect::<Map<_, _>>()
                .into(),
            other @ (Value::Null | Value::Bool(_) | Value::Number(_)) => other,
        }
    }
}

/// Checks that TOML can hold `value`.
pub(super) fn fits(value: &Value) -> Result<(), PrintError> {
    fits_at(value, "")
}

fn fits_at(value: &Value, pointer: &str) -> Result<(), PrintError> {
    let refused = |found| Err(PrintError::Value { pointer: pointer.to_owned(), found });
    match value {
        Value::Null => refused("null"),
        Value::Number(number) if number.is_u64() && !number.is_i64() => {
            refused("an integer beyond 64 bits with sign")
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| fits_at(item, &format!("{pointer}/{index}"))),
        Value::Object(members) => {
            members.iter().try_for_each(|(key, item)| fits_at(item, &child(pointer, key)))
        }
    }
}

impl From<&AgentSpec> for AgentFile {
    fn from(spec: &AgentSpec) -> Self {
        let source = |schema: &crate::schema::Schema| SchemaSource::from(schema.raw());
        Self {
            description: spec.description.clone(),
            model: spec.model.clone(),
            instructions: spec.instructions.as_slice().into(),
            dynamic_instructions: spec.dynamic_instructions.clone(),
            retries: spec.retries,
            end_strategy: spec.end_strategy,
            tool_timeout: spec.tool_timeout,
            model_settings: spec.model_settings.clone(),
            capabilities: spec.capabilities.clone(),
            provider: spec.provider.clone(),
            runner: runner(spec),
            deps: DepsFile {
                schema: spec.deps.schema.as_ref().map(source),
                factory: spec.deps.factory.clone(),
            },
            output: spec.output.as_ref().map(|output| OutputFile {
                mode: output.mode,
                schema: output.schema.as_ref().map(source),
                name: output.name.clone(),
                description: output.description.clone(),
                strict: output.strict,
            }),
            tools: spec.tools.iter().filter_map(tool).collect(),
            handoff: spec.tools.iter().find_map(handoff),
            limits: spec.limits.clone(),
            approvals: spec.approvals,
            conversation: spec.conversation,
            fallback: spec.fallback.clone(),
            supervision: spec.supervision,
            policy: spec.policy.clone(),
            tags: spec.tags.clone(),
            metadata: spec.metadata.clone(),
        }
    }
}

fn runner(spec: &AgentSpec) -> RunnerFile {
    let runner = &spec.runner;
    let (python, command, url) = match runner.program.clone() {
        RunnerProgram::Python { python } => (python, None, None),
        RunnerProgram::Command(command) => (None, Some(command), None),
        RunnerProgram::Url(url) => (None, None, Some(url)),
    };
    RunnerFile {
        module: runner.module.clone(),
        python,
        command,
        url,
        token_env: runner.token_env.clone(),
        replicas: Some(runner.replicas).filter(|replicas| replicas.get() != 1),
        launcher: runner.launcher,
        pass_env: runner.pass_env.clone(),
        env: runner.env.clone(),
        lifespan: runner.lifespan.clone(),
        start_timeout: Some(runner.start_timeout).filter(|time| *time != DEFAULT_START_TIMEOUT),
        heartbeat: Some(runner.heartbeat).filter(|time| *time != DEFAULT_HEARTBEAT),
        cancel_grace: Some(runner.cancel_grace).filter(|time| *time != DEFAULT_CANCEL_GRACE),
        recycle: runner.recycle,
        limits: runner.limits,
    }
}

fn handoff(tool: &ToolSpec) -> Option<HandoffFile> {
    let ToolTarget::Handoff(targets) = &tool.target else { return None };
    let names = targets.iter().filter_map(|target| AgentName::try_from(target.name()).ok());
    Some(HandoffFile { to: names.collect(), description: tool.description.clone() })
}

fn tool(tool: &ToolSpec) -> Option<ToolFile> {
    let (python, rust, agent) = match tool.target.clone() {
        ToolTarget::Python(target) => (Some(target), None, None),
        ToolTarget::Rust(name) => (None, Some(name), None),
        ToolTarget::Agent(name) => (None, None, Some(name)),
        ToolTarget::Own => (None, None, None),
        ToolTarget::Handoff(_) => return None,
    };
    Some(ToolFile {
        name: tool.name.clone(),
        description: tool.description.clone(),
        python,
        rust,
        agent,
        effect: tool.effect,
        on_ambiguous: tool.on_ambiguous,
        reconcile: tool.reconcile.clone(),
        parameters: tool.parameters.as_ref().map(|schema| SchemaSource::from(schema.raw())),
        strict: tool.strict,
        sequential: tool.sequential,
        timeout: tool.timeout,
        max_retries: tool.max_retries,
        requires_approval: tool.requires_approval,
    })
}

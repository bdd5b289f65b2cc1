//! A router or a pipeline as the file that gives it again.

mod pipeline;
mod router;

use serde_json::Value;

use super::condition::{Condition, Test};
use super::expression::{Expression, TextTemplate};
use super::file::{ConditionFile, ConditionTable, OnFailureFile, RustFunction, ScriptFile};
use super::plan::{Flow, FlowKind, OnFailure, Target};
use crate::spec::{AgentName, AgentSpec, OutputSpec, PrintError, SchemaSource};

/// Returns what stands in the file of `spec`, whose flow is `flow`.
pub(crate) fn file(spec: &AgentSpec, flow: &Flow) -> Result<Value, PrintError> {
    let mut plain = AgentSpec::new(spec.name.clone());
    plain.description.clone_from(&spec.description);
    plain.deps.schema.clone_from(&spec.deps.schema);
    plain.output =
        spec.output.as_ref().and_then(|output| output.schema.clone()).map(OutputSpec::new);
    plain.limits.clone_from(&spec.limits);
    (plain.approvals, plain.conversation) = (spec.approvals, spec.conversation);
    plain.tags.clone_from(&spec.tags);
    plain.metadata.clone_from(&spec.metadata);
    plain.flow = Some(flow.clone());
    if plain != *spec {
        return Err(no_form("", "a flow with something that only agents have"));
    }
    let file = match flow.kind {
        FlowKind::Router => serde_json::to_value(router::file(&plain, flow)?),
        FlowKind::Pipeline => serde_json::to_value(pipeline::file(&plain, flow)?),
    };
    Ok(file.expect("every key of a flow's file is text, so it has a JSON form"))
}

fn no_form(pointer: &str, found: &'static str) -> PrintError {
    PrintError::Shape { pointer: pointer.to_owned(), found }
}

impl From<&Expression> for ScriptFile {
    fn from(expression: &Expression) -> Self {
        match expression {
            Expression::Text(source) => Self::Text(source.to_string()),
            Expression::Code(name) => Self::Rust(RustFunction { rust: name.clone() }),
        }
    }
}

impl From<&TextTemplate> for ScriptFile {
    fn from(template: &TextTemplate) -> Self {
        match template {
            TextTemplate::Text(source) => Self::Text(source.to_string()),
            TextTemplate::Code(name) => Self::Rust(RustFunction { rust: name.clone() }),
        }
    }
}

impl From<&Condition> for ConditionFile {
    fn from(condition: &Condition) -> Self {
        let mut table = ConditionTable::default();
        match condition {
            Condition::Holds(Expression::Text(source)) => return Self::Text(source.to_string()),
            Condition::Holds(Expression::Code(name)) => table.rust = Some(name.clone()),
            Condition::Message { pointer, test } => {
                table.pointer = Some(pointer.clone()).filter(|pointer| !pointer.is_empty());
                match test {
                    Test::Matches(regex) => table.matches = Some(regex.as_str().to_owned()),
                    Test::Equals(value) => table.equals = Some(value.clone()),
                    Test::Fits(schema) => table.schema = Some(SchemaSource::from(schema.raw())),
                }
            }
        }
        Self::Table(table)
    }
}

fn on_failure(on_failure: &OnFailure, pointer: &str) -> Result<OnFailureFile, PrintError> {
    Ok(match on_failure {
        OnFailure::Fail => OnFailureFile::Fail,
        OnFailure::Skip => OnFailureFile::Skip,
        OnFailure::Ask(others) => OnFailureFile::Ask(
            others.iter().map(|other| name(other, pointer)).collect::<Result<_, _>>()?,
        ),
    })
}

/// Returns the name by which files know a target.
fn name(target: &Target, pointer: &str) -> Result<AgentName, PrintError> {
    let name = AgentName::try_from(target.name());
    let name = name.ok().filter(|name| Target::named(name.clone()) == *target);
    name.ok_or_else(|| no_form(pointer, "one of several, or an agent called `human`"))
}

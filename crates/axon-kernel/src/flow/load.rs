//! From the text of a `router.toml` or a `pipeline.toml` to a definition that keeps every rule.

mod order;
mod pipeline;
mod router;

use std::collections::BTreeSet;

use regex::Regex;
pub(super) use router::Edges;
use serde_json::{Map, Value};

use super::condition::{Condition, Test};
use super::expression::{Expression, ExpressionError, Given, TextTemplate, whole};
use super::file::{
    ConditionFile, ConditionTable, OnFailureFile, PipelineFile, RouterFile, SchemaTable, ScriptFile,
};
use super::plan::{Does, OnFailure, Target};
use super::rule::FlowRule;
use crate::schema::Schema;
use crate::spec::load::{ReadFile, Variables, definition};
use crate::spec::source::{Source, child};
use crate::spec::{
    AgentName, AgentSpec, ApprovalsSpec, ConversationSpec, FileText, Limits, OutputSpec,
    PromptName, Rule, SchemaSource, SpecError, Tag, What,
};

impl AgentSpec {
    /// Reads the router called `name` from the text of its `router.toml`.
    ///
    /// `variables` gives the values for `${NAME}` in any text value, `read` the text of a file in
    /// the router's folder.
    ///
    /// # Errors
    ///
    /// [`SpecError`] with every problem that one reading can tell, each with its place.
    ///
    /// ```
    /// # use axon_kernel::spec::{AgentName, AgentSpec, FileText, SpecError};
    /// let text = r#"
    /// by = "triage"
    /// to = ["bank_support", "fraud"]
    /// on_escalate = "human"
    /// "#;
    /// let file = FileText { path: "router.toml", text };
    /// let name = AgentName::try_from("desk")?;
    /// let desk = AgentSpec::router_from_toml(name, file, &|_| None, &|_| Err("no file".into()))?;
    /// assert_eq!(desk.delegates().count(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn router_from_toml(
        name: AgentName,
        file: FileText<'_>,
        variables: Variables<'_>,
        read: ReadFile<'_>,
    ) -> Result<Self, SpecError> {
        definition(file, router::schema(), variables, |source, raw: RouterFile| {
            Load { source, read }.router(name, raw)
        })
    }

    /// Reads the pipeline called `name` from the text of its `pipeline.toml`.
    ///
    /// `variables` gives the values for `${NAME}` in any text value, `read` the text of a file in
    /// the pipeline's folder.
    ///
    /// # Errors
    ///
    /// [`SpecError`] with every problem that one reading can tell, each with its place.
    pub fn pipeline_from_toml(
        name: AgentName,
        file: FileText<'_>,
        variables: Variables<'_>,
        read: ReadFile<'_>,
    ) -> Result<Self, SpecError> {
        definition(file, pipeline::schema(), variables, |source, raw: PipelineFile| {
            Load { source, read }.pipeline(name, raw)
        })
    }
}

/// What routers and pipelines have in common.
struct Common {
    description: Option<String>,
    tags: BTreeSet<Tag>,
    deps: Option<SchemaTable>,
    output: Option<SchemaTable>,
    limits: Limits,
    approvals: ApprovalsSpec,
    conversation: ConversationSpec,
    metadata: Map<String, Value>,
}

struct Load<'l, 't> {
    source: &'l mut Source<'t>,
    read: ReadFile<'l>,
}

impl Load<'_, '_> {
    fn common(&mut self, name: AgentName, common: Common) -> AgentSpec {
        let mut spec = AgentSpec::new(name);
        spec.description = common.description;
        spec.tags = common.tags;
        spec.deps.schema = self.table("/deps", common.deps);
        spec.output = self.table("/output", common.output).map(OutputSpec::new);
        spec.limits = common.limits;
        spec.approvals = common.approvals;
        spec.conversation = common.conversation;
        spec.metadata = common.metadata;
        spec
    }

    fn table(&mut self, pointer: &str, table: Option<SchemaTable>) -> Option<Schema> {
        self.schema(&format!("{pointer}/schema"), table?.schema)
    }

    fn schema(&mut self, pointer: &str, schema: SchemaSource) -> Option<Schema> {
        schema.load(pointer, self.source, self.read)
    }

    /// Reads the condition at `pointer`. One that cannot be read stands for any other, so that
    /// nothing else is said about it.
    fn condition(&mut self, pointer: &str, file: ConditionFile) -> Condition {
        match file {
            ConditionFile::Text(text) => {
                Condition::Holds(self.expression(pointer, ScriptFile::Text(text)))
            }
            ConditionFile::Table(table) => self
                .tested(pointer, table)
                .unwrap_or_else(|| Condition::Holds(Expression::Code(unread()))),
        }
    }

    fn tested(&mut self, pointer: &str, table: ConditionTable) -> Option<Condition> {
        let given: Vec<&'static str> = [
            table.matches.as_ref().map(|_| "matches"),
            table.equals.as_ref().map(|_| "equals"),
            table.schema.as_ref().map(|_| "schema"),
            table.rust.as_ref().map(|_| "rust"),
        ]
        .into_iter()
        .flatten()
        .collect();
        if given.len() != 1 {
            let valid = &["matches", "equals", "schema", "rust"];
            self.source.add_at(pointer, What::OneOf { nothing: "it tests nothing", given, valid });
            return None;
        }
        if let Some(rust) = table.rust {
            if table.pointer.is_some() {
                let why = "is about a test, and a Rust function sees what came before";
                self.needless(pointer, "pointer", why);
            }
            return Some(Condition::Holds(Expression::Code(rust)));
        }
        let test = match (table.matches, table.equals, table.schema) {
            (Some(pattern), ..) => Test::Matches(self.regex(&child(pointer, "matches"), &pattern)?),
            (None, Some(value), _) => Test::Equals(value),
            (None, None, schema) => Test::Fits(self.schema(&child(pointer, "schema"), schema?)?),
        };
        Some(Condition::Message { pointer: table.pointer.unwrap_or_default(), test })
    }

    fn regex(&mut self, pointer: &str, pattern: &str) -> Option<Regex> {
        let refused = |error: &regex::Error| {
            let message = self.source.hide(pointer, &error.to_string());
            // The last line says what is wrong, those before it show where.
            let message = message.lines().last().unwrap_or_default();
            let message = message.strip_prefix("error: ").unwrap_or(message).to_owned();
            self.source.add_at(pointer, Rule::from(FlowRule::Regex { message }));
        };
        Regex::new(pattern).inspect_err(refused).ok()
    }

    fn expression(&mut self, pointer: &str, script: ScriptFile) -> Expression {
        match script {
            ScriptFile::Rust(function) => Expression::Code(function.rust),
            ScriptFile::Text(text) => {
                let read = Expression::new(text);
                self.read(pointer, read).unwrap_or_else(|| Expression::Code(unread()))
            }
        }
    }

    fn template(&mut self, pointer: &str, script: ScriptFile) -> TextTemplate {
        match script {
            ScriptFile::Rust(function) => TextTemplate::Code(function.rust),
            ScriptFile::Text(text) => {
                let read = TextTemplate::new(text);
                self.read(pointer, read).unwrap_or_else(|| TextTemplate::Code(unread()))
            }
        }
    }

    fn given(&mut self, pointer: &str, value: Value) -> Given {
        match value {
            Value::Array(items) => {
                let items = items.into_iter().enumerate();
                Given::List(
                    items
                        .map(|(index, item)| self.given(&format!("{pointer}/{index}"), item))
                        .collect(),
                )
            }
            Value::Object(members) => {
                let given = |(key, item): (String, Value)| {
                    let item = self.given(&child(pointer, &key), item);
                    (key, item)
                };
                Given::Object(members.into_iter().map(given).collect())
            }
            Value::String(text) => match whole(&text) {
                Some(expression) => {
                    Given::Value(self.expression(pointer, ScriptFile::Text(expression.to_owned())))
                }
                None => Given::Text(self.template(pointer, ScriptFile::Text(text))),
            },
            plain @ (Value::Null | Value::Bool(_) | Value::Number(_)) => Given::Plain(plain),
        }
    }

    fn read<T>(&mut self, pointer: &str, read: Result<T, ExpressionError>) -> Option<T> {
        let refused = |error: ExpressionError| {
            let hide = |text: &str| self.source.hide(pointer, text);
            let (source_text, message) = (hide(&error.source_text), hide(&error.message));
            let rule = FlowRule::Expression(ExpressionError { source_text, message });
            self.source.add_at(pointer, Rule::from(rule));
        };
        read.map_err(refused).ok()
    }

    fn needless(&mut self, pointer: &str, key: &'static str, why: &'static str) {
        self.source.add_at(&child(pointer, key), What::Needless { key, why });
    }
}

fn on_failure(file: OnFailureFile) -> OnFailure {
    match file {
        OnFailureFile::Fail => OnFailure::Fail,
        OnFailureFile::Skip => OnFailure::Skip,
        OnFailureFile::Ask(names) => OnFailure::Ask(names.into_iter().map(Target::named).collect()),
    }
}

/// Returns what stands where something could not be read: nothing is known of a Rust function.
fn unread() -> PromptName {
    PromptName::try_from("unread").expect("the name keeps the rule of names")
}

fn does_nothing() -> Does {
    Does::Code(unread())
}

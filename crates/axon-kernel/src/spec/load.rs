//! From the text of an `agent.toml` to an agent that keeps every rule.

use std::error::Error;
use std::num::NonZeroU32;
use std::sync::OnceLock;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::{Problem, SpecError, What};
use super::file::{AgentFile, HandoffFile, OutputFile, RunnerFile, ToolFile};
use super::source::Source;
use super::unknown::unknown_keys;
use super::{
    AgentName, AgentSpec, DEFAULT_CANCEL_GRACE, DEFAULT_HEARTBEAT, DEFAULT_START_TIMEOUT, DepsSpec,
    Instruction, InstructionFile, InstructionsFile, OutputSpec, Rule, RunnerProgram, RunnerSpec,
    SchemaSource, ToolSpec, ToolTarget,
};
use crate::flow::Target;
use crate::prompt::Template;
use crate::schema::Schema;

/// The text of a file, and what to call the file in errors.
#[derive(Clone, Copy, Debug)]
pub struct FileText<'a> {
    /// The file, as the user knows it.
    pub path: &'a str,
    /// What is in it.
    pub text: &'a str,
}

/// Looks a variable up.
pub(crate) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads a file of the agent's folder, by its path relative to that.
pub(crate) type ReadFile<'a> = &'a dyn Fn(&str) -> Result<String, Box<dyn Error + Send + Sync>>;

impl AgentSpec {
    /// Reads the agent called `name` from the text of its `agent.toml`.
    ///
    /// `variables` gives the values for `${NAME}` in any text value, `read` the text of a file in
    /// the agent's folder.
    ///
    /// # Errors
    ///
    /// [`SpecError`] with every problem that one reading can tell, each with its place.
    pub fn from_toml(
        name: AgentName,
        file: FileText<'_>,
        variables: Variables<'_>,
        read: ReadFile<'_>,
    ) -> Result<Self, SpecError> {
        definition(file, file_schema(), variables, |source, raw| {
            Load { source, read }.agent(name, raw)
        })
    }
}

impl AgentSpec {
    /// Reads the agent called `name` from JSON with the keys of an `agent.toml`, as it comes from
    /// elsewhere: no variable stands for anything in it, and no file is read for it.
    ///
    /// # Errors
    ///
    /// [`SpecError`] with every problem that one reading can tell, each with its key.
    pub fn from_json(name: AgentName, definition: &Map<String, Value>) -> Result<Self, SpecError> {
        let path = format!("agent `{name}`");
        let text = toml::to_string(definition).map_err(|error| {
            let what = What::Syntax { message: error.to_string() };
            let problem = Problem { position: None, key: String::new(), what };
            SpecError { path: path.clone(), problems: vec![problem] }
        })?;
        let file = FileText { path: &path, text: &text };
        let refuse = |_: &str| Err("no file is read for this: give the schema in line".into());
        let spec = Self::from_toml(name, file, &|_| None, &refuse);
        // Whoever sent JSON has never seen the lines of this text.
        spec.map_err(|mut error| {
            error.problems.iter_mut().for_each(|problem| problem.position = None);
            error
        })
    }
}

/// Reads a definition, whose JSON Schema is `schema`, and has `make` put it together.
pub(crate) fn definition<T: DeserializeOwned>(
    file: FileText<'_>,
    schema: &Value,
    variables: Variables<'_>,
    make: impl FnOnce(&mut Source<'_>, T) -> AgentSpec,
) -> Result<AgentSpec, SpecError> {
    let failed = |problems| SpecError { path: file.path.to_owned(), problems };
    let (mut source, raw) = open::<T>(file.text, schema, variables).map_err(failed)?;
    let spec = raw.map(|raw| make(&mut source, raw));
    let (written, origin) = source.kept();
    let problems: Vec<Problem> = source.into_problems();
    match spec {
        Some(mut spec) if problems.is_empty() => {
            (spec.written, spec.origin) = (written, origin);
            Ok(spec)
        }
        Some(_) | None => Err(failed(problems)),
    }
}

/// Reads `text` as a `T`, whose JSON Schema is `schema`, with its variables filled in: none if
/// there is a problem besides unknown keys.
pub(crate) fn open<'t, T: DeserializeOwned>(
    text: &'t str,
    schema: &Value,
    variables: Variables<'_>,
) -> Result<(Source<'t>, Option<T>), Vec<Problem>> {
    let mut source = Source::parse(text)?;
    source.fill(variables);
    for unknown in unknown_keys(source.tree(), schema) {
        source.add(unknown.key.start, &unknown.pointer, unknown.what);
        source.drop_at(&unknown.key);
    }
    let read = source.read().filter(|_| !source.is_broken());
    Ok((source, read))
}

fn handoff(file: HandoffFile) -> ToolSpec {
    let mut tool = ToolSpec::hand_off(file.to.into_iter().map(Target::named).collect());
    tool.description = file.description;
    tool
}

fn file_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(AgentFile::schema)
}

struct Load<'l, 't> {
    source: &'l mut Source<'t>,
    read: ReadFile<'l>,
}

impl Load<'_, '_> {
    /// Puts the agent together, adding a problem for each part that cannot be.
    fn agent(mut self, name: AgentName, file: AgentFile) -> AgentSpec {
        let mut spec = AgentSpec::new(name);
        spec.description = file.description;
        spec.model = file.model;
        spec.instructions = self.instructions(file.instructions);
        spec.dynamic_instructions = file.dynamic_instructions;
        spec.retries = file.retries;
        spec.end_strategy = file.end_strategy;
        spec.tool_timeout = file.tool_timeout;
        spec.model_settings = file.model_settings;
        spec.capabilities = file.capabilities;
        spec.provider = file.provider;
        spec.runner = self.runner(file.runner);
        spec.deps = DepsSpec {
            schema: file.deps.schema.and_then(|schema| self.schema("/deps/schema", schema)),
            factory: file.deps.factory,
        };
        spec.output = file.output.and_then(|output| self.output(output));
        let own = spec.runner.module.is_some();
        spec.tools = file
            .tools
            .into_iter()
            .enumerate()
            .map(|(index, tool)| self.tool(index, tool, own))
            .collect();
        spec.tools.extend(file.handoff.map(handoff));
        spec.tags = file.tags;
        spec.limits = file.limits;
        spec.approvals = file.approvals;
        spec.conversation = file.conversation;
        spec.fallback = file.fallback;
        spec.supervision = file.supervision;
        spec.policy = file.policy;
        spec.metadata = file.metadata;
        self.source.add_broken(spec.check());
        spec
    }

    fn instructions(&mut self, file: InstructionsFile) -> Vec<Instruction> {
        let mut parts = Vec::new();
        for (index, part) in file.0.iter().enumerate() {
            let text = match part {
                InstructionFile::Text(text) => text.clone(),
                InstructionFile::Rust(function) => {
                    parts.push(Instruction::Rust(function.rust.clone()));
                    continue;
                }
            };
            match Template::new(text) {
                Ok(template) => parts.push(Instruction::Text(template)),
                Err(error) => {
                    let pointer = format!("/instructions{}", file.pointer(index));
                    self.source.add_at(&pointer, Rule::from(error));
                }
            }
        }
        parts
    }

    fn runner(&mut self, file: RunnerFile) -> RunnerSpec {
        let given: Vec<&'static str> = [
            file.python.as_ref().map(|_| "python"),
            file.command.as_ref().map(|_| "command"),
            file.url.as_ref().map(|_| "url"),
        ]
        .into_iter()
        .flatten()
        .collect();
        if given.len() > 1 {
            self.source.add_at("/runner", What::Exclusive { given });
        }
        let program = match (file.command, file.url) {
            (Some(command), _) => RunnerProgram::Command(command),
            (None, Some(url)) => RunnerProgram::Url(url),
            (None, None) => RunnerProgram::Python { python: file.python },
        };
        RunnerSpec {
            module: file.module,
            program,
            token_env: file.token_env,
            replicas: file.replicas.unwrap_or(NonZeroU32::MIN),
            launcher: file.launcher,
            pass_env: file.pass_env,
            env: file.env,
            lifespan: file.lifespan,
            start_timeout: file.start_timeout.unwrap_or(DEFAULT_START_TIMEOUT),
            heartbeat: file.heartbeat.unwrap_or(DEFAULT_HEARTBEAT),
            cancel_grace: file.cancel_grace.unwrap_or(DEFAULT_CANCEL_GRACE),
            recycle: file.recycle,
            limits: file.limits,
        }
    }

    fn output(&mut self, file: OutputFile) -> Option<OutputSpec> {
        let schema = match file.schema {
            Some(schema) => Some(self.schema("/output/schema", schema)?),
            None => None,
        };
        Some(OutputSpec {
            mode: file.mode,
            schema,
            name: file.name,
            description: file.description,
            strict: file.strict,
        })
    }

    fn tool(&mut self, index: usize, file: ToolFile, own: bool) -> ToolSpec {
        let targets: Vec<(&'static str, ToolTarget)> = [
            file.python.map(|target| ("python", ToolTarget::Python(target))),
            file.rust.map(|name| ("rust", ToolTarget::Rust(name))),
            file.agent.map(|name| ("agent", ToolTarget::Agent(name))),
        ]
        .into_iter()
        .flatten()
        .collect();
        let parameters = file
            .parameters
            .and_then(|schema| self.schema(&format!("/tools/{index}/parameters"), schema));
        if targets.len() != 1 && !(own && targets.is_empty()) {
            let given = targets.iter().map(|(key, _)| *key).collect();
            let what = What::ToolTarget { tool: file.name.to_string(), given };
            self.source.add_at(&format!("/tools/{index}"), what);
        }
        let target = targets.into_iter().next().map(|(_, target)| target);
        // A tool that cannot be called keeps its place, so that the others keep theirs.
        let fallback = if own { ToolTarget::Own } else { ToolTarget::Rust(file.name.clone()) };
        ToolSpec {
            target: target.unwrap_or(fallback),
            name: file.name,
            description: file.description,
            effect: file.effect,
            on_ambiguous: file.on_ambiguous,
            reconcile: file.reconcile,
            parameters,
            strict: file.strict,
            sequential: file.sequential,
            timeout: file.timeout,
            max_retries: file.max_retries,
            requires_approval: file.requires_approval,
        }
    }

    fn schema(&mut self, pointer: &str, schema: SchemaSource) -> Option<Schema> {
        schema.load(pointer, self.source, self.read)
    }
}

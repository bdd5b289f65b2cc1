//! Says what an agent is, part by part.

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use axon_kernel::flow::Target;
use axon_kernel::prompt::Template;
use axon_kernel::spec::{
    AgentName, AgentSpec, Effect, Instruction, Limits, ModelName, NameError, OutputMode,
    OutputSpec, PromptName, PythonTarget, Retries, ToolName, ToolSpec, ToolTarget,
};

use super::schemas::{self, Deps, Output};
use super::{
    Agent, AgentCode, DefinitionError, IntoInstructions, OutputContext, PromptContext, Reject,
};
use crate::agents_dir::AgentDefinition;
use crate::tools::{AnyDeps, RustTool};

/// Says what an agent is, part by part. Whatever is wrong is told by [`AgentBuilder::build`].
#[must_use = "an agent is made by `build`"]
pub struct AgentBuilder<D = AnyDeps, O = String> {
    name: String,
    spec: AgentSpec,
    mode: OutputMode,
    code: AgentCode,
    path: Vec<PathBuf>,
    /// The first thing that was wrong.
    wrong: Option<DefinitionError>,
    types: PhantomData<fn(D) -> O>,
}

impl<D: Deps, O: Output> AgentBuilder<D, O> {
    pub(super) fn new(name: &str) -> Self {
        let valid = AgentName::try_from(name);
        let wrong = valid.as_ref().err().cloned().map(DefinitionError::Name);
        let stand_in = || AgentName::try_from("agent").expect("it is a name");
        Self {
            name: name.to_owned(),
            spec: AgentSpec::new(valid.unwrap_or_else(|_told| stand_in())),
            mode: OutputMode::default(),
            code: AgentCode::default(),
            path: Vec::new(),
            wrong,
            types: PhantomData,
        }
    }

    fn note<T>(&mut self, result: Result<T, impl Into<DefinitionError>>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                let error = error.into();
                self.wrong.get_or_insert(error);
                None
            }
        }
    }

    /// Says in a sentence what the agent is for.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.spec.description = Some(description.into());
        self
    }

    /// Names the model: any pydantic-ai model string (`openai:gpt-5`), or
    /// `python:module:attribute` for an object of Python's.
    pub fn model(mut self, model: &str) -> Self {
        self.spec.model = self.note(ModelName::try_from(model)).or(self.spec.model.take());
        self
    }

    /// Adds to the instructions: a minijinja template, rendered anew for each run, with `deps`,
    /// `run` and `agent`. The parts come in the order in which they are given.
    pub fn instructions(mut self, template: impl Into<String>) -> Self {
        if let Some(template) = self.note(Template::new(template)) {
            self.spec.instructions.push(Instruction::Text(template));
        }
        self
    }

    /// Adds to the instructions what `function` gives, which is called anew for each run; a file
    /// says the same with `{ rust = "name" }`.
    ///
    /// ```
    /// # use axon_runtime::{Agent, PromptContext};
    /// # fn example() -> Result<(), axon_runtime::DefinitionError> {
    /// let planner = Agent::<u32>::builder("planner")
    ///     .model("test")
    ///     .instructions("Plan the searches.")
    ///     .instructions_fn("budget", async |ctx: PromptContext<u32>| format!("At most {}.", ctx.deps()))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// # example().unwrap();
    /// ```
    pub fn instructions_fn<F, U, T>(mut self, name: &str, function: F) -> Self
    where
        F: Fn(PromptContext<D>) -> U + Send + Sync + 'static,
        U: Future<Output = T> + Send + 'static,
        T: IntoInstructions,
    {
        if let Some(name) = self.note(PromptName::try_from(name)) {
            if self.code.prompts.has(&name) {
                let (what, name) = ("prompt function", name.to_string());
                self.wrong.get_or_insert(DefinitionError::Duplicate { what, name });
                return self;
            }
            self.code.prompts.add(name.clone(), function);
            self.spec.instructions.push(Instruction::Rust(name));
        }
        self
    }

    /// Gives the agent a tool: a function with [`#[tool]`](macro@crate::tool), or a
    /// [`Tool`](crate::Tool).
    pub fn tool<T: RustTool>(mut self, tool: T) -> Self
    where
        T::Deps: Within<D>,
    {
        if let Some(tool) = self.note(tool.into_tool()) {
            self.spec.tools.push(tool.spec().clone());
            self.code.tools.add(tool);
        }
        self
    }

    /// Gives the agent's tools and prompts something to work with: a database, a client. They get it
    /// by its type, [`ToolContext::service`](crate::ToolContext::service); of two of one type, it is
    /// the later.
    ///
    /// ```
    /// use axon_runtime::{Agent, ToolContext, ToolError, tool};
    ///
    /// struct Bank { /* its connections */ }
    ///
    /// /// Blocks the customer's card.
    /// #[tool(effect = "once")]
    /// async fn block_card(ctx: ToolContext<u32>) -> Result<(), ToolError> {
    ///     let _bank = ctx.service::<Bank>()?;
    ///     Ok(())
    /// }
    ///
    /// # fn example() -> Result<(), axon_runtime::DefinitionError> {
    /// let support = Agent::<u32>::builder("support")
    ///     .model("openai:gpt-5")
    ///     .service(Bank {})
    ///     .tool(block_card)
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// # example().unwrap();
    /// ```
    pub fn service<T: Send + Sync + 'static>(mut self, service: T) -> Self {
        self.code.provided.add(service);
        self
    }

    /// Gives the agent a Python function as a tool: `target` is `package.module:function`, and what
    /// a call may have done to the world says `effect`. Its description and the schema of its
    /// arguments come from its docstring and type hints.
    pub fn python_tool(mut self, name: &str, target: &str, effect: Effect) -> Self {
        let names = || -> Result<(ToolName, PythonTarget), NameError> {
            Ok((ToolName::try_from(name)?, PythonTarget::try_from(target)?))
        };
        if let Some((name, target)) = self.note(names()) {
            let mut tool = ToolSpec::new(name, ToolTarget::Python(target));
            tool.effect = effect;
            self.spec.tools.push(tool);
        }
        self
    }

    /// Gives the agent another one as a tool, for what `description` says. Its answer is the result
    /// of the call; its usage and events are the run's own.
    ///
    /// It gets the deps of the run that asks, [`Secret`](crate::Secret)s and all, if it takes deps
    /// and these fit its schema. Where they do not, the call fails: write the tool in an
    /// `agent.toml`, with `parameters` that have a property `deps`, and the model chooses them.
    pub fn delegate(mut self, agent: &str, description: impl Into<String>) -> Self {
        let names = || -> Result<(ToolName, AgentName), NameError> {
            Ok((ToolName::try_from(agent)?, AgentName::try_from(agent)?))
        };
        if let Some((name, agent)) = self.note(names()) {
            let mut tool = ToolSpec::new(name, ToolTarget::Agent(agent));
            tool.description = Some(description.into());
            self.spec.tools.push(tool);
        }
        self
    }

    /// Lets the model hand its run on to one of `names`: that agent goes on with it, with the same
    /// history, deps, deadline and budget. `human` is a person, whose answer comes back.
    ///
    /// ```
    /// # use axon_runtime::Agent;
    /// # fn example() -> Result<(), axon_runtime::DefinitionError> {
    /// let fraud = Agent::<u32>::builder("fraud")
    ///     .model("openai:gpt-5")
    ///     .hand_off_to(["support", "human"])
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// # example().unwrap();
    /// ```
    pub fn hand_off_to<'n>(mut self, names: impl IntoIterator<Item = &'n str>) -> Self {
        let names: Result<Vec<AgentName>, NameError> =
            names.into_iter().map(AgentName::try_from).collect();
        if let Some(names) = self.note(names) {
            let targets = names.into_iter().map(Target::named).collect();
            self.spec.tools.push(ToolSpec::hand_off(targets));
        }
        self
    }

    /// Looks at each answer that fits its schema, before anybody gets it. One that is rejected goes
    /// back to the model, within the retries of the output.
    ///
    /// It runs beside other work of the process: keep it short, and leave what has to be looked up
    /// to a tool.
    pub fn validate<F>(mut self, validate: F) -> Self
    where
        F: Fn(&O, &OutputContext<D>) -> Result<(), Reject> + Send + Sync + 'static,
    {
        self.code.validators.add(validate);
        self
    }

    /// Says how the model is made to give its answer; however it does it best, by default.
    pub fn output_mode(mut self, mode: OutputMode) -> Self {
        self.mode = mode;
        self
    }

    /// Says how often the model is asked again: after a tool call that it has to correct, and after
    /// an answer.
    pub fn retries(mut self, tools: u32, output: u32) -> Self {
        self.spec.retries = Retries { tools: Some(tools), output: Some(output) };
        self
    }

    /// Says how much the agent may do.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.spec.limits = limits;
        self
    }

    /// Gives each run this long unless its caller says otherwise.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.spec.limits.timeout = timeout;
        self
    }

    /// Has the Python function `target`, `package.module:function`, make the live object out of the
    /// deps that Python tools get.
    pub fn deps_factory(mut self, target: &str) -> Self {
        self.spec.deps.factory = self.note(PythonTarget::try_from(target));
        self
    }

    /// Looks for the agent's Python modules in this folder, too.
    pub fn python_path(mut self, folder: impl Into<PathBuf>) -> Self {
        self.path.push(folder.into());
        self
    }

    /// Changes everything else that an `agent.toml` can say.
    pub fn configure(mut self, change: impl FnOnce(&mut AgentSpec)) -> Self {
        change(&mut self.spec);
        self
    }

    /// Makes the agent.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it: [`DefinitionError`].
    pub fn build(mut self) -> Result<Agent<D, O>, DefinitionError> {
        let deps = D::schema().map_err(|problem| DefinitionError::Type {
            what: "the type of the deps".to_owned(),
            problem,
        });
        if let Some(schema) = self.note(deps) {
            self.spec.deps.schema = schema.or(self.spec.deps.schema.take());
        }
        let output = schemas::output::<O>();
        if let Some(Some(schema)) = self.note(output) {
            self.spec.output = Some(OutputSpec::new(schema).with_mode(self.mode));
        }
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        self.spec
            .check()
            .map_err(|broken| DefinitionError::Rules { agent: self.name.clone(), broken })?;
        let definition =
            AgentDefinition { spec: self.spec, folder: None, path: self.path, code: self.code };
        Ok(Agent::new(definition))
    }
}

/// Says that a tool that reads `Self` may be one of an agent whose deps are `D`.
#[diagnostic::on_unimplemented(
    message = "this tool reads the deps `{Self}`, and those of the agent are `{D}`",
    label = "a tool for another agent",
    note = "make its context `ToolContext<{D}>`, or `ToolContext` for a tool that any agent can have"
)]
pub trait Within<D> {}

impl<D: Deps> Within<D> for AnyDeps {}

impl<D: serde::de::DeserializeOwned> Within<D> for D {}

impl<D, O> fmt::Debug for AgentBuilder<D, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AgentBuilder").field(&self.name).finish()
    }
}

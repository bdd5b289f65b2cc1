//! The Rust code of an agent: what its definition names, and no file can hold.

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::flow::Flow;
use axon_kernel::spec::{AgentSpec, Effect, Instruction, ToolSpec, ToolTarget};

use super::{Both, Prompts, StepFunctions, Validators};
use crate::tools::{Provided, Tool, Tools};

/// The Rust functions of an agent, its tools, prompts and validators, and what they work with.
#[derive(Clone, Debug, Default)]
pub struct AgentCode {
    pub(crate) tools: Tools,
    pub(crate) prompts: Prompts,
    pub(crate) validators: Validators,
    pub(crate) steps: StepFunctions,
    pub(crate) provided: Provided,
}

impl AgentCode {
    /// Returns the function behind `tool`: the agent's own, or one that the service has for all.
    pub(crate) fn tool<'a>(&'a self, tool: &ToolSpec, of_all: &'a Self) -> Option<&'a Tool> {
        let ToolTarget::Rust(name) = &tool.target else { return None };
        self.tools.find(name).or_else(|| of_all.tools.find(name))
    }

    /// Takes in what `of_all` has and the agent has not.
    pub(crate) fn take_in(&mut self, of_all: &Self) {
        self.tools.take_in(&of_all.tools);
        self.prompts.take_in(&of_all.prompts);
        self.steps.take_in(&of_all.steps);
    }

    /// Returns the functions that are steps of a flow: its own, and those that the service has for all.
    pub(crate) fn functions<'a>(&'a self, of_all: &'a Self) -> Both<'a> {
        Both(&self.steps, &of_all.steps)
    }

    /// Fills in what the definition leaves to the functions that it names: what a tool does, and
    /// what it takes.
    ///
    /// # Errors
    ///
    /// A [`Failure`] if a function is named that is not registered, or takes nothing that is known.
    pub(crate) fn complete(&self, spec: &mut AgentSpec, of_all: &Self) -> Result<(), Failure> {
        if !self.validators.is_empty() && spec.runner.module.is_some() {
            let message = "an agent that Python code defines is validated there, and not in Rust";
            let help = "add an output_validator to it in Python";
            return Err(Failure::new(FailureKind::Config, message).with_help(help));
        }
        for part in &spec.instructions {
            if let Instruction::Rust(name) = part
                && !self.prompts.has(name)
                && !of_all.prompts.has(name)
            {
                let what = format!("the instructions name the Rust function `{name}`");
                return Err(missing(&what));
            }
        }
        for name in spec.flow.iter().flat_map(Flow::functions) {
            if !self.steps.has(name) && !of_all.steps.has(name) {
                return Err(missing(&format!("a step names the Rust function `{name}`")));
            }
        }
        for tool in &mut spec.tools {
            let ToolTarget::Rust(name) = &tool.target else { continue };
            let what = format!("tool `{}` is the Rust function `{name}`", tool.name);
            let Some(function) = self.tool(tool, of_all) else { return Err(missing(&what)) };
            let own = function.spec().clone();
            tool.description = tool.description.take().or(own.description);
            tool.parameters = tool.parameters.take().or(own.parameters);
            tool.timeout = tool.timeout.or(own.timeout);
            tool.max_retries = tool.max_retries.or(own.max_retries);
            tool.strict = tool.strict.or(own.strict);
            if let Some(effect) = function.said_effect() {
                if tool.effect != Effect::default() && tool.effect != effect {
                    return Err(contradiction(&what, tool.effect, effect));
                }
                tool.effect = effect;
            }
            tool.sequential |= own.sequential;
            tool.requires_approval |= own.requires_approval;
            if tool.parameters.is_none() {
                let help = "give `parameters`, the JSON Schema of its arguments";
                let message = format!("{what}, and has no `parameters`");
                return Err(Failure::new(FailureKind::Config, message).with_help(help));
            }
        }
        Ok(())
    }
}

fn contradiction(what: &str, said: Effect, is: Effect) -> Failure {
    let (said, is) = (said.label(), is.label());
    let message = format!("{what}, which says effect = \"{is}\" of itself, and not \"{said}\"");
    Failure::new(FailureKind::Config, message).with_help("leave `effect` out of the file")
}

fn missing(what: &str) -> Failure {
    let help = "run the agent in the service that registers it, or name a Python one";
    Failure::new(FailureKind::Config, format!("{what}, which is not registered here"))
        .with_help(help)
}

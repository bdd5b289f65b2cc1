//! How an agent is asked, once or line by line.

use axon_kernel::json::RawJson;
use axon_kernel::spec::AgentSpec;
use axon_runtime::{AgentHandle, RunBuilder};
use serde::Deserialize;
use serde_json::Value;

use crate::args::{AskArgs, DepsArgs};
use crate::exit::Exit;
use crate::report::Report;

/// The part of a runner's description that says what deps are.
#[derive(Deserialize)]
struct Described {
    agent: Option<DescribedAgent>,
}

#[derive(Deserialize)]
struct DescribedAgent {
    deps: Option<Value>,
}

impl AskArgs {
    /// Puts what was asked for in place of the agent's own: its model, the time of its runs.
    ///
    /// # Errors
    ///
    /// A report if a model is named for what has none.
    pub(crate) fn override_in(&self, spec: &mut AgentSpec) -> Result<(), Report> {
        if let Some(model) = &self.model {
            if spec.flow.is_some() {
                let (kind, name) = (spec.kind(), &spec.name);
                return Err(Report::usage(format!("{kind} `{name}` has no model of its own"))
                    .because("each agent that it asks has one, which its own file names")
                    .todo(format!(
                        "AXON_MODEL={model} for all whose files say ${{AXON_MODEL:-…}}"
                    )));
            }
            spec.model = Some(model.clone());
        }
        if let Some(timeout) = self.timeout {
            // The start has no longer than a run either.
            spec.limits.timeout = timeout;
        }
        Ok(())
    }

    /// Prepares one run.
    pub(crate) fn prepare(
        &self,
        agent: &AgentHandle,
        prompt: &str,
        deps: Option<&RawJson>,
    ) -> RunBuilder {
        let mut run = agent.run(prompt);
        if let Some(deps) = deps {
            run = run.deps(deps);
        }
        self.approve.iter().fold(run, RunBuilder::approve)
    }
}

/// Reads what the caller gives to the tools and prompts of an agent that says what it wants, and
/// checks it, before anything is started.
pub(crate) fn check(args: &DepsArgs, spec: &AgentSpec) -> Result<(), Report> {
    let Some(schema) = &spec.deps.schema else { return Ok(()) };
    let refused = |what: &str| {
        let report =
            Report::new("invalid_request", Exit::USAGE, format!("agent `{}` {what}", spec.name));
        report.todo(example(schema.raw()))
    };
    let Some(deps) = args.read(Some(schema.raw()))? else {
        let wanted = properties(schema.raw());
        return Err(wanted.into_iter().fold(refused("needs deps"), Report::because));
    };
    let value: Value = deps.decode().map_err(|error| Report::usage(error.to_string()))?;
    schema.validate(&value).map_err(|violations| {
        let wrong = violations.iter().map(ToString::to_string);
        wrong.fold(refused("cannot take these deps"), Report::because)
    })
}

/// Returns a line for each property of the schema of deps.
fn properties(schema: &Value) -> Vec<String> {
    let members = schema["properties"].as_object().into_iter().flatten();
    let line = |(name, property): (&String, &Value)| {
        let parts = [property["type"].as_str(), property["description"].as_str()];
        let parts: Vec<&str> = parts.into_iter().flatten().collect();
        format!("{name}: {}", parts.join(", "))
    };
    members.map(line).collect()
}

/// Returns how to give what the schema of deps requires.
fn example(schema: &Value) -> String {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let flags: Vec<String> = required.map(|name| format!("--dep {name}=…")).collect();
    match flags.as_slice() {
        [] => "give --dep KEY=VALUE, or --deps JSON".to_owned(),
        flags => format!("give {}, or --deps JSON", flags.join(" ")),
    }
}

/// Reads what the caller gives to `agent`'s tools and prompts.
pub(crate) async fn deps(args: &DepsArgs, agent: &AgentHandle) -> Result<Option<RawJson>, Report> {
    if let Some(schema) = &agent.spec().deps.schema {
        return args.read(Some(schema.raw()));
    }
    let is_asked = !args.dep.is_empty() && agent.spec().runner.module.is_some();
    if !is_asked {
        return args.read(None);
    }
    let described: Option<Described> = agent.describe().await?.decode().ok();
    let schema = described.and_then(|described| described.agent?.deps);
    args.read(schema.as_ref())
}

//! Describes an agent that Python code defines.

use axon_kernel::json::excerpt;
use axon_kernel::provider;
use axon_kernel::schema::Schema;
use axon_kernel::spec::{AgentName, AgentSpec, EnvName, ModelName, PythonTarget};
use serde::Deserialize;
use serde_json::Value;

use crate::report::Report;
use crate::session::Session;

/// A function of one argument that gives it back, in place of the deps factory: an agent whose
/// deps JSON cannot give could not even be described without one.
const STAND_IN: &str = "copy:copy";

/// How much of a tool's description is kept, in bytes.
const SHOWN_BYTES: usize = 160;

/// What a runner says of its agent.
#[derive(Debug, Deserialize)]
struct Description {
    model: Option<String>,
    #[serde(default)]
    tools: Vec<Tool>,
    output: Option<Value>,
    deps: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Tool {
    name: String,
    description: Option<String>,
    #[serde(default)]
    parameters: Value,
}

#[derive(Deserialize)]
struct Answer {
    agent: Option<Description>,
}

/// Starts a runner for the agent `module`, and returns the `agent.toml` that describes it.
pub(super) async fn describe(
    name: &AgentName,
    module: PythonTarget,
    session: &mut Session,
) -> Result<String, Report> {
    let mut definition = session.find(module.as_str())?;
    // No model is asked, so none needs a key.
    definition.spec.model = ModelName::try_from("test").ok();
    definition.spec.deps.factory = PythonTarget::try_from(STAND_IN).ok();
    let (runtime, agent) = session.start(definition).await?;
    let answer = agent.describe().await;
    runtime.shutdown().await;
    let answer: Answer = answer?.decode().map_err(|error| Report::failed(error.to_string()))?;
    let described = answer.agent.ok_or_else(|| Report::failed("the runner describes no agent"))?;
    file(name, module, &described)
}

fn file(name: &AgentName, module: PythonTarget, agent: &Description) -> Result<String, Report> {
    let mut text = comments(&module, agent);
    let mut spec = AgentSpec::for_module(name.clone(), module);
    spec.runner.pass_env = provider_variables(agent.model.as_deref());
    let schema = agent.deps.clone().map(Schema::new);
    match schema {
        Some(Ok(schema)) => spec.deps.schema = Some(schema),
        Some(Err(_)) | None => text.push_str(NO_DEPS),
    }
    text.push('\n');
    text.push_str(&spec.to_toml().map_err(|error| Report::failed(error.to_string()))?);
    Ok(text)
}

/// Returns the variables that the agent's own model is set up from: where Python names the model,
/// nothing else can tell which of them its runner needs.
fn provider_variables(model: Option<&str>) -> Vec<EnvName> {
    let model = model.and_then(|model| ModelName::try_from(model).ok());
    let names = model.map(|model| provider::variables(&model, None)).unwrap_or_default();
    names.iter().filter_map(|name| EnvName::try_from(name.as_str()).ok()).collect()
}

const NO_DEPS: &str = "\
#
# Where the agent has deps that are no plain data, name the function that makes them from JSON:
# [deps]
# factory = \"package.module:make_deps\"
";

/// Returns what the file says about the agent without changing it.
fn comments(module: &PythonTarget, agent: &Description) -> String {
    let mut lines = vec![
        format!("{module} is a pydantic_ai.Agent: its instructions, tools and output come from"),
        "there. Keys that are added here override it: model, model_settings, retries, limits, …"
            .to_owned(),
        String::new(),
        format!("model:  {}", agent.model.as_deref().unwrap_or("none; add one: model = \"…\"")),
        format!("output: {}", output(agent.output.as_ref())),
    ];
    lines.extend(agent.tools.iter().map(tool));
    let comment = |line: &String| format!("# {}", line.replace(['\n', '\r'], " "));
    lines.iter().map(|line| format!("{}\n", comment(line).trim_end())).collect()
}

fn output(schema: Option<&Value>) -> String {
    match schema.map(|schema| (&schema["title"], &schema["type"])) {
        None => "not known".to_owned(),
        Some((Value::String(title), _)) => title.clone(),
        Some((_, Value::String(kind))) if kind == "string" => "text".to_owned(),
        Some((_, Value::String(kind))) => kind.clone(),
        Some(_) => "structured".to_owned(),
    }
}

fn tool(tool: &Tool) -> String {
    let members = tool.parameters["properties"].as_object().into_iter().flatten();
    let names: Vec<&str> = members.map(|(name, _)| name.as_str()).collect();
    let description = tool.description.as_deref().unwrap_or("no description");
    let line = format!("tool:   {}({}): {description}", tool.name, names.join(", "));
    excerpt(&line, SHOWN_BYTES)
}

#[cfg(test)]
mod tests {
    use axon_kernel::spec::FileText;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_file_is_an_agent_and_its_comments_tell_the_rest() {
        let described: Description = serde_json::from_value(json!({
            "name": null, "model": "test", "instructions": true,
            "tools": [{ "name": "greet", "description": "Greets.\nNicely.",
                        "parameters": { "properties": { "polite": {} } } }],
            "output": { "type": "string" },
            "deps": { "type": "object", "properties": { "name": { "type": "string" } } },
        }))
        .unwrap();
        let name = AgentName::try_from("greeter").unwrap();
        let module = PythonTarget::try_from("pkg.mod:greeter").unwrap();
        let text = file(&name, module.clone(), &described).unwrap();
        assert!(text.contains("# tool:   greet(polite): Greets. Nicely.\n"), "{text}");
        let file = FileText { path: "agent.toml", text: &text };
        let none = |_: &str| None;
        let spec =
            AgentSpec::from_toml(name, file, &none, &|_| Err("no files here".into())).unwrap();
        assert_eq!(spec.runner.module, Some(module));
        assert!(spec.deps.schema.is_some());
    }
}

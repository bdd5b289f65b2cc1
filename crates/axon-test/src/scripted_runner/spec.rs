//! The spec of a request: which keys it may have, and what it may name.

use axon_kernel::json::RawJson;
use axon_kernel::spec::{PythonTarget, Role};
use axon_kernel::wire::Launch;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::refusal::Refusal;

/// The keys of a spec; of most of them only the names matter here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSpec {
    model: Option<String>,
    module: Option<String>,
    deps_factory: Option<PythonTarget>,
    #[serde(default)]
    dynamic_instructions: Vec<PythonTarget>,
    #[serde(default)]
    tools: Vec<WireTool>,
    #[serde(rename = "name")]
    _name: Option<IgnoredAny>,
    #[serde(rename = "description")]
    _description: Option<IgnoredAny>,
    #[serde(rename = "model_settings")]
    _model_settings: Option<IgnoredAny>,
    #[serde(rename = "retries")]
    _retries: Option<IgnoredAny>,
    #[serde(rename = "end_strategy")]
    _end_strategy: Option<IgnoredAny>,
    #[serde(rename = "tool_timeout")]
    _tool_timeout: Option<IgnoredAny>,
    #[serde(rename = "capabilities")]
    _capabilities: Option<IgnoredAny>,
    #[serde(rename = "metadata")]
    _metadata: Option<IgnoredAny>,
    #[serde(rename = "provider")]
    _provider: Option<IgnoredAny>,
    #[serde(rename = "deps_schema")]
    _deps_schema: Option<IgnoredAny>,
    #[serde(rename = "output")]
    _output: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct WireTool {
    name: String,
    target: String,
}

/// Returns the model that a spec names, if it names one and everything in it is registered.
pub(super) fn check(spec: &RawJson, launch: &Launch) -> Result<Option<String>, Refusal> {
    let spec: WireSpec =
        spec.decode().map_err(|error| Refusal::config(format!("invalid spec: {error}")))?;
    for tool in &spec.tools {
        if let Some(target) = tool.target.strip_prefix("python:") {
            registered(launch, Role::Tool, target)?;
        } else if !matches!(tool.target.as_str(), "rust" | "agent")
            && (tool.target != "module" || spec.module.is_none())
        {
            let message = format!("tool {}: `{}` is no target", tool.name, tool.target);
            return Err(Refusal::config(message));
        }
    }
    if let Some(target) = &spec.deps_factory {
        registered(launch, Role::DepsFactory, target.as_str())?;
    }
    for target in &spec.dynamic_instructions {
        registered(launch, Role::Instructions, target.as_str())?;
    }
    if let Some(target) = spec.model.as_ref().and_then(|model| model.strip_prefix("python:")) {
        registered(launch, Role::Model, target)?;
    }
    if spec.module.is_some() && spec.module != launch.module {
        return Err(Refusal::config("the module is not the one of the launch data"));
    }
    Ok(spec.model)
}

/// Refuses what the launch data does not name for this role.
pub(super) fn registered(launch: &Launch, role: Role, target: &str) -> Result<(), Refusal> {
    let found = |callable: &axon_kernel::spec::Callable| {
        callable.role == role && callable.target.as_str() == target
    };
    if launch.callables.iter().any(found) {
        return Ok(());
    }
    Err(Refusal::config(format!("{target} is not registered as {role:?} of this runner")))
}

//! What is checked of a definition before anything is started.

use std::path::Path;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::provider::{self, ProviderError};
use axon_kernel::spec::{AgentName, AgentSpec, ModelName, PythonTarget, RunnerProgram};

use crate::host::Host;

/// Checks what no schema can say, before anything is started.
pub(crate) fn check(spec: &AgentSpec, host: &Host, folder: Option<&Path>) -> Result<(), Failure> {
    let config = |message: String| Failure::new(FailureKind::Config, message);
    spec.check().map_err(|broken| {
        let rules: Vec<String> = broken.iter().map(ToString::to_string).collect();
        config(rules.join("; "))
    })?;
    check_not_built(spec)?;
    // What a runner elsewhere finds, and with which keys it asks its model, only that one knows.
    if is_elsewhere(spec) {
        return Ok(());
    }
    for callable in spec.callables() {
        check_module(&callable.target, &spec.name, folder)?;
    }
    for model in spec.model.iter().chain(&spec.fallback.model) {
        check_model(model, spec, host)?;
    }
    Ok(())
}

fn is_elsewhere(spec: &AgentSpec) -> bool {
    matches!(spec.runner.program, RunnerProgram::Url(_))
}

fn check_model(model: &ModelName, spec: &AgentSpec, host: &Host) -> Result<(), Failure> {
    let unknown = |error: ProviderError| Failure::new(FailureKind::Config, error.to_string());
    provider::of(model).map_err(unknown)?;
    let missing =
        provider::missing_key(model, spec.provider_of(model), &|name| host.variable(name));
    missing.map_or(Ok(()), |missing| {
        let help = "put it into the environment or into `.env`, or choose another model \
                    (AXON_MODEL, --model)";
        Err(Failure::new(FailureKind::ModelAuth, missing.to_string()).with_help(help))
    })
}

/// Refuses what an agent's file may say and nothing carries out, so that no setting is silently
/// without effect.
fn check_not_built(spec: &AgentSpec) -> Result<(), Failure> {
    if !is_elsewhere(spec) || spec.runner.replicas.get() == 1 {
        return Ok(());
    }
    let message = format!(
        "agent `{}` asks for `replicas` of a runner at a `url`, which is not built yet",
        spec.name
    );
    Err(Failure::new(FailureKind::Config, message).with_help("leave it out"))
}

/// Checks that a module of the agent's own package is there. Others only Python can find.
fn check_module(
    target: &PythonTarget,
    agent: &AgentName,
    folder: Option<&Path>,
) -> Result<(), Failure> {
    let (Some(folder), Some(rest)) = (
        folder.filter(|folder| folder.join("__init__.py").is_file()),
        target.module().strip_prefix(agent.as_str()).and_then(|rest| rest.strip_prefix('.')),
    ) else {
        return Ok(());
    };
    let module = folder.join(rest.replace('.', "/"));
    if module.with_extension("py").is_file() || module.join("__init__.py").is_file() {
        return Ok(());
    }
    let file = module.with_extension("py");
    let message = format!("`{target}` names a module that is not there: {}", file.display());
    Err(Failure::new(FailureKind::Config, message).with_help("create it, or correct the name"))
}

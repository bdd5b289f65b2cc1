//! What is checked of a definition before anything is started.

use std::path::Path;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::provider;
use axon_kernel::spec::{AgentName, AgentSpec, PythonTarget, ToolTarget};

use crate::host::Host;

/// Checks what no schema can say, before anything is started.
pub(crate) fn check(spec: &AgentSpec, host: &Host, folder: Option<&Path>) -> Result<(), Failure> {
    let config = |message: String| Failure::new(FailureKind::Config, message);
    for tool in &spec.tools {
        match &tool.target {
            ToolTarget::Python(target) => check_module(target, &spec.name, folder)?,
            ToolTarget::Rust(name) => {
                let message = format!("tool `{}` is the Rust function `{name}`", tool.name);
                let help = "run the agent in the service that registers it, or name a Python one";
                return Err(
                    config(format!("{message}, which is not registered here")).with_help(help)
                );
            }
            ToolTarget::Agent(name) => {
                let message = format!("tool `{}` is the agent `{name}`", tool.name);
                return Err(config(format!("{message}: delegation is not built yet")));
            }
        }
    }
    for callable in spec.callables() {
        check_module(&callable.target, &spec.name, folder)?;
    }
    let Some(model) = &spec.model else { return Ok(()) };
    provider::of(model).map_err(|error| config(error.to_string()))?;
    let missing = provider::missing_key(model, spec.provider.as_ref(), &|name| host.variable(name));
    missing.map_or(Ok(()), |missing| {
        let help = "put it into the environment or into `.env`, or choose another model \
                    (AXON_MODEL, --model)";
        Err(Failure::new(FailureKind::ModelAuth, missing.to_string()).with_help(help))
    })
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

//! `axon agents`: what agents there are, and what each of them is.

mod there;

use std::collections::BTreeSet;
use std::fmt::Write;

use axon_kernel::flow::Target;
use axon_kernel::spec::{AgentSpec, RunnerProgram, ToolTarget};
use axon_runtime::AgentDefinition;
use serde_json::{Map, Value};

use crate::args::{AgentsArgs, AgentsVerb};
use crate::exit::Exit;
use crate::report::Report;
use crate::service::Service;
use crate::session::Session;
use crate::terminal;

pub(crate) async fn run(args: AgentsArgs, mut session: Session) -> Result<Exit, Report> {
    let verb = args.verb.unwrap_or(AgentsVerb::List);
    match (&verb, session.service()) {
        (AgentsVerb::List, None) => return list(&session),
        (AgentsVerb::Show { name, toml }, None) => return show(&session.load(name)?, *toml),
        (AgentsVerb::Show { toml: true, .. }, Some(_)) => {
            return Err(Report::usage("a service does not tell the definitions of its agents")
                .todo("leave out --toml, or look where its folder is, without --url"));
        }
        _ => {}
    }
    let service = session.service_or_usual()?;
    let definition = there::read(&verb, &session)?;
    tokio::select! {
        ended = ask(verb, &service, definition) => ended,
        signal = session.signals.next() => Err(Report::cancelled(signal)),
    }
}

/// Asks a service about its agents, or to do something with them.
async fn ask(
    verb: AgentsVerb,
    service: &Service,
    definition: Option<Map<String, Value>>,
) -> Result<Exit, Report> {
    match verb {
        AgentsVerb::List => there::list(service).await,
        AgentsVerb::Show { name, .. } => there::show(service, &name).await,
        AgentsVerb::Start { name, .. } => there::start(service, &name, definition).await,
        AgentsVerb::Stop(args) => there::stop(service, &args).await,
        AgentsVerb::Restart { name } => there::restart(service, &name).await,
        AgentsVerb::Drain(args) => there::drain(service, &args).await,
    }
}

/// Lists the agents. One that is broken is listed as such, and does not hide the others.
fn list(session: &Session) -> Result<Exit, Report> {
    let names = session.names_or_complain()?;
    let width = names.iter().map(String::len).max().unwrap_or_default();
    for name in &names {
        let line = match session.load(name) {
            Ok(agent) => format!("{name:width$}  {}", one_line(&agent.spec)),
            Err(_) => format!("{name:width$}  broken: `axon validate {name}` says why"),
        };
        terminal::answer(line.trim_end())?;
    }
    Ok(Exit::OK)
}

fn one_line(spec: &AgentSpec) -> String {
    let parts = [Some(model(spec)), spec.description.clone()];
    parts.into_iter().flatten().collect::<Vec<_>>().join("  ")
}

fn show(agent: &AgentDefinition, toml: bool) -> Result<Exit, Report> {
    let text = if toml {
        let printed = agent.spec.to_toml();
        printed.map_err(|error| Report::config(error.to_string()))?
    } else {
        describe(agent)
    };
    terminal::answer(text.trim_end())?;
    Ok(Exit::OK)
}

/// Returns whom a flow may ask.
fn asked(spec: &AgentSpec) -> String {
    let names: BTreeSet<&str> = spec.delegates().map(|name| name.as_str()).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn model(spec: &AgentSpec) -> String {
    match (&spec.model, &spec.runner.module) {
        _ if spec.flow.is_some() => spec.kind().to_string(),
        (Some(model), _) => model.to_string(),
        (None, Some(module)) => format!("as {module} says"),
        (None, None) => "no model".to_owned(),
    }
}

/// Returns an agent for a person to read.
fn describe(agent: &AgentDefinition) -> String {
    let spec = &agent.spec;
    let mut text = spec.name.to_string();
    let mut line = |label: &str, value: String| {
        // Writing to a String does not fail.
        let _ = write!(text, "\n  {label:12} {value}");
    };
    if let Some(description) = &spec.description {
        line("is", description.clone());
    }
    if let Some(folder) = &agent.folder {
        line("folder", folder.display().to_string());
    }
    if let Some(flow) = &spec.flow {
        line("kind", flow.kind.to_string());
        line("asks", asked(spec));
    } else {
        line("model", model(spec));
        line("runs in", runner(spec));
    }
    if !spec.tags.is_empty() {
        line("tags", spec.tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    }
    if let Some(schema) = &spec.deps.schema {
        line("deps", members(schema.raw()));
    }
    for tool in &spec.tools {
        line("tool", format!("{}: {}, {}", tool.name, target(&tool.target), tool.effect.label()));
    }
    let output = match &spec.output {
        Some(output) => output.schema.as_ref().map(|schema| members(schema.raw())),
        None => spec.runner.module.as_ref().map(|_| "as the module says".to_owned()),
    };
    line("output", output.unwrap_or_else(|| "text".to_owned()));
    let limits = &spec.limits;
    let time = humantime::format_duration(limits.timeout);
    line(
        "limits",
        format!("{} runs at once, {} waiting, {time} each", limits.concurrency, limits.queue),
    );
    text
}

fn runner(spec: &AgentSpec) -> String {
    let program = match &spec.runner.program {
        RunnerProgram::Python { python: Some(python) } => python.clone(),
        RunnerProgram::Python { python: None } => "Python (`axon env path`)".to_owned(),
        RunnerProgram::Command(command) => command.join(" "),
        RunnerProgram::Url(url) => url.clone(),
    };
    match spec.runner.replicas.get() {
        1 => program,
        replicas => format!("{program}, {replicas} runners"),
    }
}

fn target(target: &ToolTarget) -> String {
    match target {
        ToolTarget::Python(target) => format!("Python {target}"),
        ToolTarget::Rust(name) => format!("Rust {name}"),
        ToolTarget::Agent(name) => format!("agent {name}"),
        ToolTarget::Handoff(targets) => {
            let names: Vec<&str> = targets.iter().map(Target::name).collect();
            format!("hands the run on to {}", names.join(" or "))
        }
        ToolTarget::Own => "the module's own".to_owned(),
    }
}

/// Returns the properties of an object's schema, each with its type.
fn members(schema: &Value) -> String {
    let members = schema["properties"].as_object().into_iter().flatten();
    let shown: Vec<String> = members
        .map(|(name, property)| match property["type"].as_str() {
            Some(kind) => format!("{name} ({kind})"),
            None => name.clone(),
        })
        .collect();
    if shown.is_empty() { schema.to_string() } else { shown.join(", ") }
}

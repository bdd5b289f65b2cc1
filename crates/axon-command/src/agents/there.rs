//! The agents of a service: how they are, and what is done with them.

use std::fmt::Write;
use std::time::Duration;

use axon_kernel::failure::FailureKind;
use axon_kernel::spec::{AgentName, AgentSpec, FileText, Kind};
use axon_runtime::AgentState;
use serde_json::{Map, Value, json};

use super::members;
use crate::args::{AgentsVerb, DrainArgs};
use crate::exit::Exit;
use crate::report::Report;
use crate::service::{AgentSeen, Service};
use crate::session::Session;
use crate::terminal::{self, printable};

/// Lists the agents of a service, and how they are.
pub(super) async fn list(service: &Service) -> Result<Exit, Report> {
    let agents = service.agents().await?;
    let width = agents.iter().map(|agent| agent.status.name.as_str().len()).max();
    for agent in &agents {
        let (name, width) = (agent.status.name.as_str(), width.unwrap_or_default());
        let parts = [Some(state(agent)), Some(model(agent)), agent.description.clone()];
        let parts: Vec<String> =
            parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
        terminal::answer(&printable(&format!("{name:width$}  {}", parts.join("  "))))?;
    }
    Ok(Exit::OK)
}

/// Shows one agent of a service, and how it is.
pub(super) async fn show(service: &Service, name: &str) -> Result<Exit, Report> {
    let agent = service.agent(&named(name)?).await?;
    terminal::answer(&printable(&describe(&agent)))?;
    Ok(Exit::OK)
}

/// Starts an agent in a service.
pub(super) async fn start(
    service: &Service,
    name: &str,
    definition: Option<Map<String, Value>>,
) -> Result<Exit, Report> {
    let name = named(name)?;
    let agent = service.start_agent(&name, definition).await?;
    terminal::say(&printable(&format!("agent `{name}` is there: {}", state(&agent))));
    match agent.status.state {
        AgentState::Parked { .. } => Err(Report::new(
            "agent_unavailable",
            Exit::of_failure(FailureKind::RunnerDied),
            format!("agent `{name}` does not come up"),
        )
        .todo(format!("axon agents stop {name}"))),
        AgentState::Starting
        | AgentState::Up
        | AgentState::Restarting { .. }
        | AgentState::Drained
        | AgentState::Down { .. } => Ok(Exit::OK),
    }
}

pub(super) async fn stop(service: &Service, args: &DrainArgs) -> Result<Exit, Report> {
    let name = named(&args.name)?;
    let cancelled = service.stop_agent(&name, args.deadline).await?;
    terminal::say(&format!("agent `{name}` is stopped{}", ended(cancelled, args.deadline)));
    Ok(Exit::OK)
}

pub(super) async fn drain(service: &Service, args: &DrainArgs) -> Result<Exit, Report> {
    let name = named(&args.name)?;
    let cancelled = service.drain_agent(&name, args.deadline).await?;
    terminal::say(&format!("agent `{name}` is drained{}", ended(cancelled, args.deadline)));
    Ok(Exit::OK)
}

pub(super) async fn restart(service: &Service, name: &str) -> Result<Exit, Report> {
    let name = named(name)?;
    service.restart_agent(&name).await?;
    terminal::say(&format!("agent `{name}` is started anew"));
    Ok(Exit::OK)
}

fn ended(cancelled: usize, deadline: Duration) -> String {
    let time = humantime::format_duration(deadline);
    match cancelled {
        0 => String::new(),
        count => format!("; {count} runs did not finish within {time} and were cancelled"),
    }
}

/// Reads what no agent can be called as the name of none.
fn named(name: &str) -> Result<AgentName, Report> {
    AgentName::try_from(name).map_err(|_error| {
        Report::new(
            "unknown_agent",
            Exit::USAGE,
            format!("there is no agent `{}`", printable(name)),
        )
    })
}

/// Reads the definition that is to be sent, if one is, with its schemas in line.
pub(super) fn read(
    verb: &AgentsVerb,
    session: &Session,
) -> Result<Option<Map<String, Value>>, Report> {
    let AgentsVerb::Start { name, file: Some(file) } = verb else { return Ok(None) };
    let path = session.host.directory.join(file);
    let folder = path.parent().unwrap_or(&session.host.directory).to_owned();
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Report::usage(format!("cannot read {}", file.display())).because(error.to_string())
    })?;
    let shown = file.display().to_string();
    let spec = AgentSpec::from_toml(
        named(name)?,
        FileText { path: &shown, text: &text },
        &|variable| session.host.variable(variable),
        &|relative| Ok(std::fs::read_to_string(folder.join(relative))?),
    )?;
    // Variables stay as they are written: none of here is sent.
    let printed = spec.to_toml().map_err(|error| Report::config(error.to_string()))?;
    toml::from_str(&printed).map(Some).map_err(|error| Report::config(error.to_string()))
}

fn model(agent: &AgentSeen) -> String {
    let status = &agent.status;
    match (status.kind, &status.model) {
        (Kind::Router | Kind::Pipeline, _) => status.kind.to_string(),
        (Kind::Agent, Some(model)) if status.offline => format!("{model} (offline)"),
        (Kind::Agent, model) => model.clone().unwrap_or_default(),
    }
}

fn state(agent: &AgentSeen) -> String {
    let first = |cause: &str| cause.lines().next().unwrap_or_default().to_owned();
    match &agent.status.state {
        AgentState::Starting => "starting".to_owned(),
        AgentState::Up => "up".to_owned(),
        AgentState::Drained => "drained".to_owned(),
        AgentState::Restarting { cause } => format!("restarting after {}", first(cause)),
        AgentState::Down { cause } => format!("down: {}", first(cause)),
        AgentState::Parked { cause, .. } => format!("parked: {}", first(cause)),
    }
}

/// Returns an agent for a person to read.
fn describe(agent: &AgentSeen) -> String {
    let status = &agent.status;
    let mut text = status.name.to_string();
    let mut line = |label: &str, value: &str| {
        // Writing to a String does not fail.
        let _ = write!(text, "\n  {label:12} {value}");
    };
    if let Some(description) = &agent.description {
        line("is", description);
    }
    line("state", &state(agent));
    match status.kind {
        Kind::Agent => line("model", &model(agent)),
        Kind::Router | Kind::Pipeline => line("kind", &model(agent)),
    }
    line("runs", &format!("{} in flight, {} queued", status.in_flight, status.queued));
    for runner in status.runners.iter().filter_map(|runner| Some((runner, runner.pid?))) {
        let (runner, pid) = runner;
        line("runner", &format!("generation {}, pid {pid}", runner.generation));
    }
    if !agent.tags.is_empty() {
        line("tags", &agent.tags.join(", "));
    }
    if let Some(schema) = &agent.deps_schema {
        line("deps", &members(schema));
    }
    for tool in &agent.tools {
        line("tool", tool);
    }
    let output = match (&agent.output_schema, &agent.module) {
        (Some(schema), _) if *schema == json!({ "type": "string" }) => "text".to_owned(),
        (Some(schema), _) => members(schema),
        (None, Some(_)) => "as the module says".to_owned(),
        (None, None) => "text".to_owned(),
    };
    line("output", &output);
    text
}

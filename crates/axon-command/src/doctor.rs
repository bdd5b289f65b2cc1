//! `axon doctor`: what this machine lacks, and how to mend it.

mod store;

use std::path::PathBuf;

use axon_kernel::failure::Row;
use axon_kernel::provider;
use axon_kernel::spec::{AgentSpec, RunnerProgram};
use axon_runner::environment::{self, Check, Search, Status};
use clap::builder::styling::Style;
use serde::Serialize;

use crate::args::DoctorArgs;
use crate::exit::Exit;
use crate::report::Report;
use crate::session::Session;
use crate::terminal::{self, BOLD, GREEN, RED, YELLOW, styled};

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    name: String,
    status: Status,
    detail: String,
    fix: Option<String>,
}

pub(crate) async fn run(args: DoctorArgs, mut session: Session) -> Result<Exit, Report> {
    let names = match &args.agent {
        Some(name) => vec![name.clone()],
        None => session.names(),
    };
    if let Some(name) =
        args.agent.as_deref().filter(|name| !session.names().iter().any(|n| n == name))
    {
        // One that does not exist is no finding.
        session.load(name)?;
    }
    let search = search(args.agent.as_deref(), &session);
    let sockets: PathBuf = session.host.sockets.clone();
    let work = tokio::task::spawn_blocking(move || environment::diagnose(&search, &sockets));
    let machine: Vec<Finding> = tokio::select! {
        found = work => found.map_err(|error| Report::failed(error.to_string()))?,
        signal = session.signals.next() => return Err(Report::cancelled(signal)),
    }
    .into_iter()
    .map(Finding::from)
    .collect();
    let store = store::find(&session).await;
    let store = tokio::select! {
        found = store::look_at(store, args.thorough) => found,
        signal = session.signals.next() => return Err(Report::cancelled(signal)),
    };
    let machine: Vec<Finding> = machine.into_iter().chain(store).collect();
    let agents: Vec<Finding> = names.iter().flat_map(|name| look_at(name, &session)).collect();
    let exit = match (has_failed(&machine), has_failed(&agents)) {
        (true, _) => Exit::ENVIRONMENT,
        (false, true) => Exit::CONFIG,
        (false, false) => Exit::OK,
    };
    let findings: Vec<Finding> = machine.into_iter().chain(agents).collect();
    if args.json {
        let list = serde_json::to_value(&findings).map_err(std::io::Error::from)?;
        terminal::answer(&format!("{list:#}"))?;
    } else {
        print(&findings)?;
    }
    Ok(exit)
}

/// Returns where Python is looked for: for one agent, with what it says itself.
fn search(agent: Option<&str>, session: &Session) -> Search {
    let agent = agent.and_then(|name| session.load(name).ok());
    let configured = agent.as_ref().and_then(|agent| match &agent.spec.runner.program {
        RunnerProgram::Python { python } => python.clone(),
        RunnerProgram::Command(_) | RunnerProgram::Url(_) => None,
    });
    let folder = agent.and_then(|agent| agent.folder);
    Search { configured: configured.map(PathBuf::from), ..session.host.search(folder) }
}

fn has_failed(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.status == Status::Fail)
}

/// Looks at one agent's definition, and at whether its model has what it needs.
fn look_at(name: &str, session: &Session) -> Vec<Finding> {
    let about = format!("agent {name}");
    let broken = |detail: String| Finding {
        name: about.clone(),
        status: Status::Fail,
        detail,
        fix: Some(format!("axon validate {name}")),
    };
    let agent = match session.load(name) {
        Ok(agent) => agent,
        Err(report) => return vec![broken(report.in_a_line())],
    };
    let checked = agent.check(&session.host);
    let definition = match &checked {
        Err(failure) if failure.kind.row().row != Row::Credentials => {
            broken(failure.message.clone())
        }
        Ok(()) | Err(_) => Finding {
            name: about.clone(),
            status: Status::Ok,
            detail: "the definition is in order".to_owned(),
            fix: None,
        },
    };
    vec![definition].into_iter().chain(key(&agent.spec, session)).collect()
}

/// Looks whether the keys of an agent's model are set. Their values are nobody's business.
fn key(spec: &AgentSpec, session: &Session) -> Option<Finding> {
    let model = spec.model.as_ref()?;
    let name = format!("agent {} model", spec.name);
    let lookup = |variable: &str| session.host.variable(variable);
    if let Some(missing) = provider::missing_key(model, spec.provider.as_ref(), &lookup) {
        let fix = Some(format!(
            "put {} into the environment or into .env",
            missing.variables.join(" or ")
        ));
        return Some(Finding { name, status: Status::Warn, detail: missing.to_string(), fix });
    }
    let set: Vec<String> = provider::variables(model, spec.provider.as_ref())
        .into_iter()
        .filter(|variable| lookup(variable).is_some())
        .collect();
    let detail = match set.as_slice() {
        [] => format!("{model} needs no key"),
        set => format!("{model}, with {}", set.join(", ")),
    };
    Some(Finding { name, status: Status::Ok, detail, fix: None })
}

fn print(findings: &[Finding]) -> Result<(), Report> {
    for finding in findings {
        let (mark, style): (&str, Style) = match finding.status {
            Status::Ok => ("✓", GREEN),
            Status::Warn => ("!", YELLOW),
            Status::Fail => ("✗", RED),
        };
        let name = styled(BOLD, &finding.name);
        terminal::answer_in_style(&format!("{} {name}: {}", styled(style, mark), finding.detail))?;
        if let Some(fix) = &finding.fix {
            terminal::answer_in_style(&format!("    fix: {fix}"))?;
        }
    }
    Ok(())
}

impl From<Check> for Finding {
    fn from(check: Check) -> Self {
        let Check { name, status, detail, fix } = check;
        Self { name: name.to_owned(), status, detail, fix }
    }
}

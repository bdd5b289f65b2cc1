//! `axon validate`: checks definitions and settings without starting anything.

use std::collections::BTreeMap;

use axon_kernel::failure::Row;
use axon_kernel::flow::GraphError;
use axon_kernel::spec::{AgentName, OnExhausted, SpecError, What};
use axon_runtime::{
    AgentDefinition, FolderError, Misfit, config_file, load_config, misfits, nearest,
};

use crate::args::ValidateArgs;
use crate::exit::Exit;
use crate::report::Report;
use crate::serve;
use crate::session::Session;
use crate::terminal;

/// Checks one agent, or all of them and the settings: what is in order on stdout, what is not on
/// stderr.
pub(crate) fn run(args: &ValidateArgs, session: &Session) -> Result<Exit, Report> {
    let names = match &args.agent {
        Some(name) => vec![name.clone()],
        None => session.names_or_complain()?,
    };
    let mut broken = 0;
    let mut misfits = misfits_of(session);
    for name in &names {
        let misfit = misfits.remove(name).map(Report::from);
        match misfit.map_or_else(|| check(name, session), Err) {
            Ok(note) => terminal::answer(&format!("ok  {name}{note}"))?,
            // An agent that was asked for and does not exist is no broken definition.
            Err(report) if args.agent.is_some() => return Err(report),
            Err(report) => {
                report.show(session.verbose);
                broken += 1;
            }
        }
    }
    if args.agent.is_none() {
        check_settings(&names, session)?;
    }
    match broken {
        0 => Ok(Exit::OK),
        _ => Err(Report::config(format!("{broken} of {} agents are broken", names.len()))),
    }
}

/// Returns what does not fit between agents, routers and pipelines, by the name of whose file says it.
fn misfits_of(session: &Session) -> BTreeMap<String, SpecError> {
    let names = session.names();
    // Those that cannot be read are told of by themselves.
    let all: Vec<_> = names.iter().filter_map(|name| session.load(name).ok()).collect();
    let mut found = BTreeMap::new();
    for Misfit { agent, mut error } in misfits(&all) {
        let is_flow = all.iter().any(|one| one.spec.name == agent && one.spec.flow.is_some());
        error.problems.retain(|problem| {
            let What::Graph(GraphError::NoAgent { name, .. }) = &problem.what else { return true };
            // Of agents, `check_others` tells it in their own words.
            is_flow && !names.contains(&name.to_string())
        });
        if !error.problems.is_empty() {
            found.insert(agent.to_string(), error);
        }
    }
    found
}

/// Returns what is worth a note about an agent that is in order.
fn check(name: &str, session: &Session) -> Result<String, Report> {
    let agent = session.load(name)?;
    check_others(&agent, session)?;
    match agent.check(&session.host) {
        Ok(()) => Ok(String::new()),
        // A key is missing here, which says nothing about the definition.
        Err(failure) if failure.kind.row().row == Row::Credentials => {
            Ok(format!("  (here {})", failure.message))
        }
        Err(failure) => Err(Report::from(failure).about(format!("agent `{name}` is broken"))),
    }
}

/// Checks that the agents exist that `agent` falls back to, or hands work to.
fn check_others(agent: &AgentDefinition, session: &Session) -> Result<(), Report> {
    if agent.spec.flow.is_some() {
        // Its file says where.
        return Ok(());
    }
    let names = session.names();
    let missing = |name: &AgentName| names.iter().all(|known| known != name.as_str());
    let mut others = agent.spec.others().into_iter().filter(|(_, name)| missing(name));
    let Some((does, other)) = others.next() else { return Ok(()) };
    let name = &agent.spec.name;
    let report = Report::config(format!("agent `{name}` is broken"))
        .because(format!("it {does} to the agent `{other}`, which does not exist"));
    Err(match nearest(other.as_str(), names.iter().map(String::as_str)) {
        Some(near) => report.todo(format!("did you mean `{near}`?")),
        None => report.todo(format!("axon new {other}")),
    })
}

/// Checks what holds for all of the agents called `names`, where there is such a file.
fn check_settings(names: &[String], session: &Session) -> Result<(), Report> {
    let file = config_file(session.folder());
    if !file.exists() {
        return Ok(());
    }
    let config = load_config(session.folder(), &session.host).map_err(|error| match error {
        FolderError::Spec(error) => wrong(&error),
        FolderError::NotFound { .. } | FolderError::Read { .. } | FolderError::Several { .. } => {
            error.into()
        }
    })?;
    config.check_agents(names.iter().map(String::as_str)).map_err(|error| wrong(&error))?;
    serve::check(&config.serve)
        .map_err(|report| report.about(format!("{} is broken", file.display())))?;
    terminal::answer(&format!("ok  {}", file.display()))?;
    for (name, group) in &config.groups {
        for agent in &group.agents {
            // Broken ones were told of above.
            let Ok(definition) = session.load(agent.as_str()) else { continue };
            if definition.spec.supervision.on_exhausted == OnExhausted::Park {
                terminal::say(&format!(
                    "note: agent `{agent}` parks by itself, so group `{name}` hears of no failure \
                     of its runner; on_exhausted = \"escalate\" in [supervision] hands it up"
                ));
            }
        }
    }
    Ok(())
}

/// Tells what is wrong with the settings.
fn wrong(error: &SpecError) -> Report {
    error
        .problems
        .iter()
        .map(|problem| format!("{}:{problem}", error.path))
        .fold(Report::config(format!("{} is broken", error.path)), Report::because)
        .todo("correct the file; `axon schema config` gives editors its schema")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use axon_runtime::{Host, Runtime};

    use super::*;
    use crate::args::{GlobalArgs, LogFormat};

    struct Project(tempfile::TempDir);

    impl Project {
        fn new() -> Self {
            let project = Self(tempfile::tempdir().unwrap());
            for name in ["triage", "fraud"] {
                project.write(&format!("{name}/agent.toml"), "model = 'test'");
            }
            project
        }

        fn write(&self, file: &str, text: &str) {
            let path = self.0.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        /// Returns what validating everything ends with, on one line.
        fn validate(&self) -> Result<Exit, String> {
            let agents = Some(self.0.path().to_owned());
            let args = GlobalArgs {
                agents,
                store: None,
                url: None,
                token_file: None,
                frozen: false,
                verbose: 0,
                log: LogFormat::Human,
            };
            let variables = BTreeMap::from([("OPEN".to_owned(), "20s".to_owned())]);
            let host = Host::new(self.0.path().to_owned(), variables);
            let session = Session::new(&args, host, Runtime::builder()).unwrap();
            run(&ValidateArgs { agent: None }, &session).map_err(|report| report.in_a_line())
        }
    }

    #[tokio::test]
    async fn settings_are_checked_with_the_agents() {
        let project = Project::new();
        assert_eq!(project.validate(), Ok(Exit::OK));
        project.write(
            "axon.toml",
            "breaker = { open = '${OPEN}' }\n[groups.desk]\nagents = ['triage', 'fraud']",
        );
        assert_eq!(project.validate(), Ok(Exit::OK));
        for (text, message) in [
            ("[starts]\nat_onze = 1", "axon.toml:2:1: starts: unknown key `at_onze`; did you mean"),
            ("[groups.desk]\nagents = ['froud']", "axon.toml:2:11: groups.desk.agents[0]: there"),
        ] {
            project.write("axon.toml", text);
            let error = project.validate().unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[tokio::test]
    async fn falling_back_to_an_agent_that_does_not_exist_is_refused() {
        let project = Project::new();
        project.write("triage/agent.toml", "model = 'test'\n[fallback]\nagent = 'fraud'");
        assert_eq!(project.validate(), Ok(Exit::OK));
        project.write("triage/agent.toml", "model = 'test'\n[fallback]\nagent = 'gone'");
        assert_eq!(project.validate(), Err("1 of 2 agents are broken".to_owned()));
    }
}

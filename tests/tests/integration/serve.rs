//! `axon serve`, asked over HTTP: the process that a user starts, and clients of all kinds.

mod agents;
mod browser;
mod chat;
mod client;
mod curl;
mod document;
mod embedded;
mod ending;
mod fuzz;
mod hostile;
mod lasting;
mod link;
mod metrics;
mod openai;
mod recovery;
mod runs;
mod safety;
pub(crate) mod service;
mod streams;
mod waiting;

use axon_kernel::spec::AgentSpec;
use axon_test::scripted_runner::{Life, RunnerScript, Step, When};

use self::service::Service;
use crate::scene::Played;
use crate::support::Project;

/// Writes the file of an agent whose runner plays `script`.
fn write_agent(
    project: &Project,
    name: &str,
    script: impl Into<RunnerScript>,
    change: impl FnOnce(&mut AgentSpec),
) {
    let played = Played::new(project, name, script).with(change);
    let file = played.spec.to_toml().unwrap();
    project.write(&format!("agents/{name}/agent.toml"), &file);
}

/// An agent that says its prompt, slowly where it is asked to, and hangs or fails on demand.
fn talker() -> Life {
    let slowly = (0..20).flat_map(|n| [Step::text(format!("{n} ")), Step::SleepMs(15)]);
    Life::default()
        .on(When::prompt("hang"), [Step::text("Hm."), Step::Hang])
        .on(When::prompt("slow"), slowly.chain([Step::complete("slow")]))
        .on(When::contains("tell "), [Step::text("{{prompt}}"), Step::complete("{{prompt}}")])
        .on(When::prompt("fail"), [Step::Fail(broken())])
        .always([Step::text("{{prompt}}"), Step::complete("{{prompt}}")])
}

fn broken() -> axon_kernel::failure::Failure {
    let kind = axon_kernel::failure::FailureKind::ContentFilter;
    axon_kernel::failure::Failure::new(kind, "nothing that can be said")
}

/// A service with one agent, `talker`.
async fn talking() -> (Project, Service) {
    let project = Project::new();
    write_agent(&project, "talker", talker(), |_| ());
    let service = Service::start(&project, &[]).await;
    (project, service)
}

//! `axon tool call`: call a tool without a model.

use axon_kernel::failure::FailureKind;
use axon_kernel::json::RawJson;
use axon_kernel::spec::{ModelName, PythonTarget, ToolTarget};
use axon_runtime::{AgentDefinition, AgentHandle};
use serde_json::{Map, Value};

use crate::args::{ToolArgs, ToolCallArgs, ToolVerb};
use crate::ask;
use crate::exit::Exit;
use crate::report::Report;
use crate::session::Session;
use crate::show;

pub(crate) async fn run(args: ToolArgs, mut session: Session) -> Result<Exit, Report> {
    let ToolVerb::Call(args) = args.verb;
    let target = PythonTarget::try_from(args.target.as_str())?;
    if args.args.decode::<Map<String, Value>>().is_err() {
        return Err(Report::usage("the arguments are no JSON object")
            .todo("give them as '{\"name\": value}'"));
    }
    let mut agent = owner(&target, args.agent.as_deref(), &session)?;
    if args.deps.is_given() {
        ask::check(&args.deps, &agent.spec.name, agent.spec.deps.schema.as_ref())?;
    }
    // No model is asked, so none needs a key.
    agent.spec.model = ModelName::try_from("test").ok();
    let (runtime, agent) = session.start(agent).await?;
    let called = tokio::select! {
        called = call(&args, &target, &agent) => called,
        signal = session.signals.next() => Err(Report::cancelled(signal)),
    };
    runtime.shutdown().await;
    show::answer(&called?)?;
    Ok(Exit::OK)
}

async fn call(
    args: &ToolCallArgs,
    target: &PythonTarget,
    agent: &AgentHandle,
) -> Result<RawJson, Report> {
    let deps = ask::deps(&args.deps, agent).await?;
    let call = agent.direct_call(target, args.args.clone()).deps(deps);
    let call = match args.timeout {
        Some(timeout) => call.timeout(timeout),
        None => call,
    };
    call.make().await.map_err(|failure| {
        // The runner is up, so the definition is in order.
        let is_callers = failure.kind == FailureKind::Config;
        let report = Report::from(failure);
        if is_callers { report.of_caller("give --dep KEY=VALUE, or --deps JSON") } else { report }
    })
}

/// Finds the agent that registers `target`.
fn owner(
    target: &PythonTarget,
    named: Option<&str>,
    session: &Session,
) -> Result<AgentDefinition, Report> {
    if let Some(name) = named {
        let agent = session.load(name)?;
        return match registers(&agent, target) {
            true => Ok(agent),
            false => {
                Err(Report::usage(format!("agent `{name}` has no tool {target}"))
                    .todo(known(&[agent])))
            }
        };
    }
    // What is broken is no hindrance for the others.
    let all: Vec<AgentDefinition> =
        session.names().iter().filter_map(|name| session.load(name).ok()).collect();
    let mut owners = all.iter().filter(|agent| registers(agent, target));
    match (owners.next(), owners.next()) {
        (Some(owner), None) => Ok(owner.clone()),
        (Some(one), Some(two)) => {
            let what = format!(
                "{target} is a tool of `{}`, `{}` and maybe more",
                one.spec.name, two.spec.name
            );
            Err(Report::usage(what).todo("choose one with --agent NAME"))
        }
        (None, _) => {
            Err(Report::usage(format!("no agent has the tool {target}")).todo(known(&all)))
        }
    }
}

fn registers(agent: &AgentDefinition, target: &PythonTarget) -> bool {
    python_tools(agent).any(|tool| tool == target)
}

fn python_tools(agent: &AgentDefinition) -> impl Iterator<Item = &PythonTarget> {
    agent.spec.tools.iter().filter_map(|tool| match &tool.target {
        ToolTarget::Python(target) => Some(target),
        ToolTarget::Rust(_) | ToolTarget::Agent(_) | ToolTarget::Handoff(_) | ToolTarget::Own => {
            None
        }
    })
}

/// Returns the tools that could have been meant.
fn known(agents: &[AgentDefinition]) -> String {
    let mut tools: Vec<&str> =
        agents.iter().flat_map(python_tools).map(PythonTarget::as_str).collect();
    tools.sort_unstable();
    tools.dedup();
    match tools.as_slice() {
        [] => "register it: [[tools]] name = …, python = … in an agent.toml".to_owned(),
        tools => format!("choose one of: {}", tools.join(", ")),
    }
}

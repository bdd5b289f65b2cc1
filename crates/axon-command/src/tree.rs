//! `axon tree`: the supervision tree of a service, or of agents that are started to show it.

mod watch;

use std::fmt::Write;

use axon_runtime::kernel::spec::{Intensity, Kind};
use axon_runtime::supervisor::ChildStatus;
use axon_runtime::{
    AgentState, AgentStatus, Branch, LauncherStatus, RunnerState, RunnerStatus, Tree, TreeChild,
    TreeNode,
};

use crate::args::TreeArgs;
use crate::exit::Exit;
use crate::report::Report;
use crate::session::Session;
use crate::terminal::{self, BOLD, DIM, RED, printable, styled};

/// Prints the tree of a service; with `--here`, of agents that are started for it and ended again.
pub(crate) async fn run(args: TreeArgs, mut session: Session) -> Result<Exit, Report> {
    let tree = if args.seen.here {
        let runtime = session.start_all().await?;
        let tree = runtime.tree().await;
        runtime.shutdown().await;
        tree
    } else {
        let service = session.service_or_usual()?;
        if args.seen.watch {
            return watch::watch(&service, &mut session, args.json).await;
        }
        tokio::select! {
            tree = service.tree() => tree.map_err(|error| of_nobody(Report::from(error)))?,
            signal = session.signals.next() => return Err(Report::cancelled(signal)),
        }
    };
    if args.json {
        terminal::answer(&as_json(&tree)?)?;
    } else {
        terminal::answer_in_style(render(&tree).trim_end())?;
    }
    Ok(Exit::OK)
}

/// Says what can be seen without a service, where there is none.
fn of_nobody(report: Report) -> Report {
    match report.exit() {
        Exit::ENVIRONMENT => {
            report.todo("`axon tree --here` starts the folder's agents to show them")
        }
        _ => report,
    }
}

fn as_json(tree: &Tree) -> Result<String, Report> {
    serde_json::to_string(tree).map_err(|error| Report::failed(error.to_string()))
}

fn render(tree: &Tree) -> String {
    let mut text = format!("{} {}\n", styled(BOLD, "root"), about(&tree.root));
    branch(&mut text, "", &tree.root);
    text
}

fn branch(text: &mut String, indent: &str, branch: &Branch) {
    let width =
        branch.children.iter().map(|child| child.id.chars().count()).max().unwrap_or_default();
    for (index, child) in branch.children.iter().enumerate() {
        let last = index + 1 == branch.children.len();
        let (arm, under) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let id = styled(BOLD, &format!("{:width$}", printable(&child.id)));
        // Writing to a String does not fail.
        let _ = writeln!(text, "{indent}{arm}{id}  {}", line(child));
        if let Some(below) = below(&child.node) {
            self::branch(text, &format!("{indent}{under}"), below);
        }
        if let TreeNode::Agent(status) = &child.node {
            runners(text, &format!("{indent}{under}"), &status.runners);
        }
    }
}

/// Writes a line for each runner, where there is more than the one that the agent's line tells of.
fn runners(text: &mut String, indent: &str, runners: &[RunnerStatus]) {
    if runners.len() < 2 {
        return;
    }
    for (index, status) in runners.iter().enumerate() {
        let arm = if index + 1 == runners.len() { "└─ " } else { "├─ " };
        // Writing to a String does not fail.
        let _ = writeln!(text, "{indent}{arm}{}", runner(status));
    }
}

fn runner(status: &RunnerStatus) -> String {
    let state = match &status.state {
        RunnerState::Starting => "starting".to_owned(),
        RunnerState::Up => "up".to_owned(),
        RunnerState::Waiting { cause, retry_in_ms } => {
            let wait = millis(*retry_in_ms);
            format!("{} (tried again in {wait:.1} s)", styled(RED, &in_a_line(cause)))
        }
        RunnerState::Retiring => "retiring".to_owned(),
    };
    let mut text = format!("generation {}  {state}", status.generation);
    if let Some(pid) = status.pid {
        let _ = write!(text, ", pid {pid}, {}", styled(DIM, &used(status)));
    }
    text
}

/// Says what a runner is doing and what it has used so far.
fn used(status: &RunnerStatus) -> String {
    let RunnerStatus { in_flight, served, resident_bytes, cpu_ms, .. } = status;
    let mut text = format!("{in_flight} in flight, {served} served");
    if let Some(bytes) = resident_bytes {
        let _ = write!(text, ", {}", memory(*bytes));
    }
    if let Some(cpu) = cpu_ms {
        let _ = write!(text, ", {:.1} s of CPU time", millis(*cpu));
    }
    text
}

/// Returns an amount of memory in a unit of which it is a few hundreds at most.
fn memory(bytes: u64) -> String {
    let mib = bytes.div_ceil(1 << 20);
    match mib {
        0..1024 => format!("{mib} MiB"),
        _ => format!("{}.{} GiB", mib / 1024, mib % 1024 * 10 / 1024),
    }
}

fn below(node: &TreeNode) -> Option<&Branch> {
    match node {
        TreeNode::Supervisor(branch) => Some(branch),
        TreeNode::Group { members, .. } => members.as_deref(),
        TreeNode::Agent(_) | TreeNode::Launchers(_) | TreeNode::Service {} => None,
    }
}

fn line(child: &TreeChild) -> String {
    let what = match &child.node {
        TreeNode::Supervisor(branch) => about(branch),
        TreeNode::Group { parked: true, .. } => styled(RED, "group, parked"),
        TreeNode::Group { members: Some(branch), .. } => format!("group, {}", about(branch)),
        TreeNode::Group { members: None, .. } => "group".to_owned(),
        TreeNode::Agent(status) => agent(status),
        TreeNode::Launchers(launchers) => self::launchers(launchers),
        TreeNode::Service {} => supervised(&child.status),
    };
    match child.restarts {
        0 => what,
        count => format!("{what}, restarted {count} times by its supervisor"),
    }
}

fn launchers(launchers: &[LauncherStatus]) -> String {
    if launchers.is_empty() {
        return "running, none needed".to_owned();
    }
    let one = |LauncherStatus { pid, python, resident_bytes }: &LauncherStatus| {
        let size = resident_bytes.map(|bytes| format!(", {}", memory(bytes)));
        format!("pid {pid}{} ({})", size.unwrap_or_default(), printable(python))
    };
    launchers.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn about(branch: &Branch) -> String {
    let Branch { strategy, intensity, restarts_left, leaked, .. } = branch;
    let Intensity { max_restarts, within } = intensity;
    let strategy = strategy.label();
    let mut text = format!(
        "{strategy}, {restarts_left} of {max_restarts} restarts in {} s left",
        within.as_secs_f64()
    );
    if *leaked > 0 {
        let _ = write!(text, ", {leaked} leaked");
    }
    styled(DIM, &text)
}

fn supervised(status: &ChildStatus) -> String {
    match status {
        ChildStatus::Starting => "starting".to_owned(),
        ChildStatus::Running => "running".to_owned(),
        ChildStatus::Restarting { .. } => "restarting".to_owned(),
        ChildStatus::Stopping => "stopping".to_owned(),
        ChildStatus::Stopped => "stopped".to_owned(),
        ChildStatus::GivenUp { cause } => {
            styled(RED, &format!("given up: {}", in_a_line(&cause.to_string())))
        }
    }
}

fn agent(status: &AgentStatus) -> String {
    let state = match &status.state {
        AgentState::Starting => "starting".to_owned(),
        AgentState::Up => "up".to_owned(),
        AgentState::Drained => "drained".to_owned(),
        AgentState::Restarting { cause } => format!("restarting after {}", in_a_line(cause)),
        AgentState::Down { cause } => styled(RED, &format!("down: {}", in_a_line(cause))),
        AgentState::Parked { cause, retry_in_ms } => {
            let next = match retry_in_ms {
                Some(wait) => format!("tried again in {:.1} s", millis(*wait)),
                None => "until it is reloaded or restarted".to_owned(),
            };
            format!("{} ({next})", styled(RED, &format!("parked: {}", in_a_line(cause))))
        }
    };
    let mut text = state;
    if let Some(model) = &status.model {
        let model = printable(model);
        let _ = write!(text, ", {model}{}", if status.offline { " (offline)" } else { "" });
    }
    if status.kind != Kind::Agent {
        let AgentStatus { kind, in_flight, queued, .. } = status;
        let rest = styled(DIM, &format!("{in_flight} in flight, {queued} queued"));
        let _ = write!(text, ", {kind}, {rest}");
        return text;
    }
    let _ = write!(text, ", generation {}", status.generation);
    match (status.runners.as_slice(), status.pid) {
        ([runner], Some(pid)) => {
            let _ = write!(text, ", pid {pid}");
            if let Some(bytes) = runner.resident_bytes {
                let _ = write!(text, ", {}", memory(bytes));
            }
        }
        (_, Some(_)) => {
            let _ = write!(text, ", {} runners", status.runners.len());
        }
        (_, None) => {}
    }
    let AgentStatus { in_flight, queued, restarts_left, .. } = status;
    let rest = format!("{in_flight} in flight, {queued} queued, {restarts_left} restarts left");
    let _ = write!(text, ", {}", styled(DIM, &rest));
    text
}

/// Returns milliseconds as seconds.
fn millis(millis: u64) -> f64 {
    std::time::Duration::from_millis(millis).as_secs_f64()
}

fn in_a_line(text: &str) -> String {
    printable(text.lines().next().unwrap_or_default())
}

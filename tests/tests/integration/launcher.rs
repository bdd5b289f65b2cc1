//! Runners that are forked from a launcher, and what the deaths of either cost: nothing.

mod fallback;
mod likeness;

use std::time::Duration;

use axon_kernel::spec::{AgentSpec, Effect};
use axon_runtime::{AgentStatus, Runtime, RuntimeEvent};
use axon_test::scripted_model::ChatRequest;
use axon_test::{Reply, Script, ScriptedModel};
use procfs::process::Process;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::task::JoinSet;

use crate::scene::{Told, agent, pid, status, tooled, up};
use crate::support::{PATIENCE, Project, kill_9, output, scripted_agent};

/// How many call at the same time.
const CALLERS: usize = 32;

/// How often a runner is killed under load.
const KILLS: u32 = 6;

/// Calls the tool once, and then says what it has returned.
pub(crate) fn one_call(tool: &'static str) -> Script {
    Script::function(move |body| match ChatRequest::new(body).tool_return(tool) {
        Some(returned) => Reply::text(returned),
        None => Reply::tool_calls([(tool.to_owned(), json!({}))]),
    })
}

/// Says what the prompt says, piece by piece.
fn echo() -> Script {
    Script::function(|body| {
        let said = format!("said {}", ChatRequest::new(body).user_prompt());
        Reply::text(said).chunks(3).delay(Duration::from_millis(5))
    })
}

/// Returns the process as the kernel shows it.
fn process(pid: u32) -> Process {
    Process::new(i32::try_from(pid).unwrap()).unwrap()
}

/// Returns the parent of a process.
pub(crate) fn parent(pid: i32) -> i32 {
    Process::new(pid).unwrap().stat().unwrap().ppid
}

/// Returns the launcher of the agent's runner.
async fn launcher(runtime: &Runtime, name: &str) -> u32 {
    let stat = process(pid(runtime, name).await).stat().unwrap();
    u32::try_from(stat.ppid).unwrap()
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// An agent that answers in text, and that nothing parks.
fn patient(name: &str) -> AgentSpec {
    let mut spec = scripted_agent(name);
    spec.supervision.intensity.max_restarts = 100;
    spec.supervision.backoff.min = Duration::from_millis(1);
    spec
}

/// Callers that ask the agent again and again.
struct Load {
    callers: JoinSet<usize>,
    stop: tokio::sync::watch::Sender<bool>,
    answered: tokio::sync::watch::Sender<usize>,
}

impl Load {
    fn on(runtime: &Runtime, name: &str) -> Self {
        let (stop, answered) = (tokio::sync::watch::Sender::new(false), Default::default());
        let mut load = Self { callers: JoinSet::new(), stop, answered };
        for number in 0..CALLERS {
            let (agent, stop) = (agent(runtime, name), load.stop.subscribe());
            let answered = load.answered.clone();
            load.callers.spawn(async move {
                let mut asked = 0;
                while !*stop.borrow() {
                    let prompt = format!("{number} {asked}");
                    let run = agent.run(prompt.as_str()).wait().await.unwrap();
                    assert_eq!(output(&run.outcome), json!(format!("said {prompt}")));
                    answered.send_modify(|answered| *answered += 1);
                    asked += 1;
                }
                asked
            });
        }
        load
    }

    /// Waits until so many more were answered.
    async fn answers(&self, more: usize) {
        let mut answered = self.answered.subscribe();
        let enough = *answered.borrow() + more;
        let enough = answered.wait_for(|answered| *answered >= enough);
        tokio::time::timeout(PATIENCE, enough).await.unwrap().unwrap();
    }

    /// Has them stop, and checks that each of them had an answer to everything.
    async fn end(self) {
        self.stop.send_replace(true);
        let all = tokio::time::timeout(PATIENCE, self.callers.join_all()).await.unwrap();
        assert!(all.iter().all(|asked| *asked > 0), "{all:?}");
    }
}

fn is_parked(event: &RuntimeEvent) -> bool {
    matches!(event, RuntimeEvent::AgentParked { .. })
}

#[tokio::test]
async fn the_runners_of_an_environment_are_forked_from_one_process_with_one_thread() {
    let model = ScriptedModel::start(echo()).await;
    let project = Project::with_model(&model);
    let runtime = project.runtime().agent(patient("one")).agent(patient("two"));
    let runtime = runtime.start().await.unwrap();
    let parents = [launcher(&runtime, "one").await, launcher(&runtime, "two").await];
    assert_eq!(parents[0], parents[1]);
    let stat = process(parents[0]).stat().unwrap();
    assert_eq!((stat.comm.as_str(), stat.num_threads), ("axon-launcher", 1));
    assert_eq!(u32::try_from(stat.ppid).unwrap(), std::process::id());
    for name in ["one", "two"] {
        let stat = process(pid(&runtime, name).await).stat().unwrap();
        assert_eq!(stat.comm, format!("axon:{name}"));
        let run = agent(&runtime, name).run("hello").wait().await.unwrap();
        assert_eq!(output(&run.outcome), json!("said hello"));
    }
    let stat = process(parents[0]).stat().unwrap();
    assert_eq!(stat.num_threads, 1, "forking has started threads");
    runtime.shutdown().await;
    assert!(!crate::support::is_alive(parents[0]));
}

#[tokio::test]
async fn six_kills_of_a_runner_under_load_reach_no_caller() {
    let model = ScriptedModel::start(echo()).await;
    let project = Project::with_model(&model);
    let runtime = project.runtime().agent(patient("agent")).start().await.unwrap();
    let before = launcher(&runtime, "agent").await;
    let load = Load::on(&runtime, "agent");
    for generation in 1..=KILLS {
        load.answers(20).await;
        let AgentStatus { pid, .. } = up(&runtime, "agent", generation).await;
        kill_9(pid.unwrap());
        up(&runtime, "agent", generation + 1).await;
    }
    load.answers(CALLERS).await;
    load.end().await;
    assert_eq!(launcher(&runtime, "agent").await, before, "the launcher has gone on");
    runtime.shutdown().await;
    assert_eq!(project.sockets().len(), 0);
}

#[tokio::test]
async fn a_launcher_that_is_killed_under_load_is_replaced_at_nobodys_cost() {
    let model = ScriptedModel::start(echo()).await;
    let project = Project::with_model(&model);
    let runtime = project.runtime().agent(scripted_agent("agent")).start().await.unwrap();
    let mut told = Told::by(&runtime);
    let allowed = status(&runtime, "agent").await.restarts_left;
    let load = Load::on(&runtime, "agent");
    for generation in 1..=2 {
        load.answers(20).await;
        up(&runtime, "agent", generation).await;
        let before = launcher(&runtime, "agent").await;
        kill_9(before);
        let status = up(&runtime, "agent", generation + 1).await;
        assert_ne!(launcher(&runtime, "agent").await, before);
        assert_eq!(status.restarts_left, allowed, "it counts against the agent");
    }
    load.answers(CALLERS).await;
    load.end().await;
    let events = told.all();
    assert!(!events.iter().any(is_parked), "{events:#?}");
    let counted =
        |event: &&RuntimeEvent| matches!(event, RuntimeEvent::RunnerEnded { counted: true, .. });
    assert!(!events.iter().any(|event| counted(&event)), "{events:#?}");
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_launcher_that_is_stopped_holds_nobody_up_for_long() {
    let model = ScriptedModel::start(echo()).await;
    let project = Project::with_model(&model);
    let runtime = project.runtime().agent(patient("agent")).agent(patient("other"));
    let runtime = runtime.start().await.unwrap();
    let before = launcher(&runtime, "agent").await;
    signal(before, Signal::STOP);
    for name in ["agent", "other"] {
        let run = agent(&runtime, name).run("hello").wait().await.unwrap();
        assert_eq!(output(&run.outcome), json!("said hello"));
    }
    kill_9(pid(&runtime, "agent").await);
    let run = agent(&runtime, "agent").run("after").wait().await.unwrap();
    assert_eq!(output(&run.outcome), json!("said after"));
    up(&runtime, "agent", 2).await;
    assert_ne!(launcher(&runtime, "agent").await, before);
    runtime.shutdown().await;
    assert!(!crate::support::is_alive(before));
}

const MODULE: &str = r#"
import sys

def which() -> str:
    return " ".join(sorted({"here", "there"} & set(sys.modules)))
"#;

#[tokio::test]
async fn what_one_agent_imports_no_other_has() {
    let model = ScriptedModel::start(one_call("which")).await;
    let project = Project::with_model(&model);
    project.write("here.py", MODULE);
    project.write("there.py", MODULE);
    let spec = |name: &str| tooled(name, [(format!("{name}:which").as_str(), Effect::Pure)]);
    let runtime = project.runtime().agent(spec("here")).agent(spec("there"));
    let runtime = runtime.start().await.unwrap();
    for name in ["here", "there"] {
        kill_9(pid(&runtime, name).await);
        up(&runtime, name, 2).await;
        let run = agent(&runtime, name).run("which").wait().await.unwrap();
        assert_eq!(output(&run.outcome), json!(name));
    }
    runtime.shutdown().await;
}

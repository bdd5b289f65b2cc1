//! Four agents with real Python runners, many callers, and somebody who kills the runners.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axon_kernel::event::RunEvent;
use axon_kernel::ids::{Generation, RunId};
use axon_kernel::spec::{AgentSpec, Effect};
use axon_kernel::store::Store;
use axon_runtime::{
    AgentHandle, AgentState, MemoryStore, Observed, Outcome, RunHandle, RunUpdate, Runtime,
    RuntimeEvent,
};
use axon_test::scripted_model::ChatRequest;
use axon_test::{Reply, Script, ScriptedModel};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::{PATIENCE, Project, is_alive, output, python_tool, scripted_agent, until};

pub(super) const AGENTS: [&str; 4] = ["ada", "bea", "cid", "dot"];
pub(super) const CALLERS: usize = 32;

/// Each execution leaves a line with its process in a file of its call.
const TOOLS: &str = r#"
import asyncio, os
from pathlib import Path
from pydantic_ai import RunContext

async def execute(ctx: RunContext[None], word: str) -> str:
    with open(Path("calls") / ctx.tool_call_id, "a") as file:
        file.write(f"{os.getpid()}\n")
    await asyncio.sleep(0.02)
    return word
"#;

/// How fast runners are killed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How many of each agent, at most.
    pub(super) kills: usize,
    /// For how long.
    pub(super) time: Duration,
    /// After how many events of runs, at most, the next one is killed.
    pub(super) events: u64,
    pub(super) seed: u64,
}

/// What callers expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answers {
    /// An answer to everything.
    All,
    /// That the agent refuses at some time, which ends the caller.
    UntilRefused,
}

/// A run that has ended, with everything that it showed.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) id: RunId,
    pub(super) agent: &'static str,
    pub(super) prompt: String,
    pub(super) outcome: Outcome,
    shown: Vec<RunEvent>,
}

impl Ended {
    pub(super) fn attempts(&self) -> usize {
        self.shown.iter().filter(|event| event.name() == "attempt_started").count()
    }
}

type Runners = BTreeMap<(String, Generation), u32>;

/// What is going on, as callers and observers note it.
#[derive(Debug, Default)]
struct Notes {
    /// Every runner that was up.
    runners: Mutex<Runners>,
    /// How many attempts each run has lost that is under way, with its agent.
    lost: Mutex<BTreeMap<RunId, (&'static str, usize)>>,
    parked: Mutex<Vec<String>>,
    /// How many events runs have shown.
    progress: watch::Sender<u64>,
    completed: watch::Sender<usize>,
    stop: watch::Sender<bool>,
}

pub(super) struct Stage {
    project: Project,
    runtime: Option<Runtime>,
    store: Arc<MemoryStore>,
    notes: Arc<Notes>,
    _model: ScriptedModel,
}

/// Calls one tool and then another, and at last says both results, piece by piece.
fn script() -> Script {
    Script::function(|body| {
        let request = ChatRequest::new(body);
        let prompt = request.user_prompt();
        match (request.tool_return("look"), request.tool_return("note")) {
            (None, _) => Reply::tool_calls([("look", json!({"word": prompt}))]),
            (Some(_), None) => Reply::tool_calls([("note", json!({"word": "noted"}))]),
            (Some(look), Some(note)) => {
                let text = Reply::text(format!("{prompt} {look} {note}"));
                text.chunks(6).delay(Duration::from_millis(4))
            }
        }
    })
}

fn agent(name: &str) -> AgentSpec {
    let mut spec = scripted_agent(name);
    spec.tools.push(python_tool("look", "tools:execute", Effect::Pure));
    spec.tools.push(python_tool("note", "tools:execute", Effect::Idempotent));
    spec
}

impl Stage {
    pub(super) async fn new(change: impl Fn(&mut AgentSpec)) -> Self {
        let model = ScriptedModel::start(script()).await;
        let project = Project::with_model(&model);
        project.write("tools.py", TOOLS);
        std::fs::create_dir(project.path().join("calls")).unwrap();
        let store = Arc::new(MemoryStore::default());
        let mut builder = project.runtime().store(store.clone());
        for name in AGENTS {
            let mut spec = agent(name);
            change(&mut spec);
            builder = builder.agent(spec);
        }
        let runtime = builder.start().await.unwrap();
        let notes = Arc::new(Notes::default());
        for handle in runtime.agents() {
            let status = handle.status().await.unwrap();
            let (name, pid) = (status.name.to_string(), status.pid.unwrap());
            notes.runners.lock().unwrap().insert((name, status.generation), pid);
        }
        tokio::spawn(observe(runtime.clone().events(), notes.clone()));
        Self { project, runtime: Some(runtime), store, notes, _model: model }
    }

    pub(super) fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().unwrap()
    }

    pub(super) fn drop_runtime(&mut self) {
        self.runtime = None;
    }

    fn calls(&self) -> PathBuf {
        self.project.path().join("calls")
    }

    /// Starts the callers; each asks its agent again and again.
    pub(super) fn callers(&self, answers: Answers) -> Vec<JoinHandle<Vec<Ended>>> {
        let caller = |number: usize| {
            let name = AGENTS[number % AGENTS.len()];
            let agent = self.runtime().named(name).unwrap();
            tokio::spawn(call(agent, name, number, answers, self.notes.clone()))
        };
        (0..CALLERS).map(caller).collect()
    }

    /// Lets each caller finish what it has begun.
    pub(super) async fn stop(&self, callers: Vec<JoinHandle<Vec<Ended>>>) -> Vec<Ended> {
        self.notes.stop.send_replace(true);
        tokio::time::timeout(PATIENCE, self.joined(callers)).await.expect("no run is lost")
    }

    pub(super) async fn joined(&self, callers: Vec<JoinHandle<Vec<Ended>>>) -> Vec<Ended> {
        let mut ended = Vec::new();
        for caller in callers {
            ended.extend(caller.await.unwrap());
        }
        ended
    }

    /// Waits until runs have shown so many more events.
    pub(super) async fn progress(&self, more: u64) {
        let target = *self.notes.progress.borrow() + more;
        let mut progress = self.notes.progress.subscribe();
        let reached = progress.wait_for(|shown| *shown >= target);
        tokio::time::timeout(PATIENCE, reached).await.expect("runs go on").unwrap();
    }

    /// Waits until so many runs have completed.
    pub(super) async fn completed(&self, count: usize) {
        let mut completed = self.notes.completed.subscribe();
        let reached = completed.wait_for(|completed| *completed >= count);
        tokio::time::timeout(PATIENCE, reached).await.expect("runs complete").unwrap();
    }

    /// Kills runners at random moments, for a while. An agent is spared while a run of it has lost two attempts:
    /// who is killed alone twice is quarantined, since nobody can tell who killed it.
    pub(super) async fn kill(&self, pace: Pace) {
        let mut left = AGENTS.map(|name| (name, pace.kills)).to_vec();
        let killing = async {
            let mut random = Random(pace.seed);
            while !left.is_empty() {
                self.progress(random.below(pace.events) + 1).await;
                let Some((name, pid)) = self.victim(&left, &mut random).await else { return };
                kill_9_if_there(pid);
                left.iter_mut().filter(|(of, _)| *of == name).for_each(|(_, kills)| *kills -= 1);
                left.retain(|(_, kills)| *kills > 0);
                self.noticed(name, pid).await;
            }
        };
        let _time_is_up = tokio::time::timeout(pace.time, killing).await;
        let spared: usize = left.iter().map(|(_, kills)| kills).sum();
        assert!(spared < AGENTS.len() * pace.kills, "nobody was killed");
    }

    /// Chooses a runner among those that are up and whose runs may lose it; none when the runtime
    /// goes.
    async fn victim<'a>(
        &self,
        left: &[(&'a str, usize)],
        random: &mut Random,
    ) -> Option<(&'a str, u32)> {
        let mut chosen = None;
        until("a runner is up whose runs may lose it", async || {
            let mut able = Vec::new();
            for (name, _) in left {
                let Ok(agent) = self.runtime().named(name) else { return true };
                let Ok(status) = agent.status().await else { return true };
                let up = status.state == AgentState::Up && !self.is_spared(name);
                able.extend(status.pid.filter(|pid| up && is_alive(*pid)).map(|pid| (*name, pid)));
            }
            chosen = (!able.is_empty()).then(|| able[random.below(able.len() as u64) as usize]);
            chosen.is_some()
        })
        .await;
        chosen
    }

    async fn noticed(&self, name: &str, pid: u32) {
        let Ok(agent) = self.runtime().named(name) else { return };
        until("the death is noticed", async || {
            agent.status().await.map_or(true, |status| status.pid != Some(pid))
        })
        .await;
    }

    fn is_spared(&self, agent: &str) -> bool {
        self.notes.lost.lock().unwrap().values().any(|(of, lost)| *of == agent && *lost > 1)
    }

    pub(super) async fn assert_each_completed_once(&self, ended: &[Ended]) {
        assert!(ended.len() >= CALLERS);
        for run in ended {
            let expected = format!("{} {} noted", run.prompt, run.prompt);
            assert_eq!(output(&run.outcome), json!(expected), "{}", run.id);
        }
        self.assert_one_end_each(ended).await;
    }

    /// Checks each run's one end, as it was shown and as it is stored, and that no recorded step
    /// was repeated.
    pub(super) async fn assert_one_end_each(&self, ended: &[Ended]) {
        let distinct: BTreeSet<&RunId> = ended.iter().map(|run| &run.id).collect();
        assert_eq!(distinct.len(), ended.len());
        for run in ended {
            let stored = self.store.records(&run.id, 0).await.unwrap();
            let stored: Vec<_> = stored.into_iter().map(|record| record.event).collect();
            for events in [&run.shown, &stored] {
                let ends = events.iter().filter(|event| event.is_terminal()).count();
                assert_eq!(ends, 1, "{}: {events:?}", run.id);
                assert!(events.last().unwrap().is_terminal(), "{}: {events:?}", run.id);
            }
            self.assert_no_step_repeated(run.agent, &stored);
        }
    }

    /// Each call was executed at most once per runner, and in none after the one in which its
    /// result was recorded; nor did the model have to ask for it again.
    fn assert_no_step_repeated(&self, agent: &str, stored: &[RunEvent]) {
        let runners = self.notes.runners.lock().unwrap();
        let (mut current, mut done) = (0, BTreeSet::new());
        for event in stored {
            if let RunEvent::ToolCalled(called) = event {
                assert!(!done.contains(&called.name), "{called:?} was asked for again: {stored:?}");
            } else if let RunEvent::AttemptStarted(begun) = event {
                current = runners[&(agent.to_owned(), begun.generation)];
            } else if let RunEvent::ToolReturned(returned) = event {
                done.insert(returned.name.clone());
                let file = self.calls().join(returned.tool_call_id.as_str());
                let text = std::fs::read_to_string(file).unwrap();
                let pids: Vec<u32> = text.lines().map(|pid| pid.parse().unwrap()).collect();
                assert_eq!(pids.last(), Some(&current), "{returned:?} ran again: {pids:?}");
                let distinct: BTreeSet<&u32> = pids.iter().collect();
                assert_eq!(distinct.len(), pids.len(), "{returned:?} ran twice: {pids:?}");
            }
        }
    }

    /// Checks that every agent is up, never gave up, and has nothing under way.
    pub(super) async fn assert_whole_again(&self) {
        for handle in self.runtime().agents() {
            until("the agent is up", async || {
                let status = handle.status().await.unwrap();
                status.state == AgentState::Up && status.pid.is_some_and(is_alive)
            })
            .await;
            let status = handle.status().await.unwrap();
            assert_eq!((status.in_flight, status.queued), (0, 0), "{status:?}");
        }
        assert!(self.notes.parked.lock().unwrap().is_empty());
    }

    pub(super) async fn end(self) {
        self.runtime().shutdown().await;
        self.assert_nothing_lives().await;
    }

    /// Checks that no process and no socket is left, of all runners that there were.
    pub(super) async fn assert_nothing_lives(&self) {
        until("no runner lives", async || {
            let runners = self.notes.runners.lock().unwrap();
            !runners.values().any(|pid| is_alive(*pid))
        })
        .await;
        until("no socket is left", async || self.project.sockets().is_empty()).await;
    }
}

/// A shutdown may have been faster.
fn kill_9_if_there(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
    let _gone = kill_process(pid, Signal::KILL);
}

/// Notes what happens in the tree.
async fn observe(mut events: axon_runtime::RuntimeEvents, notes: Arc<Notes>) {
    while let Some(observed) = events.next().await {
        let Observed::Event(event) = observed else { panic!("too many events: {observed:?}") };
        if let RuntimeEvent::RunnerUp { agent, generation, pid } = *event {
            notes.runners.lock().unwrap().insert((agent.to_string(), generation), pid);
        } else if let RuntimeEvent::AgentParked { agent, .. } = *event {
            notes.parked.lock().unwrap().push(agent.to_string());
        }
    }
}

async fn call(
    agent: AgentHandle,
    name: &'static str,
    caller: usize,
    answers: Answers,
    notes: Arc<Notes>,
) -> Vec<Ended> {
    let mut ended = Vec::new();
    while !*notes.stop.borrow() {
        let prompt = format!("{caller}/{}", ended.len());
        let mut run = match agent.run(prompt.as_str()).start().await {
            Ok(run) => run,
            Err(refused) => {
                assert_eq!(answers, Answers::UntilRefused, "{refused}");
                break;
            }
        };
        let shown = follow(&mut run, name, &notes).await;
        let ended_run = run.outcome().await;
        notes.lost.lock().unwrap().remove(run.id());
        let (id, outcome) = (ended_run.run_id, ended_run.outcome);
        let completed = usize::from(matches!(outcome, Outcome::Completed(_)));
        notes.completed.send_modify(|count| *count += completed);
        ended.push(Ended { id, agent: name, prompt, outcome, shown });
    }
    ended
}

async fn follow(run: &mut RunHandle, agent: &'static str, notes: &Notes) -> Vec<RunEvent> {
    let mut shown = Vec::new();
    while let Some(update) = run.events().next().await {
        let RunUpdate::Event(event) = update else { panic!("{update:?}") };
        if let RunEvent::AttemptFailed(_) = event.event {
            let mut lost = notes.lost.lock().unwrap();
            lost.entry(run.id().clone()).or_insert((agent, 0)).1 += 1;
        }
        notes.progress.send_modify(|progress| *progress += 1);
        shown.push(event.event.clone());
    }
    shown
}

/// Random numbers that are the same for the same seed (SplitMix64).
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

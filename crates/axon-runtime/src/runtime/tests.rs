//! What no caller can do: the actors themselves are killed.

use std::collections::BTreeMap;
use std::path::Path;

use axon_kernel::spec::{AgentSpec, RunnerProgram};
use axon_test::scripted_runner::{self, Life, Step, When};
use futures_util::FutureExt;
use futures_util::future::join_all;
use tempfile::TempDir;

use super::*;
use crate::agent::AgentState;
use crate::run::{Outcome, RunHandle};

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// The file that [`scripted_runner::RunnerScript::command`] writes.
const SCRIPT: &str = "runner-script.json";

/// No test: the process of a runner, which the tests below start from their own program.
#[test]
fn plays_a_runner() {
    if std::env::args().nth(1).is_some_and(|argument| argument.ends_with(SCRIPT)) {
        scripted_runner::main();
    }
}

struct Stage {
    runtime: Runtime,
    agent: AgentHandle,
    folder: TempDir,
}

fn spec(folder: &Path) -> AgentSpec {
    let life = Life::default().on(When::prompt("hang"), [Step::text("Hm."), Step::Hang]).always([
        Step::text("Well, "),
        Step::SleepMs(80),
        Step::complete("{{prompt}}"),
    ]);
    let program = std::env::current_exe().unwrap().display().to_string();
    let mut command = scripted_runner::RunnerScript::from(life).command(&program, folder).unwrap();
    command.extend(["runtime::tests::plays_a_runner".to_owned(), "--exact".to_owned()]);
    let mut spec = AgentSpec::new("agent".parse().unwrap());
    spec.model = Some("test".parse().unwrap());
    spec.runner.program = RunnerProgram::Command(command);
    spec.limits.concurrency = 3.try_into().unwrap();
    spec.supervision.backoff.min = Duration::from_millis(1);
    spec
}

impl Stage {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sockets = folder.path().join("tmp");
        std::fs::create_dir(&sockets).unwrap();
        let variables = [("TMPDIR".to_owned(), sockets.display().to_string())];
        let host = Host::new(folder.path().to_owned(), BTreeMap::from(variables));
        let builder = Runtime::builder().host(host).agent(spec(folder.path()));
        let runtime = builder.start().await.unwrap();
        let agent = runtime.named("agent").unwrap();
        agent.ready().await.unwrap();
        Self { runtime, agent, folder }
    }

    async fn start(&self, prompt: &str) -> RunHandle {
        self.agent.run(prompt).start().await.unwrap()
    }

    /// Starts so many runs of which some are under way and the others wait.
    async fn start_many(&self, count: usize) -> Vec<RunHandle> {
        join_all((0..count).map(|number| async move { self.start(&number.to_string()).await }))
            .await
    }

    /// Returns how many processes there are. Each has a folder for its socket.
    fn runners(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("tmp")).unwrap().count()
    }

    fn actor(&self) -> ractor::ActorRef<crate::agent::AgentMessage> {
        self.agent.agent.actor().borrow().clone().unwrap()
    }

    async fn is_up(&self) -> bool {
        self.agent.status().await.is_ok_and(|status| status.state == AgentState::Up)
    }

    async fn assert_serves(&self) {
        let ended = self.agent.run("still there?").wait().await.unwrap();
        assert!(matches!(ended.outcome, Outcome::Completed(_)), "{ended:?}");
    }

    async fn end(self) {
        in_time(self.runtime.shutdown()).await;
        assert_eq!(self.runners(), 0);
    }
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it ends in time")
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, holds).await.is_ok(), "never happened: {what}");
}

async fn shows_text(run: &mut RunHandle) {
    while let Some(crate::RunUpdate::Event(update)) = in_time(run.events().next()).await {
        if update.event.name() == "text_delta" {
            return;
        }
    }
    unreachable!("the run ended before it showed anything");
}

async fn assert_all_complete(runs: &[RunHandle]) {
    for ended in in_time(join_all(runs.iter().map(RunHandle::outcome))).await {
        assert!(matches!(ended.outcome, Outcome::Completed(_)), "{ended:?}");
    }
}

async fn assert_all_cancelled(runs: &[RunHandle]) {
    for ended in in_time(join_all(runs.iter().map(RunHandle::outcome))).await {
        let Outcome::Cancelled(cancelled) = &ended.outcome else { unreachable!("{ended:?}") };
        assert!(cancelled.reason.contains("shuts down"), "{cancelled:?}");
    }
}

#[tokio::test]
async fn runs_complete_although_their_agents_actor_is_killed_while_they_wait_lease_and_stream() {
    let stage = Stage::new().await;
    let mut runs = stage.start_many(8).await;
    let first = stage.actor();
    first.kill();
    shows_text(&mut runs[0]).await;
    until("the actor is back", async || stage.actor().get_id() != first.get_id()).await;
    stage.actor().kill();
    assert_all_complete(&runs).await;
    stage.assert_serves().await;
    stage.end().await;
}

#[tokio::test]
async fn the_runner_of_a_killed_actor_ends_when_its_last_run_has_left() {
    let stage = Stage::new().await;
    let mut streaming = stage.start("slow").await;
    shows_text(&mut streaming).await;
    stage.actor().kill();
    assert_all_complete(&[streaming]).await;
    until("the agent is up again", async || stage.is_up().await).await;
    until("the old runner is gone", async || stage.runners() == 1).await;
    stage.end().await;
}

#[tokio::test]
async fn runs_go_on_without_the_actor_that_knows_them_and_a_shutdown_still_answers_all() {
    let stage = Stage::new().await;
    let runs = stage.start_many(6).await;
    stage.runtime.inner.services.runs.actor().kill();
    assert_all_complete(&runs).await;
    let mut hanging = vec![stage.start("hang").await, stage.start("hang").await];
    shows_text(&mut hanging[0]).await;
    until("the new actor knows the runs", async || {
        stage.runtime.inner.services.runs.count().await == 2
    })
    .await;
    in_time(stage.runtime.shutdown()).await;
    assert_all_cancelled(&hanging).await;
    stage.end().await;
}

#[tokio::test]
async fn a_shutdown_just_when_the_actor_that_knows_the_runs_has_died_answers_all() {
    let stage = Stage::new().await;
    let mut hanging = vec![stage.start("hang").await];
    shows_text(&mut hanging[0]).await;
    hanging.extend(stage.start_many(6).await);
    stage.runtime.inner.services.runs.actor().kill();
    in_time(stage.runtime.shutdown()).await;
    for run in &hanging {
        assert!(run.outcome().now_or_never().is_some(), "{} was not answered", run.id());
    }
    assert_all_cancelled(&hanging).await;
    stage.end().await;
}

#[tokio::test]
async fn everything_comes_back_when_the_supervisor_of_the_agents_is_killed() {
    let stage = Stage::new().await;
    let mut runs = stage.start_many(6).await;
    shows_text(&mut runs[0]).await;
    stage.runtime.inner.agents.kill_supervisor();
    assert_all_complete(&runs).await;
    until("the agent is up again", async || stage.is_up().await).await;
    until("the old runner is gone", async || stage.runners() == 1).await;
    stage.assert_serves().await;
    stage.end().await;
}

#[tokio::test]
async fn when_the_root_is_killed_every_run_ends_and_no_process_is_left() {
    let stage = Stage::new().await;
    let mut runs = stage.start_many(6).await;
    shows_text(&mut runs[0]).await;
    stage.runtime.inner.agents.root().unwrap().kill();
    in_time(join_all(runs.iter().map(RunHandle::outcome))).await;
    until("no runner is left", async || stage.runners() == 0).await;
    assert!(stage.agent.run("anybody?").start().await.is_err());
    stage.end().await;
}

#[tokio::test]
async fn a_runtime_that_is_dropped_answers_its_runs_and_leaves_no_process() {
    let Stage { runtime, agent, folder } = Stage::new().await;
    let mut runs = vec![agent.run("hang").start().await.unwrap()];
    shows_text(&mut runs[0]).await;
    for _ in 0..6 {
        runs.push(agent.run("hang").start().await.unwrap());
    }
    drop(runtime);
    for ended in in_time(join_all(runs.iter().map(RunHandle::outcome))).await {
        assert!(matches!(ended.outcome, Outcome::Cancelled(_)), "{ended:?}");
    }
    let left = || std::fs::read_dir(folder.path().join("tmp")).unwrap().count();
    until("no runner is left", async || left() == 0).await;
}

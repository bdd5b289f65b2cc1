//! Runners that misbehave: every way gives a typed failure, and nothing hangs or is left.

use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::ConversationId;
use axon_kernel::schema::Schema;
use axon_kernel::spec::{AgentSpec, Effect, OutputSpec, RunnerProgram};
use axon_kernel::wire::Before;
use axon_runtime::{AgentState, Outcome, RunOutcome, Runtime};
use axon_test::scripted_runner::{
    Answer, CheckpointStep, CompleteStep, Death, Endpoint, Life, RunnerScript, Start, Step, When,
};
use serde_json::json;

use crate::support::{Project, failure, follow, names, output, until};

/// A project with one agent, whose runner plays a script.
struct Scene {
    project: Project,
    runtime: Runtime,
}

fn spec(project: &Project, script: impl Into<RunnerScript>) -> AgentSpec {
    let mut spec = AgentSpec::new("agent".parse().unwrap());
    let program = env!("CARGO_BIN_EXE_scripted-runner");
    let folder = tempfile::tempdir_in(project.path()).unwrap().keep();
    let command = script.into().command(program, &folder).unwrap();
    spec.model = Some("test".parse().unwrap());
    spec.runner.program = RunnerProgram::Command(command);
    spec.runner.start_timeout = Duration::from_secs(2);
    spec.supervision.backoff.min = Duration::from_millis(1);
    spec.limits.timeout = Duration::from_secs(20);
    spec
}

impl Scene {
    async fn new(script: impl Into<RunnerScript>) -> Self {
        Self::with(script, |_| ()).await
    }

    async fn with(script: impl Into<RunnerScript>, change: impl FnOnce(&mut AgentSpec)) -> Self {
        let project = Project::new();
        let mut spec = spec(&project, script);
        change(&mut spec);
        let runtime = project.runtime().agent(spec).start().await.unwrap();
        Self { project, runtime }
    }

    async fn run(&self) -> RunOutcome {
        self.runtime.named("agent").unwrap().run("hello").wait().await.unwrap()
    }

    async fn end(self) {
        self.runtime.shutdown().await;
        assert_eq!(self.project.sockets(), Vec::<std::path::PathBuf>::new());
    }
}

fn fine() -> [Step; 1] {
    [Step::complete("fine")]
}

/// Plays `steps` in the first generation, and answers in every later one.
fn first(steps: impl IntoIterator<Item = Step>) -> RunnerScript {
    RunnerScript::from(fine()).generation(1, Life::default().always(steps))
}

#[tokio::test]
async fn a_runner_may_be_any_program_that_speaks_the_protocol() {
    let scene = Scene::new([Step::text("Hm. "), Step::complete("{{prompt}}, you say?")]).await;
    let mut run = scene.runtime.named("agent").unwrap().run("Hello").start().await.unwrap();
    assert!(names(&follow(&mut run).await).contains(&"text_delta"));
    assert_eq!(output(&run.outcome().await.outcome), json!("Hello, you say?"));
    scene.end().await;
}

#[tokio::test]
async fn a_runner_that_dies_is_replaced_and_the_run_completes() {
    let checkpoint = Step::checkpoint(Before::Model, [json!({"kind": "request", "parts": []})]);
    for steps in [
        vec![Step::Die(Death::signal(9))],
        vec![Step::text("half"), Step::Die(Death::code(3))],
        vec![checkpoint, Step::text("half"), Step::Die(Death::signal(11))],
        vec![Step::text("half"), Step::EndStream],
        vec![Step::text("half"), Step::BreakStream],
        vec![Step::Raw("event: text\ndata: {".to_owned()), Step::EndStream],
        vec![Step::Garbage(b"id: 2\nevent: x\ndata: \xFF\xFE\n\n".to_vec())],
        vec![Step::event("attempt_completed", json!({"output": 1}))],
        vec![Step::Raw(format!("id: 1\nevent: x\ndata: {}\n\n", "[".repeat(100)))],
    ] {
        let shown = format!("{steps:?}");
        let scene = Scene::new(first(steps)).await;
        let ended = scene.run().await;
        let Outcome::Completed(completed) = &ended.outcome else { panic!("{shown}: {ended:?}") };
        assert_eq!((completed.output.get(), completed.attempts), ("\"fine\"", 2), "{shown}");
        let status = scene.runtime.named("agent").unwrap().status().await.unwrap();
        assert_eq!(status.generation.0, 2, "{shown}");
        scene.end().await;
    }
}

#[tokio::test]
async fn a_runner_that_dies_after_its_answer_takes_nothing_back() {
    let script = first([Step::complete("fine"), Step::Die(Death::code(1))]);
    let scene = Scene::new(script).await;
    for _ in 0..3 {
        assert_eq!(output(&scene.run().await.outcome), json!("fine"));
    }
    scene.end().await;
}

#[tokio::test]
async fn a_resumed_attempt_starts_from_the_last_checkpoint() {
    let message = json!({"kind": "request", "parts": [{"n": 12345678901234567890123_f64}]});
    let life = Life::default()
        .on(When::resumed(), [Step::complete("resumed")])
        .always([Step::checkpoint(Before::Model, [message]), Step::Die(Death::signal(9))]);
    let scene = Scene::new(life).await;
    assert_eq!(output(&scene.run().await.outcome), json!("resumed"));
    scene.end().await;
}

#[tokio::test]
async fn a_call_that_may_have_taken_effect_is_never_repeated() {
    let call = |effect| vec![Step::tool_started("c1", "pay", effect), Step::Die(Death::signal(9))];
    let scene = Scene::new(first(call(Effect::Once))).await;
    let ended = scene.run().await;
    let Outcome::Paused(paused) = &ended.outcome else { panic!("{ended:?}") };
    assert!(format!("{paused:?}").contains("Ambiguous"), "{paused:?}");
    scene.end().await;

    let scene = Scene::new(first(call(Effect::Idempotent))).await;
    assert_eq!(output(&scene.run().await.outcome), json!("fine"));
    scene.end().await;
}

#[tokio::test]
async fn a_runner_that_always_dies_in_mid_run_fails_the_run_with_its_last_words() {
    let words = "cannot allocate memory";
    let scene = Scene::new([Step::Die(Death::signal(9).saying(words))]).await;
    let ended = scene.run().await;
    let failure = failure(&ended.outcome);
    assert_eq!(failure.kind, FailureKind::RunnerDied);
    assert!(failure.message.contains(words), "{failure}");
    scene.end().await;
}

#[tokio::test]
async fn a_runner_that_does_not_start_parks_its_agent_with_the_cause() {
    for (start, expected) in [
        (Start::DieBeforeReady(Death::code(3).saying("no luck today")), "no luck today"),
        (Start::GarbageInsteadOfReady("<html>".to_owned()), "<html>"),
        (Start::NeverReady, "not ready after"),
        (Start::WrongGeneration, "generation"),
        (Start::WrongProtocol, "protocol"),
    ] {
        let project = Project::new();
        let mut spec = spec(&project, Life::starting(start));
        spec.runner.start_timeout = Duration::from_millis(300);
        spec.supervision.intensity.max_restarts = 1;
        let runtime = project.runtime().agent(spec).start().await.unwrap();
        let agent = runtime.named("agent").unwrap();
        let cause = match agent.run("hello").wait().await {
            // It was still being tried when the run was accepted.
            Ok(ended) => failure(&ended.outcome).clone(),
            Err(refused) => refused.into_failure(),
        };
        assert!(cause.message.contains(expected), "{cause}");
        assert!(cause.message.contains("unavailable"), "{cause}");
        let status = agent.status().await.unwrap();
        assert!(matches!(status.state, AgentState::Parked { .. }), "{status:?}");
        runtime.shutdown().await;
        assert_eq!(project.sockets().len(), 0);
    }
}

#[tokio::test]
async fn a_runner_that_refuses_to_start_says_why() {
    let cause = Failure::new(FailureKind::Config, "no module named nowhere");
    let project = Project::new();
    let spec = spec(&project, Life::starting(Start::Failed(cause)));
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let agent = runtime.named("agent").unwrap();
    let failure = agent.ready().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Config);
    assert!(failure.message.contains("nowhere"), "{failure}");
    let refused = agent.run("hello").start().await.unwrap_err();
    assert_eq!(refused.code(), "agent_unavailable");
    assert_eq!(project.sockets().len(), 0);
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_slow_start_is_waited_for() {
    let life = Life { start: Start::ReadyAfterMs(300), ..Life::from(fine()) };
    let scene = Scene::new(life).await;
    assert_eq!(output(&scene.run().await.outcome), json!("fine"));
    scene.end().await;
}

#[tokio::test]
async fn answers_that_are_not_the_protocols_are_quoted() {
    let life = Life::from(fine()).answering(Endpoint::Start, Answer::garbage(), None);
    let scene = Scene::new(life).await;
    let ended = scene.run().await;
    let failure = failure(&ended.outcome);
    assert_eq!(failure.kind, FailureKind::Decode);
    assert!(failure.message.contains("It works!"), "{failure}");
    scene.end().await;
}

#[tokio::test]
async fn an_output_that_the_runner_let_through_is_validated_again() {
    let schema = json!({"type": "object", "properties": {"risk": {"maximum": 10}}});
    let life = Life::default().always([Step::complete(json!({"risk": 11}))]);
    let scene = Scene::with(life, |spec| {
        spec.output = Some(OutputSpec::new(Schema::new(schema).unwrap()));
    });
    let scene = scene.await;
    let ended = scene.run().await;
    let failure = failure(&ended.outcome);
    assert_eq!(failure.kind, FailureKind::OutputInvalid);
    assert!(failure.message.contains("risk"), "{failure}");
    scene.end().await;
}

#[tokio::test]
async fn any_json_comes_through_unchanged() {
    let text =
        r#"{"big":123456789012345678901234567890,"tiny":1e-400,"b":[null,"é\u0001"],"a":{}}"#;
    let output = axon_kernel::json::RawJson::parse(text).unwrap();
    let frame =
        format!("id: 2\nevent: attempt_completed\ndata: {{\"output\":{text},\"usage\":{{}}}}\n\n");
    let scene = Scene::new([Step::Raw(frame)]).await;
    let ended = scene.run().await;
    let Outcome::Completed(completed) = ended.outcome else { panic!("{ended:?}") };
    assert_eq!(completed.output, output);
    scene.end().await;
}

#[tokio::test]
async fn a_runner_that_hangs_is_cut_off_at_the_deadline() {
    let scene = Scene::new([Step::Freeze]).await;
    let agent = scene.runtime.named("agent").unwrap();
    let began = tokio::time::Instant::now();
    let ended = agent.run("hello").timeout(Duration::from_millis(500)).wait().await.unwrap();
    assert_eq!(failure(&ended.outcome).kind, FailureKind::RunTimeout);
    assert!(began.elapsed() < Duration::from_secs(10));
    scene.end().await;
}

#[tokio::test]
async fn an_idle_runner_that_dies_is_noticed_at_once() {
    let start = Start::ReadyThenDie { after_ms: 50, death: Death::signal(9) };
    let scene = Scene::new(RunnerScript::from(fine()).generation(1, Life::starting(start))).await;
    let agent = scene.runtime.named("agent").unwrap();
    until("the second generation", async || {
        let status = agent.status().await.unwrap();
        status.generation.0 == 2 && status.state == AgentState::Up
    })
    .await;
    scene.end().await;
}

#[tokio::test]
async fn a_parked_agent_serves_again_after_a_restart_by_hand() {
    let dead = || Life::starting(Start::DieBeforeReady(Death::code(1)));
    let script = RunnerScript::from(fine()).generation(1, dead()).generation(2, dead());
    let scene = Scene::with(script, |spec| spec.supervision.intensity.max_restarts = 1).await;
    let agent = scene.runtime.named("agent").unwrap();
    until("it is parked", async || {
        matches!(agent.status().await.unwrap().state, AgentState::Parked { .. })
    })
    .await;
    agent.restart().await.unwrap();
    assert_eq!(output(&scene.run().await.outcome), json!("fine"));
    scene.end().await;
}

#[tokio::test]
async fn one_broken_agent_takes_no_other_down() {
    let project = Project::new();
    let broken = spec(&project, [Step::Die(Death::signal(9))]);
    let mut sound = spec(&project, fine());
    sound.name = "sound".parse().unwrap();
    let runtime = project.runtime().agent(broken).agent(sound).start().await.unwrap();
    let broken = runtime.named("agent").unwrap();
    let sound = runtime.named("sound").unwrap();
    let failing = broken.run("hello").start().await.unwrap();
    for _ in 0..20 {
        let answer = sound.run("hello").wait().await.unwrap();
        assert_eq!(output(&answer.outcome), json!("fine"));
    }
    assert_eq!(failure(&failing.outcome().await.outcome).kind, FailureKind::RunnerDied);
    assert_eq!(sound.status().await.unwrap().generation.0, 1);
    runtime.shutdown().await;
}

#[tokio::test]
async fn an_agent_stopped_while_it_starts_leaves_nothing() {
    let scene = Scene::new(fine()).await;
    let mut slow = spec(&scene.project, Life::starting(Start::NeverReady));
    slow.name = "slow".parse().unwrap();
    slow.runner.start_timeout = Duration::from_secs(600);
    let runtime = scene.runtime.clone();
    let starting = tokio::spawn(async move { runtime.start_agent(slow).await });
    until("its runner is being started", async || scene.project.sockets().len() == 2).await;
    let stopped = scene.runtime.stop_agent("slow");
    tokio::time::timeout(Duration::from_secs(20), stopped).await.unwrap().unwrap();
    until("nothing of it is left", async || scene.project.sockets().len() == 1).await;
    let refused = starting.await.unwrap().unwrap_err();
    assert!(refused.to_string().contains("stopped"), "{refused}");
    scene.end().await;
}

#[tokio::test]
async fn a_result_answers_its_own_call_and_no_later_one_with_the_same_id() {
    // Some servers count the calls of each response from 0: the same id comes again.
    let message = |n: u32| json!({"kind": "request", "parts": [], "n": n});
    let life = Life::default()
        .on(
            When::resumed(),
            [
                Step::tool_started("call_0", "count", Effect::Pure),
                Step::tool_finished("call_0", "count", "second"),
                Step::complete("{{result.call_0}}"),
            ],
        )
        .always([
            Step::checkpoint(Before::Tools, [message(1)]),
            Step::tool_started("call_0", "count", Effect::Pure),
            Step::tool_finished("call_0", "count", "first"),
            Step::checkpoint(Before::Model, [message(2)]),
            Step::Die(Death::signal(9)),
        ]);
    let scene = Scene::new(life).await;
    assert_eq!(output(&scene.run().await.outcome), json!("second"));
    scene.end().await;
}

#[tokio::test]
async fn a_history_that_an_agent_rewrites_is_kept_as_it_left_it() {
    let user = |text: &str| json!({"kind": "request", "parts": [{"part_kind": "user-prompt", "content": text}]});
    let rewrite = CheckpointStep {
        before: Before::Model,
        messages: Some(vec![user("summary").into(), user("{{prompt}}").into()]),
        base: Some(0),
        usage: None,
    };
    let answer = [json!({"kind": "response", "parts": []}).into()];
    let complete =
        CompleteStep { output: json!("ok").into(), messages: Some(answer.into()), usage: None };
    let scene = Scene::new([Step::Checkpoint(rewrite), Step::Complete(complete)]).await;
    let agent = scene.runtime.named("agent").unwrap();
    for turn in 0..4 {
        let run = agent.run(format!("turn {turn}")).conversation(ConversationId::new("c")).wait();
        let ended = run.await.unwrap();
        assert_eq!(output(&ended.outcome), json!("ok"), "turn {turn}");
    }
    scene.end().await;
}

#[tokio::test]
async fn what_a_caller_got_wrong_costs_no_runner() {
    let refusal = Failure::new(FailureKind::Decode, "message_history.0: no such kind");
    let answer = Answer::refuse(400, refusal);
    let scene = Scene::new(Life::from(fine()).answering(Endpoint::Start, answer, 1)).await;
    assert_eq!(failure(&scene.run().await.outcome).kind, FailureKind::Config);
    assert_eq!(output(&scene.run().await.outcome), json!("fine"));
    let told = Step::Fail(Failure::new(FailureKind::Decode, "the output cannot be written"));
    let status = scene.runtime.named("agent").unwrap().status().await.unwrap();
    assert_eq!(status.generation.0, 1);
    scene.end().await;

    let scene = Scene::new([told]).await;
    assert_eq!(failure(&scene.run().await.outcome).kind, FailureKind::Decode);
    let status = scene.runtime.named("agent").unwrap().status().await.unwrap();
    assert_eq!(status.generation.0, 1);
    scene.end().await;
}

#[tokio::test]
async fn every_accepted_run_ends_even_when_the_runtime_goes_that_moment() {
    for _ in 0..20 {
        let scene = Scene::with([Step::Hang], |spec| spec.limits.queue = 1000).await;
        let agent = scene.runtime.named("agent").unwrap();
        let starting = tokio::spawn(async move {
            let mut accepted = Vec::new();
            while let Ok(run) = agent.run("hello").start().await {
                accepted.push(run);
                tokio::task::yield_now().await;
            }
            accepted
        });
        tokio::task::yield_now().await;
        scene.runtime.shutdown().await;
        for run in starting.await.unwrap() {
            let ended = tokio::time::timeout(Duration::from_secs(20), run.outcome()).await;
            assert!(ended.is_ok(), "{} never ended", run.id());
        }
    }
}

#[tokio::test]
async fn an_offline_model_is_refused_for_one_run_as_for_all() {
    let project = Project::new();
    let life = Life { offline: true, ..Life::from(fine()) };
    let allowed = project.runtime().agent(spec(&project, life.clone())).start().await.unwrap();
    let ended = allowed.named("agent").unwrap().run("hello").wait().await.unwrap();
    assert!(matches!(ended.outcome, Outcome::Completed(_)), "{ended:?}");
    allowed.shutdown().await;
    let builder = Runtime::builder().host(project.host());
    let refused = builder.agent(spec(&project, life)).start().await.unwrap_err();
    assert!(refused.to_string().contains("offline"), "{refused}");
}

#[tokio::test]
async fn an_idle_runner_that_gives_no_sign_of_life_is_replaced() {
    let heartbeat = Duration::from_millis(200);
    let scene = Scene::with(fine(), |spec| spec.runner.heartbeat = heartbeat).await;
    let agent = scene.runtime.named("agent").unwrap();
    let pid = agent.status().await.unwrap().pid.unwrap();
    let process = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::STOP).unwrap();
    until("the second generation", async || {
        let status = agent.status().await.unwrap();
        status.generation.0 == 2 && status.state == AgentState::Up
    })
    .await;
    assert_eq!(output(&scene.run().await.outcome), json!("fine"));
    scene.end().await;
}

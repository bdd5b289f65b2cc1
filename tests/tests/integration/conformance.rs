//! The runner protocol: the suite against both runners, and what a scripted runner can play.

mod history;
mod stuck;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::{Attempt, Generation, MessageId, RunId, ToolCallId};
use axon_kernel::json::RawJson;
use axon_kernel::spec::{AgentName, AgentSpec, Effect, PythonTarget};
use axon_kernel::wire::{
    AttemptCompleted, AttemptRequest, Before, Launch, MessagePriority, MessageRequest,
    PermitRequest, ReconcileAnswer, ReconcileRequest, RunnerEvent, ToolAnswer, ToolCallRequest,
    ToolResultRequest,
};
use axon_runner::{
    AttemptStream, LaunchPlan, RequestError, Runner, StartError, StartingRunner, StreamError,
    embedded, environment,
};
use axon_runtime::Host;
use axon_test::conformance::{Target, check};
use axon_test::scripted_runner::{
    Answer, Death, Endpoint, Life, OnTerm, ReconcilePlay, RunnerScript, Start, Step, ToolPlay,
    When, message,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const SCRIPTED: &str = env!("CARGO_BIN_EXE_scripted-runner");
const READY_WITHIN: Duration = Duration::from_secs(20);
const DEADLINE: Duration = Duration::from_secs(20);

/// A scripted runner, and the folder of its script.
struct Scripted {
    runner: Runner,
    _folder: TempDir,
}

async fn launch(script: impl Into<RunnerScript>) -> Scripted {
    launch_as(script, 1).await.expect("the script lets the runner become ready")
}

async fn launch_as(
    script: impl Into<RunnerScript>,
    generation: u32,
) -> Result<Scripted, StartError> {
    start(script.into(), generation, READY_WITHIN).await
}

async fn start(
    script: RunnerScript,
    generation: u32,
    within: Duration,
) -> Result<Scripted, StartError> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let command = script.command(SCRIPTED, folder.path()).expect("the folder is there");
    let mut plan = plan(command, folder.path());
    plan.launch.generation = Generation(generation);
    let runner = StartingRunner::launch(plan).await?.ready(within).await?;
    Ok(Scripted { runner, _folder: folder })
}

fn plan(command: Vec<String>, folder: &Path) -> LaunchPlan {
    let name = AgentName::try_from("scripted").expect("it is a name");
    let mut launch = Launch::new(&AgentSpec::new(name), Generation::FIRST, "the-token".to_owned());
    let callables = json!([
        {"target": "bank:balance", "role": "tool", "effect": "pure"},
        {"target": "bank:was_paid", "role": "reconcile"},
    ]);
    launch.callables = serde_json::from_value(callables).expect("they are callables");
    launch.limits.attempts = 64;
    LaunchPlan::directly(command, folder.to_owned(), launch)
}

/// The plan of a Python runner that may call nothing.
async fn python_plan(folder: &Path) -> LaunchPlan {
    let (interpreter, sources) = tokio::task::spawn_blocking(python).await.unwrap();
    let words = [interpreter.as_path(), Path::new("-I"), sources.as_path()];
    let command = words.map(|word| word.display().to_string()).to_vec();
    let mut plan = plan(command, folder);
    plan.env.insert("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned());
    plan.launch.callables.clear();
    plan
}

fn request(run: &str, prompt: &str) -> AttemptRequest {
    let request = json!({
        "run_id": run, "attempt": 1, "prompt": prompt, "stream": true,
        "spec": {"model": "openai:gpt-5"}, "timeout": 20,
    });
    serde_json::from_str(&request.to_string()).expect("it is a request")
}

impl Scripted {
    async fn attempt(&self, request: &AttemptRequest) -> AttemptStream {
        self.runner.client().attempt(request, None).await.expect("the attempt is let in")
    }

    /// Follows one attempt to its end, giving every permit and the answer 7 to every call.
    async fn play(&self, request: &AttemptRequest) -> (Vec<RunnerEvent>, Option<StreamError>) {
        let mut stream = self.attempt(request).await;
        let mut events = Vec::new();
        loop {
            let next = tokio::time::timeout(DEADLINE, stream.next()).await.expect("in time");
            match next {
                Ok(Some((seq, event))) => {
                    self.respond(request, seq, &event).await.expect("the response is taken");
                    events.push(event);
                }
                Ok(None) => return (events, None),
                Err(error) => return (events, Some(error)),
            }
        }
    }

    async fn respond(
        &self,
        request: &AttemptRequest,
        seq: u64,
        event: &RunnerEvent,
    ) -> Result<(), RequestError> {
        let (client, run, attempt) = (self.runner.client(), &request.run_id, request.attempt);
        let waits = matches!(event, RunnerEvent::Checkpoint(step) if step.before != Before::End)
            || matches!(event, RunnerEvent::ToolStarted(started) if started.permit);
        if waits {
            return client.permit(run, PermitRequest { attempt, seq }).await;
        }
        let RunnerEvent::ToolRequest(call) = event else { return Ok(()) };
        let (tool_call_id, content) = (call.tool_call_id.clone(), json!(7));
        let answer = ToolAnswer::Ok { content };
        let (patches, usage) = (Vec::new(), None);
        let result = ToolResultRequest { attempt, tool_call_id, answer, patches, usage };
        client.tool_result(run, &result).await
    }

    async fn output(&self, request: &AttemptRequest) -> Value {
        completed(&self.play(request).await.0).output.decode().expect("an output is JSON")
    }
}

fn completed(events: &[RunnerEvent]) -> &AttemptCompleted {
    let Some(RunnerEvent::Completed(completed)) = events.last() else {
        unreachable!("no output but {events:?}")
    };
    completed
}

fn texts(events: &[RunnerEvent]) -> Vec<String> {
    let text = |event: &RunnerEvent| {
        let RunnerEvent::Model { data, .. } = event else { return None };
        let data: Value = data.decode().ok()?;
        let text = data.pointer("/part/content").or(data.pointer("/delta/content_delta"))?;
        text.as_str().map(str::to_owned)
    };
    events.iter().filter_map(text).collect()
}

#[tokio::test]
async fn scripted_runner_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let report = check(&Target::scripted(SCRIPTED, folder.path()).unwrap()).await;
    assert!(report.conforms(), "{report}");
}

#[tokio::test]
async fn python_runner_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let ready = tokio::task::spawn_blocking(python).await.unwrap();
    let target = Target::python(&ready.0, &ready.1, folder.path()).unwrap();
    let report = check(&target).await;
    assert!(report.conforms(), "{report}");
}

#[tokio::test]
async fn what_does_not_conform_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::scripted(SCRIPTED, folder.path()).unwrap();
    let mut script: RunnerScript =
        serde_json::from_slice(&std::fs::read(&target.command[1]).unwrap()).unwrap();
    // It asks for no permit, counts wrongly, and has no routes.
    let hasty = Life::default()
        .on(When::prompt("python tool"), [Step::text("hasty"), Step::complete("The result is 5.")])
        .on(When::prompt("hang"), [Step::Raw("event: log\nid: 7\ndata: {}\n\n".to_owned())])
        .answering(Endpoint::Schema, Answer::garbage(), None);
    script.default.plays.splice(0..0, hasty.plays);
    script.default.answers = hasty.answers;
    script.command(SCRIPTED, folder.path()).unwrap();
    let report = check(&target).await;
    assert!(!report.conforms());
    let told: Vec<&str> = report.disagreements().map(|(name, _)| name).collect();
    for name in ["checkpoint_waits_for_its_permit", "schema_has_its_four_parts"] {
        assert!(told.contains(&name), "{report}");
    }
    let text = report.to_string();
    assert!(text.contains("id of the event log {} \"2\"; saw \"7\""), "{report}");
    assert!(text.contains("ok    health says who it is"), "{report}");

    script.default.start = Start::WrongGeneration;
    script.command(SCRIPTED, folder.path()).unwrap();
    let report = check(&target).await;
    let first = report.disagreements().next().unwrap();
    assert_eq!(first.0, "ready_record_says_protocol_generation_and_process");

    script.default.start = Start::DieBeforeReady(Death::code(3).saying("no luck"));
    script.command(SCRIPTED, folder.path()).unwrap();
    let report = check(&target).await;
    assert_eq!(report.results.len(), 1);
    assert!(report.to_string().contains("no luck"), "{report}");
}

/// Returns the interpreter of the environment that agents run in, and the runner's sources.
pub(crate) fn python() -> (PathBuf, PathBuf) {
    let host = Host::from_process().expect("there is a working directory");
    let ready = environment::sync(&host.search(None), &|_| {}).expect("there is an environment");
    (ready.choice.python, embedded::lay_down(&host.cache).expect("the cache can be written"))
}

#[tokio::test]
async fn concurrent_runs_get_answers_of_their_own() {
    let life = Life::default()
        .on(When::prompt("boom"), [Failure::new(FailureKind::ModelOverloaded, "busy").into()])
        .always([Step::text("You said "), Step::text("{{prompt}}"), Step::complete("{{prompt}}!")]);
    let scripted = launch(life).await;
    let plays = (0..50).map(|number| {
        let request = request(&format!("run-{number}"), &format!("prompt {number}"));
        let scripted = &scripted;
        async move { scripted.play(&request).await }
    });
    for (number, (events, _)) in futures_util::future::join_all(plays).await.iter().enumerate() {
        assert_eq!(texts(events), ["You said ".to_owned(), format!("prompt {number}")]);
    }
    let (events, _) = scripted.play(&request("run-boom", "boom")).await;
    assert!(
        matches!(events.last(), Some(RunnerEvent::Failed(failed)) if failed.error.message == "busy")
    );
}

#[tokio::test]
async fn each_generation_lives_its_own_life() {
    let script = RunnerScript::from([Step::complete("generation {{generation}}")])
        .generation(1, Life::starting(Start::DieBeforeReady(Death::code(3).saying("no luck"))));
    let died = launch_as(script.clone(), 1).await.err().expect("generation 1 dies");
    let StartError::Ended(exit) = died else { panic!("{died}") };
    assert_eq!((exit.code, exit.last_words), (Some(3), vec!["no luck".to_owned()]));
    let second = launch_as(script, 2).await.unwrap();
    assert_eq!(second.output(&request("r", "x")).await, "generation 2");
}

#[tokio::test]
async fn every_false_start_is_told_apart() {
    let start_with = async |kind: Start| {
        let script = RunnerScript::from(Life::starting(kind));
        start(script, 4, Duration::from_millis(500)).await.err().expect("no start")
    };
    assert!(matches!(start_with(Start::NeverReady).await, StartError::NotReady { .. }));
    let garbage = start_with(Start::GarbageInsteadOfReady("Hello!".to_owned())).await;
    assert!(matches!(garbage, StartError::Garbage { excerpt, .. } if excerpt == "Hello!"));
    let failed = Start::Failed(Failure::new(FailureKind::ModelAuth, "no key"));
    let refused = start_with(failed).await;
    assert!(matches!(refused, StartError::Refused(error) if error.kind == FailureKind::ModelAuth));
    let mismatch = start_with(Start::WrongProtocol).await;
    assert!(matches!(mismatch, StartError::Mismatch { protocol: 2, .. }), "{mismatch}");
    let mismatch = start_with(Start::WrongGeneration).await;
    let expected = Generation(5);
    assert!(matches!(mismatch, StartError::Mismatch { generation, .. } if generation == expected));
    let killed = start_with(Start::DieBeforeReady(Death::signal(11))).await;
    assert!(matches!(killed, StartError::Ended(exit) if exit.signal == Some(11)));
}

#[tokio::test]
async fn a_late_start_and_a_death_after_ready_come_when_they_are_due() {
    let began = tokio::time::Instant::now();
    let late = launch(Life::starting(Start::ReadyAfterMs(100))).await;
    assert!(began.elapsed() >= Duration::from_millis(100));
    assert!(late.runner.client().health().await.unwrap().ok);
    let start = Start::ReadyThenDie { after_ms: 20, death: Death::code(7) };
    let doomed = launch(Life::starting(start)).await;
    assert_eq!(doomed.runner.exited().await.code, Some(7));
}

#[tokio::test]
async fn what_was_said_before_a_death_arrives() {
    for (death, signal) in [(Death::signal(9), 9), (Death::signal(11), 11), (Death::signal(6), 6)] {
        let scripted = launch([Step::text("Well"), death.into()]).await;
        let (events, error) = scripted.play(&request("r", "x")).await;
        assert_eq!(texts(&events), ["Well"]);
        assert!(error.is_some());
        assert_eq!(scripted.runner.exited().await.signal, Some(signal));
    }
}

#[tokio::test]
async fn steps_after_the_terminal_event_are_played_although_nobody_listens() {
    let death = Death::code(9).saying("too late");
    let scripted = launch([Step::complete("fine"), Step::SleepMs(20), death.into()]).await;
    assert_eq!(scripted.output(&request("r", "x")).await, "fine");
    let exit = scripted.runner.exited().await;
    assert_eq!((exit.code, exit.last_words), (Some(9), vec!["too late".to_owned()]));
}

#[tokio::test]
async fn broken_streams_break_in_their_own_ways() {
    let play = async |step: Step| {
        let scripted = launch([Step::text("Well"), step, Step::EndStream]).await;
        let (events, error) = scripted.play(&request("r", "x")).await;
        assert_eq!(texts(&events), ["Well"]);
        error.expect("no terminal event")
    };
    let ended = play(Step::EndStream).await;
    assert!(matches!(ended, StreamError::Ended), "{ended}");
    let cut = play(Step::BreakStream).await;
    assert!(matches!(cut, StreamError::Frame(_)), "{cut}");
    let unnumbered = play(Step::Raw("event: log\nid: x\ndata: {}\n\n".to_owned())).await;
    assert!(matches!(unnumbered, StreamError::Format(_)), "{unnumbered}");
    let wrong = play(Step::event("checkpoint", json!({"base": "none"}))).await;
    assert!(matches!(wrong, StreamError::Event { .. }), "{wrong}");
    let binary = play(Step::Garbage(vec![b'd', 0xFF, 0xFE, b'\n', b'\n'])).await;
    assert!(matches!(binary, StreamError::Format(_)), "{binary}");
}

#[tokio::test]
async fn a_script_without_an_end_fails_its_attempt() {
    for life in [Life::default(), Life::from([Step::text("Well")])] {
        let (events, _) = launch(life).await.play(&request("r", "x")).await;
        let Some(RunnerEvent::Failed(failed)) = events.last() else { panic!("{events:?}") };
        assert_eq!(failed.error.message, "the script has no more steps");
    }
}

#[tokio::test]
async fn tools_checkpoints_and_the_rest_come_in_the_order_of_the_script() {
    let scripted = launch([
        Step::log("begun"),
        Step::partial(json!({"advice": "Ca"})),
        Step::checkpoint(
            Before::Tools,
            [
                message::user("{{prompt}}"),
                message::tool_call("c1", "balance", json!({"pending": true})),
            ],
        ),
        Step::tool_requests([("c1", "balance", json!({})), ("c2", "rate", json!({}))]),
        Step::tool_started("c3", "transfer", Effect::Once),
        Step::tool_finished("c3", "transfer", "done"),
        Step::complete(json!({"sum": "{{result.c1}}", "transfer": "{{result.c3}}"})),
    ]);
    let (events, _) = scripted.await.play(&request("r", "How much?")).await;
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| match event {
            RunnerEvent::AttemptStarted(_) => "started",
            RunnerEvent::OutputCheck(_) => "output_check",
            RunnerEvent::Log(_) => "log",
            RunnerEvent::PartialOutput(_) => "partial",
            RunnerEvent::Checkpoint(_) => "checkpoint",
            RunnerEvent::ToolRequest(_) => "request",
            RunnerEvent::ToolStarted(_) => "tool",
            RunnerEvent::ToolFinished(_) => "result",
            RunnerEvent::Completed(_) => "completed",
            RunnerEvent::Model { .. }
            | RunnerEvent::ModelRequested(_)
            | RunnerEvent::ModelAnswered(_)
            | RunnerEvent::ToolRequestCancelled { .. } => "other",
            RunnerEvent::Paused(_) | RunnerEvent::Failed(_) | RunnerEvent::Cancelled(_) => "end",
        })
        .collect();
    let expected =
        "started log partial checkpoint request request tool result checkpoint completed";
    assert_eq!(kinds.join(" "), expected);
    let completed = completed(&events);
    assert_eq!(completed.output.decode::<Value>().unwrap(), json!({"sum": 7, "transfer": "done"}));
    assert_eq!(completed.new_messages.len(), 3);
    assert!(completed.new_messages[0].get().contains("How much?"));
}

#[tokio::test]
async fn a_resumed_attempt_has_its_prompt_and_repeats_no_recorded_call() {
    let life = Life::default()
        .on(When::attempt(1), [Step::EndStream])
        .on(
            When::resumed().and_attempt(2).and_model("openai:gpt-5"),
            [
                Step::tool_started("c1", "transfer", Effect::Once),
                Step::tool_finished("c1", "transfer", "never"),
                Step::complete("{{prompt}}: {{result.c1}}"),
            ],
        )
        .always([Step::pause(json!([]))]);
    let scripted = launch(life).await;
    let mut request = request("r", "Transfer it");
    assert!(matches!(scripted.play(&request).await.1, Some(StreamError::Ended)));
    request.attempt = Attempt(2);
    request.prompt = None;
    request.message_history = vec![RawJson::from(message::user("Transfer it"))];
    request.recorded = [(ToolCallId::new("c1"), json!("done").into())].into();
    let (events, _) = scripted.play(&request).await;
    assert!(!events.iter().any(|event| matches!(event, RunnerEvent::ToolStarted(_))));
    assert_eq!(completed(&events).output.get(), "\"Transfer it: done\"");
    request.attempt = Attempt(3);
    let (events, _) = scripted.play(&request).await;
    assert!(matches!(events.last(), Some(RunnerEvent::Paused(_))), "{events:?}");
}

#[tokio::test]
async fn a_message_is_delivered_before_the_next_model_request_or_told_as_lost() {
    let steps = [
        Step::tool_request("c1", "balance", json!({})),
        Step::checkpoint(Before::Model, []),
        Step::Hang,
    ];
    let scripted = launch(steps).await;
    let (client, request) = (scripted.runner.client(), request("r", "x"));
    let send = async |id: &str| {
        let (attempt, message_id) = (request.attempt, MessageId::new(id));
        let (content, priority) = (json!("hurry").into(), MessagePriority::Asap);
        let message = MessageRequest { attempt, message_id, content, priority };
        client.message(&request.run_id, &message).await
    };
    let unknown = send("m0").await.unwrap_err();
    assert!(matches!(unknown, RequestError::Refused { status: 404, .. }), "{unknown}");
    let mut stream = scripted.attempt(&request).await;
    while let Some((seq, event)) = stream.next().await.unwrap() {
        if matches!(event, RunnerEvent::ToolRequest(_)) {
            send("m1").await.unwrap();
        }
        if let RunnerEvent::Checkpoint(checkpoint) = &event {
            assert_eq!(checkpoint.delivered, [MessageId::new("m1")]);
            assert!(checkpoint.messages[0].get().contains("hurry"));
            send("m2").await.unwrap();
            client.cancel(&request.run_id).await.unwrap();
        }
        scripted.respond(&request, seq, &event).await.ok();
        if let RunnerEvent::Cancelled(cancelled) = event {
            assert_eq!(cancelled.undelivered, [MessageId::new("m2")]);
        }
    }
    let late = send("m3").await.unwrap_err();
    assert!(matches!(late, RequestError::Refused { status: 410, .. }), "{late}");
}

#[tokio::test]
async fn a_hanging_attempt_can_be_cancelled_and_a_frozen_one_cannot() {
    let life = Life::default().on(When::prompt("hang"), [Step::Hang]).always([Step::Freeze]);
    let scripted = launch(life).await;
    for (prompt, ends) in [("hang", true), ("freeze", false)] {
        let request = request(prompt, prompt);
        let mut stream = scripted.attempt(&request).await;
        stream.next().await.unwrap();
        scripted.runner.client().cancel(&RunId::new(prompt)).await.unwrap();
        let end = tokio::time::timeout(Duration::from_millis(200), stream.next()).await;
        assert_eq!(end.is_ok(), ends, "{prompt}");
    }
}

#[tokio::test]
async fn a_runner_that_ignores_sigterm_has_to_be_killed() {
    let scripted = launch(Life { on_term: OnTerm::Ignore, ..Life::default() }).await;
    let exit = scripted.runner.stop(Duration::from_millis(100)).await;
    assert_eq!((exit.code, exit.signal), (None, Some(9)));
    let scripted = launch(Life::default()).await;
    assert_eq!(scripted.runner.stop(DEADLINE).await.code, Some(0));
}

#[tokio::test]
async fn a_stopped_process_is_there_and_silent() {
    let scripted = launch([Step::text("Well"), Death::signal(19).into()]).await;
    let mut stream = scripted.attempt(&request("r", "x")).await;
    stream.next().await.unwrap();
    stream.next().await.unwrap();
    let health = scripted.runner.client().health();
    assert!(tokio::time::timeout(Duration::from_millis(200), health).await.is_err());
    assert_eq!(scripted.runner.stop(Duration::from_millis(100)).await.signal, Some(9));
}

#[tokio::test]
async fn answers_out_of_the_ordinary_are_given_as_often_as_the_script_says() {
    let busy = Failure::new(FailureKind::Busy, "full");
    let life = Life::from([Step::complete("fine")])
        .answering(Endpoint::Start, Answer::refuse(429, busy), 1)
        .answering(Endpoint::Start, Answer::garbage(), 1)
        .answering(Endpoint::Health, Answer::Silence, None);
    let scripted = launch(life).await;
    let client = scripted.runner.client();
    let refused = client.attempt(&request("r", "x"), None).await.unwrap_err();
    assert!(matches!(refused, RequestError::Refused { status: 429, .. }), "{refused}");
    let garbage = client.attempt(&request("r", "x"), None).await.unwrap_err();
    assert!(matches!(garbage, RequestError::Garbage { status: 200, .. }), "{garbage}");
    assert_eq!(scripted.output(&request("r", "x")).await, "fine");
    assert!(tokio::time::timeout(Duration::from_millis(200), client.health()).await.is_err());
}

#[tokio::test]
async fn a_model_is_what_the_life_or_the_spec_says() {
    let spec = || RawJson::from(json!({"model": "openai:gpt-5"}));
    let validated = launch(Life::default()).await.runner.client().validate(spec()).await.unwrap();
    assert_eq!((validated.model.as_str(), validated.offline), ("openai:gpt-5", false));
    let life = Life { model: Some("mine".to_owned()), offline: true, ..Life::default() };
    let validated = launch(life).await.runner.client().validate(spec()).await.unwrap();
    assert_eq!((validated.model.as_str(), validated.offline), ("mine", true));
}

#[tokio::test]
async fn a_called_tool_gives_what_the_script_says_or_has_nothing() {
    let balance = PythonTarget::try_from("bank:balance").unwrap();
    let call = async |tools| {
        let scripted = launch(Life { tools, ..Life::default() }).await;
        let call = ToolCallRequest { args: json!({}).into(), deps: None, tool_call_id: None };
        scripted.runner.client().call_tool(&balance, &call, DEADLINE).await
    };
    let plays = ToolPlay::Returns { result: json!(7).into(), parameters: None };
    let returned = call([(balance.clone(), plays)].into()).await.unwrap();
    assert_eq!(returned.result.get(), "7");
    let refused = call(BTreeMap::new()).await.unwrap_err();
    let RequestError::Refused { status: 422, failure } = refused else { panic!("{refused}") };
    assert_eq!(failure.message, "the script has nothing for bank:balance");
}

#[tokio::test]
async fn a_client_learns_what_became_of_a_call() {
    let was_paid = PythonTarget::try_from("bank:was_paid").unwrap();
    let ask = async |play| {
        let reconcile = [(was_paid.clone(), play)].into();
        let scripted = launch(Life { reconcile, ..Life::default() }).await;
        let call = (RunId::new("r1"), 1, "c1".into());
        let question = ReconcileRequest::new(call, "pay".to_owned(), json!({}).into());
        scripted.runner.client().reconcile(&was_paid, &question, DEADLINE).await
    };
    let receipt = ReconcileAnswer::Done { result: json!({"receipt": 7}).into() };
    for answer in [receipt, ReconcileAnswer::NotDone, ReconcileAnswer::Unknown] {
        let told = ask(ReconcilePlay::Answers(answer.clone())).await.unwrap();
        assert_eq!(told, answer);
    }
    let closed = Failure::new(FailureKind::Tool, "the bank is closed");
    let refused = ask(ReconcilePlay::Raises(closed.into())).await.unwrap_err();
    let RequestError::Refused { status: 422, failure } = refused else { panic!("{refused}") };
    assert_eq!(failure.message, "the bank is closed");
}

#[tokio::test]
async fn a_script_that_cannot_be_read_is_the_last_word_of_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let script = RunnerScript::default();
    let mut command = script.command(SCRIPTED, folder.path()).unwrap();
    for (text, words) in [("{\"lives\": 9}", "unknown field `lives`"), ("", "EOF")] {
        std::fs::write(&command[1], text).unwrap();
        let exit = exit_of(command.clone(), folder.path()).await;
        assert_eq!(exit.0, Some(1));
        assert!(exit.1.contains(words), "{}", exit.1);
    }
    command.pop();
    assert!(exit_of(command, folder.path()).await.1.contains("names no script"));
}

/// Launches a command that does not become ready; returns its exit code and last words.
async fn exit_of(command: Vec<String>, folder: &Path) -> (Option<i32>, String) {
    let starting =
        StartingRunner::launch(plan(command, folder)).await.expect("there is such a program");
    let exit = match starting.ready(READY_WITHIN).await {
        Err(StartError::Ended(exit)) => exit,
        other => unreachable!("it did not end but {other:?}"),
    };
    (exit.code, exit.last_words.join("\n"))
}

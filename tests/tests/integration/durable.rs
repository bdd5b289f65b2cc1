//! Runs whose process went: the next one that opens the store goes on with them, or says what they
//! wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axon_kernel::config::Config;
use axon_kernel::event::{PauseReason, Resolution, RunEvent};
use axon_kernel::failure::FailureKind;
use axon_kernel::ids::{RunId, ToolCallId};
use axon_kernel::run::RunState;
use axon_kernel::spec::{Effect, OnAmbiguous, ToolSpec, ToolTarget};
use axon_kernel::store::{RunSummary, Store, Write};
use axon_kernel::wire::Before;
use axon_runtime::{
    Outcome, Refusal, ResumeError, RunRecords, RunUpdate, Runtime, Tool, ToolContext, ToolError,
};
use axon_store::{OpenOptions, StoreUrl};
use axon_test::scripted_runner::{Death, Life, RunnerScript, Step, When};
use serde_json::{Value, json};

use crate::scene::{Played, agent, shows};
use crate::support::{PATIENCE, Project, output, until};

async fn store(project: &Project) -> Arc<dyn Store> {
    let path = project.path().join(".axon/axon.db");
    let url: StoreUrl = path.to_str().unwrap().parse().unwrap();
    axon_store::open(&url, OpenOptions::default()).await.unwrap()
}

/// Starts a runtime over a store of its own, as another process would.
async fn runtime(project: &Project, played: &Played, recovers: bool) -> Runtime {
    let builder = project.runtime().agent(played).store(store(project).await).recover(recovers);
    builder.start().await.unwrap()
}

fn request() -> Value {
    json!({"kind": "request", "parts": []})
}

/// An agent that stops in the middle of its first attempt, after `steps`, and answers whoever
/// resumes.
fn halting(project: &Project, steps: Vec<Step>) -> Played {
    let first = [steps, vec![Step::Hang]].concat();
    let life = Life::default()
        .on(When::resumed(), [Step::complete("resumed")])
        .on(When::prompt("hello").and_attempt(1), first)
        .always([Step::complete("from the prompt")]);
    Played::new(project, "agent", RunnerScript::from(life))
}

fn checkpoint() -> Step {
    Step::checkpoint(Before::Model, [request()])
}

fn once(on_ambiguous: OnAmbiguous) -> ToolSpec {
    let target = ToolTarget::Python("tools:pay".parse().unwrap());
    let mut tool = ToolSpec::new("pay".parse().unwrap(), target);
    (tool.effect, tool.on_ambiguous) = (Effect::Once, on_ambiguous);
    tool
}

/// Starts a run, waits until it has shown `event`, and ends its runtime under it.
async fn interrupted(project: &Project, played: &Played, event: &str) -> RunId {
    let first = runtime(project, played, false).await;
    let mut run = agent(&first, "agent").run("hello").start().await.unwrap();
    shows(&mut run, event).await;
    first.shutdown().await;
    let outcome = run.outcome().await.outcome;
    let Outcome::Paused(paused) = &outcome else { panic!("{outcome:?}") };
    assert!(matches!(paused.reason, PauseReason::Interrupted { .. }), "{paused:?}");
    run.id().clone()
}

async fn summary(runtime: &Runtime, run: &RunId) -> RunSummary {
    runtime.records().summary(run).await.unwrap()
}

/// Waits until the run has come to rest in this state, and returns its last event.
async fn rests(runtime: &Runtime, run: &RunId, state: RunState) -> RunEvent {
    until("the run has come to rest", async || summary(runtime, run).await.state == state).await;
    let events = runtime.records().events(run, 0).await.unwrap();
    events.last().unwrap().event.clone()
}

fn names(events: &[axon_kernel::event::Sequenced]) -> Vec<&'static str> {
    events.iter().map(|event| event.event.name()).collect()
}

#[tokio::test]
async fn a_run_whose_process_went_goes_on_from_its_checkpoint_when_the_store_is_opened_again() {
    let project = Project::new();
    let played = halting(&project, vec![checkpoint(), Step::text("half an ans")]);
    let run = interrupted(&project, &played, "text_delta").await;
    let second = runtime(&project, &played, true).await;
    let last = rests(&second, &run, RunState::Completed).await;
    let RunEvent::Completed(completed) = last else { panic!("{last:?}") };
    assert_eq!(completed.output.get(), r#""resumed""#);
    let events = second.records().events(&run, 0).await.unwrap();
    let told = names(&events);
    assert_eq!(told.iter().filter(|name| **name == "accepted").count(), 1, "{told:?}");
    let recovered = told.iter().position(|name| *name == "recovered").unwrap();
    assert_eq!(told[recovered + 1], "retracted", "what was shown does not count: {told:?}");
    assert!(events.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    assert!(events[recovered].seq > events[recovered - 1].seq + 1_000);
    second.shutdown().await;
}

#[tokio::test]
async fn a_reader_that_comes_back_with_its_last_number_misses_nothing_and_sees_nothing_twice() {
    let project = Project::new();
    let played = halting(&project, vec![checkpoint(), Step::text("half")]);
    let run = interrupted(&project, &played, "text_delta").await;
    let second = runtime(&project, &played, false).await;
    let handle = second.resume(run.clone()).start().await.unwrap();
    for after in [0, 2] {
        let mut events = second.follow(&run, after).await.unwrap();
        let mut seen = Vec::new();
        while let Some(RunUpdate::Event(event)) = events.next().await {
            seen.push(event);
        }
        assert!(seen.windows(2).all(|pair| pair[0].seq < pair[1].seq), "{seen:?}");
        assert!(seen.iter().all(|event| event.seq > after));
        assert_eq!(seen.iter().any(|event| event.event.name() == "accepted"), after == 0);
        assert_eq!(seen.iter().filter(|event| event.event.name() == "recovered").count(), 1);
        assert!(seen.last().unwrap().event.is_terminal());
    }
    assert!(matches!(handle.outcome().await.outcome, Outcome::Completed(_)));
    second.shutdown().await;
}

#[tokio::test]
async fn a_once_call_that_was_cut_off_waits_for_a_person_and_goes_on_as_that_says() {
    for resolution in [
        Resolution::Retry,
        Resolution::Skip { result: Value::from("paid").into() },
        Resolution::Fail { message: Some("we give up".to_owned()) },
    ] {
        let project = Project::new();
        let steps = vec![checkpoint(), Step::tool_started("c1", "pay", Effect::Once)];
        let played = halting(&project, steps).with(|spec| spec.tools.push(once(OnAmbiguous::Ask)));
        let run = interrupted(&project, &played, "tool_called").await;
        let second = runtime(&project, &played, true).await;
        let last = rests(&second, &run, RunState::Paused).await;
        let RunEvent::Paused(paused) = last else { panic!("{last:?}") };
        assert!(matches!(paused.reason, PauseReason::Ambiguous { .. }), "{paused:?}");
        assert_eq!(summary(&second, &run).await.waits_for.as_deref(), Some("ambiguous"));
        let refused = second.resume(run.clone()).start().await.unwrap_err();
        assert!(matches!(refused, ResumeError::Undecided { .. }), "{refused:?}");
        // Decided by somebody who has the store only.
        let records = RunRecords::new(store(&project).await);
        let call = ToolCallId::new("c1");
        let left = records.resolve(&run, &call, resolution.clone(), "a test").await.unwrap();
        assert_eq!(left, []);
        let ended = second.resume(run.clone()).start().await.unwrap().outcome().await.outcome;
        match (&resolution, &ended) {
            (Resolution::Fail { .. }, Outcome::Failed(failed)) => {
                assert_eq!(failed.failure.message, "we give up");
            }
            (_, Outcome::Completed(_)) => {}
            _ => panic!("{resolution:?}: {ended:?}"),
        }
        second.shutdown().await;
    }
}

#[tokio::test]
async fn the_rule_of_a_tool_settles_what_nobody_knows() {
    for (rule, ends) in [
        (OnAmbiguous::Retry, RunState::Completed),
        (OnAmbiguous::Skip, RunState::Completed),
        (OnAmbiguous::Fail, RunState::Failed),
    ] {
        let project = Project::new();
        let steps = vec![checkpoint(), Step::tool_started("c1", "pay", Effect::Once)];
        let played = halting(&project, steps).with(|spec| spec.tools.push(once(rule)));
        let run = interrupted(&project, &played, "tool_called").await;
        let second = runtime(&project, &played, true).await;
        rests(&second, &run, ends).await;
        let events = second.records().events(&run, 0).await.unwrap();
        let resolved = events.iter().find_map(|event| {
            if let RunEvent::Resolved(resolved) = &event.event {
                Some(resolved.clone())
            } else {
                None
            }
        });
        assert!(resolved.unwrap().by.contains("on_ambiguous"), "{:?}", names(&events));
        second.shutdown().await;
    }
}

#[tokio::test]
async fn a_changed_definition_is_left_alone_until_somebody_allows_it() {
    let project = Project::new();
    let played = halting(&project, vec![checkpoint()]);
    let run = interrupted(&project, &played, "checkpoint").await;
    let changed = played.clone().with(|spec| spec.tools.push(once(OnAmbiguous::Ask)));
    let second = runtime(&project, &changed, true).await;
    rests(&second, &run, RunState::Paused).await;
    assert_eq!(summary(&second, &run).await.waits_for.as_deref(), Some("changed"));
    let refused = second.resume(run.clone()).start().await.unwrap_err();
    assert_eq!(refused.code(), "definition_changed");
    let allowed = second.resume(run.clone()).allow_changed().start().await.unwrap();
    assert!(matches!(allowed.outcome().await.outcome, Outcome::Completed(_)));
    second.shutdown().await;
}

#[tokio::test]
async fn a_run_that_never_gets_further_is_quarantined_and_the_service_starts() {
    let project = Project::new();
    let always = Life::default().always([Step::text("on my way"), Step::Hang]);
    let played = Played::new(&project, "agent", RunnerScript::from(always));
    let run = interrupted(&project, &played, "text_delta").await;
    let mut config = Config::default();
    config.store.recoveries = 2;
    for takeover in 1..=2 {
        let next =
            project.runtime().agent(&played).config(config.clone()).store(store(&project).await);
        let next = next.start().await.unwrap();
        until("it was taken over and tried", async || {
            let replay = next.records().replay(&run).await.unwrap();
            replay.recoveries == takeover && replay.attempted
        })
        .await;
        next.shutdown().await;
    }
    let last = project.runtime().agent(&played).config(config.clone()).store(store(&project).await);
    let last = last.start().await.unwrap();
    rests(&last, &run, RunState::Paused).await;
    assert_eq!(summary(&last, &run).await.waits_for.as_deref(), Some("quarantined"));
    played.repair([Step::complete("fine")]);
    agent(&last, "agent").restart().await.unwrap();
    let resumed = last.resume(run).start().await.unwrap();
    assert_eq!(output(&resumed.outcome().await.outcome), json!("fine"));
    last.shutdown().await;
}

#[tokio::test]
async fn a_deadline_goes_on_while_no_process_drives_the_run() {
    let project = Project::new();
    let played = halting(&project, vec![checkpoint()])
        .with(|spec| spec.limits.timeout = Duration::from_secs(2));
    let run = interrupted(&project, &played, "checkpoint").await;
    let records = RunRecords::new(store(&project).await);
    let deadline = records.replay(&run).await.unwrap().deadline;
    let began = std::time::SystemTime::UNIX_EPOCH;
    until("its deadline is over", async || {
        began.elapsed().unwrap() > Duration::from_millis(deadline.0)
    })
    .await;
    let second = runtime(&project, &played, true).await;
    let last = rests(&second, &run, RunState::Failed).await;
    let RunEvent::Failed(failed) = last else { panic!("{last:?}") };
    assert_eq!(failed.failure.kind, FailureKind::RunTimeout);
    second.shutdown().await;
}

#[tokio::test]
async fn a_conversation_goes_on_in_another_process_and_its_open_turn_is_in_the_way() {
    let project = Project::new();
    let played = halting(&project, vec![checkpoint()]);
    let first = runtime(&project, &played, false).await;
    let handle = agent(&first, "agent");
    let mut open = handle.run("hello").conversation("c").start().await.unwrap();
    shows(&mut open, "checkpoint").await;
    let second = runtime(&project, &played, false).await;
    let other = agent(&second, "agent");
    // The other one waits for the turn as long as its process lives …
    let waits = other.run("and?").conversation("c").timeout(Duration::from_millis(300));
    let waited = waits.wait().await.unwrap().outcome;
    assert!(matches!(waited, Outcome::Rejected(_)), "{waited:?}");
    first.shutdown().await;
    // … and not for one that nobody drives.
    let refused = other.run("and?").conversation("c").start().await.unwrap_err();
    let Refusal::ConversationBusy { by: Some(by), .. } = &refused else { panic!("{refused:?}") };
    assert_eq!((&by.run_id, by.is_interrupted()), (open.id(), true));
    let ended = second.resume(open.id().clone()).start().await.unwrap().outcome().await;
    assert_eq!(output(&ended.outcome), json!("resumed"));
    let history = second.store().history(&"c".into()).await.unwrap();
    assert!(!history.is_empty(), "the turn has joined");
    let next = other.run("and?").conversation("c").start().await.unwrap();
    assert!(matches!(next.outcome().await.outcome, Outcome::Completed(_)));
    second.shutdown().await;
}

#[tokio::test]
async fn two_processes_that_want_the_same_run_do_not_both_get_it() {
    let project = Project::new();
    let played = halting(&project, vec![checkpoint()]);
    let played = played.with(|spec| spec.limits.timeout = PATIENCE);
    let run = interrupted(&project, &played, "checkpoint").await;
    let (one, two) =
        (runtime(&project, &played, false).await, runtime(&project, &played, false).await);
    let (first, second) =
        tokio::join!(one.resume(run.clone()).start(), two.resume(run.clone()).start());
    let got = [first.is_ok(), second.is_ok()].into_iter().filter(|ok| *ok).count();
    for refused in [first.as_ref().err(), second.as_ref().err()].into_iter().flatten() {
        assert!(matches!(refused.code(), "run_owned" | "run_ended"), "{refused:?}");
    }
    assert_eq!(got, 1);
    for handle in [first, second].into_iter().flatten() {
        assert!(matches!(handle.outcome().await.outcome, Outcome::Completed(_)));
    }
    one.shutdown().await;
    two.shutdown().await;
}

fn note_tool() -> ToolSpec {
    let mut tool =
        ToolSpec::new("note".parse().unwrap(), ToolTarget::Rust("note".parse().unwrap()));
    tool.effect = Effect::Pure;
    tool.parameters = Some(axon_kernel::schema::Schema::new(json!({"type": "object"})).unwrap());
    tool
}

fn writes(changes: u64) -> Vec<Write> {
    let write = |sql: &str, changes| Write { sql: sql.to_owned(), parameters: vec![], changes };
    vec![
        write("CREATE TABLE IF NOT EXISTS notes (note TEXT)", None),
        write("INSERT INTO notes (note) VALUES ('bought milk')", Some(changes)),
    ]
}

fn notes(project: &Project) -> String {
    let count = "import sqlite3, sys\nd = sqlite3.connect(sys.argv[1])\n\
                 t = d.execute(\"select count(*) from sqlite_master where name = 'notes'\")\n\
                 print(d.execute('select count(*) from notes').fetchone()[0] if t.fetchone()[0] else 0)";
    let python = std::env::var("AXON_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let database = project.path().join(".axon/axon.db");
    let counted =
        std::process::Command::new(python).args(["-c", count]).arg(database).output().unwrap();
    String::from_utf8(counted.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn what_a_rust_tool_writes_is_there_with_its_result_and_once_whatever_dies() {
    let project = Project::new();
    let ask = || Step::tool_request("c1", "note", json!({}));
    let life = Life::default()
        .on(When::attempt(1), [checkpoint(), ask(), Step::Die(Death::signal(9))])
        .always([ask(), Step::complete("{{result.c1}}")]);
    let played = Played::new(&project, "agent", RunnerScript::from(life))
        .with(|spec| spec.tools.push(note_tool()));
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let tool = Tool::new("note", move |ctx: ToolContext, _args: Value| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            writes(1).into_iter().for_each(|write| ctx.write(write));
            Ok::<_, ToolError>(ctx.idempotency_key())
        }
    });
    let builder = project.runtime().agent(&played).store(store(&project).await);
    let runtime = builder.tool(tool.unwrap()).start().await.unwrap();
    let run = agent(&runtime, "agent").run("note it").start().await.unwrap();
    let outcome = run.outcome().await.outcome;
    assert_eq!(output(&outcome), json!(format!("{}:1:c1", run.id())));
    assert_eq!((calls.load(Ordering::Relaxed), &*notes(&project)), (1, "1"));
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_write_that_does_not_change_what_it_must_leaves_nothing_and_ends_the_attempt() {
    let project = Project::new();
    let steps = [checkpoint(), Step::tool_request("c1", "note", json!({}))];
    let played = Played::new(&project, "agent", steps).with(|spec| spec.tools.push(note_tool()));
    let tool = Tool::new("note", async |ctx: ToolContext, _args: Value| {
        writes(7).into_iter().for_each(|write| ctx.write(write));
        Ok::<_, ToolError>(1)
    });
    let builder = project.runtime().agent(&played).store(store(&project).await);
    let runtime = builder.tool(tool.unwrap()).start().await.unwrap();
    let outcome = agent(&runtime, "agent").run("note it").wait().await.unwrap().outcome;
    let Outcome::Failed(failed) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failed.failure.kind, FailureKind::Tool);
    assert_eq!(notes(&project), "0");
    runtime.shutdown().await;
}

fn panicking() -> ToolError {
    panic!("a tool's own")
}

#[tokio::test]
async fn a_rust_tool_that_panics_hurts_nobody_and_wrong_arguments_go_back_to_the_model() {
    let project = Project::new();
    let life = Life::default()
        .on(When::prompt("panic"), [Step::tool_request("c1", "note", json!({}))])
        .always([Step::tool_request("c1", "note", json!(7)), Step::complete("{{result.c1}}")]);
    let played = Played::new(&project, "agent", RunnerScript::from(life))
        .with(|spec| spec.tools.push(note_tool()));
    let tool = Tool::new("note", async |_: ToolContext, _args: Value| Err::<u8, _>(panicking()));
    let builder = project.runtime().agent(&played).store(store(&project).await);
    let runtime = builder.tool(tool.unwrap()).start().await.unwrap();
    let agent = agent(&runtime, "agent");
    let outcome = agent.run("panic").wait().await.unwrap().outcome;
    let Outcome::Failed(failed) = outcome else { panic!("{outcome:?}") };
    assert!(failed.failure.message.contains("panicked"), "{failed:?}");
    let outcome = agent.run("wrong").wait().await.unwrap().outcome;
    assert!(output(&outcome).to_string().contains("schema"), "{outcome:?}");
    runtime.shutdown().await;
}

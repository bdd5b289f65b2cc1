//! The manual calls, and all that must not hurt a supervisor.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axon_kernel::spec::Backoff;
use axon_runtime::supervisor::{
    Child, ChildError, ChildId, ChildSpec, Happening, Restart, Supervisor, SupervisorHandle,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::{Instant, timeout};

use super::stage::{Broken, End, SECOND, Stage, Start, states, until_states};

async fn start(stage: &Stage) -> SupervisorHandle {
    let supervisor = stage
        .dress(Supervisor::one_for_one())
        .backoff(Backoff { min: SECOND * 10, max: SECOND * 10 })
        .child(stage.permanent("a"))
        .child(stage.permanent("b"));
    let handle = supervisor.start().await.unwrap();
    stage.log();
    handle
}

#[tokio::test(start_paused = true)]
async fn a_child_is_started_terminated_restarted_and_deleted_by_hand() {
    let stage = Stage::new();
    let supervisor = start(&stage).await;
    let id = ChildId::from("c");
    supervisor.start_child(stage.permanent("c")).await.unwrap();
    supervisor.terminate_child(&id).await.unwrap();
    assert_eq!(states(&supervisor).await, "a:running b:running c:stopped");
    supervisor.restart_child(&id).await.unwrap();
    supervisor.terminate_child(&id).await.unwrap();
    supervisor.terminate_child(&id).await.unwrap();
    supervisor.delete_child(&id).await.unwrap();
    assert_eq!(states(&supervisor).await, "a:running b:running");
    assert_eq!(stage.log(), ["start c", "stop c", "start c", "stop c"]);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn each_wrong_call_has_an_error_of_its_own() {
    let stage = Stage::new();
    let supervisor = start(&stage).await;
    let (a, b, nobody) = ("a".into(), "b".into(), "nobody".into());
    let add = |name: &str| supervisor.start_child(stage.permanent(name));
    assert!(matches!(supervisor.terminate_child(&nobody).await, Err(ChildError::NotFound)));
    assert!(matches!(supervisor.restart_child(&nobody).await, Err(ChildError::NotFound)));
    assert!(matches!(supervisor.delete_child(&nobody).await, Err(ChildError::NotFound)));
    assert!(matches!(supervisor.get_spec(&nobody).await, Err(ChildError::NotFound)));
    assert!(matches!(supervisor.restart_child(&a).await, Err(ChildError::Running)));
    assert!(matches!(supervisor.delete_child(&a).await, Err(ChildError::Running)));
    assert!(matches!(add("a").await, Err(ChildError::AlreadyStarted)));
    let mut events = stage.listen();
    stage.fail("b");
    events.exited("b").await;
    assert!(matches!(supervisor.restart_child(&b).await, Err(ChildError::Restarting)));
    assert!(matches!(supervisor.delete_child(&b).await, Err(ChildError::Restarting)));
    assert!(matches!(add("b").await, Err(ChildError::AlreadyPresent)));
    supervisor.terminate_child(&a).await.unwrap();
    assert!(matches!(add("a").await, Err(ChildError::AlreadyPresent)));
    supervisor.stop().await;
    assert!(matches!(supervisor.terminate_child(&a).await, Err(ChildError::Stopped)));
    assert!(matches!(supervisor.snapshot().await, Err(ChildError::Stopped)));
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_by_hand_carries_its_cause_and_does_not_count() {
    let stage = Stage::new();
    let supervisor = start(&stage).await;
    let broken = || Start::Fail(Broken("c".to_owned()).into());
    stage.next_start("c", broken());
    let error = supervisor.start_child(stage.permanent("c")).await.unwrap_err();
    assert_eq!(
        format!("{:#}", anyhow::Error::from(error)),
        "the child could not be started: c broke"
    );
    assert_eq!(states(&supervisor).await, "a:running b:running");
    supervisor.start_child(stage.permanent("c")).await.unwrap();
    supervisor.terminate_child(&"c".into()).await.unwrap();
    stage.next_start("c", broken());
    let error = supervisor.restart_child(&"c".into()).await.unwrap_err();
    assert!(matches!(error, ChildError::Start(_)));
    assert_eq!(states(&supervisor).await, "a:running b:running c:stopped");
    assert_eq!(supervisor.snapshot().await.unwrap().restarts_left, 100);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_id_leaves_the_healthy_child_alone() {
    let stage = Stage::new();
    let supervisor = start(&stage).await;
    let other = ChildSpec::temporary("a", stage.start("impostor"));
    assert!(supervisor.start_child(other).await.is_err());
    assert_eq!(supervisor.get_spec(&"a".into()).await.unwrap().terms().restart, Restart::Permanent);
    assert_eq!(states(&supervisor).await, "a:running b:running");
    assert!(stage.log().is_empty());
    supervisor.stop().await;
    let twice = stage.dress(Supervisor::one_for_one()).child(stage.permanent("a"));
    let error = twice.child(stage.permanent("a")).start().await.unwrap_err();
    assert_eq!(error.to_string(), "two children have the id a");
}

#[tokio::test(start_paused = true)]
async fn terminating_a_child_that_waits_for_its_restart_cancels_the_restart() {
    let stage = Stage::new();
    let supervisor = start(&stage).await;
    let mut events = stage.listen();
    stage.fail("a");
    events.exited("a").await;
    assert_eq!(states(&supervisor).await, "a:restarting b:running");
    supervisor.terminate_child(&"a".into()).await.unwrap();
    tokio::time::advance(SECOND * 60).await;
    assert_eq!(states(&supervisor).await, "a:stopped b:running");
    assert!(stage.log().is_empty());
    supervisor.restart_child(&"a".into()).await.unwrap();
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gave_up_hurts_nobody() {
    let stage = Stage::new();
    let supervisor = start(&stage).await;
    stage.next_start("c", Start::Hang);
    let call = supervisor.start_child(stage.permanent("c"));
    assert!(timeout(SECOND, call).await.is_err());
    assert_eq!(states(&supervisor).await, "a:running b:running c:starting");
    supervisor.terminate_child(&"c".into()).await.unwrap();
    assert_eq!(states(&supervisor).await, "a:running b:running");
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_called_off_tells_its_caller() {
    let stage = Stage::new();
    let supervisor = start(&stage).await;
    stage.next_start("c", Start::Hang);
    let (starter, spec) = (supervisor.clone(), stage.permanent("c"));
    let call = tokio::spawn(async move { starter.start_child(spec).await });
    until_states(&supervisor, "a:running b:running c:starting").await;
    supervisor.terminate_child(&"c".into()).await.unwrap();
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the child was terminated before it had started");
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_hanging_start_holds_up_neither_calls_nor_restarts_of_siblings() {
    let stage = Stage::new();
    let supervisor = start(&stage).await;
    let mut events = stage.listen();
    stage.next_start("a", Start::Hang);
    stage.fail("a");
    until_states(&supervisor, "a:starting b:running").await;
    stage.log();
    let failed = Instant::now();
    stage.fail("b");
    events.started("b").await;
    assert!(failed.elapsed() <= SECOND * 11);
    supervisor.start_child(stage.permanent("c")).await.unwrap();
    supervisor.terminate_child(&"c".into()).await.unwrap();
    assert_eq!(supervisor.count_children().await.unwrap().active, 1);
    let asked = Instant::now();
    supervisor.stop().await;
    assert!(asked.elapsed() < SECOND);
    assert_eq!(stage.log(), ["start b", "start c", "stop c", "stop b"]);
}

#[tokio::test(start_paused = true)]
async fn strangers_linked_under_a_supervisor_do_not_hurt_it() {
    struct Stranger;
    impl Actor for Stranger {
        type Msg = ();
        type State = ();
        type Arguments = ();
        async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }
        async fn handle(
            &self,
            _: ActorRef<()>,
            (): (),
            (): &mut (),
        ) -> Result<(), ActorProcessingErr> {
            Err("a stranger fails".into())
        }
    }
    let stage = Stage::new();
    let supervisor = start(&stage).await;
    let cell = stage.actor("a").get_cell().try_get_supervisor().unwrap();
    let (stranger, task) = Actor::spawn_linked(None, Stranger, (), cell).await.unwrap();
    stranger.cast(()).unwrap();
    task.await.unwrap();
    assert_eq!(states(&supervisor).await, "a:running b:running");
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_receiver_of_events_that_panics_hurts_nobody() {
    let stage = Stage::new();
    let supervisor = Supervisor::one_for_one()
        .child(stage.permanent("a"))
        .on_event(Arc::new(|event| panic!("{event:?} is too much")))
        .start()
        .await
        .unwrap();
    assert_eq!(states(&supervisor).await, "a:running");
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn events_and_snapshots_are_plain_data() {
    let stage = Stage::new();
    let supervisor = start(&stage).await;
    let mut events = stage.listen();
    stage.end("a", End::Kill);
    let exited = events.until("a", |happening| matches!(happening, Happening::Exited { .. })).await;
    let expected = serde_json::json!({
        "supervisor": "stage", "child": "a", "incarnation": 1, "event": "exited", "cause": "killed"
    });
    assert_eq!(serde_json::to_value(&exited).unwrap(), expected);
    let snapshot = serde_json::to_value(supervisor.snapshot().await.unwrap()).unwrap();
    assert_eq!(snapshot["strategy"], "one_for_one");
    assert_eq!(snapshot["restarts_left"], 99);
    assert_eq!(snapshot["backoff"], serde_json::json!({"min": "10s", "max": "10s"}));
    let child = &snapshot["children"][0];
    assert_eq!((&child["state"], &child["cause"]), (&"restarting".into(), &"killed".into()));
    assert!(child["due_in"].as_f64().unwrap() > 4.0);
    assert_eq!((&child["kind"], &child["restart"]), (&"worker".into(), &"permanent".into()));
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn template_children_are_anonymous_and_stop_all_at_once() {
    let (stage, started) = (Stage::new(), Arc::new(AtomicUsize::new(0)));
    let counted = started.clone();
    let calls = Supervisor::template(move |seconds: u32| {
        let counted = counted.clone();
        ChildSpec::transient("call", move || {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                Ok::<_, Broken>(Child::task(move |mut stop| async move {
                    stop.stopped().await;
                    tokio::time::sleep(SECOND * seconds).await;
                }))
            }
        })
    });
    let calls = calls.with(|supervisor| stage.dress(supervisor)).start().await.unwrap();
    for (number, seconds) in [3, 1, 60].into_iter().enumerate() {
        let id = calls.start_child(seconds).await.unwrap();
        assert_eq!(id.as_str(), (number + 1).to_string());
    }
    calls.supervisor().terminate_child(&"1".into()).await.unwrap();
    assert_eq!(states(calls.supervisor()).await, "2:running 3:running");
    let asked = Instant::now();
    calls.supervisor().stop().await;
    assert_eq!(asked.elapsed().as_secs(), 5, "all together, within one budget");
    assert_eq!(started.load(Ordering::SeqCst), 3);
}

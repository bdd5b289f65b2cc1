//! Children whose error will not heal by a restart.

use axon_runtime::supervisor::{ChildError, Supervisor, SupervisorHandle};

use super::stage::{Events, Order, Stage, Start, hopeless, states, until_states};

async fn start(stage: &Stage, supervisor: Supervisor) -> (SupervisorHandle, Events) {
    let mut supervisor = stage.dress(supervisor);
    for name in ["a", "b", "c"] {
        supervisor = supervisor.child(stage.permanent(name));
    }
    let handle = supervisor.start().await.unwrap();
    stage.log();
    (handle, stage.listen())
}

#[tokio::test(start_paused = true)]
async fn a_hopeless_child_is_given_up_and_not_counted() {
    let stage = Stage::new();
    let (supervisor, mut events) = start(&stage, Supervisor::one_for_one()).await;
    stage.tell("b", Order::Fail(hopeless()));
    assert_eq!(events.given_up("b").await, "given up: config: the schema is wrong");
    assert_eq!(states(&supervisor).await, "a:running b:given_up c:running");
    assert_eq!(supervisor.snapshot().await.unwrap().restarts_left, 100);
    supervisor.restart_child(&"b".into()).await.unwrap();
    assert_eq!(states(&supervisor).await, "a:running b:running c:running");
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_cause_may_be_deep_in_the_chain() {
    let stage = Stage::new();
    let (supervisor, mut events) = start(&stage, Supervisor::one_for_one()).await;
    let wrapped = ractor::SpawnErr::StartupFailed(hopeless());
    stage.tell("b", Order::Fail(wrapped.into()));
    events.given_up("b").await;
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_hopeless_restart_is_given_up_too() {
    let stage = Stage::new();
    let (supervisor, mut events) = start(&stage, Supervisor::one_for_one()).await;
    stage.next_start("b", Start::Fail(hopeless()));
    stage.fail("b");
    events.given_up("b").await;
    assert_eq!(supervisor.snapshot().await.unwrap().restarts_left, 99);
    stage.next_start("b", Start::Fail(hopeless()));
    let error = supervisor.restart_child(&"b".into()).await.unwrap_err();
    assert!(matches!(error, ChildError::Start(_)));
    assert_eq!(states(&supervisor).await, "a:running b:given_up c:running");
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_for_all_stays_down_until_the_hopeless_child_is_restarted() {
    let stage = Stage::new();
    let (supervisor, mut events) = start(&stage, Supervisor::one_for_all()).await;
    stage.tell("b", Order::Fail(hopeless()));
    events.given_up("b").await;
    until_states(&supervisor, "a:stopped b:given_up c:stopped").await;
    assert_eq!(stage.log(), ["stop c", "stop a"]);
    supervisor.restart_child(&"b".into()).await.unwrap();
    until_states(&supervisor, "a:running b:running c:running").await;
    assert_eq!(stage.log(), ["start a", "start b", "start c"]);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn rest_for_one_keeps_those_before_the_hopeless_child() {
    let stage = Stage::new();
    let (supervisor, mut events) = start(&stage, Supervisor::rest_for_one()).await;
    stage.tell("b", Order::Fail(hopeless()));
    events.given_up("b").await;
    until_states(&supervisor, "a:running b:given_up c:stopped").await;
    stage.fail("a");
    events.started("a").await;
    assert_eq!(states(&supervisor).await, "a:running b:given_up c:stopped");
    assert_eq!(stage.log(), ["stop c", "start a"]);
    supervisor.restart_child(&"b".into()).await.unwrap();
    until_states(&supervisor, "a:running b:running c:running").await;
    assert_eq!(stage.log(), ["start b", "start c"]);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_revival_that_fails_puts_everything_back() {
    let stage = Stage::new();
    let (supervisor, mut events) = start(&stage, Supervisor::one_for_all()).await;
    stage.tell("b", Order::Fail(hopeless()));
    events.given_up("b").await;
    until_states(&supervisor, "a:stopped b:given_up c:stopped").await;
    stage.log();
    stage.next_start("b", Start::Fail(hopeless()));
    let error = supervisor.restart_child(&"b".into()).await.unwrap_err();
    assert!(matches!(error, ChildError::Start(_)));
    until_states(&supervisor, "a:stopped b:given_up c:stopped").await;
    assert_eq!(stage.log(), ["start a", "fail b", "stop a"]);
    assert_eq!(supervisor.snapshot().await.unwrap().restarts_left, 100);
    supervisor.restart_child(&"b".into()).await.unwrap();
    until_states(&supervisor, "a:running b:running c:running").await;
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn terminating_a_hopeless_child_lets_go_of_those_that_wait_for_it() {
    let stage = Stage::new();
    let (supervisor, mut events) = start(&stage, Supervisor::rest_for_one()).await;
    stage.tell("b", Order::Fail(hopeless()));
    events.given_up("b").await;
    until_states(&supervisor, "a:running b:given_up c:stopped").await;
    supervisor.terminate_child(&"b".into()).await.unwrap();
    supervisor.delete_child(&"b".into()).await.unwrap();
    supervisor.restart_child(&"c".into()).await.unwrap();
    assert_eq!(states(&supervisor).await, "a:running c:running");
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_hopeless_first_start_fails_the_supervisor() {
    let stage = Stage::new();
    stage.next_start("b", Start::Fail(hopeless()));
    let supervisor = stage.dress(Supervisor::one_for_one()).child(stage.permanent("a"));
    let error = supervisor.child(stage.permanent("b")).start().await.unwrap_err();
    assert_eq!(
        format!("{:#}", anyhow::Error::from(error)),
        "the child b could not be started: config: the schema is wrong"
    );
    assert_eq!(stage.log(), ["start a", "fail b", "stop a"]);
}

#[tokio::test(start_paused = true)]
async fn a_hopeless_temporary_child_is_forgotten() {
    let stage = Stage::new();
    let (supervisor, mut events) = start(&stage, Supervisor::one_for_all()).await;
    supervisor.start_child(stage.temporary("d")).await.unwrap();
    stage.tell("d", Order::Fail(hopeless()));
    events.exited("d").await;
    assert_eq!(states(&supervisor).await, "a:running b:running c:running");
    supervisor.stop().await;
}

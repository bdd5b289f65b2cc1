//! The strategies that restart several children.

use axon_kernel::spec::Backoff;
use axon_runtime::supervisor::{Supervisor, SupervisorHandle};
use tokio::time::Instant;

use super::stage::{Broken, End, Events, SECOND, Stage, Start, states, until_states};

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
async fn one_for_one_restarts_the_child_alone() {
    let stage = Stage::new();
    let (supervisor, mut events) = start(&stage, Supervisor::one_for_one()).await;
    stage.fail("b");
    events.started("b").await;
    assert_eq!(stage.log(), ["start b"]);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_for_all_stops_all_in_reverse_and_starts_all_in_order() {
    let stage = Stage::new();
    let (supervisor, mut events) = start(&stage, Supervisor::one_for_all()).await;
    stage.fail("b");
    events.started("c").await;
    assert_eq!(stage.log(), ["stop c", "stop a", "start a", "start b", "start c"]);
    let snapshot = supervisor.snapshot().await.unwrap();
    assert_eq!(snapshot.restarts_left, 99, "one restart of the group is one restart");
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn rest_for_one_restarts_the_child_and_those_after_it() {
    let stage = Stage::new();
    let (supervisor, mut events) = start(&stage, Supervisor::rest_for_one()).await;
    stage.fail("b");
    events.started("c").await;
    assert_eq!(stage.log(), ["stop c", "start b", "start c"]);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn siblings_do_not_run_against_a_dead_dependency_during_the_wait() {
    let stage = Stage::new();
    let supervisor = stage
        .dress(Supervisor::one_for_all())
        .backoff(Backoff { min: SECOND * 10, max: SECOND * 10 })
        .child(stage.permanent("a"))
        .child(stage.permanent("b"))
        .start()
        .await
        .unwrap();
    stage.log();
    let mut events = stage.listen();
    let failed = Instant::now();
    stage.fail("a");
    until_states(&supervisor, "a:restarting b:restarting").await;
    assert_eq!(stage.log(), ["stop b"]);
    assert!(failed.elapsed() < SECOND);
    events.started("b").await;
    assert!(failed.elapsed() >= SECOND * 5);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_restarts_the_group_again() {
    let stage = Stage::new();
    let (supervisor, mut events) = start(&stage, Supervisor::one_for_all()).await;
    stage.next_start("b", Start::Fail(Broken("b".to_owned()).into()));
    stage.fail("c");
    events.started("c").await;
    let expected =
        ["stop b", "stop a", "start a", "fail b", "stop a", "start a", "start b", "start c"];
    assert_eq!(stage.log(), expected);
    assert_eq!(supervisor.snapshot().await.unwrap().restarts_left, 98);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn exits_of_affected_children_are_part_of_the_restart() {
    let stage = Stage::new();
    let (supervisor, mut events) = start(&stage, Supervisor::one_for_all()).await;
    stage.fail("a");
    stage.fail("b");
    stage.fail("c");
    events.started("c").await;
    until_states(&supervisor, "a:running b:running c:running").await;
    assert_eq!(supervisor.snapshot().await.unwrap().restarts_left, 99);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_temporary_child_of_a_restarted_group_is_gone() {
    let stage = Stage::new();
    let (supervisor, mut events) = start(&stage, Supervisor::one_for_all()).await;
    supervisor.start_child(stage.temporary("d")).await.unwrap();
    stage.log();
    stage.fail("a");
    events.started("c").await;
    assert_eq!(stage.log(), ["stop d", "stop c", "stop b", "start a", "start b", "start c"]);
    assert_eq!(states(&supervisor).await, "a:running b:running c:running");
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_clean_end_of_a_transient_child_restarts_nobody() {
    let stage = Stage::new();
    let (supervisor, mut events) = start(&stage, Supervisor::one_for_all()).await;
    supervisor.start_child(stage.transient("d")).await.unwrap();
    stage.log();
    stage.end("d", End::Normal);
    events.exited("d").await;
    assert_eq!(states(&supervisor).await, "a:running b:running c:running d:stopped");
    assert_eq!(stage.log(), ["stop d"]);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_added_at_run_time_is_the_last_of_its_group() {
    let stage = Stage::new();
    let (supervisor, _) = start(&stage, Supervisor::rest_for_one()).await;
    supervisor.start_child(stage.permanent("d")).await.unwrap();
    let mut events = stage.listen();
    stage.log();
    stage.fail("c");
    events.started("d").await;
    assert_eq!(stage.log(), ["stop d", "start c", "start d"]);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_earlier_child_that_fails_during_a_restart_widens_it() {
    let stage = Stage::new();
    let (supervisor, mut events) = start(&stage, Supervisor::rest_for_one()).await;
    stage.next_start("b", Start::Hang);
    stage.fail("b");
    until_states(&supervisor, "a:running b:starting c:restarting").await;
    stage.log();
    stage.fail("a");
    events.started("c").await;
    assert_eq!(stage.log(), ["start a", "start b", "start c"]);
    supervisor.stop().await;
}

//! Supervisors under supervisors.

use axon_runtime::supervisor::{
    Child, ChildKind, ChildSpec, Exit, Happening, Supervisor, SupervisorStartError,
};

use super::stage::{Order, SECOND, Stage, Start, hopeless, states, until_states};

/// Makes the spec of a supervisor with the children `a` and `b`.
fn group(stage: &Stage) -> ChildSpec {
    let stage = stage.clone();
    let start = move || {
        let supervisor = stage
            .dress(Supervisor::one_for_one())
            .named("group")
            .intensity(1, SECOND * 60)
            .child(stage.permanent("a"))
            .child(stage.permanent("b"));
        async move { Ok::<_, SupervisorStartError>(Child::supervisor(supervisor.start().await?)) }
    };
    ChildSpec::transient("group", start).supervisor()
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_supervisor_is_restarted_by_its_parent() {
    let stage = Stage::new();
    let root = stage.dress(Supervisor::one_for_one()).named("root").child(group(&stage));
    let root = root.start().await.unwrap();
    let mut events = stage.listen();
    stage.fail("a");
    events.started("a").await;
    stage.log();
    stage.fail("a");
    let exited = events.until("group", |told| matches!(told, Happening::Exited { .. })).await;
    assert_eq!(&*exited.supervisor, "root");
    let expected = "exited: the children failed too often, a at last: a broke";
    assert_eq!(exited.happening.to_string(), expected);
    events.started("group").await;
    assert_eq!(stage.log(), ["stop b", "start a", "start b"]);
    assert_eq!(root.snapshot().await.unwrap().restarts_left, 99);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_failure_escalates_to_the_root() {
    let stage = Stage::new();
    let root = stage.dress(Supervisor::one_for_all()).named("root").intensity(0, SECOND);
    let root = root.child(stage.permanent("first")).child(group(&stage)).start().await.unwrap();
    let mut events = stage.listen();
    stage.fail("b");
    events.started("b").await;
    stage.log();
    stage.fail("b");
    let exit = root.exited().await.to_string();
    let expected = "the children failed too often, group at last: \
                    the children failed too often, b at last: b broke";
    assert_eq!(exit, expected);
    assert_eq!(stage.log(), ["stop a", "stop first"]);
}

#[tokio::test(start_paused = true)]
async fn a_tree_stops_from_its_leaves_in_reverse_order() {
    let stage = Stage::new();
    let root = stage
        .dress(Supervisor::rest_for_one())
        .child(stage.permanent("first"))
        .child(group(&stage))
        .child(stage.permanent("last"))
        .start()
        .await
        .unwrap();
    assert_eq!(stage.log(), ["start first", "start a", "start b", "start last"]);
    assert!(matches!(root.stop().await, Exit::Shutdown(None)));
    assert_eq!(stage.log(), ["stop last", "stop b", "stop a", "stop first"]);
}

#[tokio::test(start_paused = true)]
async fn a_tree_is_read_through_its_snapshots() {
    let stage = Stage::new();
    let root = stage.dress(Supervisor::one_for_one()).named("root").child(group(&stage));
    let root = root.start().await.unwrap();
    let snapshot = root.snapshot().await.unwrap();
    assert_eq!(snapshot.children[0].kind, ChildKind::Supervisor);
    let nested = snapshot.children[0].nested.clone().unwrap();
    assert_eq!(nested.label(), "group");
    assert_eq!(states(&nested).await, "a:running b:running");
    let counts = root.count_children().await.unwrap();
    assert_eq!((counts.specs, counts.active, counts.supervisors, counts.workers), (1, 1, 1, 0));
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn dropping_a_handle_stops_nothing() {
    let stage = Stage::new();
    let root = stage.dress(Supervisor::one_for_one()).child(group(&stage)).start().await.unwrap();
    drop(root.snapshot().await.unwrap().children.remove(0).nested);
    tokio::time::advance(SECOND * 60).await;
    let again = root.clone();
    drop(root);
    tokio::time::advance(SECOND * 60).await;
    assert_eq!(states(&again).await, "group:running");
    again.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_hopeless_start_of_a_nested_supervisor_is_hopeless_for_its_parent() {
    let stage = Stage::new();
    let root = stage.dress(Supervisor::one_for_one()).named("root").child(group(&stage));
    let root = root.start().await.unwrap();
    let mut events = stage.listen();
    stage.fail("a");
    events.started("a").await;
    stage.next_start("b", Start::Fail(hopeless()));
    stage.fail("a");
    let given_up = events.given_up("group").await;
    let expected = "given up: the child b could not be started: config: the schema is wrong";
    assert_eq!(given_up, expected);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_hopeless_child_stays_the_matter_of_its_own_supervisor() {
    let stage = Stage::new();
    let root = stage.dress(Supervisor::one_for_one()).named("root").child(group(&stage));
    let root = root.start().await.unwrap();
    let mut events = stage.listen();
    stage.tell("a", Order::Fail(hopeless()));
    events.given_up("a").await;
    until_states(&root, "group:running").await;
    let nested = root.snapshot().await.unwrap().children.remove(0).nested.unwrap();
    assert_eq!(states(&nested).await, "a:given_up b:running");
    root.stop().await;
}

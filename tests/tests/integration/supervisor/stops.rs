//! How children and supervisors are stopped, and what happens to those that resist.

use axon_runtime::supervisor::{
    Child, ChildId, ChildSpec, Exit, Happening, Shutdown, Supervisor, SupervisorStartError,
};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::stage::{Broken, Order, SECOND, Stage, Start, immortal, states};

#[tokio::test(start_paused = true)]
async fn children_start_in_order_and_stop_in_reverse_with_their_post_stop() {
    let stage = Stage::new();
    let mut supervisor = stage.dress(Supervisor::one_for_one());
    for name in ["a", "b", "c"] {
        supervisor = supervisor.child(stage.permanent(name));
    }
    let supervisor = supervisor.start().await.unwrap();
    assert_eq!(stage.log(), ["start a", "start b", "start c"]);
    let exit = supervisor.stop().await;
    assert!(matches!(exit, Exit::Shutdown(None)));
    // Each state is gone before the next child is asked.
    let expected = ["stop c", "drop c", "stop b", "drop b", "stop a", "drop a"];
    assert_eq!(stage.whole_log(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_outstays_its_budget_is_killed() {
    let stage = Stage::new();
    let spec = stage.permanent("a").shutdown(SECOND * 7);
    let supervisor = stage.dress(Supervisor::one_for_one()).child(spec).start().await.unwrap();
    stage.tell("a", Order::HangOnStop);
    let asked = Instant::now();
    supervisor.stop().await;
    assert_eq!(asked.elapsed().as_secs(), 7);
    assert_eq!(stage.whole_log(), ["start a", "stop a", "drop a"]);
    assert_eq!(supervisor.leaked(), 0);
}

#[tokio::test(start_paused = true)]
async fn each_child_has_a_budget_of_its_own() {
    let stage = Stage::new();
    let supervisor = stage
        .dress(Supervisor::one_for_one())
        .child(stage.permanent("a").shutdown(SECOND * 3))
        .child(stage.permanent("b"))
        .child(stage.permanent("c").shutdown(SECOND * 4))
        .start()
        .await
        .unwrap();
    for name in ["a", "b", "c"] {
        stage.tell(name, Order::HangOnStop);
    }
    let asked = Instant::now();
    supervisor.stop().await;
    assert_eq!(asked.elapsed().as_secs(), 4 + 5 + 3, "5 s is a worker's default");
}

#[tokio::test(start_paused = true)]
async fn brutal_kill_asks_nobody() {
    let stage = Stage::new();
    let spec = stage.permanent("a").brutal_kill();
    let supervisor = stage.dress(Supervisor::one_for_one()).child(spec).start().await.unwrap();
    supervisor.stop().await;
    assert_eq!(stage.whole_log(), ["start a", "drop a"]);
}

#[tokio::test(start_paused = true)]
async fn infinity_waits_for_however_long_it_takes() {
    let stage = Stage::new();
    let start = || async {
        let child = Child::task(|mut stop| async move {
            stop.stopped().await;
            tokio::time::sleep(SECOND * 3600).await;
        });
        Ok::<_, Broken>(child)
    };
    let spec = ChildSpec::permanent("slow", start).shutdown(Shutdown::Infinity);
    let supervisor = stage.dress(Supervisor::one_for_one()).child(spec).start().await.unwrap();
    let asked = Instant::now();
    supervisor.stop().await;
    assert_eq!(asked.elapsed().as_secs(), 3600);
}

#[tokio::test(start_paused = true)]
async fn a_failed_first_start_stops_the_others_in_reverse_and_carries_its_cause() {
    let stage = Stage::new();
    let cause = std::io::Error::other(Broken("the disk".to_owned()));
    stage.next_start("c", Start::Fail(cause.into()));
    let mut supervisor = stage.dress(Supervisor::one_for_one());
    for name in ["a", "b", "c", "d"] {
        supervisor = supervisor.child(stage.permanent(name));
    }
    let error = supervisor.start().await.unwrap_err();
    assert_eq!(stage.log(), ["start a", "start b", "fail c", "stop b", "stop a"]);
    assert!(matches!(&error, SupervisorStartError::Child { id, .. } if id.as_str() == "c"));
    let chain = format!("{:#}", anyhow::Error::from(error));
    assert_eq!(chain, "the child c could not be started: the disk broke");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_panics_has_failed() {
    async fn panics() -> Result<Child, Broken> {
        panic!("no way")
    }
    let supervisor = Supervisor::one_for_one().child(ChildSpec::permanent("a", panics));
    let error = anyhow::Error::from(supervisor.start().await.unwrap_err());
    assert_eq!(format!("{error:#}"), "the child a could not be started: panicked: no way");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_start_of_a_supervisor_ends_what_it_has_started() {
    let stage = Stage::new();
    stage.next_start("b", Start::Hang);
    let supervisor = stage
        .dress(Supervisor::one_for_one())
        .child(stage.permanent("a"))
        .child(stage.permanent("b"));
    assert!(tokio::time::timeout(SECOND, supervisor.start()).await.is_err());
    stage.actor("a").wait(None).await.unwrap();
    assert_eq!(stage.whole_log(), ["start a", "hang b", "drop a"]);
}

#[tokio::test(start_paused = true)]
async fn a_killed_supervisor_leaves_no_children() {
    let stage = Stage::new();
    let task = || async {
        Ok::<_, Broken>(Child::task(|_| async {
            std::future::pending::<()>().await;
        }))
    };
    let (life, held) = tokio::sync::oneshot::channel::<()>();
    let held = std::sync::Mutex::new(Some(held));
    let holder = move || {
        let held = held.lock().unwrap().take();
        async move {
            Ok::<_, Broken>(Child::task(|_| async move {
                let _held = held;
                std::future::pending::<()>().await;
            }))
        }
    };
    let supervisor = stage
        .dress(Supervisor::one_for_one())
        .child(stage.permanent("a"))
        .child(ChildSpec::permanent("task", task))
        .child(ChildSpec::permanent("holder", holder))
        .start()
        .await
        .unwrap();
    supervisor.kill();
    assert_eq!(supervisor.exited().await.to_string(), "killed");
    stage.actor("a").wait(None).await.unwrap();
    let mut life = life;
    life.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_survives_its_kill_is_leaked_and_its_late_end_ignored() {
    let stage = Stage::new();
    let mut events = stage.listen();
    let (life, child) = immortal();
    let child = std::sync::Mutex::new(Some(child));
    let next = stage.clone();
    let start = move || {
        let first = child.lock().unwrap().take();
        let next = next.start("a")();
        async move {
            match first {
                Some(child) => Ok(child()),
                None => next.await,
            }
        }
    };
    let id = ChildId::from("a");
    let spec = ChildSpec::permanent("a", start);
    let supervisor = stage.dress(Supervisor::one_for_one()).child(spec).start().await.unwrap();
    let asked = Instant::now();
    supervisor.terminate_child(&id).await.unwrap();
    assert_eq!(asked.elapsed().as_secs(), 5 + 2);
    events.until("a", |happening| matches!(happening, Happening::Leaked)).await;
    assert_eq!(supervisor.leaked(), 1);
    supervisor.restart_child(&id).await.unwrap();
    drop(life);
    tokio::time::advance(SECOND).await;
    assert_eq!(states(&supervisor).await, "a:running");
    assert_eq!(supervisor.which_children().await.unwrap()[0].restarts, 0);
    supervisor.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_actor_that_blocks_its_thread_is_counted_as_leaked() {
    let stage = Stage::new();
    let supervisor = stage
        .dress(Supervisor::one_for_one())
        .child(stage.permanent("a"))
        .child(stage.permanent("b").brutal_kill())
        .start()
        .await
        .unwrap();
    let (release, blocked) = std::sync::mpsc::channel();
    let (entered, is_blocked) = tokio::sync::oneshot::channel();
    stage.tell("b", Order::Block(entered, blocked));
    is_blocked.await.unwrap();
    supervisor.stop().await;
    assert_eq!(supervisor.leaked(), 1);
    assert_eq!(stage.log(), ["start a", "start b", "stop a"]);
    drop(release);
}

#[tokio::test]
async fn a_process_that_ignores_its_stop_is_killed_with_its_group_and_reaped() {
    let (told, mut group) = tokio::sync::mpsc::channel(1);
    let start = move || {
        let told = told.clone();
        async move {
            // Prints when it ignores SIGTERM, and has a child of its own.
            let script = "trap '' TERM; sleep 1000 & echo ready; wait";
            let mut process = tokio::process::Command::new("sh")
                .args(["-c", script])
                .stdout(std::process::Stdio::piped())
                .process_group(0)
                .spawn()?;
            let mut ready = [0; 6];
            process.stdout.take().unwrap().read_exact(&mut ready).await?;
            let pid = Pid::from_raw(process.id().unwrap().try_into().unwrap()).unwrap();
            told.send(pid).await.unwrap();
            let signal = move |signal| kill_process_group(pid, signal).unwrap();
            let reaped = async move {
                let status = process.wait().await?;
                if status.success() { Ok(()) } else { Err(std::io::Error::other("failed")) }
            };
            let child =
                Child::process(move || signal(Signal::TERM), move || signal(Signal::KILL), reaped);
            Ok::<_, std::io::Error>(child)
        }
    };
    let spec = ChildSpec::permanent("process", start).shutdown(SECOND / 20);
    let supervisor = Supervisor::one_for_one().child(spec).start().await.unwrap();
    let pid = group.recv().await.unwrap();
    supervisor.stop().await;
    assert_eq!(supervisor.leaked(), 0);
    assert_eq!(test_kill_process(pid), Err(Errno::SRCH), "it has been reaped");
}

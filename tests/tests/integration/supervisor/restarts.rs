//! Restart types, backoff and intensity.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use axon_kernel::spec::Backoff;
use axon_runtime::supervisor::{
    Abnormal, Child, ChildSpec, Exit, Happening, StopSignal, Supervisor,
};
use tokio::time::Instant;

use super::stage::{ALL_ENDS, Broken, End, SECOND, Stage, Start, states, until_states};

#[tokio::test(start_paused = true)]
async fn a_permanent_child_is_restarted_however_it_ends() {
    for end in ALL_ENDS {
        let stage = Stage::new();
        let supervisor = stage.dress(Supervisor::one_for_one()).child(stage.permanent("a"));
        let supervisor = supervisor.start().await.unwrap();
        let mut events = stage.listen();
        stage.end("a", end);
        let started = events.started("a").await;
        assert_eq!(started.incarnation.unwrap().0, 2, "{end:?}");
        let children = supervisor.which_children().await.unwrap();
        assert_eq!(children[0].restarts, 1, "{end:?}");
        supervisor.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_transient_child_is_restarted_after_an_abnormal_end_only() {
    for end in ALL_ENDS {
        let stage = Stage::new();
        let supervisor = stage.dress(Supervisor::one_for_one()).child(stage.transient("a"));
        let supervisor = supervisor.start().await.unwrap();
        let mut events = stage.listen();
        stage.end("a", end);
        events.exited("a").await;
        if matches!(end, End::Normal | End::Shutdown) {
            assert_eq!(states(&supervisor).await, "a:stopped", "{end:?}");
        } else {
            events.started("a").await;
        }
        supervisor.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_temporary_child_is_forgotten_however_it_ends() {
    for end in ALL_ENDS {
        let stage = Stage::new();
        let supervisor = stage.dress(Supervisor::one_for_one()).child(stage.temporary("a"));
        let supervisor = supervisor.start().await.unwrap();
        let mut events = stage.listen();
        stage.end("a", end);
        events.exited("a").await;
        assert_eq!(states(&supervisor).await, "", "{end:?}");
        supervisor.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_end_of_an_actor_is_told_as_what_it_was() {
    for (end, told) in [
        (End::Normal, "exited: normal"),
        (End::Shutdown, "exited: shutdown: going home"),
        (End::Error, "exited: a broke"),
        (End::Panic, "exited: panicked: a panics"),
        (End::Kill, "exited: killed"),
        (End::Abort, "exited: aborted"),
    ] {
        let stage = Stage::new();
        let supervisor = stage.dress(Supervisor::one_for_one()).child(stage.permanent("a"));
        let supervisor = supervisor.start().await.unwrap();
        let mut events = stage.listen();
        stage.end("a", end);
        assert_eq!(events.exited("a").await, told);
        supervisor.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_keeps_its_type() {
    let stage = Stage::new();
    let supervisor = stage.dress(Supervisor::one_for_one()).child(stage.permanent("a"));
    let supervisor = supervisor.start().await.unwrap();
    let mut events = stage.listen();
    stage.fail("a");
    let event = events.until("a", |happening| matches!(happening, Happening::Exited { .. })).await;
    let Happening::Exited { cause: Exit::Abnormal(Abnormal::Error(error)) } = event.happening
    else {
        panic!("{event:?}")
    };
    assert_eq!(error.downcast_ref::<Broken>().unwrap().0, "a");
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_task_ends_as_its_output_says() {
    async fn panics(_stop: StopSignal) {
        panic!("out of hand")
    }
    let fails = |_| async { Err::<(), _>(Broken("task".to_owned())) };
    let aborted = || {
        let task = tokio::spawn(std::future::pending::<()>());
        task.abort();
        Child::new(|| {}, || {}, async move {
            match task.await {
                Ok(()) => Exit::Normal,
                Err(_) => Exit::Abnormal(Abnormal::Aborted),
            }
        })
    };
    assert_eq!(told_of(|| Child::task(|_| async {})).await, "exited: normal");
    assert_eq!(told_of(|| Child::task(panics)).await, "exited: panicked: out of hand");
    assert_eq!(told_of(move || Child::task(fails)).await, "exited: task broke");
    assert_eq!(told_of(aborted).await, "exited: aborted");
}

async fn told_of(child: impl Fn() -> Child + Send + Sync + 'static) -> String {
    let stage = Stage::new();
    let mut events = stage.listen();
    let child = move || {
        let child = child();
        async { Ok::<_, Broken>(child) }
    };
    let spec = ChildSpec::temporary("task", child);
    let supervisor = stage.dress(Supervisor::one_for_one()).child(spec).start().await.unwrap();
    let told = events.exited("task").await;
    supervisor.stop().await;
    told
}

#[tokio::test(start_paused = true)]
async fn restarts_wait_longer_each_time_and_afresh_after_a_healthy_period() {
    let stage = Stage::new();
    let backoff = Backoff { min: SECOND, max: SECOND * 8 };
    let supervisor = stage
        .dress(Supervisor::one_for_one())
        .backoff(backoff)
        .child(stage.permanent("a"))
        .start()
        .await
        .unwrap();
    let mut events = stage.listen();
    for longest in [1, 2, 4, 8, 8] {
        let failed = Instant::now();
        stage.fail("a");
        events.started("a").await;
        let waited = failed.elapsed();
        let longest = SECOND * longest;
        assert!(waited >= longest / 2 && waited <= longest + Duration::from_millis(2));
    }
    tokio::time::advance(SECOND * 8).await;
    let failed = Instant::now();
    stage.fail("a");
    events.started("a").await;
    assert!(failed.elapsed() <= SECOND + Duration::from_millis(2));
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_restart_more_than_the_intensity_ends_all_in_reverse_order() {
    let stage = Stage::new();
    let supervisor = stage
        .dress(Supervisor::one_for_one())
        .intensity(2, SECOND * 5)
        .child(stage.permanent("a"))
        .child(stage.permanent("b"))
        .child(stage.permanent("c"))
        .start()
        .await
        .unwrap();
    let mut events = stage.listen();
    for child in ["a", "b"] {
        stage.fail(child);
        events.started(child).await;
    }
    stage.log();
    stage.fail("b");
    let exit = supervisor.exited().await;
    let Exit::Abnormal(Abnormal::Exhausted { child, cause }) = &exit else { panic!("{exit}") };
    assert_eq!((child.as_str(), cause.to_string().as_str()), ("b", "b broke"));
    assert_eq!(exit.to_string(), "the children failed too often, b at last: b broke");
    assert_eq!(stage.log(), ["stop c", "stop a"]);
}

#[tokio::test(start_paused = true)]
async fn restarts_that_the_window_has_left_behind_do_not_count() {
    let stage = Stage::new();
    let supervisor = stage
        .dress(Supervisor::one_for_one())
        .intensity(1, SECOND * 5)
        .child(stage.permanent("a"))
        .start()
        .await
        .unwrap();
    let mut events = stage.listen();
    for _ in 0..4 {
        stage.fail("a");
        events.started("a").await;
        assert_eq!(supervisor.snapshot().await.unwrap().restarts_left, 0);
        tokio::time::advance(SECOND * 6).await;
        assert_eq!(supervisor.snapshot().await.unwrap().restarts_left, 1);
    }
    assert!(matches!(supervisor.stop().await, Exit::Shutdown(None)));
}

#[tokio::test(start_paused = true)]
async fn the_default_intensity_is_one_restart_in_five_seconds() {
    let stage = Stage::new();
    let supervisor = Supervisor::one_for_one()
        .child(stage.permanent("a"))
        .on_event(stage.on_event())
        .start()
        .await
        .unwrap();
    let mut events = stage.listen();
    stage.fail("a");
    events.started("a").await;
    stage.fail("a");
    assert!(matches!(supervisor.exited().await, Exit::Abnormal(Abnormal::Exhausted { .. })));
}

#[tokio::test(start_paused = true)]
async fn failed_restarts_count_and_are_tried_again() {
    let stage = Stage::new();
    let supervisor = stage
        .dress(Supervisor::one_for_one())
        .intensity(3, SECOND * 60)
        .child(stage.permanent("a"))
        .start()
        .await
        .unwrap();
    let mut events = stage.listen();
    for _ in 0..2 {
        stage.next_start("a", Start::Fail(Broken("start".to_owned()).into()));
    }
    stage.fail("a");
    events.started("a").await;
    assert_eq!(stage.log(), ["start a", "fail a", "fail a", "start a"]);
    assert_eq!(supervisor.snapshot().await.unwrap().restarts_left, 0);
    stage.next_start("a", Start::Fail(Broken("start".to_owned()).into()));
    stage.fail("a");
    assert!(!supervisor.exited().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_start_that_takes_longer_than_its_limit_has_failed() {
    let stage = Stage::new();
    stage.next_start("a", Start::Hang);
    let spec = stage.permanent("a").start_timeout(SECOND * 3);
    let began = Instant::now();
    let error = stage.dress(Supervisor::one_for_one()).child(spec).start().await.unwrap_err();
    assert_eq!(began.elapsed().as_secs(), 3);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "the start took longer than 3s");
}

#[tokio::test(start_paused = true)]
async fn a_child_that_ends_before_it_is_watched_is_restarted() {
    let stage = Stage::new();
    let mut events = stage.listen();
    let (first, starts) = (stage.clone(), AtomicBool::new(false));
    let start = move || {
        let again = starts.swap(true, Ordering::SeqCst);
        let start = first.start("a")();
        let stage = first.clone();
        async move {
            if again {
                return start.await;
            }
            drop(start);
            let (actor, task) = ractor::Actor::spawn(None, Idle, ()).await?;
            actor.stop(None);
            actor.wait(None).await?;
            stage.write("ended early");
            Ok(Child::actor(actor, task))
        }
    };
    let spec = ChildSpec::transient("a", start);
    let supervisor = stage.dress(Supervisor::one_for_one()).child(spec).start().await.unwrap();
    assert_eq!(events.exited("a").await, "exited: the actor had ended before it was watched");
    until_states(&supervisor, "a:running").await;
    assert_eq!(stage.log(), ["ended early", "start a"]);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_actor_spawned_for_its_supervisor_cannot_end_unseen() {
    let stage = Stage::new();
    let mut events = stage.listen();
    let start = || async {
        let (actor, child) = Child::spawn(Idle, ()).await?;
        actor.stop(Some("at once".to_owned()));
        actor.wait(None).await.unwrap();
        Ok::<_, ractor::SpawnErr>(child)
    };
    let spec = ChildSpec::transient("a", start);
    let supervisor = stage.dress(Supervisor::one_for_one()).child(spec).start().await.unwrap();
    assert_eq!(events.exited("a").await, "exited: shutdown: at once");
    supervisor.stop().await;
}

struct Idle;

impl ractor::Actor for Idle {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ractor::ActorRef<()>,
        (): (),
    ) -> Result<(), ractor::ActorProcessingErr> {
        Ok(())
    }
}

/// Ends as soon as it has started: ten times with an error, then well.
struct Hasty(Arc<AtomicU32>);

impl ractor::Actor for Hasty {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ractor::ActorRef<()>,
        (): (),
    ) -> Result<(), ractor::ActorProcessingErr> {
        Ok(())
    }

    async fn post_start(
        &self,
        myself: ractor::ActorRef<()>,
        (): &mut (),
    ) -> Result<(), ractor::ActorProcessingErr> {
        if self.0.fetch_add(1, Ordering::SeqCst) < 10 {
            return Err(Broken("haste".to_owned()).into());
        }
        myself.stop(None);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_end_is_lost_or_mistaken_however_soon_it_comes() {
    let mut supervisor = Supervisor::one_for_one().backoff(None).intensity(u32::MAX, SECOND);
    for number in 0..100 {
        let starts = Arc::new(AtomicU32::new(0));
        let start = move || {
            let starts = starts.clone();
            async move { Child::spawn(Hasty(starts), ()).await.map(|(_, child)| child) }
        };
        supervisor = supervisor.child(ChildSpec::transient(number.to_string(), start));
    }
    let (normal, mut ended) = tokio::sync::watch::channel(0);
    let supervisor = supervisor.on_event(Arc::new(move |event| {
        if matches!(event.happening, Happening::Exited { cause: Exit::Normal }) {
            normal.send_modify(|ended| *ended += 1);
        }
    }));
    let supervisor = supervisor.start().await.unwrap();
    ended.wait_for(|&ended| ended == 100).await.unwrap();
    for child in supervisor.which_children().await.unwrap() {
        assert_eq!(child.restarts, 10, "{}", child.id);
    }
    supervisor.stop().await;
}

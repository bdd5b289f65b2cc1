//! What supervision costs: 10,000 plain actors under our supervisor and under bare ractor, which
//! links them and restarts them without any rule, in the same run.
//!
//! ```text
//! cargo bench -p axon-tests --bench supervisor
//! cargo bench -p axon-tests --bench supervisor -- --actors 1000 --rounds 3
//! ```
//!
//! *start* is until all run, one after the other: `spawn_linked` against a supervisor with 10,000
//! specs, and against `start_child` from outside. *restart* is from the moment that all are told
//! to fail until all run again. *stop* asks one after the other, in reverse order, and waits for
//! each. Shown is the median over the rounds, in µs per actor. Nothing is asserted about time. At
//! a tenth of the actors the figures per actor should be the same: nothing is quadratic.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use axon_runtime::supervisor::{
    Child, ChildId, ChildSpec, Happening, Supervisor, SupervisorHandle,
};
use clap::Parser;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What the bench is asked for.
#[derive(Clone, Copy, Debug, Parser)]
#[command(about = "What supervision costs beside bare ractor")]
struct Options {
    /// How many actors.
    #[arg(long, default_value_t = 10_000)]
    actors: usize,
    /// How many rounds are measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// What cargo gives to every bench.
const BENCH: &str = "--bench";

fn main() -> anyhow::Result<()> {
    let given: Vec<String> = std::env::args().collect();
    if !given.iter().any(|argument| argument == BENCH) {
        return Ok(());
    }
    let options = Options::parse_from(given.iter().filter(|argument| *argument != BENCH));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for actors in [options.actors / 10, options.actors] {
        let mut rounds = Vec::new();
        for _ in 0..options.rounds {
            let bare = runtime.block_on(runtime.spawn(bare(actors)))??;
            let axon = runtime.block_on(runtime.spawn(axon(actors)))??;
            rounds.push((bare, axon));
        }
        print(actors, &rounds)?;
    }
    Ok(())
}

/// The times of one round.
#[derive(Clone, Copy, Debug)]
struct Times {
    start: Duration,
    start_child: Duration,
    restart: Duration,
    stop: Duration,
}

/// Picks one of the times.
type Part = fn(&Times) -> Duration;

fn print(actors: usize, rounds: &[(Times, Times)]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{actors} actors, {} rounds, µs per actor", rounds.len())?;
    writeln!(out, "{:<14}{:>10}{:>10}{:>10}", "", "ractor", "Axon", "ratio")?;
    let rows: [(&str, Part); 4] = [
        ("start", |times| times.start),
        ("start_child", |times| times.start_child),
        ("restart", |times| times.restart),
        ("stop", |times| times.stop),
    ];
    for (name, of) in rows {
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / actors as f64;
        let bare = median(rounds.iter().map(|(bare, _)| micros(of(bare))).collect());
        let axon = median(rounds.iter().map(|(_, axon)| micros(of(axon))).collect());
        writeln!(out, "{name:<14}{bare:>10.2}{axon:>10.2}{:>9.1}x", axon / bare)?;
    }
    writeln!(out)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// An actor that fails when it is told anything.
struct Plain;

impl Actor for Plain {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<()>, (): (), (): &mut ()) -> Result<(), ActorProcessingErr> {
        Err("told to".into())
    }
}

/// What ractor gives: an actor that starts another one for each that fails.
struct Parent;

struct Children {
    running: Vec<(ActorRef<()>, JoinHandle<()>)>,
    restarted: watch::Sender<usize>,
}

impl Actor for Parent {
    type Msg = tokio::sync::oneshot::Sender<Vec<(ActorRef<()>, JoinHandle<()>)>>;
    type State = Children;
    type Arguments = watch::Sender<usize>;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        restarted: watch::Sender<usize>,
    ) -> Result<Children, ActorProcessingErr> {
        Ok(Children { running: Vec::new(), restarted })
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        reply: Self::Msg,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        drop(reply.send(std::mem::take(&mut children.running)));
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        if matches!(event, SupervisionEvent::ActorFailed(..)) {
            let child = spawn(myself.get_cell()).await?;
            children.running.push(child);
            children.restarted.send_modify(|count| *count += 1);
        }
        Ok(())
    }
}

async fn spawn(parent: ActorCell) -> Result<(ActorRef<()>, JoinHandle<()>), SpawnErr> {
    Actor::spawn_linked(None, Plain, (), parent).await
}

async fn bare(actors: usize) -> anyhow::Result<Times> {
    let (count, mut restarted) = watch::channel(0);
    let (parent, task) = Actor::spawn(None, Parent, count).await?;
    let began = Instant::now();
    let mut children = Vec::with_capacity(actors);
    for _ in 0..actors {
        children.push(spawn(parent.get_cell()).await?);
    }
    let start = began.elapsed();

    let began = Instant::now();
    for (actor, _) in &children {
        actor.cast(())?;
    }
    restarted.wait_for(|&count| count == actors).await?;
    let restart = began.elapsed();

    let (reply, answer) = tokio::sync::oneshot::channel();
    parent.cast(reply)?;
    let children = answer.await?;
    let began = Instant::now();
    for (actor, task) in children.into_iter().rev() {
        actor.stop(None);
        task.await?;
    }
    let stop = began.elapsed();
    parent.stop(None);
    task.await?;
    Ok(Times { start, start_child: start, restart, stop })
}

/// Makes the spec of an actor that leaves its reference behind, to be told to fail.
fn spec(number: usize, actors: &Arc<[std::sync::Mutex<Option<ActorRef<()>>>]>) -> ChildSpec {
    let actors = actors.clone();
    let start = move || {
        let actors = actors.clone();
        async move {
            let (actor, child) = Child::spawn(Plain, ()).await?;
            if let Ok(mut place) = actors[number].lock() {
                *place = Some(actor);
            }
            Ok::<_, SpawnErr>(child)
        }
    };
    ChildSpec::permanent(ChildId::new(number.to_string()), start)
}

async fn axon(actors: usize) -> anyhow::Result<Times> {
    let refs: Arc<[std::sync::Mutex<Option<ActorRef<()>>>]> =
        (0..actors).map(|_| std::sync::Mutex::new(None)).collect();
    let (count, mut started) = watch::channel(0);
    let builder = || {
        let count = count.clone();
        Supervisor::one_for_one()
            .intensity(u32::MAX, Duration::from_secs(60))
            .backoff(None)
            .on_event(Arc::new(move |event| {
                if event.child.is_some() && matches!(event.happening, Happening::Started) {
                    count.send_modify(|count| *count += 1);
                }
            }))
    };
    let began = Instant::now();
    let supervisor = (0..actors).fold(builder(), |supervisor, n| supervisor.child(spec(n, &refs)));
    let supervisor: SupervisorHandle = supervisor.start().await?;
    let start = began.elapsed();

    let began = Instant::now();
    for place in refs.iter() {
        let actor = place.lock().ok().and_then(|place| place.clone());
        actor.ok_or_else(|| anyhow::anyhow!("an actor that was not started"))?.cast(())?;
    }
    started.wait_for(|&count| count == 2 * actors).await?;
    let restart = began.elapsed();

    let began = Instant::now();
    supervisor.stop().await;
    let stop = began.elapsed();

    let supervisor = builder().start().await?;
    let began = Instant::now();
    for number in 0..actors {
        supervisor.start_child(spec(number, &refs)).await?;
    }
    let start_child = began.elapsed();
    supervisor.stop().await;
    Ok(Times { start, start_child, restart, stop })
}

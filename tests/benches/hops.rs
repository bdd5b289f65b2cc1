//! What a hop costs: messages through a router, a router behind it, and one that answers, against
//! the same chain of bare ractor calls, in the same run. No runner and no model: everything else
//! that a hop does is done, its run recorded in the memory store.
//!
//! ```text
//! cargo bench -p axon-tests --bench hops
//! cargo bench -p axon-tests --bench hops -- --messages 1000 --at-once 1
//! ```
//!
//! Shown is the processor time of the whole process and the wall time, each per hop: three for one
//! message. `streamed` follows the events of each run, as a caller does that shows them. Nothing is
//! asserted about time.

use std::io::Write;
use std::num::NonZeroU32;
use std::time::Duration;

use axon_runtime::{Agent, AgentHandle, AnyDeps, Pipeline, Router, Runtime};
use clap::Parser;
use futures_util::{StreamExt, stream};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// What the bench is asked for.
#[derive(Clone, Copy, Debug, Parser)]
#[command(about = "What a hop costs beside bare ractor calls")]
struct Options {
    /// How many messages.
    #[arg(long, default_value_t = 10_000)]
    messages: usize,
    /// How many are under way at the same time.
    #[arg(long, default_value_t = 16)]
    at_once: usize,
    /// How many rounds are measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// What cargo gives to every bench.
const BENCH: &str = "--bench";

/// Router, router, and the one that answers.
const HOPS: usize = 3;

fn main() -> anyhow::Result<()> {
    let given: Vec<String> = std::env::args().collect();
    if !given.iter().any(|argument| argument == BENCH) {
        return Ok(());
    }
    let options = Options::parse_from(given.iter().filter(|argument| *argument != BENCH));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(runtime.spawn(measure(options)))?
}

async fn measure(options: Options) -> anyhow::Result<()> {
    let axon = start().await?;
    let first = axon.named("outer")?;
    let bare = chain().await?;
    let mut rows: [Vec<Cost>; 3] = Default::default();
    for _ in 0..options.rounds {
        rows[0].push(cost(options, |_| ask_bare(bare.clone())).await?);
        rows[1].push(cost(options, |number| ask(first.clone(), number)).await?);
        rows[2].push(cost(options, |number| follow(first.clone(), number)).await?);
    }
    axon.shutdown().await;
    print(options, rows)
}

/// What one hop costs.
#[derive(Clone, Copy, Debug)]
struct Cost {
    cpu: f64,
    wall: f64,
}

async fn cost<F>(options: Options, ask: impl Fn(usize) -> F) -> anyhow::Result<Cost>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let (cpu, began) = (cpu_time(), Instant::now());
    let asked = stream::iter(0..options.messages).map(|number| tokio::spawn(ask(number)));
    let mut answers = asked.buffer_unordered(options.at_once);
    while let Some(answer) = answers.next().await {
        answer??;
    }
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / (options.messages * HOPS) as f64;
    Ok(Cost { cpu: micros(cpu_time() - cpu), wall: micros(began.elapsed()) })
}

fn print(options: Options, rows: [Vec<Cost>; 3]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let Options { messages, at_once, rounds } = options;
    writeln!(out, "{messages} messages, {at_once} at once, {rounds} rounds; µs per hop")?;
    writeln!(out, "{:<16}{:>10}{:>10}{:>10}", "", "CPU", "wall", "CPU ratio")?;
    let bare = median(&rows[0], |cost| cost.cpu);
    for (name, costs) in ["ractor calls", "Axon", "Axon, streamed"].iter().zip(&rows) {
        let (cpu, wall) = (median(costs, |cost| cost.cpu), median(costs, |cost| cost.wall));
        writeln!(out, "{name:<16}{cpu:>10.1}{wall:>10.1}{:>9.1}x", cpu / bare)?;
    }
    Ok(())
}

fn median(costs: &[Cost], of: impl Fn(&Cost) -> f64) -> f64 {
    let mut figures: Vec<f64> = costs.iter().map(of).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Returns what this process has used, all threads, user and system.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

async fn start() -> anyhow::Result<Runtime> {
    let roomy = |spec: &mut axon_kernel::spec::AgentSpec| {
        spec.limits.concurrency =
            NonZeroU32::MAX.min(NonZeroU32::new(4096).unwrap_or(NonZeroU32::MIN));
        spec.limits.queue = 100_000;
    };
    let echo: Agent<AnyDeps, String> =
        Pipeline::new("echo").apply(|text: String| text).configure(roomy).build()?;
    let inner = Router::new("inner").rule("input != ''", "echo").configure(roomy).build()?;
    let outer = Router::new("outer").rule("input != ''", "inner").configure(roomy).build()?;
    Ok(Runtime::builder().agent(echo).agent(inner).agent(outer).start().await?)
}

async fn ask(agent: AgentHandle, number: usize) -> anyhow::Result<()> {
    agent.run(format!("message {number}")).wait().await?.completed()?;
    Ok(())
}

async fn follow(agent: AgentHandle, number: usize) -> anyhow::Result<()> {
    let mut run = agent.run(format!("message {number}")).start().await?;
    while run.events().next().await.is_some() {}
    run.outcome().await.completed()?;
    Ok(())
}

/// An actor that hands a message on, or answers it.
struct Link;

#[derive(Debug)]
struct Text(String, RpcReplyPort<String>);

impl Actor for Link {
    type Msg = Text;
    type State = Option<ActorRef<Text>>;
    type Arguments = Option<ActorRef<Text>>;

    async fn pre_start(
        &self,
        _: ActorRef<Text>,
        next: Option<ActorRef<Text>>,
    ) -> Result<Option<ActorRef<Text>>, ActorProcessingErr> {
        Ok(next)
    }

    async fn handle(
        &self,
        _: ActorRef<Text>,
        Text(text, reply): Text,
        next: &mut Option<ActorRef<Text>>,
    ) -> Result<(), ActorProcessingErr> {
        let Some(next) = next.clone() else { return Ok(reply.send(text)?) };
        // As a run task does: the mailbox stays free.
        tokio::spawn(async move {
            if let Ok(ractor::rpc::CallResult::Success(answer)) =
                next.call(|port| Text(text, port), None).await
            {
                let _gone = reply.send(answer);
            }
        });
        Ok(())
    }
}

async fn chain() -> anyhow::Result<ActorRef<Text>> {
    let (echo, _) = Actor::spawn(None, Link, None).await?;
    let (inner, _) = Actor::spawn(None, Link, Some(echo)).await?;
    Ok(Actor::spawn(None, Link, Some(inner)).await?.0)
}

async fn ask_bare(first: ActorRef<Text>) -> anyhow::Result<()> {
    first.call(|port| Text("message".to_owned(), port), None).await?;
    Ok(())
}

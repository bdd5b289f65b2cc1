//! A program that embeds the runtime over a durable store, for the kill matrix to kill.
//!
//! Its arguments are the folder of agents, the store's address, the address of the world that it is
//! watched by, and `watched` if it is to stop there before and after every append. What it is told
//! and what it says are lines of JSON, see `axon_tests::kill::Order` and `axon_tests::kill::Said`.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;

use axon_kernel::ids::RunId;
use axon_kernel::store::Store;
use axon_runtime::{Observed, Outcome, RunHandle, Runtime, RuntimeEvent};
use axon_store::OpenOptions;
use axon_tests::kill::{Order, Said, WatchedStore};

type Failed = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [agents, store, world, watched @ ..] = arguments.as_slice() else {
        return Err("the folder of agents, the store and the world are missing".into());
    };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let mut store = axon_store::open(&store.parse()?, OpenOptions::default()).await?;
    if !watched.is_empty() {
        store = Arc::new(WatchedStore::new(store, world.clone()));
    }
    let runtime = start(agents, store).await?;
    say(&Said::Ready)?;
    while let Some(line) = tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await? {
        match serde_json::from_str(&line?)? {
            Order::Start { agent, prompt, conversation } => {
                tokio::spawn(run(runtime.clone(), agent, prompt, conversation));
            }
            Order::Resume { run } => drop(tokio::spawn(resume(runtime.clone(), run))),
            Order::Shutdown => break,
        }
    }
    runtime.shutdown().await;
    Ok(())
}

async fn start(agents: &str, store: Arc<dyn Store>) -> Result<Runtime, Failed> {
    let builder = Runtime::builder().allow_offline().agents_dir(agents).store(store);
    let runtime = builder.start().await?;
    let mut events = runtime.events();
    for agent in runtime.agents() {
        let name = agent.name().to_string();
        if let Some(pid) = agent.status().await?.pid {
            say(&Said::Runner { agent: name, pid })?;
        }
    }
    tokio::spawn(async move {
        while let Some(observed) = events.next().await {
            let Observed::Event(event) = observed else { continue };
            if let RuntimeEvent::RunnerUp { agent, pid, .. } = *event {
                // Nobody may listen any more.
                let _unheard = say(&Said::Runner { agent: agent.to_string(), pid });
            }
        }
    });
    Ok(runtime)
}

async fn run(runtime: Runtime, agent: String, prompt: String, conversation: Option<String>) {
    let started = async {
        let mut run = runtime.named(&agent)?.run(prompt.as_str());
        if let Some(conversation) = conversation {
            run = run.conversation(conversation.as_str());
        }
        run.start().await
    };
    let said = match started.await {
        Ok(run) => {
            let accepted = say(&Said::Accepted { prompt, run: run.id().clone() });
            settle(run).await;
            accepted
        }
        Err(refused) => say(&Said::Refused { prompt, code: refused.code().to_owned() }),
    };
    let _unheard = said;
}

async fn resume(runtime: Runtime, run: RunId) {
    match runtime.resume(run.clone()).start().await {
        Ok(handle) => settle(handle).await,
        Err(error) => {
            let _unheard = say(&Said::NotResumed { run, code: error.code().to_owned() });
        }
    }
}

async fn settle(run: RunHandle) {
    let ended = run.outcome().await;
    let how = match ended.outcome {
        Outcome::Completed(_) => "completed",
        Outcome::Failed(_) => "failed",
        Outcome::Cancelled(_) => "cancelled",
        Outcome::Rejected(_) => "rejected",
        Outcome::Paused(_) => "paused",
    };
    let _unheard = say(&Said::Settled { run: ended.run_id, how: how.to_owned() });
}

fn say(said: &Said) -> Result<(), Failed> {
    let line = serde_json::to_string(said)?;
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

//! A program that runs as many agents as it is told to, for tests to look at from outside.
//!
//! Each line of its standard input is an order, and a line of JSON on its standard output says that
//! it is carried out: `start N` and `shutdown` for a runtime, `add N` and `stop N` for agents of it,
//! `add-at-once N` and `stop-at-once N` for all of them at the same time, and `run` for a run of each.

use std::error::Error;
use std::io::Write;

use axon_runtime::kernel::spec::AgentSpec;
use axon_runtime::{AgentState, Outcome, Runtime};
use futures_util::future::{join_all, try_join_all};
use serde_json::{Value, json};

type Failed = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let mut crowd = Crowd::default();
    while let Some(line) = tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await? {
        let line = line?;
        let (order, count) = line.split_once(' ').unwrap_or((&line, "0"));
        let answer = crowd.obey(order, count.parse()?).await?;
        writeln!(std::io::stdout(), "{answer}")?;
    }
    crowd.shut_down().await;
    Ok(())
}

#[derive(Default)]
struct Crowd {
    runtime: Option<Runtime>,
}

impl Crowd {
    async fn obey(&mut self, order: &str, count: usize) -> Result<Value, Failed> {
        let added = (0..count).map(|number| spec("added", number));
        let names: Vec<String> = (0..count).map(|number| format!("added_{number}")).collect();
        match order {
            "start" => {
                let builder = Runtime::builder().allow_offline();
                let agents = (0..count).map(|number| spec("first", number));
                let builder = agents
                    .collect::<Result<Vec<_>, _>>()?
                    .into_iter()
                    .fold(builder, |builder, spec| builder.agent(spec));
                let runtime = builder.start().await?;
                self.runtime = Some(runtime);
                return self.up("first").await;
            }
            "add" => {
                for spec in added {
                    self.runtime()?.start_agent(spec?).await?;
                }
                return self.up("added").await;
            }
            "add-at-once" => {
                let specs = added.collect::<Result<Vec<_>, _>>()?;
                let runtime = self.runtime()?;
                try_join_all(specs.into_iter().map(|spec| runtime.start_agent(spec))).await?;
                return self.up("added").await;
            }
            "stop" => {
                for name in &names {
                    self.runtime()?.stop_agent(name).await?;
                }
            }
            "stop-at-once" => {
                let runtime = self.runtime()?;
                try_join_all(names.iter().map(|name| runtime.stop_agent(name))).await?;
            }
            "run" => return self.run().await,
            "shutdown" => self.shut_down().await,
            _ => return Err(format!("{order} is no order").into()),
        }
        Ok(json!({}))
    }

    fn runtime(&self) -> Result<&Runtime, Failed> {
        self.runtime.as_ref().ok_or_else(|| "nothing was started".into())
    }

    /// Says how many of these agents are up.
    async fn up(&self, prefix: &str) -> Result<Value, Failed> {
        let agents = self.runtime()?.agents();
        let agents = agents.iter().filter(|agent| agent.name().as_str().starts_with(prefix));
        let statuses = join_all(agents.map(|agent| agent.status())).await;
        let up = |status: &&_| matches!(status, Ok(status) if is_up(status));
        Ok(json!({"up": statuses.iter().filter(up).count()}))
    }

    async fn run(&self) -> Result<Value, Failed> {
        let agents = self.runtime()?.agents();
        let runs = try_join_all(agents.iter().map(|agent| agent.run("go").wait())).await?;
        let completed = runs.iter().filter(|run| matches!(run.outcome, Outcome::Completed(_)));
        Ok(json!({"completed": completed.count()}))
    }

    async fn shut_down(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown().await;
        }
    }
}

fn is_up(status: &axon_runtime::AgentStatus) -> bool {
    status.state == AgentState::Up
}

fn spec(prefix: &str, number: usize) -> Result<AgentSpec, Failed> {
    let mut spec = AgentSpec::new(format!("{prefix}_{number}").parse()?);
    spec.model = Some("test".parse()?);
    Ok(spec)
}

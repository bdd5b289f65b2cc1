//! Agents that work together: pipelines, routers and hand-offs.

mod files;
mod graphs;
mod handoffs;
mod once;
mod pipelines;
mod routers;
mod shipped;
mod waiting;

use axon_kernel::event::RunEvent;
use axon_runtime::{Agent, AnyDeps, Pipeline, Runtime, RuntimeBuilder, ToolError};
use serde_json::Value;

/// Returns one that answers by a Rust function, without a runner.
fn answering(
    name: &str,
    answer: impl Fn(String) -> String + Send + Sync + 'static,
) -> Agent<AnyDeps, String> {
    Pipeline::new(name).apply(answer).build().unwrap()
}

/// Returns one that always fails.
fn failing(name: &str) -> Agent<AnyDeps, String> {
    let fail = |_: String| Err::<String, _>(ToolError::Failed("it never works".to_owned()));
    Pipeline::new(name).try_apply(fail).build().unwrap()
}

/// Returns the paths of those whose events passed by, each as often as another one's lay between.
fn paths(seen: &[RunEvent]) -> Vec<String> {
    let path = |event: &RunEvent| {
        let RunEvent::Delegated(delegated) = event else { return None };
        Some(delegated.path.to_string())
    };
    let mut paths: Vec<String> = seen.iter().filter_map(path).collect();
    paths.dedup();
    paths
}

/// Starts a runtime of those that need no runner.
async fn start(builder: RuntimeBuilder) -> Runtime {
    builder.start().await.unwrap()
}

async fn ask(
    runtime: &Runtime,
    name: &str,
    prompt: &str,
) -> Result<Value, axon_kernel::failure::Failure> {
    let outcome = runtime.named(name).unwrap().run(prompt).wait().await.unwrap();
    outcome.completed().map(|completed| completed.output.decode().unwrap())
}

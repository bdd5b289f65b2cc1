//! A pipeline in the service's own types, from the root of the repository:
//! `cargo run -p research -- "What did the Fresnel lens change?"`.
//!
//! A planner says what to search for, searchers search at the same time, a writer reports what they
//! found. The agents are the folder's.

use std::io::Write;

use axon_runtime::kernel::event::RunEvent;
use axon_runtime::{Pipeline, RunUpdate, Runtime, named};
use clap::Parser;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Researches a question in documents.
#[derive(Debug, Parser)]
struct Options {
    /// The question.
    question: String,
    /// The folder of documents.
    #[arg(long, default_value = "agents/research/documents")]
    docs: String,
}

/// What the planner answers.
#[derive(Serialize, Deserialize)]
struct Plan {
    queries: Vec<String>,
}

/// What the writer answers.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
struct Report {
    title: String,
    summary: String,
    bullets: Vec<Bullet>,
}

/// One finding, and the documents that it is from.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
struct Bullet {
    text: String,
    sources: Vec<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Options { question, docs } = Options::parse();
    let study = Pipeline::new("study")
        .then(&named::<Plan>("research_planner"))
        .map(|plan: Plan| plan.queries, &named::<Value>("research_searcher"))
        .retry(1)
        .skip_failed(1)
        .then_with(
            |asked, found: Vec<Value>| format!("Question: {asked}\nFindings:\n{}", json!(found)),
            &named::<Report>("research_writer"),
        )
        .build()?;
    let builder = Runtime::builder().agents_dir("agents").agent(&study);
    let runtime = builder.allow_offline().start().await?;

    let run = runtime.agent(&study).run(question).with(|run| run.deps(&json!({ "docs": docs })));
    let mut run = run.start().await?;
    while let Some(update) = run.events().next().await {
        if let RunUpdate::Event(event) = update
            && let RunEvent::ToolReturned(step) = &event.event
        {
            writeln!(std::io::stderr(), "{} is done", step.tool_call_id)?;
        }
    }
    let report = run.outcome().await.answer::<Report>()?.output;
    let mut out = std::io::stdout();
    writeln!(out, "{}\n\n{}\n", report.title, report.summary)?;
    for Bullet { text, sources } in report.bullets {
        writeln!(out, "- {text} [{}]", sources.join(", "))?;
    }
    runtime.shutdown().await;
    Ok(())
}

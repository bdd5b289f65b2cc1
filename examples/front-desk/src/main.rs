//! The front desk of a bank: `cargo run -p front-desk -- "Someone used my card in Lisbon!"`, from
//! the root of the repository.
//!
//! A router reads the message and hands it to support or to the fraud desk, which may hand it back,
//! ask a clerk, and block a card only if the clerk approves. Without `AXON_MODEL` the models only
//! play ones.

use std::io::{BufRead, Write};

use axon_runtime::kernel::event::{PauseReason, RunEvent};
use axon_runtime::kernel::wire::{DeferredKind, DeferredRequest};
use axon_runtime::{Outcome, RunHandle, RunUpdate, Runtime};
use clap::Parser;
use serde_json::{Value, json};

/// Asks the front desk of the bank.
#[derive(Debug, Parser)]
struct Options {
    /// What the customer says.
    message: String,
    /// The customer's number.
    #[arg(long, default_value_t = 123)]
    customer: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Options { message, customer } = Options::parse();
    let runtime = Runtime::builder().agents_dir("agents").allow_offline().start().await?;
    let desk = runtime.named("front_desk")?;
    let mut run = desk.run(message).deps(&json!({ "customer_id": customer })).start().await?;
    let answer = loop {
        show(&mut run).await?;
        let outcome = run.outcome().await;
        let Outcome::Paused(paused) = &outcome.outcome else { break outcome.completed() };
        let PauseReason::Approval { requests } = &paused.reason else { break outcome.completed() };
        for request in requests.decode::<Vec<DeferredRequest>>()? {
            decide(&mut run, request).await?;
        }
    };
    runtime.shutdown().await;
    let answer: Value = answer?.output.decode()?;
    writeln!(std::io::stdout(), "{}", answer["support_advice"].as_str().unwrap_or_default())?;
    Ok(())
}

/// Shows who does what, with the way that the message has gone.
async fn show(run: &mut RunHandle) -> anyhow::Result<()> {
    while let Some(update) = run.events().next().await {
        let RunUpdate::Event(event) = update else { continue };
        let RunEvent::Delegated(below) = &event.event else { continue };
        if let RunEvent::ToolCalled(call) = below.inner.as_ref() {
            writeln!(std::io::stderr(), "{}: {}", below.path, call.name)?;
        }
    }
    Ok(())
}

/// Asks the clerk at the terminal: for an answer, or whether something may be done.
async fn decide(run: &mut RunHandle, request: DeferredRequest) -> anyhow::Result<()> {
    let (call, asked) = (&request.tool_call_id, request.asked());
    let what = asked.question().unwrap_or_else(|| format!("May it {}? [y/N]", asked.name));
    write!(std::io::stderr(), "{what} ")?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    match (asked.kind, line.trim()) {
        (DeferredKind::Approval, "y" | "yes") => run.approve(call).await?,
        (DeferredKind::Approval, _) => run.deny(call, "a clerk refused it").await?,
        (DeferredKind::Question | DeferredKind::External, answer) => {
            run.answer(call, answer).await?
        }
    };
    Ok(())
}

//! A service that embeds the runtime, asks the bank-support agent and follows its run:
//! `cargo run -p ask-the-bank -- "I just lost my card!"`, from the root of the repository.

use std::error::Error;
use std::io::Write;

use axon_runtime::kernel::event::RunEvent;
use axon_runtime::{RunUpdate, Runtime};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let question = std::env::args().nth(1).unwrap_or_else(|| "What is my balance?".to_owned());
    // The agents' folder names a model that only plays one unless AXON_MODEL names a real one.
    let runtime = Runtime::builder().agents_dir("agents").allow_offline().start().await?;

    let bank = runtime.named("bank_support")?;
    let mut run = bank.run(question).deps(&json!({"customer_id": 123})).start().await?;
    while let Some(update) = run.events().next().await {
        if let RunUpdate::Event(event) = update
            && let RunEvent::ToolCalled(call) = &event.event
        {
            writeln!(std::io::stderr(), "the agent calls {}", call.name)?;
        }
    }
    let completed = run.outcome().await.completed()?;
    let answer: Value = completed.output.decode()?;
    writeln!(std::io::stdout(), "{}", answer["support_advice"].as_str().unwrap_or_default())?;
    runtime.shutdown().await;
    Ok(())
}

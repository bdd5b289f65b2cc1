//! A bank's support, at the command line: `cargo run -p bank-support -- "I just lost my card!"`.
//!
//! It answers with a model that only plays one, unless `AXON_MODEL` names a real one:
//! `AXON_MODEL=openai:gpt-5` with its key in `OPENAI_API_KEY`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use axon_runtime::{Answer, Runtime};
use bank_support::approval::{Approver, end_of};
use bank_support::bank::Bank;
use bank_support::support::{Support, SupportDeps, SupportOutput, support};
use clap::Parser;

/// Asks the bank's support.
#[derive(Debug, Parser)]
struct Options {
    /// What the customer asks.
    #[arg(default_value = "What is my balance?")]
    question: String,
    /// The customer's number.
    #[arg(long, default_value_t = 123)]
    customer: u32,
    /// The bank's database.
    #[arg(long, default_value = ".axon/bank.sqlite3")]
    db: PathBuf,
    /// Approves whatever the agent asks for.
    #[arg(long)]
    yes: bool,
    /// The model to ask.
    #[arg(long, env = "AXON_MODEL", default_value = "python:offline_bank:model")]
    model: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(folder) = options.db.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let bank = Bank::open(&options.db).await;
    let bank = bank.with_context(|| format!("cannot open the bank at {}", options.db.display()))?;
    let support = support(bank, &options.model)?;
    let runtime = Runtime::builder().agent(&support).allow_offline().start().await?;

    let answered = ask(&runtime, options, &support).await;
    runtime.shutdown().await;
    let Answer { output, model, .. } = answered?;
    writeln!(std::io::stdout(), "{}", output.support_advice)?;
    let SupportOutput { block_card, risk, .. } = output;
    writeln!(std::io::stderr(), "(risk {risk}, card blocked: {block_card}, by {model})")?;
    Ok(())
}

async fn ask(
    runtime: &Runtime,
    options: Options,
    support: &Support,
) -> anyhow::Result<Answer<SupportOutput>> {
    let deps = SupportDeps { customer_id: options.customer };
    let mut run = runtime.agent(support).run(options.question).deps(&deps).start().await?;
    let approver = if options.yes { Approver::Everything } else { Approver::Terminal };
    Ok(end_of(&mut run, approver).await?.answer()?)
}

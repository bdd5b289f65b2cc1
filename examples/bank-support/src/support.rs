//! The bank-support agent: what callers give, what it answers, what it may do.

use axon_runtime::{Agent, DefinitionError, ToolContext, ToolError, tool};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bank::Bank;

/// Who asks.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct SupportDeps {
    /// The customer's number.
    pub customer_id: u32,
}

/// What the bank answers its customer.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SupportOutput {
    /// Advice to the customer, in plain words.
    pub support_advice: String,
    /// Whether the customer's card is blocked now.
    pub block_card: bool,
    /// How risky the query is, from 0 (harmless) to 10 (money is being lost).
    #[schemars(range(max = 10))]
    pub risk: u8,
}

/// Returns the customer's current account balance.
#[tool(effect = "pure")]
pub async fn customer_balance(
    ctx: ToolContext<SupportDeps>,
    /// Whether payments that are not settled yet count.
    include_pending: bool,
) -> Result<String, ToolError> {
    let balance = ctx.service::<Bank>()?.balance(ctx.deps().customer_id, include_pending).await?;
    Ok(balance.to_string())
}

/// Blocks the customer's card, for good, and orders a new one; returns false if it was blocked.
#[tool(effect = "once")]
pub async fn block_card(ctx: ToolContext<SupportDeps>, risk: u8) -> Result<bool, ToolError> {
    if risk >= 7 && !ctx.approved() {
        return Err(ToolError::NeedsApproval(format!("block a card at risk {risk}")));
    }
    Ok(ctx.service::<Bank>()?.block_card(ctx.deps().customer_id).await?)
}

/// The agent: `runtime.agent(&support).run("…").deps(&deps).await?.output` is what it answers.
pub type Support = Agent<SupportDeps, SupportOutput>;

/// Defines the agent, which works with `bank` and asks `model`.
///
/// # Errors
///
/// [`DefinitionError`] if `model` is no name of a model.
pub fn support(bank: Bank, model: &str) -> Result<Support, DefinitionError> {
    Support::builder("support")
        .model(model)
        .instructions("You are a support agent in our bank. Block a card that is lost or stolen.")
        .service(bank)
        .tool(customer_balance)
        .tool(block_card)
        .python_path(concat!(env!("CARGO_MANIFEST_DIR"), "/python"))
        .build()
}

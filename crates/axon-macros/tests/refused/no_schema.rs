use axon_runtime::{ToolError, tool};

struct Card;

/// Blocks a card.
#[tool]
//~^ `Card: serde::Deserialize<
async fn block(card: Card) -> Result<(), ToolError> {
//~^ `Card` cannot be an argument of a tool
//~^^ write `#[derive(serde::Deserialize, schemars::JsonSchema)]` on it
//~^^^ `Card: serde::Deserialize<
//~^^^^ schemars::JsonSchema` is not satisfied
    drop(card);
    Ok(())
}

fn main() {}

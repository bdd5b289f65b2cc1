use axon_runtime::{ToolError, tool};

/// Has a key that there is not.
#[tool(efect = "pure")]
//~^ `#[tool]` knows no `efect`, did you mean `effect`?
//~^^ it knows: effect = "pure", timeout = "5s", requires_approval, sequential
async fn unknown() -> Result<(), ToolError> {
    Ok(())
}

/// Has an effect that there is not.
#[tool(effect = "idempotant")]
//~^ there is no effect `idempotant`, did you mean `idempotent`?
async fn effect() -> Result<(), ToolError> {
    Ok(())
}

/// Has an effect without quotes.
#[tool(effect = pure)]
//~^ write `effect = "pure"`
async fn unquoted() -> Result<(), ToolError> {
    Ok(())
}

/// Has a time without a unit.
#[tool(timeout = "5")]
//~^ write a duration with its unit, like "5s" or "1m 30s"
async fn unit() -> Result<(), ToolError> {
    Ok(())
}

/// Has a time that is a number.
#[tool(timeout = 5)]
//~^ write `timeout = "5s"`
async fn number() -> Result<(), ToolError> {
    Ok(())
}

/// Has no time.
#[tool(timeout = "0s")]
//~^ a duration must be longer than nothing
async fn zero() -> Result<(), ToolError> {
    Ok(())
}

/// Says twice what it says.
#[tool(sequential, sequential)]
//~^ `sequential` is said twice
async fn twice() -> Result<(), ToolError> {
    Ok(())
}

/// Says more than there is to say.
#[tool(requires_approval = true)]
//~^ write `requires_approval` alone, or leave it out
async fn more() -> Result<(), ToolError> {
    Ok(())
}

fn main() {}

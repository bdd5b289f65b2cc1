use axon_runtime::{Agent, ToolError};

async fn balance() -> Result<u32, ToolError> {
    Ok(100)
}

fn main() {
    let _agent = Agent::<()>::builder("support").tool(balance);
//~^ is no tool
//~^^ put `#[tool]` on the async fn, or make one with `Tool::new`
    let _agent = Agent::<()>::builder("support").tool("balance");
//~^ `&str` is no tool
}

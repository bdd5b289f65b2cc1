use axon_runtime::{Agent, ToolContext, ToolError, tool};

/// Returns the balance.
#[tool]
async fn balance(_ctx: ToolContext<String>) -> Result<u32, ToolError> {
    Ok(100)
}

fn main() {
    let _agent = Agent::<u32>::builder("support").tool(balance);
//~^ this tool reads the deps `String`, and those of the agent are `u32`
//~^^ make its context `ToolContext<u32>`, or `ToolContext` for a tool that any agent can have
}

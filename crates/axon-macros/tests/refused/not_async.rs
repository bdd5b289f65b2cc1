use axon_runtime::{ToolError, tool};

/// Adds.
#[tool]
fn add(a: i64, b: i64) -> Result<i64, ToolError> {
//~^ a tool is async: write `async fn add`
    Ok(a + b)
}

fn main() {
    let _tool = add;
}

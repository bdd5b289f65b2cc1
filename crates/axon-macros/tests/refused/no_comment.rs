use axon_runtime::{ToolError, tool};

#[tool]
async fn add(a: i64, b: i64) -> Result<i64, ToolError> {
//~^ a tool needs a doc comment
//~^^ write `/// Returns …` above it
    Ok(a + b)
}

fn main() {}

use axon_runtime::{ToolContext, ToolError, tool};

struct Bank;

/// Is a method.
#[tool]
async fn method(&self) -> Result<(), ToolError> {
//~^ a tool is a function of its own, outside of any `impl`
    Ok(())
}

/// Is generic.
#[tool]
async fn generic<T: Clone>(value: T) -> Result<(), ToolError> {
//~^ a tool is not generic: the model is told one schema, so name the types
    Ok(())
}

/// Is generic without saying so.
#[tool]
async fn hidden(value: impl Clone) -> Result<(), ToolError> {
//~^ a tool is not generic: the model is told one schema, so name the type
    Ok(())
}

/// Takes its arguments apart.
#[tool]
async fn pattern((a, b): (i64, i64)) -> Result<i64, ToolError> {
//~^ write `name: Type`, and take it apart in the body
    Ok(a + b)
}

/// Borrows.
#[tool]
async fn borrows(text: &str, numbers: &[u8]) -> Result<(), ToolError> {
//~^ a tool owns its arguments: write `String`
//~^^ a tool owns its arguments: write `Vec<u8>`
    Ok(())
}

/// Has its context last.
#[tool]
async fn last(text: String, ctx: ToolContext) -> Result<(), ToolError> {
//~^ the context comes first: move it there
    Ok(())
}

/// Returns nothing.
#[tool]
async fn nothing(text: String) {}
//~^ write `-> Result<T, ToolError>`

fn main() {}

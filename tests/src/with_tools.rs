//! A service with a Rust tool and the command line of `axon`, as users build one.

use std::process::ExitCode;

use axon_runtime::{Runtime, ToolContext, ToolError, tool};

/// Puts a stamp on something.
#[tool(effect = "pure")]
async fn stamp(ctx: ToolContext, what: String) -> Result<String, ToolError> {
    let traced = ctx.traceparent().is_some();
    tracing::info!(target: "stamps", what_bytes = what.len(), traced, "stamped");
    Ok(format!("stamped {what}"))
}

/// Breaks.
#[tool(effect = "pure")]
#[expect(clippy::panic, reason = "to see what is told of it")]
async fn smash(what: String) -> Result<String, ToolError> {
    panic!("smashed\nin {} pieces", what.len())
}

fn main() -> ExitCode {
    axon_command::main_with(Runtime::builder().tool(stamp).tool(smash))
}

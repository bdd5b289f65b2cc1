use axon_runtime::tool;

/// Is a type.
//~^ `#[tool]` makes an async fn a tool: put it on one
#[tool]
struct Balance;

fn main() {}

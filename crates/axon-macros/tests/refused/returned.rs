use axon_runtime::tool;

/// Says hello.
#[tool]
async fn hello() -> String {
//~^ a tool returns a `Result`, and not `String`
//~^^ write `Result<String, ToolError>`
    "hello".to_owned()
}

/// Fails with what is no error.
#[tool]
async fn fails() -> Result<String, String> {
//~^ `String: Into<ToolError>` is not satisfied
    Err("failed".to_owned())
}

fn main() {}

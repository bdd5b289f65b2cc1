//! What a function with `#[tool]` can take and return.

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ToolError;

/// What a function with `#[tool]` can return: a `Result` of anything that serde writes, and an error
/// that is or becomes a [`ToolError`].
#[diagnostic::on_unimplemented(
    message = "a tool returns a `Result`, and not `{Self}`",
    label = "this is no `Result`",
    note = "write `Result<{Self}, ToolError>`"
)]
pub trait ToolResult {
    /// What the model gets.
    type Value: Serialize;

    /// Returns what the model gets.
    ///
    /// # Errors
    ///
    /// [`ToolError`] as the function gave it; any other error is a broken tool.
    fn into_result(self) -> Result<Self::Value, ToolError>;
}

impl<T: Serialize, E: Into<ToolError>> ToolResult for Result<T, E> {
    type Value = T;

    fn into_result(self) -> Result<T, ToolError> {
        self.map_err(Into::into)
    }
}

/// What a function with `#[tool]` can take from the model.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a tool",
    label = "the model cannot be told what this is, or it cannot be read",
    note = "write `#[derive(serde::Deserialize, schemars::JsonSchema)]` on it"
)]
pub trait ToolArgument {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned + JsonSchema> ToolArgument for T {}

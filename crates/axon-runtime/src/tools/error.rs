//! How a call of a Rust tool ends otherwise than with a result.

use std::error::Error;
use std::fmt;

/// Why a tool gave no result.
///
/// It is no [`std::error::Error`] itself, so that `?` makes any error [`ToolError::Broken`]:
///
/// ```
/// use axon_runtime::ToolError;
///
/// fn parse(text: &str) -> Result<u32, ToolError> {
///     let number: i64 = text.parse()?;                      // no number: the run ends
///     u32::try_from(number).map_err(|_| ToolError::Retry("give a positive number".into()))
/// }
/// assert!(matches!(parse("x"), Err(ToolError::Broken(_))));
/// assert!(matches!(parse("-1"), Err(ToolError::Retry(_))));
/// ```
#[derive(Debug)]
pub enum ToolError {
    /// The model is asked to call again, better; the text tells it how. Counts against the tool's
    /// retries.
    Retry(String),
    /// The model is told that the call failed, and goes on without it.
    Failed(String),
    /// A person has to approve the call before it is made: the run pauses with the text for whoever
    /// decides. Approved, the tool is called again, with [`ToolContext::approved`] set; one that
    /// asks again then is broken.
    ///
    /// [`ToolContext::approved`]: crate::ToolContext::approved
    NeedsApproval(String),
    /// The attempt ends as a `tool` failure, which the agent's `[policy]` decides about.
    Broken(Box<dyn Error + Send + Sync>),
}

impl<E: Error + Send + Sync + 'static> From<E> for ToolError {
    fn from(error: E) -> Self {
        Self::Broken(Box::new(error))
    }
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(message) | Self::Failed(message) | Self::NeedsApproval(message) => {
                f.write_str(message)
            }
            Self::Broken(error) => write!(f, "{error}"),
        }
    }
}

impl ToolError {
    /// Returns the error with everything that caused it, for who reads the run's failure.
    pub(crate) fn chain(&self) -> String {
        let mut message = self.to_string();
        let Self::Broken(error) = self else { return message };
        let mut cause = error.source();
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        message
    }
}

//! The identities that travel: runs, conversations, tool calls, attempts and generations.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes the text as the identity.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// Returns the identity as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// One run: a prompt given to an agent, up to its one outcome.
    RunId
}
text_id! {
    /// A conversation: the turns that share a history.
    ConversationId
}
text_id! {
    /// One tool call of a model's response; with run and step it is the idempotency key.
    ToolCallId
}

text_id! {
    /// One message sent to a live run, so that sending it again does no harm.
    MessageId
}

/// Returns the idempotency key of a tool call: the same over all attempts of its run.
///
/// `step` is the index of the model response that asked for the call among the run's messages.
#[must_use]
pub fn idempotency_key(run: &RunId, step: u32, call: &ToolCallId) -> String {
    format!("{run}:{step}:{call}")
}

macro_rules! count_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
            JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// The first one.
            pub const FIRST: Self = Self(1);

            /// Returns the one after this one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

count_id! {
    /// The number of an attempt within its run, from 1.
    Attempt
}
count_id! {
    /// The number of a runner process within its agent, from 1.
    Generation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_run_step_and_call() {
        // The runner makes the same text: `test_calls.py` holds it to this one.
        let key = idempotency_key(&RunId::new("r1"), 3, &ToolCallId::new("call_9:x"));
        assert_eq!(key, "r1:3:call_9:x");
    }
}

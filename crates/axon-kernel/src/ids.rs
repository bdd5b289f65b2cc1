//! The identities that travel: runs, conversations, tool calls, attempts and generations.

use std::fmt::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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

/// Returns the identity of the run that answers a tool call of `parent`: the same whenever that call
/// is made, so that its run is begun once. It is a UUID as far as `parent` is one, of the same time.
#[must_use]
pub fn delegated_run(parent: &RunId, step: u32, call: &ToolCallId) -> RunId {
    let digest = Sha256::digest(idempotency_key(parent, step, call));
    let hex = digest.iter().take(9).fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let time = parent.as_str().get(..13).filter(|time| {
        let (high, low) = time.split_at(8);
        is_hex(high) && low.strip_prefix('-').is_some_and(is_hex)
    });
    let time = time.unwrap_or("00000000-0000");
    RunId::new(format!("{time}-7{}-8{}-{}", &hex[..3], &hex[3..6], &hex[6..18]))
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
    fn a_delegated_run_is_known_by_its_call_and_as_old_as_its_parent() {
        let parent = RunId::new("0199aa00-1111-7222-8333-5f3a9c01d2e4");
        let child = |step, call| delegated_run(&parent, step, &ToolCallId::new(call));
        assert_eq!(child(1, "c1"), child(1, "c1"));
        assert!(child(1, "c1") != child(2, "c1") && child(1, "c1") != child(1, "c2"));
        let text = child(1, "c1").to_string();
        assert!(
            text.starts_with("0199aa00-1111-7") && text.len() == parent.as_str().len(),
            "{text}"
        );
        let odd = delegated_run(&RunId::new("é".repeat(20)), 1, &ToolCallId::new("c"));
        assert!(odd.as_str().starts_with("00000000-0000-7"), "{odd}");
    }

    #[test]
    fn a_key_names_run_step_and_call() {
        // The runner makes the same text: `test_calls.py` holds it to this one.
        let key = idempotency_key(&RunId::new("r1"), 3, &ToolCallId::new("call_9:x"));
        assert_eq!(key, "r1:3:call_9:x");
    }
}

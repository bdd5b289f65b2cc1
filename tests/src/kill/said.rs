//! What the host program is told, and what it says: one line of JSON each.

use axon_kernel::ids::RunId;
use serde::{Deserialize, Serialize};

/// What the host program is told to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Start a run.
    Start {
        /// The agent.
        agent: String,
        /// The prompt.
        prompt: String,
        /// The conversation that it is a turn of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conversation: Option<String>,
    },
    /// Go on with a run that waited for a person.
    Resume {
        /// The run.
        run: RunId,
    },
    /// End everything in order.
    Shutdown,
}

/// What the host program says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub enum Said {
    /// A runner takes runs.
    Runner {
        /// Its agent.
        agent: String,
        /// Its process id.
        pid: u32,
    },
    /// Orders are taken from here on.
    Ready,
    /// A run was accepted.
    Accepted {
        /// Its prompt.
        prompt: String,
        /// The run.
        run: RunId,
    },
    /// A run was refused.
    Refused {
        /// Its prompt.
        prompt: String,
        /// Why, in a word.
        code: String,
    },
    /// A run that was accepted or resumed here has ended or waits for a person.
    Settled {
        /// The run.
        run: RunId,
        /// `completed`, `failed`, `cancelled`, `rejected` or `paused`.
        how: String,
    },
    /// A run cannot be gone on with.
    NotResumed {
        /// The run.
        run: RunId,
        /// Why, in a word.
        code: String,
    },
}

//! What a supervisor decides: OTP's rules as a state machine without a clock.
//!
//! A driver tells the [`Machine`] what happened ([`Event`]) and when ([`Moment`]), and carries out
//! what comes back ([`Effect`]). The rules are those of OTP's `supervisor`, with four deviations:
//! too many restarts are an abnormal exit of their own class; restarts wait, with backoff and
//! jitter; a child whose error cannot heal itself is given up instead of restarted; and a late
//! event of an old [`Incarnation`] is ignored.
//!
//! To start reading: [`Strategy`], [`Restart`] and [`Shutdown`] are OTP's words, [`Machine::handle`]
//! is the only way on.
//!
//! The invariant: a child has at most one incarnation that is starting, running or stopping.

mod backoff;
mod calls;
mod child;
mod cycle;
mod event;
mod halt;
mod machine;
mod table;
#[cfg(test)]
mod tests;
mod window;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use backoff::Delays;
pub use child::{ChildState, ChildView};
pub use event::{Answer, Call, CallerId, Effect, Ending, Event, ExitReason, Note, Refusal, Ticket};
pub use machine::Machine;
pub use window::Window;

use crate::spec::{Backoff, Intensity};

/// A point in time, as the time since the supervisor's start. The driver owns the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub Duration);

impl Moment {
    /// Returns the moment that is `wait` later.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }

    /// Returns the time from `earlier` to this moment; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The identity of a child within its supervisor. Cheap to clone.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct ChildId(Arc<str>);

impl ChildId {
    /// Takes the text as the identity.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Returns the identity as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ChildId {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for ChildId {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&ChildId> for ChildId {
    fn from(id: &ChildId) -> Self {
        id.clone()
    }
}

impl fmt::Display for ChildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of one start of a child, from 1; no two starts under one supervisor share it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who is restarted with a child that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Nobody else.
    OneForOne,
    /// All children.
    OneForAll,
    /// The children that were started after it.
    RestForOne,
    /// Nobody else, and the children are anonymous copies of one spec that are stopped all at
    /// once (OTP's `simple_one_for_one`).
    Template,
}

impl Strategy {
    /// Returns whether the end of one child can mean the restart of others.
    #[must_use]
    pub fn is_group(self) -> bool {
        matches!(self, Self::OneForAll | Self::RestForOne)
    }

    /// Returns the name used in data and events.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::OneForOne => "one_for_one",
            Self::OneForAll => "one_for_all",
            Self::RestForOne => "rest_for_one",
            Self::Template => "template",
        }
    }
}

/// When a child that has ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Always.
    Permanent,
    /// After an abnormal end only.
    Transient,
    /// Never; its entry is dropped when it ends.
    Temporary,
}

/// How a child is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shutdown {
    /// Killed at once.
    BrutalKill,
    /// Asked to stop, and killed if it has not ended after this time.
    Timeout(Duration),
    /// Asked to stop, and waited for however long it takes: for supervisors.
    Infinity,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::Timeout(Duration::from_secs(5))
    }
}

impl From<Duration> for Shutdown {
    fn from(budget: Duration) -> Self {
        Self::Timeout(budget)
    }
}

/// What the machine must know of a child's spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// When it is restarted.
    pub restart: Restart,
    /// How it is stopped.
    pub shutdown: Shutdown,
}

/// What the machine must know of a supervisor's spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    /// Who is restarted with whom.
    pub strategy: Strategy,
    /// How many restarts are allowed in which time.
    pub intensity: Intensity,
    /// How long restarts wait; `None`: they do not.
    pub backoff: Option<Backoff>,
}

impl Flags {
    /// OTP's default: one restart in five seconds.
    pub const DEFAULT_INTENSITY: Intensity =
        Intensity { max_restarts: 1, within: Duration::from_secs(5) };

    /// Makes the flags of a supervisor with the default intensity and backoff.
    #[must_use]
    pub fn new(strategy: Strategy) -> Self {
        Self { strategy, intensity: Self::DEFAULT_INTENSITY, backoff: Some(Backoff::default()) }
    }
}

//! What comes next in a flow, given what has become of its calls so far.
//!
//! Each call of [`Flow::advance`] walks through the whole flow anew. Whatever a part has come to, it
//! came to as soon as so many calls had settled; that number decides what was first. So what
//! settles later changes nothing that was decided before.

mod ask;
mod past;
mod walk;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use self::ask::Asked;
use self::walk::{Came, Walk};
use super::plan::{Flow, Target};
use super::scope::Scope;
use crate::breaker::BreakerSettings;
use crate::failure::{Failure, FailureKind};
use crate::ids::ToolCallId;
use crate::spec::PromptName;

/// How many items one step is made for at most.
pub const MAX_ITEMS: usize = 1000;

/// How many calls one run of a flow makes at most.
pub const MAX_CALLS: usize = 10_000;

/// What a flow was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The prompt: text, or a list of content parts.
    pub prompt: Value,
    /// What the caller gave, without its secrets.
    pub deps: Value,
}

impl Message {
    /// Returns what flows see of a prompt: a text that is a JSON object or list, as that.
    #[must_use]
    pub fn input(prompt: &Value) -> Value {
        super::scope::structured(prompt)
    }
}

/// A call that is to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Its name: the same whenever the flow comes here.
    pub id: ToolCallId,
    /// Who is asked.
    pub target: Target,
    /// What.
    pub prompt: Value,
    /// What else those get; nothing where the flow's own deps are meant.
    pub deps: Option<Value>,
    /// How long an answer may take.
    pub timeout: Option<Duration>,
    /// When it is left alone for a while.
    pub breaker: Option<BreakerSettings>,
}

/// What has become of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Settled {
    /// An answer.
    Done(Value),
    /// None.
    Failed(Failure),
}

/// What comes next.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// These calls are wanted; any other one that is under way is wanted no more.
    Waits {
        /// All of them: at least one.
        wanted: BTreeSet<ToolCallId>,
        /// Those that have not begun.
        begin: Vec<Call>,
    },
    /// The output.
    Done(Value),
    /// There will be none.
    Failed(Failure),
}

/// Whom a call went to, for whoever draws it.
pub type Whom = Target;

/// The Rust functions of a service. They must return the same for the same: they are called again
/// whenever it is asked what comes next.
pub trait Functions {
    /// Calls the function `name` with the flow's message and what came before.
    ///
    /// # Errors
    ///
    /// Why it gave nothing.
    fn call(&self, name: &PromptName, message: &Value, previous: &Value) -> Result<Value, String>;
}

/// No functions.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFunctions;

impl Functions for NoFunctions {
    fn call(&self, name: &PromptName, _: &Value, _: &Value) -> Result<Value, String> {
        Err(format!("no Rust function is registered as `{name}`"))
    }
}

impl Flow {
    /// Returns what comes next.
    ///
    /// `begun` are the calls that were begun, `settled` is what has become of some of them, in the
    /// order in which that was recorded. Once this is done or failed, it stays so whatever else
    /// settles.
    pub fn advance(
        &self,
        message: &Message,
        begun: &BTreeSet<ToolCallId>,
        settled: &[(ToolCallId, Settled)],
        functions: &dyn Functions,
    ) -> Progress {
        let scope = Scope::new(message, functions);
        let mut walk = Walk::new(begun, settled);
        let came = walk.steps(&self.steps, "", &scope);
        let came = came.or_else(|failed| {
            walk.rescue("", failed, &self.on_failure, &Asked::of(&message.prompt))
        });
        match came {
            Err(failed) => Progress::Failed(failed.failure),
            Ok(Came::Done(value, _)) => Progress::Done(value),
            Ok(Came::LeftOut(..)) => Progress::Done(Value::Null),
            Ok(Came::Pending) if begun.len() + walk.begin.len() > MAX_CALLS => {
                let message = format!("a flow makes at most {MAX_CALLS} calls in one run");
                Progress::Failed(Failure::new(FailureKind::UsageLimit, message))
            }
            Ok(Came::Pending) if walk.wanted.is_empty() => {
                let message = "its steps wait for something that never comes";
                Progress::Failed(Failure::new(FailureKind::Config, message))
            }
            Ok(Came::Pending) => {
                Progress::Waits { wanted: walk.wanted.into_iter().collect(), begin: walk.begin }
            }
        }
    }
}

//! A run: what a caller asks for, follows and gets.

mod approval;
mod attempt;
mod builder;
mod calls;
mod delegation;
mod doubt;
mod driver;
mod elsewhere;
mod flowing;
mod given;
mod handle;
mod handoff;
mod journal;
mod ladder;
mod measured;
mod model_event;
mod observed;
mod outcome;
mod output_check;
mod prompts;
mod refusal;
mod resume;
mod rust_tools;
mod spending;
mod spent;
mod steering;
mod stop;
mod suspicion;
mod transcript;
mod turn;

pub use builder::RunBuilder;
pub(crate) use driver::{Driver, Entrance};
pub(crate) use given::Given;
pub(crate) use handle::{LiveRun, Stop};
pub use handle::{RunHandle, SteerError};
pub(crate) use ladder::jitter;
pub use outcome::{Outcome, RunOutcome};
pub use refusal::Refusal;
pub use resume::{Resume, ResumeError};

use std::collections::BTreeSet;
use std::time::Duration;

use axon_kernel::event::{Continues, Parent};
use axon_kernel::ids::ConversationId;
use axon_kernel::json::RawJson;
use axon_kernel::spec::ModelName;
use axon_kernel::trace::TraceContext;
use serde_json::{Map, Value};

use crate::budget::Budget;

/// What an agent is asked: text, or a list of pydantic-ai's content parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt(RawJson);

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self(Value::from(text).into())
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self(Value::from(text).into())
    }
}

impl From<Value> for Prompt {
    fn from(parts: Value) -> Self {
        Self(parts.into())
    }
}

/// Everything about one run that does not change while it lasts.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) prompt: RawJson,
    pub(crate) deps: Given,
    pub(crate) conversation: Option<ConversationId>,
    pub(crate) history: Option<Vec<RawJson>>,
    /// The conversation whose beginning is the history, of which the run is no turn.
    pub(crate) continues: Option<Continues>,
    pub(crate) model: Option<ModelName>,
    pub(crate) model_settings: Option<RawJson>,
    pub(crate) usage_limits: Map<String, Value>,
    pub(crate) timeout: Duration,
    pub(crate) metadata: Option<RawJson>,
    /// Whether somebody wants the events as they come.
    pub(crate) stream: bool,
    pub(crate) instructions: Option<String>,
    /// The tools whose calls were approved beforehand.
    pub(crate) approve: BTreeSet<String>,
    pub(crate) budget: Budget,
    /// The run whose tool call this one answers.
    pub(crate) parent: Option<Parent>,
    /// The span of whoever asked, in whose trace the run stands.
    pub(crate) traceparent: Option<TraceContext>,
}

impl Request {
    /// Returns the deps as tools get them, secrets and all.
    pub(crate) fn whole_deps(&self) -> Option<&RawJson> {
        self.deps.whole()
    }
}

//! The agent runtime: agents as supervised actors, runs that outlive their runners.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use axon_runtime::Runtime;
//! use serde_json::json;
//!
//! let runtime = Runtime::builder().agents_dir("agents").allow_offline().start().await?;
//! let bank = runtime.named("bank_support")?;
//! let outcome = bank.run("What is my balance?").deps(&json!({"customer_id": 123})).wait().await?;
//! println!("{}", outcome.completed()?.output);
//! runtime.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! To start reading: [`Runtime`] starts agents and finds them by name, [`AgentHandle::run`] asks
//! one, [`RunHandle`] follows what it does. [`Runtime::tree`] and [`Runtime::events`] show who
//! supervises whom and what happens there; [`supervisor`] does the same for actors of your own.
//!
//! The invariant: an accepted run ends exactly once, whatever dies meanwhile.

mod agent;
mod agents;
mod agents_dir;
mod budget;
mod carried;
mod clock;
mod conversations;
mod define;
mod definition;
mod direct;
mod edges;
mod events;
mod group;
mod host;
mod hosted;
mod launch;
mod launchers;
mod log;
mod memory;
mod meters;
mod models;
mod newcomer;
mod panics;
mod partial;
mod program;
mod records;
mod recovery;
mod registry;
mod run;
mod runs;
mod runtime;
mod services;
pub mod supervisor;
mod tools;
pub mod trace;
mod tree;
mod typed;

pub use agent::{AgentHandle, AgentState, AgentStatus, DirectCall, RunnerState, RunnerStatus};
pub use agents_dir::{
    AgentDefinition, FolderError, Misfit, agent_names, check_together, config_file, load_agent,
    load_agents, load_config, misfits,
};
pub use axon_kernel as kernel;
pub use axon_kernel::secret::Secret;
pub use axon_macros::tool;
pub use axon_runner::{embedded, environment};
pub use budget::Budget;
pub use define::{
    Addressable, Agent, AgentBuilder, AgentCode, DefinitionError, Deps, IntoInstructions, Named,
    Output, OutputContext, Pipeline, PromptContext, Reject, Router, named,
};
pub use direct::{Completion, DirectModel, ModelError, TextStream};
pub use events::{Observed, RecycleReason, RuntimeEvent, RuntimeEvents};
pub use host::Host;
pub use hosted::{Door, HostedRunner};
pub use launch::OnProgress;
pub use launchers::LauncherStatus;
pub use log::{RunEvents, RunUpdate};
pub use memory::MemoryStore;
pub use meters::describe_metrics;
pub use newcomer::NewcomerError;
pub use partial::Partial;
pub use records::{RecordError, RunRecords, WaitingRun};
pub use registry::{Directory, DirectoryWatch, Entry, nearest};
pub use run::{
    Outcome, Prompt, Refusal, Resume, ResumeError, RunBuilder, RunHandle, RunOutcome, SteerError,
};
pub use runtime::{Runtime, RuntimeBuilder, StartError};
pub use tools::{AnyDeps, FromDeps, RustTool, Tool, ToolContext, ToolError};
pub use tree::{Branch, Tree, TreeChild, TreeNode};
pub use typed::{Answer, RunError, TypedAgent, TypedRun};

/// What `#[tool]` writes with. No part of the surface: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use crate::tools::{ToolArgument, ToolResult};
    pub use {schemars, serde};
}

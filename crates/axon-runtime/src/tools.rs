//! Tools that the service itself brings: called in its process, beside the store.
//!
//! To start reading: [`Tool`] is one, [`ToolContext`] is what a call of it knows, [`ToolError`] is
//! how it ends otherwise than with a result.

mod call;
mod context;
mod deps;
mod error;
mod provided;
mod signature;
mod tool;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use axon_kernel::spec::ToolName;

pub(crate) use call::{Call, Left};
pub use context::ToolContext;
pub use deps::{AnyDeps, FromDeps};
pub use error::ToolError;
pub(crate) use provided::Provided;
pub use signature::{ToolArgument, ToolResult};
pub use tool::{RustTool, Tool};

/// The tools that a service has registered, by name. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Tools(Arc<BTreeMap<ToolName, Tool>>);

impl fmt::Debug for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Tools {
    pub(crate) fn add(&mut self, tool: Tool) {
        Arc::make_mut(&mut self.0).insert(tool.name().clone(), tool);
    }

    /// Takes in the tools of `others` whose names are free.
    pub(crate) fn take_in(&mut self, others: &Self) {
        let tools = Arc::make_mut(&mut self.0);
        for (name, tool) in others.0.iter() {
            tools.entry(name.clone()).or_insert_with(|| tool.clone());
        }
    }

    pub(crate) fn find(&self, name: &ToolName) -> Option<&Tool> {
        self.0.get(name)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Tool> {
        self.0.values()
    }
}

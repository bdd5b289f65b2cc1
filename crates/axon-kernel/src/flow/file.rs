//! The raw forms of `router.toml` and `pipeline.toml`: what may be written, before templates are
//! parsed, steps are put in order and rules are checked.

mod does;
mod forms;
mod pipeline;
mod router;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use does::{DoesFile, RestFile};
pub use forms::{
    BalancedFile, ConditionFile, ConditionTable, OnFailureFile, RepeatFile, RustFunction,
    ScriptFile,
};
pub use pipeline::{ArmFile, PipelineFile, StepFile};
pub use router::{EdgeFile, RouterFile, RuleFile};

use crate::spec::SchemaSource;

/// A table of a router's or a pipeline's file that holds a schema.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchemaTable {
    /// The JSON Schema: in line, or the name of a file in the same folder.
    pub schema: SchemaSource,
}

impl From<&crate::schema::Schema> for SchemaTable {
    fn from(schema: &crate::schema::Schema) -> Self {
        Self { schema: SchemaSource::from(schema.raw()) }
    }
}

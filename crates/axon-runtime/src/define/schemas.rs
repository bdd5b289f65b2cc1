//! The schemas of the Rust types that an agent is defined in.

use std::any::TypeId;

use axon_kernel::schema::{Schema, TypeError};
use axon_kernel::spec::ToolName;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::DefinitionError;
use crate::tools::{AnyDeps, FromDeps};

/// What callers can give with a run: any type that serde and schemars know, `()` for nothing, or
/// [`AnyDeps`] where only the agent's file says.
pub trait Deps: FromDeps {
    /// Returns the schema that the deps are held to, if there is one.
    ///
    /// # Errors
    ///
    /// [`TypeError`] if a part of the type cannot be carried as JSON, or said in a schema.
    fn schema() -> Result<Option<Schema>, TypeError>;
}

impl<T: FromDeps + Serialize + DeserializeOwned + JsonSchema> Deps for T {
    fn schema() -> Result<Option<Schema>, TypeError> {
        if TypeId::of::<T>() == TypeId::of::<()>() {
            Ok(None)
        } else {
            Schema::of_serialized::<T>().map(Some)
        }
    }
}

impl Deps for AnyDeps {
    fn schema() -> Result<Option<Schema>, TypeError> {
        Ok(None)
    }
}

/// What an agent can answer with: any type that serde reads and schemars describes; a `String` is
/// the model's text as it is.
pub trait Output: DeserializeOwned + JsonSchema + Send + Sync + 'static {}

impl<T: DeserializeOwned + JsonSchema + Send + Sync + 'static> Output for T {}

/// Returns the schema of an answer; none for text.
pub(super) fn output<T: Output>() -> Result<Option<Schema>, DefinitionError> {
    if TypeId::of::<T>() == TypeId::of::<String>() {
        return Ok(None);
    }
    let what = || "the output".to_owned();
    Schema::for_reading::<T>()
        .map(Some)
        .map_err(|problem| DefinitionError::Type { what: what(), problem })
}

/// Returns the schema of a tool's arguments; none where they may be anything, and the agent's file
/// says what.
pub(crate) fn parameters_of<A: JsonSchema + DeserializeOwned>(
    tool: &ToolName,
) -> Result<Option<Schema>, DefinitionError> {
    let refused = |problem| {
        let what = format!("the arguments of tool `{tool}`");
        DefinitionError::Type { what, problem }
    };
    let schema = Schema::for_reading::<A>().map_err(refused)?;
    if is_anything(schema.raw()) {
        return Ok(None);
    }
    let no_object = |fault| TypeError::of::<A>(String::new(), fault);
    schema.for_arguments().map(Some).map_err(|error| refused(no_object(error.into())))
}

fn is_anything(schema: &Value) -> bool {
    match schema {
        Value::Bool(anything) => *anything,
        Value::Object(members) => members.keys().all(|key| key == "title"),
        Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => false,
    }
}

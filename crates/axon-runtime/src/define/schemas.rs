//! The schemas of the Rust types that an agent is defined in.

use std::any::TypeId;

use axon_kernel::schema::{Schema, SchemaError};
use axon_kernel::spec::ToolName;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::DefinitionError;
use crate::tools::{AnyDeps, FromDeps};

/// What callers can give with a run: any type that serde and schemars know, `()` for nothing, or
/// [`AnyDeps`] where only the agent's file says.
pub trait Deps: FromDeps {
    /// Returns the schema that the deps are held to, if there is one.
    ///
    /// # Errors
    ///
    /// [`SchemaError`] if a part of the type cannot be said in a schema.
    fn schema() -> Result<Option<Schema>, SchemaError>;
}

impl<T: FromDeps + Serialize + DeserializeOwned + JsonSchema> Deps for T {
    fn schema() -> Result<Option<Schema>, SchemaError> {
        if TypeId::of::<T>() == TypeId::of::<()>() { Ok(None) } else { serialized::<T>().map(Some) }
    }
}

impl Deps for AnyDeps {
    fn schema() -> Result<Option<Schema>, SchemaError> {
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
    deserialized::<T>().map(Some).map_err(|problem| DefinitionError::Type { what: what(), problem })
}

/// Returns the schema of a tool's arguments; none where they may be anything, and the agent's file
/// says what.
pub(crate) fn parameters_of<A: JsonSchema>(
    tool: &ToolName,
) -> Result<Option<Schema>, DefinitionError> {
    let refused = |problem| {
        let what = format!("the arguments of tool `{tool}`");
        DefinitionError::Type { what, problem }
    };
    let schema = deserialized::<A>().map_err(refused)?;
    if is_anything(schema.raw()) {
        return Ok(None);
    }
    schema.for_output().map(Some).map_err(refused)
}

fn is_anything(schema: &Value) -> bool {
    match schema {
        Value::Bool(anything) => *anything,
        Value::Object(members) => members.keys().all(|key| key == "title"),
        Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => false,
    }
}

fn deserialized<T: JsonSchema + ?Sized>() -> Result<Schema, SchemaError> {
    generate::<T>(SchemaSettings::draft2020_12().for_deserialize())
}

fn serialized<T: JsonSchema + ?Sized>() -> Result<Schema, SchemaError> {
    generate::<T>(SchemaSettings::draft2020_12().for_serialize())
}

fn generate<T: JsonSchema + ?Sized>(settings: SchemaSettings) -> Result<Schema, SchemaError> {
    let mut raw = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Some(members) = raw.as_object_mut() {
        members.shift_remove("$schema");
    } else {
        raw = json!(raw);
    }
    Schema::new(raw)
}

//! The JSON Schema of a type that Python code defines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use axon_kernel::spec::PythonTarget;
use serde::Deserialize;
use serde_json::Value;

use crate::environment::{InspectError, ask};

const SCRIPT: &str = include_str!("type_schema.py");

/// Why there is no schema of a Python type.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TypeSchemaError {
    /// The interpreter could not be asked.
    #[error(transparent)]
    Ask(#[from] InspectError),
    /// The type cannot be imported, or has no schema.
    #[error("{target} has no JSON Schema: {problem}")]
    NoSchema {
        /// The type.
        target: PythonTarget,
        /// What Python said.
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Schema(Value),
    Error(String),
}

/// Asks the interpreter at `python` for the JSON Schema of `target`: a pydantic model, a dataclass,
/// a `TypedDict`, or whatever else pydantic takes for a type.
///
/// Its module is imported in a process of its own, with `variables` as its environment and, after
/// what is installed, the folders of `path` to look in. Blocks, for at most 30 s.
///
/// # Errors
///
/// [`TypeSchemaError`] when the interpreter fails, or the type cannot be had or has no schema.
pub fn schema_of_type(
    python: &Path,
    target: &PythonTarget,
    path: &[PathBuf],
    variables: &BTreeMap<String, String>,
) -> Result<Value, TypeSchemaError> {
    let mut command = Command::new(python);
    command.args(["-I", "-B", "-c", SCRIPT, target.as_str()]).args(path);
    command.env_clear().envs(variables);
    match ask(python, &mut command)? {
        Said::Schema(schema) => Ok(schema),
        Said::Error(problem) => Err(TypeSchemaError::NoSchema { target: target.clone(), problem }),
    }
}

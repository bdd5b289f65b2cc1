//! What a tool gets of the deps of its run.

use std::fmt;

use axon_kernel::json::RawJson;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The deps of a run as they were given, for tools that any agent can have.
#[derive(Clone, Default)]
pub struct AnyDeps(Option<RawJson>);

/// Shows nothing of them: there may be secrets in them.
impl fmt::Debug for AnyDeps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyDeps")
    }
}

impl AnyDeps {
    /// Returns the deps as JSON; `null` where the run has none.
    #[must_use]
    pub fn value(&self) -> Value {
        self.0.as_ref().and_then(|deps| deps.decode().ok()).unwrap_or_default()
    }
}

/// What a tool, a prompt or a validator can get of the deps of its run: any type that serde reads,
/// or [`AnyDeps`].
pub trait FromDeps: Sized + Send + Sync + 'static {
    /// Reads the deps of a run.
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`] if they are no such thing.
    fn from_deps(deps: Option<&RawJson>) -> Result<Self, serde_json::Error>;
}

impl<T: DeserializeOwned + Send + Sync + 'static> FromDeps for T {
    fn from_deps(deps: Option<&RawJson>) -> Result<Self, serde_json::Error> {
        match deps {
            Some(deps) => deps.read(),
            None => serde_json::from_value(Value::Null),
        }
    }
}

impl FromDeps for AnyDeps {
    fn from_deps(deps: Option<&RawJson>) -> Result<Self, serde_json::Error> {
        Ok(Self(deps.cloned()))
    }
}

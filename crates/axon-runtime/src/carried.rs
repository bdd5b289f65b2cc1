//! The state that a run carries, shared by the calls of its tools.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axon_kernel::event::StatePatch;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The state that a run carries. Cheap to clone; every clone sees the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Carried(Arc<Mutex<Map<String, Value>>>);

/// A state that cannot be what it is asked for, or become what it is changed to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CarriedError {
    #[error("the run's state is no such thing")]
    Read(#[source] serde_json::Error),
    #[error("a run's state has to be an object")]
    NoObject,
    #[error("the run's state cannot be written as JSON")]
    Write(#[source] serde_json::Error),
}

impl Carried {
    /// Returns the state as it is now.
    pub(crate) fn now(&self) -> Map<String, Value> {
        self.state().clone()
    }

    pub(crate) fn holding(state: Map<String, Value>) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    pub(crate) fn set(&self, state: Map<String, Value>) {
        *self.state() = state;
    }

    pub(crate) fn apply(&self, patch: &StatePatch) {
        patch.apply(&mut self.state());
    }

    /// Reads the state as a `T`.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, CarriedError> {
        serde_json::from_value(Value::Object(self.now())).map_err(CarriedError::Read)
    }

    /// Changes the state, with nobody else changing it meanwhile, and returns what that changed. Keys
    /// that `T` does not know stay.
    pub(crate) fn update<T, R>(
        &self,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<(R, StatePatch), CarriedError>
    where
        T: DeserializeOwned + Serialize,
    {
        let mut state = self.state();
        let before = Value::Object(state.clone());
        let mut typed: T = serde_json::from_value(before).map_err(CarriedError::Read)?;
        let known = to_object(&typed)?;
        let returned = change(&mut typed);
        let after = to_object(&typed)?;
        let gone = StatePatch::between(&known, &after).removed;
        let patch = StatePatch { removed: gone, ..StatePatch::between(&state, &after) };
        patch.apply(&mut state);
        Ok((returned, patch))
    }

    fn state(&self) -> MutexGuard<'_, Map<String, Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a state as the object that it has to be.
pub(crate) fn to_object<T: Serialize + ?Sized>(
    state: &T,
) -> Result<Map<String, Value>, CarriedError> {
    match serde_json::to_value(state).map_err(CarriedError::Write)? {
        Value::Object(state) => Ok(state),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(CarriedError::NoObject)
        }
    }
}

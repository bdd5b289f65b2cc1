//! What a service has its tools and prompts work with: its database, its clients.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::ToolError;

/// What a service has its tools and prompts work with: one value of each type. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Provided(Arc<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl Provided {
    /// Adds a value, in place of one of the same type.
    pub(crate) fn add<T: Send + Sync + 'static>(&mut self, value: T) {
        Arc::make_mut(&mut self.0).insert(TypeId::of::<T>(), Arc::new(value));
    }

    /// Adds those of `of_all` that it has none of its own for.
    pub(crate) fn complete(&mut self, of_all: &Self) {
        if self.0.is_empty() {
            *self = of_all.clone();
            return;
        }
        let own = Arc::make_mut(&mut self.0);
        for (of, value) in of_all.0.iter() {
            own.entry(*of).or_insert_with(|| value.clone());
        }
    }

    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Result<Arc<T>, ToolError> {
        let found = self.0.get(&TypeId::of::<T>()).cloned();
        found.and_then(|value| value.downcast().ok()).ok_or_else(|| {
            let wanted = type_name::<T>();
            let message = format!(
                "no `{wanted}` is there: give one to the agent or the runtime, by `.service(…)`"
            );
            ToolError::Broken(message.into())
        })
    }
}

impl fmt::Debug for Provided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} services", self.0.len())
    }
}

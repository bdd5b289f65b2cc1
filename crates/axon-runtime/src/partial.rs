//! An answer that is still being written.

use std::fmt;
use std::marker::PhantomData;

use axon_kernel::event::{PartialValue, RunEvent};
use axon_kernel::json::RawJson;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The output of a run as far as it is known, on its way to become a `T`.
///
/// Each is what the model has said so far, closed so that it is JSON: texts end in the middle,
/// lists miss their last items, objects their last properties, and no schema holds yet. A later one
/// takes the place of all before it; the last is the output, unless the attempt is retracted or the
/// model asked again.
///
/// # Examples
///
/// ```
/// use axon_runtime::Partial;
/// use axon_runtime::kernel::event::RunEvent;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Advice {
///     text: String,
///     risk: u8,
/// }
///
/// fn show(event: &RunEvent) {
///     let Some(advice) = Partial::<Advice>::of(event) else { return };
///     match advice.complete() {
///         Some(Advice { text, risk }) => println!("{text} (risk {risk})"),
///         None => println!("{}…", advice.value()["text"].as_str().unwrap_or_default()),
///     }
/// }
/// ```
pub struct Partial<T> {
    value: RawJson,
    of: PhantomData<fn() -> T>,
}

impl<T> Partial<T> {
    /// Returns the output so far if that is what `event` tells.
    #[must_use]
    pub fn of(event: &RunEvent) -> Option<Self> {
        if let RunEvent::PartialOutput(partial) = event {
            Some(partial.clone().into())
        } else {
            None
        }
    }

    /// Returns what is known as a tree.
    #[must_use]
    pub fn value(&self) -> Value {
        self.value.decode().unwrap_or_default()
    }

    /// Returns what is known as JSON text.
    #[must_use]
    pub fn raw(&self) -> &RawJson {
        &self.value
    }
}

impl<T: DeserializeOwned> Partial<T> {
    /// Returns the value if there is enough of it for a `T`, which need not be all of it: texts
    /// and lists may still grow.
    #[must_use]
    pub fn complete(&self) -> Option<T> {
        self.value.read().ok()
    }
}

impl<T> From<PartialValue> for Partial<T> {
    fn from(partial: PartialValue) -> Self {
        Self { value: partial.value, of: PhantomData }
    }
}

impl<T> Clone for Partial<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), of: PhantomData }
    }
}

impl<T> fmt::Debug for Partial<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Partial({})", self.value)
    }
}

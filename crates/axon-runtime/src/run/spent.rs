//! What a run below leaves beside its answer: what it used, and what it changed.

use std::collections::BTreeSet;

use axon_kernel::event::Sequenced;
use axon_kernel::event::{RunEvent, StatePatch};
use axon_kernel::ids::RunId;
use axon_kernel::json::RawJson;
use axon_kernel::store::StoreError;
use serde_json::{Map, Value};

use crate::records::handed_runs;
use crate::services::Services;

/// What a run leaves that answers a call, beside the answer.
#[derive(Clone, Debug)]
pub(super) struct Spent {
    /// What it has used.
    pub(super) usage: RawJson,
    /// The model that answered, and whether it only plays one.
    pub(super) model: Option<(String, bool)>,
    /// What it has changed in the state that it was given.
    pub(super) changed: Option<StatePatch>,
}

/// What the runs of others have used together, and whose word the answer is.
#[derive(Debug, Default)]
pub(super) struct Bill {
    pub(super) usage: Map<String, Value>,
    pub(super) models: BTreeSet<String>,
    pub(super) offline: bool,
}

/// Returns what a run leaves, as far as that is on record: however it ended.
pub(super) async fn spent(services: &Services, run: &RunId) -> Option<Spent> {
    let records = match services.store.records(run, 0).await {
        Ok(records) => records,
        // Nothing of it was begun.
        Err(StoreError::NotFound(_)) => return None,
        Err(error) => {
            tracing::warn!(%run, %error, "it cannot be read what a run has used");
            return None;
        }
    };
    let changed = changed(&records);
    if let Some((usage, model)) = records.iter().rev().find_map(counted) {
        return Some(Spent { usage, model, changed });
    }
    // A flow that broke off: what those have used that it asked.
    let calls = records.iter().filter_map(|record| {
        if let RunEvent::ToolCalled(called) = &record.event { Some(called) } else { None }
    });
    let mut bill = Bill::default();
    for below in handed_runs(run, calls) {
        bill.add(Box::pin(spent(services, &below)).await.as_ref());
    }
    let Bill { usage, .. } = bill;
    (!usage.is_empty() || changed.is_some()).then(|| Spent {
        usage: Value::Object(usage).into(),
        model: None,
        changed,
    })
}

/// Returns what a run has used up to a record, if that says it.
fn counted(record: &Sequenced) -> Option<(RawJson, Option<(String, bool)>)> {
    if let RunEvent::Completed(completed) = &record.event {
        Some((completed.usage.clone(), Some((completed.model.clone(), completed.offline))))
    } else if let RunEvent::Checkpoint(checkpoint) = &record.event {
        Some((checkpoint.usage.clone(), None))
    } else {
        None
    }
}

/// Returns what a run has changed in the state that it began with.
fn changed(records: &[Sequenced]) -> Option<StatePatch> {
    let mut began = Map::new();
    let mut state = Map::new();
    for record in records {
        if let RunEvent::Accepted(accepted) = &record.event {
            let given = accepted.terms.state.as_ref();
            began = given.and_then(|given| given.decode().ok()).unwrap_or_default();
            state.clone_from(&began);
        } else if let RunEvent::StateChanged(changed) = &record.event {
            changed.patch.apply(&mut state);
        }
    }
    Some(StatePatch::between(&began, &state)).filter(|patch| !patch.is_empty())
}

impl Bill {
    pub(super) fn add(&mut self, spent: Option<&Spent>) {
        let Some(Spent { usage, model, .. }) = spent else { return };
        let used: Map<String, Value> = usage.decode().unwrap_or_default();
        for (key, value) in used {
            let sum = self.usage.remove(&key).and_then(|before| added(&before, &value));
            self.usage.insert(key, sum.unwrap_or(value));
        }
        if let Some((model, offline)) = model {
            self.models
                .extend(model.split(", ").filter(|name| !name.is_empty()).map(str::to_owned));
            self.offline |= offline;
        }
    }
}

/// Returns the sum of two counts of the same thing, or of objects of such.
fn added(one: &Value, two: &Value) -> Option<Value> {
    match (one, two) {
        (Value::Number(one), Value::Number(two)) => match (one.as_u64(), two.as_u64()) {
            (Some(one), Some(two)) => Some(one.saturating_add(two).into()),
            _ => Some((one.as_f64()? + two.as_f64()?).into()),
        },
        (Value::Object(one), Value::Object(two)) => {
            let mut sum = one.clone();
            for (key, value) in two {
                let both = sum.get(key).and_then(|before| added(before, value));
                sum.insert(key.clone(), both.unwrap_or_else(|| value.clone()));
            }
            Some(Value::Object(sum))
        }
        // An amount of money, which is text.
        (Value::String(one), Value::String(two)) => {
            Some(format!("{}", one.parse::<f64>().ok()? + two.parse::<f64>().ok()?).into())
        }
        _ => None,
    }
}

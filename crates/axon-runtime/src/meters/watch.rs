//! Looks from time to time at what nobody tells of: what runners use of the machine, who waits for a
//! person in the store, and breakers that time has moved on.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axon_kernel::ids::RunId;
use axon_kernel::run::RunState;
use axon_kernel::store::{RunQuery, StoreError};
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::services::Services;

/// How often it is looked, which is more often than anybody scrapes.
const PERIOD: Duration = Duration::from_secs(5);

/// How long pauses are gathered before the store is asked about all of them.
const GATHERED: Duration = Duration::from_millis(100);

/// By how much the store is left alone after it was asked, as a multiple of how long that took.
const REST: u32 = 50;

/// How many runs are read in one go.
const PAGE: usize = 256;

/// Keeps the metrics of a runtime right for as long as it is there.
pub(crate) async fn watch(services: Weak<Services>) {
    let Some(pauses) = services.upgrade().map(|services| services.meters.pauses.clone()) else {
        return;
    };
    let mut store_from = Instant::now();
    loop {
        let Some(now) = services.upgrade() else { return };
        look(&now).await;
        if Instant::now() >= store_from {
            store_from = count_waiting(&now).await;
        }
        drop(now);
        let due = tokio::time::sleep(PERIOD);
        tokio::select! {
            () = due => {}
            () = pauses.notified() => {
                tokio::time::sleep_until(store_from.max(Instant::now() + GATHERED)).await;
            }
        }
    }
}

async fn look(services: &Services) {
    let handles = services.registry.all();
    join_all(handles.iter().map(|handle| async move {
        handle.agent.meters.look_at(&handle.status_now().await);
    }))
    .await;
    services.models.show();
    services.meters.keep();
}

/// Counts the runs that wait for a person, and returns when the store may be asked again.
async fn count_waiting(services: &Arc<Services>) -> Instant {
    let began = Instant::now();
    match waiting(services).await {
        Ok(mut waiting) => {
            for handle in services.registry.all() {
                let runs = waiting.remove(handle.name().as_str()).unwrap_or_default();
                handle.agent.meters.waits_for_people(runs);
            }
        }
        Err(error) => tracing::debug!(%error, "it cannot be counted what waits for people"),
    }
    Instant::now() + began.elapsed() * REST
}

async fn waiting(services: &Services) -> Result<BTreeMap<String, usize>, StoreError> {
    let mut query = RunQuery { states: vec![RunState::Paused], limit: PAGE, ..RunQuery::default() };
    let mut counted = BTreeMap::new();
    loop {
        let page = services.store.runs(&query).await?;
        for run in &page {
            *counted.entry(run.agent.to_string()).or_default() += 1;
        }
        let last: Option<RunId> = page.last().map(|run| run.run_id.clone());
        if page.len() < PAGE {
            return Ok(counted);
        }
        query.after = last;
    }
}

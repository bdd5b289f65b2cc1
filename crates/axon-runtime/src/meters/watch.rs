//! Looks from time to time at what nobody tells of: what runners use of the machine, who waits for a
//! person in the store, and breakers that time has moved on.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axon_kernel::run::RunState;
use axon_kernel::store::{RunQuery, StoreError};
use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior};

use crate::services::Services;

/// How often it is looked, which is more often than anybody scrapes.
const PERIOD: Duration = Duration::from_secs(5);

/// How long pauses are gathered before the store is asked about all of them.
const GATHERED: Duration = Duration::from_millis(100);

/// For how long the store is left alone after it was asked, as a multiple of how long that took.
const REST: u32 = 50;

/// How many runs are read in one go.
const PAGE: usize = 256;

/// Keeps the metrics of a runtime right for as long as it is there.
pub(crate) async fn watch(services: Weak<Services>) {
    let Some(pauses) = services.upgrade().map(|services| services.meters.pauses.clone()) else {
        return;
    };
    let mut due = tokio::time::interval(PERIOD);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rested = Instant::now();
    loop {
        let is_due = tokio::select! {
            _now = due.tick() => true,
            () = pauses.notified() => {
                tokio::time::sleep_until(rested.max(Instant::now() + GATHERED)).await;
                false
            }
        };
        let Some(services) = services.upgrade() else { return };
        if is_due {
            look(&services).await;
        }
        let began = Instant::now();
        if began >= rested {
            count_waiting(&services).await;
            rested = Instant::now() + began.elapsed() * REST;
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

/// Shows how many runs wait for a person.
async fn count_waiting(services: &Arc<Services>) {
    match waiting(services).await {
        Ok(mut waiting) => {
            for handle in services.registry.all() {
                let runs = waiting.remove(handle.name().as_str()).unwrap_or_default();
                handle.agent.meters.waits_for_people(runs);
            }
        }
        Err(error) => tracing::debug!(%error, "it cannot be counted what waits for people"),
    }
}

async fn waiting(services: &Services) -> Result<BTreeMap<String, usize>, StoreError> {
    let states = vec![RunState::Paused];
    let mut query = RunQuery { states, limit: PAGE, ..RunQuery::default() };
    let mut counted = BTreeMap::new();
    loop {
        let page = services.store.runs(&query).await?;
        for run in &page {
            *counted.entry(run.agent.to_string()).or_default() += 1;
        }
        let last = page.last().map(|run| run.run_id.clone());
        if page.len() < PAGE {
            return Ok(counted);
        }
        query.after = last;
    }
}

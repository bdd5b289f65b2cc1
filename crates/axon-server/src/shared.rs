//! What every request sees of the server.

use std::sync::Arc;

use axon_kernel::ids::RunId;
use axon_kernel::store::StoreError;
use axon_runtime::{AgentDefinition, FolderError, RunEvents, Runtime};
use axum::http::StatusCode;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch};

use crate::config::Settings;
use crate::guard::Tickets;
use crate::page::Page;
use crate::problem::Problem;
use crate::recent::Recent;

/// Writes the metrics as Prometheus reads them.
pub(crate) type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Finds the definition of an agent by its name, where the service keeps its own.
pub(crate) type FindDefinition =
    Arc<dyn Fn(&str) -> Result<AgentDefinition, FolderError> + Send + Sync>;

/// How many starts with a key can be under way without waiting for one another.
const STRIPES: usize = 64;

/// Where the server is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It takes runs.
    Serving,
    /// It takes none any more, and those under way finish.
    Draining,
    /// No run is under way any more: streams end.
    Closing,
}

/// What every request sees of the server.
pub(crate) struct Shared {
    pub(crate) runtime: Runtime,
    pub(crate) settings: Settings,
    pub(crate) metrics: Option<RenderMetrics>,
    pub(crate) definitions: Option<FindDefinition>,
    pub(crate) page: Option<Page>,
    pub(crate) tickets: Tickets,
    pub(crate) recent: Arc<Recent>,
    phase: watch::Sender<Phase>,
    streams: Arc<Semaphore>,
    /// Held while a run with a key is looked for and begun: two requests with one key begin one run.
    starts: [Mutex<()>; STRIPES],
}

impl Shared {
    pub(crate) fn new(
        runtime: Runtime,
        settings: Settings,
        metrics: Option<RenderMetrics>,
        definitions: Option<FindDefinition>,
        page: Option<Page>,
    ) -> Self {
        let streams = Arc::new(Semaphore::new(settings.limits.streams));
        Self {
            runtime,
            settings,
            metrics,
            definitions,
            page,
            tickets: Tickets::default(),
            recent: Arc::default(),
            phase: watch::Sender::new(Phase::Serving),
            streams,
            starts: std::array::from_fn(|_| Mutex::new(())),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Goes on to a later phase; there is no way back.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        });
    }

    /// Resolves when streams have to end.
    pub(crate) async fn closing(&self) {
        let mut phase = self.phase.subscribe();
        // The sender lives in `self`, so the channel cannot close.
        let _closing = phase.wait_for(|phase| *phase == Phase::Closing).await;
    }

    /// Returns the events of a run behind the event `after`: what streamed, too, as far as it is
    /// still kept.
    pub(crate) async fn events_of(&self, run: &RunId, after: u64) -> Result<RunEvents, StoreError> {
        // In this order: one that ends in between is found as one that has ended.
        if let Some(live) = self.runtime.under_way(run).await {
            return live.follow(after).await;
        }
        match self.recent.ended(run) {
            Some(ended) => ended.follow(after).await,
            None => self.runtime.follow(run, after).await,
        }
    }

    /// Refuses new work once the server is about to end.
    pub(crate) fn check_serving(&self) -> Result<(), Problem> {
        match self.phase() {
            Phase::Serving => Ok(()),
            Phase::Draining | Phase::Closing => Err(Problem::draining()),
        }
    }

    /// Returns the place of one more stream of events.
    pub(crate) fn stream_place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.streams.clone().try_acquire_owned().map_err(|_full| {
            let detail = "as many streams are open as this service has places for";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_streams", detail)
                .retry_after(Some(std::time::Duration::from_secs(1)))
        })
    }

    /// Returns the lock under which a run with a key is begun.
    pub(crate) fn start_of(&self, run: &RunId) -> &Mutex<()> {
        let sum = run
            .as_str()
            .bytes()
            .fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        &self.starts[sum % STRIPES]
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("settings", &self.settings)
            .field("phase", &self.phase())
            .finish_non_exhaustive()
    }
}

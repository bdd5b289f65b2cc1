//! Which attempts are live and which are over: the rules of 404, 409, 410, 429 and 503.

use std::collections::BTreeMap;
use std::sync::Arc;

use axon_kernel::failure::FailureKind;
use axon_kernel::ids::{Attempt, RunId};
use axum::http::StatusCode;
use tokio::sync::watch;

use super::attempt::LiveAttempt;
use super::refusal::Refusal;

/// The latest attempt of every run that this process has seen.
#[derive(Debug)]
pub(super) struct Runs {
    table: watch::Sender<Table>,
    limit: u32,
}

#[derive(Debug, Default)]
struct Table {
    latest: BTreeMap<RunId, Arc<LiveAttempt>>,
    live: u32,
    draining: bool,
}

/// An attempt that was let in.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) attempt: Arc<LiveAttempt>,
    /// The lower attempt of the same run, which has been cancelled.
    pub(super) lower: Option<Arc<LiveAttempt>>,
}

impl Runs {
    pub(super) fn new(limit: u32) -> Self {
        Self { table: watch::Sender::default(), limit }
    }

    pub(super) fn live(&self) -> u32 {
        self.table.borrow().live
    }

    /// Lets an attempt in, which cancels a lower one of the same run.
    pub(super) fn admit(&self, run: &RunId, number: Attempt) -> Result<Admitted, Refusal> {
        let mut outcome = None;
        self.table.send_if_modified(|table| {
            let admitted = table.admit(run, number, self.limit);
            let changed = admitted.is_ok();
            outcome = Some(admitted);
            changed
        });
        let admitted = outcome.expect("the closure is called once")?;
        if let Some(lower) = &admitted.lower {
            lower.cancel();
        }
        Ok(admitted)
    }

    /// Returns the live attempt of `run`, which must be `number` where one is given.
    pub(super) fn find(
        &self,
        run: &RunId,
        number: Option<Attempt>,
    ) -> Result<Arc<LiveAttempt>, Refusal> {
        let table = self.table.borrow();
        let refuse = |status, message| Err(Refusal::new(status, FailureKind::Config, message));
        let Some(latest) = table.latest.get(run) else {
            return refuse(StatusCode::NOT_FOUND, format!("run {run} is not known to this runner"));
        };
        let latest_number = latest.number;
        match number {
            Some(number) if number != latest_number => refuse(
                StatusCode::CONFLICT,
                format!("attempt {number} is not live; {latest_number} is the latest"),
            ),
            _ if latest.is_over() => {
                refuse(StatusCode::GONE, format!("attempt {latest_number} of run {run} is over"))
            }
            _ => Ok(latest.clone()),
        }
    }

    /// Notes that `attempt` is over.
    pub(super) fn end(&self, attempt: &LiveAttempt) {
        if attempt.end() {
            self.table.send_modify(|table| table.live = table.live.saturating_sub(1));
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.table.borrow().draining
    }

    /// Lets nothing in any more.
    pub(super) fn drain(&self) {
        self.table.send_modify(|table| table.draining = true);
    }

    /// Cancels every attempt; each says so on its stream.
    pub(super) fn cancel_all(&self) {
        self.table.borrow().latest.values().for_each(|attempt| attempt.cancel());
    }

    /// Waits until nothing is let in and nothing is live.
    pub(super) async fn drained(&self) {
        let mut table = self.table.subscribe();
        // The sender lives in `self`, so the channel cannot close meanwhile.
        let _always_open = table.wait_for(|table| table.draining && table.live == 0).await;
    }
}

impl Table {
    fn admit(&mut self, run: &RunId, number: Attempt, limit: u32) -> Result<Admitted, Refusal> {
        let busy = |status, message| Err(Refusal::new(status, FailureKind::Busy, message));
        if self.draining {
            return busy(StatusCode::SERVICE_UNAVAILABLE, "the runner is draining".to_owned());
        }
        let latest = self.latest.get(run);
        if let Some(latest) = latest.filter(|latest| number <= latest.number) {
            let message = format!("attempt {number} of run {run} is not above {}", latest.number);
            return Err(Refusal::new(StatusCode::CONFLICT, FailureKind::Config, message));
        }
        let lower = latest.filter(|latest| !latest.is_over()).cloned();
        if lower.is_none() && self.live >= limit {
            return busy(
                StatusCode::TOO_MANY_REQUESTS,
                format!("{} attempts are running", self.live),
            );
        }
        let attempt = Arc::new(LiveAttempt::new(number));
        self.latest.insert(run.clone(), attempt.clone());
        self.live += 1;
        Ok(Admitted { attempt, lower })
    }
}

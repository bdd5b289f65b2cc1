//! A run in a service, followed from here through whatever becomes of the link.

use std::sync::Arc;
use std::time::Duration;

use axon_kernel::event::{PauseReason, RunEvent, Sequenced};
use axon_kernel::ids::RunId;
use axon_runtime::{Outcome, RunOutcome, RunUpdate};
use reqwest::Method;
use reqwest::header::ACCEPT;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::events::{Events, Next};
use super::store::is_plain_id;
use super::{PROMPTLY, Service, ServiceError};
use crate::report::Report;
use crate::runs::short;
use crate::terminal::{self, DIM, styled};

/// For how long a service may be gone: as long as it takes to be started again.
const GONE: Duration = Duration::from_secs(60);

/// A stream that lasted this long counts as one that works.
const LASTING: Duration = Duration::from_secs(5);

/// How long to wait before a service is asked again, at first and at most.
const WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What is said of a service that is waited for, and of one that is there.
const AWAY: &str = "the service does not answer: waiting for it";
const UNREADABLE: &str = "the service cannot tell what the run does: waiting for it";

/// What an agent is asked with.
#[derive(Debug, Serialize)]
pub(crate) struct Question {
    pub(crate) prompt: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deps: Option<axon_kernel::json::RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) conversation_id: Option<String>,
    /// In seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) approve: Vec<String>,
}

#[derive(Deserialize)]
struct Begun {
    run_id: RunId,
}

/// A run in a service.
#[derive(Debug)]
pub(crate) struct RemoteRun {
    service: Service,
    id: RunId,
    /// The number of the last event that was seen.
    after: u64,
    events: Option<Events>,
    /// The event that it ended or paused with.
    settled: Option<Arc<Sequenced>>,
    /// Whether decisions are still to be passed over that were made before the run went on.
    past_decisions: bool,
    /// Since when the link has not held.
    lost: Option<Lost>,
    /// What the last stream ended with, if that was no end of the run.
    broken: Option<ServiceError>,
}

/// A link that does not hold.
#[derive(Clone, Copy, Debug)]
struct Lost {
    since: Instant,
    wait: Duration,
    told: bool,
}

impl Lost {
    fn now() -> Self {
        Self { since: Instant::now(), wait: WAIT.0, told: false }
    }

    /// Says once what is waited for.
    fn tell(&mut self, what: &str) {
        if !std::mem::replace(&mut self.told, true) {
            terminal::say(&styled(DIM, what));
        }
    }

    fn is_over(&self) -> bool {
        self.since.elapsed() > GONE
    }
}

impl Service {
    /// Asks an agent. However often the link breaks meanwhile, one run comes of it.
    pub(crate) async fn ask(&self, agent: &str, question: &Question) -> Result<RemoteRun, Report> {
        let key = uuid::Uuid::new_v4().to_string();
        let mut lost = Lost::now();
        let mut may_be_taken = false;
        loop {
            let request = self
                .request(Method::POST, &["v1", "agents", agent, "runs"], &[])
                .header("Idempotency-Key", &key)
                .header("Prefer", "respond-async")
                .json(question);
            let error = match self.answer(request, PROMPTLY).await {
                Ok(Begun { run_id }) if is_plain_id(&run_id) => {
                    return Ok(RemoteRun::behind(self.clone(), run_id, 0));
                }
                Ok(_) => {
                    return Err(self.foreign("a run has an id that is none".to_owned()).into());
                }
                Err(error) => error,
            };
            // Once nobody knows whether it was taken, only an answer to the same key finds out: that
            // the service is away by then says nothing about it.
            may_be_taken |= error.leaves_open();
            if !may_be_taken || !error.may_pass() {
                return Err(error.into());
            }
            if lost.is_over() {
                return Err(Report::from(error)
                    .because("it may have taken the run on, and goes on with it then")
                    .todo("axon runs"));
            }
            lost.tell(AWAY);
            pause(&mut lost).await;
        }
    }
}

async fn pause(lost: &mut Lost) {
    tokio::time::sleep(lost.wait).await;
    lost.wait = (lost.wait * 2).min(WAIT.1);
}

impl RemoteRun {
    /// Follows a run from behind the event `after`, of which 0 is none.
    pub(crate) fn behind(service: Service, id: RunId, after: u64) -> Self {
        let (events, settled, past_decisions) = (None, None, false);
        Self { service, id, after, events, settled, past_decisions, lost: None, broken: None }
    }

    /// Says that the run goes on after a pause, by decisions that whoever follows knows.
    pub(crate) fn goes_on(&mut self) {
        (self.settled, self.past_decisions) = (None, true);
    }

    pub(crate) fn id(&self) -> &RunId {
        &self.id
    }

    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    /// Returns the next update; nothing once it has ended or paused. Nothing is lost if nobody waits
    /// for it any more.
    pub(crate) async fn next(&mut self) -> Result<Option<RunUpdate>, Report> {
        loop {
            if self.settled.is_some() {
                return Ok(None);
            }
            let Some(events) = &mut self.events else {
                self.open().await?;
                continue;
            };
            match events.next().await {
                Next::Update(update) => {
                    if let Some(update) = self.take(update)? {
                        return Ok(Some(update));
                    }
                }
                Next::Gone(why) => {
                    tracing::debug!(run = %self.id, %why, "the stream of a run broke off");
                    let lasted = events.age() > LASTING;
                    self.ended(self.service.lost(why));
                    if lasted {
                        self.lost = None;
                    }
                }
                Next::Unreadable(problem) => {
                    self.ended(ServiceError::Refused { status: 503, problem });
                }
                Next::Garbage(why) => return Err(self.service.foreign(why).into()),
            }
        }
    }

    /// Takes note that the stream is no more, and why.
    fn ended(&mut self, by: ServiceError) {
        (self.events, self.broken) = (None, Some(by));
    }

    /// Takes an update in, and returns it unless it was seen before, or is not for whoever follows.
    fn take(&mut self, update: RunUpdate) -> Result<Option<RunUpdate>, Report> {
        let RunUpdate::Event(event) = &update else { return Ok(Some(update)) };
        if event.run_id != self.id {
            return Err(self.service.foreign("an event is of another run".to_owned()).into());
        }
        if let RunEvent::Paused(paused) = &event.event
            && let PauseReason::Interrupted { .. } = &paused.reason
        {
            // It is on no record: the service ends, and its next start goes on.
            return Ok(None);
        }
        if event.seq <= self.after {
            return Ok(None);
        }
        (self.after, self.lost) = (event.seq, None);
        if event.event.is_terminal() || matches!(event.event, RunEvent::Paused(_)) {
            self.settled = Some(event.clone());
        }
        if self.past_decisions {
            self.past_decisions = matches!(event.event, RunEvent::Resolved(_));
            if self.past_decisions {
                return Ok(None);
            }
        }
        Ok(Some(update))
    }

    /// Opens the stream behind what was seen, as soon as there is a service that has it.
    async fn open(&mut self) -> Result<(), Report> {
        match self.lost {
            None => self.lost = Some(Lost::now()),
            // The stream before ended at once, or never began.
            Some(mut lost) => {
                if let Some(broken) = self.broken.take_if(|_| lost.is_over()) {
                    return Err(self.gone(broken));
                }
                if let Some(ServiceError::Refused { .. }) = &self.broken {
                    lost.tell(UNREADABLE);
                }
                let waited = pause(&mut lost);
                waited.await;
                self.lost = Some(lost);
            }
        }
        let path = ["v1", "runs", self.id.as_str(), "events"];
        let request = self.service.request(Method::GET, &path, &[]);
        let request = request
            .header(ACCEPT, "text/event-stream")
            .header("Last-Event-ID", self.after.to_string());
        let error = match self.service.send(request, PROMPTLY).await {
            Ok(response) if response.status() == reqwest::StatusCode::NO_CONTENT => {
                let why = "a run has ended, and its end was not told".to_owned();
                return Err(self.service.foreign(why).into());
            }
            Ok(response) => {
                self.events = Some(Events::of(response));
                return Ok(());
            }
            Err(error) => error,
        };
        self.broken = None;
        let lost = self.lost.get_or_insert_with(Lost::now);
        if !error.may_pass() || lost.is_over() {
            return Err(self.gone(error));
        }
        lost.tell(AWAY);
        Ok(())
    }

    fn gone(&self, error: ServiceError) -> Report {
        let (is_away, is_unknown) = (error.may_pass(), error.code() == Some("unknown_run"));
        let report = Report::from(error);
        if is_unknown {
            return report
                .because("the service that had it kept its runs in memory, and has ended");
        }
        if is_away {
            let id = short(&self.id);
            return report
                .because(format!("run {id} is on record there, and goes on with it"))
                .todo(format!("axon runs events {id}"));
        }
        report
    }

    /// Has the run cancelled; it still ends with its terminal event.
    pub(crate) async fn cancel(&self, reason: &str) -> Result<(), ServiceError> {
        self.service.cancel(&self.id, reason).await
    }

    /// Returns how it ended, or what it waits for, once it does.
    pub(crate) fn outcome(&self) -> Option<RunOutcome> {
        let outcome = Outcome::of(&self.settled.as_ref()?.event)?;
        Some(RunOutcome { run_id: self.id.clone(), outcome, state: Map::new() })
    }
}

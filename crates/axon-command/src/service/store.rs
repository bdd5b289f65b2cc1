//! The store of a service, as every verb here reads one.

use axon_kernel::event::Sequenced;
use axon_kernel::ids::{ConversationId, RunId};
use axon_kernel::json::RawJson;
use axon_kernel::run::RunState;
use axon_kernel::store::{
    Append, Durable, Forget, Forgotten, Owner, RunQuery, RunSummary, Store, StoreError,
    StoreFuture, StoreReport, TurnTaken,
};
use reqwest::Method;
use reqwest::header::ACCEPT;
use serde::Deserialize;

use super::{PROMPTLY, Service, ServiceError};
use crate::terminal::printable;

/// The most runs that a service lists at once.
const MAX_PAGE: usize = 1000;

/// The shortest and the longest id of a run, in characters.
pub(crate) const ID_LENGTH: (usize, usize) = (4, 128);

/// Reads the store of a service. What changes it is asked of the service itself.
#[derive(Clone, Debug)]
pub(crate) struct RemoteStore(pub(crate) Service);

#[derive(Deserialize)]
struct Page {
    runs: Vec<RunSummary>,
}

#[derive(Deserialize)]
struct Record {
    events: Vec<Sequenced>,
}

#[derive(Deserialize)]
struct Conversation {
    messages: Vec<RawJson>,
}

/// Returns whether a run can be called so: it is shown, typed, and a part of paths.
pub(crate) fn is_plain_id(run: &RunId) -> bool {
    let id = run.as_str();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (ID_LENGTH.0..=ID_LENGTH.1).contains(&id.len()) && id.chars().all(plain) && !id.starts_with('-')
}

impl RemoteStore {
    /// Returns an error of the service as one of its store: that there is no such run is one.
    fn error(run: &RunId, error: ServiceError) -> StoreError {
        match error.code() {
            Some("unknown_run") => StoreError::NotFound(run.clone()),
            _ => StoreError::Backend(Box::new(error)),
        }
    }

    /// Checks a run before anything of it is shown, and says who drives it from here.
    fn seen(&self, mut run: RunSummary) -> Result<RunSummary, StoreError> {
        if !is_plain_id(&run.run_id) {
            let error = self.0.foreign("a run has an id that is none".to_owned());
            return Err(StoreError::Backend(Box::new(error)));
        }
        run.owner = match run.owner {
            Owner::Us => Owner::Other(format!("the service at {}", self.0.url())),
            Owner::Other(owner) => Owner::Other(printable(&owner)),
            Owner::Nobody => Owner::Nobody,
        };
        run.conversation_id =
            run.conversation_id.map(|id| ConversationId::new(printable(id.as_str())));
        run.parent = run.parent.filter(is_plain_id);
        run.waits_for = run.waits_for.map(|reason| printable(&reason));
        Ok(run)
    }

    async fn page(&self, query: &RunQuery) -> Result<Vec<RunSummary>, StoreError> {
        let limit = if query.limit == 0 { MAX_PAGE } else { query.limit.min(MAX_PAGE) };
        let states: Vec<&str> = query.states.iter().copied().map(RunState::label).collect();
        let mut asked = vec![("limit", limit.to_string())];
        asked.extend((!states.is_empty()).then(|| ("state", states.join(","))));
        asked.extend(query.agent.as_ref().map(|agent| ("agent", agent.to_string())));
        asked.extend(query.conversation.as_ref().map(|id| ("conversation", id.to_string())));
        asked.extend(query.after.as_ref().map(|after| ("after", after.to_string())));
        asked.extend(query.unowned.then(|| ("unowned", "true".to_owned())));
        asked.extend(query.top_level.then(|| ("top_level", "true".to_owned())));
        let request = self.0.request(Method::GET, &["v1", "runs"], &asked);
        let page: Result<Page, _> = self.0.answer(request, PROMPTLY).await;
        let page = page.map_err(|error| StoreError::Backend(Box::new(error)))?;
        if page.runs.len() > limit {
            let error = self.0.foreign("it lists more runs than it was asked for".to_owned());
            return Err(StoreError::Backend(Box::new(error)));
        }
        page.runs.into_iter().map(|run| self.seen(run)).collect()
    }

    async fn events(&self, run: &RunId, after: u64) -> Result<Vec<Sequenced>, StoreError> {
        if !is_plain_id(run) {
            return Err(StoreError::NotFound(run.clone()));
        }
        let path = ["v1", "runs", run.as_str(), "events"];
        let request = self.0.request(Method::GET, &path, &[("after", after.to_string())]);
        let request = request.header(ACCEPT, "application/json");
        let record: Result<Record, _> = self.0.answer(request, PROMPTLY).await;
        let events = record.map_err(|error| Self::error(run, error))?.events;
        let mut last = after;
        for event in &events {
            if event.run_id != *run || event.seq <= last {
                let error = self.0.foreign("the record of a run is out of order".to_owned());
                return Err(StoreError::Backend(Box::new(error)));
            }
            last = event.seq;
        }
        Ok(events)
    }

    async fn summary(&self, run: &RunId) -> Result<RunSummary, StoreError> {
        if !is_plain_id(run) {
            return Err(StoreError::NotFound(run.clone()));
        }
        let found = self.0.get(&["v1", "runs", run.as_str()]).await;
        let found: RunSummary = found.map_err(|error| Self::error(run, error))?;
        self.seen(found)
    }
}

fn refused<T>() -> Result<T, StoreError> {
    let detail = "it is a service's, which alone writes it".to_owned();
    Err(StoreError::ReadOnly { detail })
}

impl Store for RemoteStore {
    fn append<'a>(&'a self, _: Append<'a>) -> StoreFuture<'a, Durable> {
        Box::pin(async { refused() })
    }

    fn records<'a>(&'a self, run: &'a RunId, after: u64) -> StoreFuture<'a, Vec<Sequenced>> {
        Box::pin(self.events(run, after))
    }

    fn run<'a>(&'a self, run: &'a RunId) -> StoreFuture<'a, RunSummary> {
        Box::pin(self.summary(run))
    }

    fn runs<'a>(&'a self, query: &'a RunQuery) -> StoreFuture<'a, Vec<RunSummary>> {
        Box::pin(self.page(query))
    }

    fn claim<'a>(&'a self, _: &'a RunId) -> StoreFuture<'a, RunSummary> {
        Box::pin(async { refused() })
    }

    fn release<'a>(&'a self, _: &'a RunId) -> StoreFuture<'a, ()> {
        Box::pin(async { refused() })
    }

    fn take_turn<'a>(&'a self, _: &'a ConversationId, _: &'a RunId) -> StoreFuture<'a, TurnTaken> {
        Box::pin(async { refused() })
    }

    fn history<'a>(&'a self, conversation: &'a ConversationId) -> StoreFuture<'a, Vec<RawJson>> {
        Box::pin(async move {
            let found = self.0.get(&["v1", "conversations", conversation.as_str()]).await;
            match found {
                Ok(Conversation { messages }) => Ok(messages),
                Err(error) if error.code() == Some("unknown_conversation") => Ok(Vec::new()),
                Err(error) => Err(StoreError::Backend(Box::new(error))),
            }
        })
    }

    fn forget<'a>(&'a self, _: &'a Forget) -> StoreFuture<'a, Forgotten> {
        Box::pin(async { refused() })
    }

    fn import<'a>(&'a self, _: &'a [Sequenced]) -> StoreFuture<'a, RunSummary> {
        Box::pin(async { refused() })
    }

    fn report(&self, _: bool) -> StoreFuture<'_, StoreReport> {
        Box::pin(async { refused() })
    }

    fn is_durable(&self) -> bool {
        // It outlasts this process, which is what is asked here.
        true
    }
}

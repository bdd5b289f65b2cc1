//! Where the stores of a test are, and the events that it records.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axon_kernel::event::{
    Accepted, Cancelled, Envelope, Parent, PauseReason, Paused, Resumed, RunEvent, RunTerms,
    Sequenced, Started, Steered,
};
use axon_kernel::ids::{Attempt, ConversationId, MessageId, RunId};
use axon_kernel::json::RawJson;
use axon_kernel::spec::AgentPath;
use axon_kernel::store::{Append, Durable, Store, StoreError, TurnEnd, TurnTaken};
use axon_kernel::time::Timestamp;
use axon_store::{OpenOptions, StoreUrl, open};
use axon_test::Postgres;

/// A database of a test's own.
pub(crate) struct Place {
    url: StoreUrl,
    dialect: Dialect,
}

enum Dialect {
    Sqlite {
        #[expect(dead_code, reason = "the folder goes with it")]
        folder: tempfile::TempDir,
    },
    Postgres {
        url: String,
    },
}

impl Place {
    pub(crate) fn file() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = StoreUrl::from(folder.path().join(".axon/axon.db").as_path());
        Self { url, dialect: Dialect::Sqlite { folder } }
    }

    /// A new database of `server`'s.
    pub(crate) async fn on(server: &Postgres, name: &str) -> Self {
        // Names of databases end after 63 bytes.
        let url = server.create_database(&name[..name.len().min(60)]).await.unwrap();
        Self { url: url.parse().unwrap(), dialect: Dialect::Postgres { url } }
    }

    pub(crate) fn url(&self) -> &StoreUrl {
        &self.url
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.url.path().map(Path::to_owned).unwrap()
    }

    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        self.open_as("a test").await
    }

    pub(crate) async fn open_as(&self, label: &str) -> Arc<dyn Store> {
        let options = OpenOptions { label: label.to_owned(), ..OpenOptions::default() };
        open(&self.url, options).await.unwrap()
    }

    /// Carries out a statement behind the store's back.
    pub(crate) async fn sql(&self, text: &str) -> u64 {
        use sqlx::ConnectOptions;
        let sql = sqlx::AssertSqlSafe(text.to_owned());
        match &self.dialect {
            Dialect::Postgres { url } => {
                let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
                let mut link = options.connect().await.unwrap();
                sqlx::raw_sql(sql).execute(&mut link).await.unwrap().rows_affected()
            }
            Dialect::Sqlite { .. } => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.path());
                let mut link = options.connect().await.unwrap();
                sqlx::raw_sql(sql).execute(&mut link).await.unwrap().rows_affected()
            }
        }
    }
}

pub(crate) fn run(id: &str) -> RunId {
    RunId::new(id)
}

pub(crate) fn raw(text: &str) -> RawJson {
    RawJson::parse(text).unwrap()
}

pub(crate) fn event(run: &RunId, seq: u64, event: RunEvent) -> Sequenced {
    Sequenced { run_id: run.clone(), seq, attempt: Attempt(1), at: Timestamp(1000 + seq), event }
}

pub(crate) fn accepted(run: &RunId, conversation: Option<&str>) -> Sequenced {
    let accepted = Accepted {
        agent: "bank_support".try_into().unwrap(),
        conversation_id: conversation.map(ConversationId::new),
        prompt: raw(r#"{"n":123456789012345678901234567890}"#),
        deps: None,
        terms: RunTerms::default(),
    };
    event(run, 1, RunEvent::Accepted(accepted))
}

/// The acceptance of a run that answers a call of another one.
pub(crate) fn below(run: &RunId, parent: &RunId) -> Sequenced {
    let mut event = accepted(run, None);
    if let RunEvent::Accepted(accepted) = &mut event.event {
        accepted.terms.parent = Some(Parent {
            run_id: parent.clone(),
            tool_call_id: "c1".into(),
            path: AgentPath::of(&accepted.agent),
            envelope: Envelope::default(),
        });
    }
    event
}

pub(crate) fn started(run: &RunId, seq: u64) -> Sequenced {
    event(run, seq, RunEvent::Started(Started { queued_ms: 1 }))
}

pub(crate) fn said(run: &RunId, seq: u64, text: &str) -> Sequenced {
    let content = RawJson::encode(text).unwrap();
    event(run, seq, RunEvent::Steered(Steered { message_id: MessageId::new("m"), content }))
}

pub(crate) fn paused(run: &RunId, seq: u64) -> Sequenced {
    let reason = PauseReason::Approval { requests: raw("[]") };
    event(run, seq, RunEvent::Paused(Paused::until_decided(reason)))
}

pub(crate) fn resumed(run: &RunId, seq: u64) -> Sequenced {
    event(run, seq, RunEvent::Resumed(Resumed { timeout_ms: 5, definition: None }))
}

pub(crate) fn cancelled(run: &RunId, seq: u64) -> Sequenced {
    event(run, seq, RunEvent::Cancelled(Cancelled { reason: "enough".into() }))
}

/// Appends `events` after `expected` others.
pub(crate) async fn append(
    store: &dyn Store,
    expected: u64,
    events: &[Sequenced],
) -> Result<Durable, StoreError> {
    let run = &events[0].run_id;
    store.append(Append { run, expected, events, turn: None, writes: &[] }).await
}

/// Ends a run that `expected` events are recorded of, with `messages` for its conversation.
pub(crate) async fn end_turn(
    store: &dyn Store,
    expected: u64,
    last: &Sequenced,
    turn: TurnEnd<'_>,
) -> Result<Durable, StoreError> {
    let events = std::slice::from_ref(last);
    store
        .append(Append { run: &last.run_id, expected, events, turn: Some(turn), writes: &[] })
        .await
}

/// Claims `run` as soon as its owner is gone.
pub(crate) async fn claim_soon(store: &dyn Store, run: &RunId) {
    loop {
        match store.claim(run).await {
            Err(StoreError::Owned { .. }) => tokio::task::yield_now().await,
            claimed => return drop(claimed.unwrap()),
        }
    }
}

pub(crate) fn is_busy(taken: &TurnTaken, holder: &RunId) -> bool {
    matches!(taken, TurnTaken::Busy(summary) if summary.run_id == *holder)
}

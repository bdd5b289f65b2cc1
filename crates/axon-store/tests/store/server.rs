//! A server that goes, and sessions that are lost.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axon_kernel::event::Sequenced;
use axon_kernel::store::{Append, RunQuery, Store, StoreError, Write};
use axon_store::{OpenOptions, open};
use axon_test::Postgres;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{UnixListener, UnixStream};

use crate::place::*;

async fn append_soon(store: &dyn Store, expected: u64, event: Sequenced) {
    loop {
        match append(store, expected, std::slice::from_ref(&event)).await {
            Err(StoreError::Unavailable { .. }) => tokio::task::yield_now().await,
            appended => {
                appended.unwrap();
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_comes_back_finds_the_same_owner() {
    let Some(mut server) = Postgres::start_if_installed().await.unwrap() else { return };
    let place = Place::on(&server, "comes_back").await;
    let store = place.open().await;
    let r = run("r1");
    append(&*store, 0, &[accepted(&r, None)]).await.unwrap();
    server.stop();
    let refused = append(&*store, 1, &[started(&r, 2)]).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable { .. }) && refused.may_heal(), "{refused:?}");
    let unread = store.records(&r, 0).await.unwrap_err();
    assert!(matches!(unread, StoreError::Unavailable { .. }), "{unread:?}");
    server.restart().await.unwrap();
    append_soon(&*store, 1, started(&r, 2)).await;
    assert_eq!(store.records(&r, 0).await.unwrap().len(), 2);
}

#[tokio::test]
async fn reads_on_links_that_went_with_the_server_do_not_fail() {
    let Some(mut server) = Postgres::start_if_installed().await.unwrap() else { return };
    let place = Place::on(&server, "stale").await;
    let store = place.open().await;
    let r = run("r1");
    append(&*store, 0, &[accepted(&r, None)]).await.unwrap();
    let reads = || {
        let (store, r) = (Arc::clone(&store), r.clone());
        async move { store.records(&r, 0).await.map(|records| records.len()) }
    };
    let all = async || tokio::join!(reads(), reads(), reads(), reads());
    assert!(matches!(all().await, (Ok(1), Ok(1), Ok(1), Ok(1))));
    server.stop();
    server.restart().await.unwrap();
    let again = all().await;
    assert!(matches!(again, (Ok(1), Ok(1), Ok(1), Ok(1))), "{again:?}");
    assert_eq!(store.runs(&RunQuery::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_session_that_was_lost_is_fenced_where_somebody_claimed_its_runs() {
    let Some(server) = Postgres::start_if_installed().await.unwrap() else { return };
    let place = Place::on(&server, "lost").await;
    let (lost, other) = (place.open().await, place.open().await);
    let (kept, taken, theirs) = (run("kept"), run("taken"), run("theirs"));
    append(&*lost, 0, &[accepted(&kept, None)]).await.unwrap();
    append(&*lost, 0, &[accepted(&taken, None)]).await.unwrap();
    append(&*other, 0, &[accepted(&theirs, None)]).await.unwrap();
    // The first session that entered holds the lock of the lower epoch.
    let first = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' \
                 ORDER BY objid LIMIT 1";
    place.sql(first).await;
    claim_soon(&*other, &taken).await;
    append_soon(&*lost, 1, started(&kept, 2)).await;
    let fenced = append(&*lost, 1, &[started(&taken, 2)]).await;
    assert!(matches!(fenced, Err(StoreError::Fenced { .. })), "{fenced:?}");
    append(&*other, 1, &[started(&taken, 2)]).await.unwrap();
}

#[tokio::test]
async fn an_append_whose_commit_was_lost_is_recorded_once() {
    let Some(server) = Postgres::start_if_installed().await.unwrap() else { return };
    let place = Place::on(&server, "once").await;
    let store = place.open().await;
    let r = run("r1");
    append(&*store, 0, &[accepted(&r, None)]).await.unwrap();
    // The session ends within its own commit, once.
    place
        .sql(
            "CREATE TABLE armed (n INT); INSERT INTO armed VALUES (1); \
         CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF EXISTS (SELECT 1 FROM armed) THEN \
         PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER die AFTER INSERT ON axon_records \
         DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die()",
        )
        .await;
    let refused = append(&*store, 1, &[started(&r, 2)]).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused:?}");
    place.sql("DELETE FROM armed").await;
    append_soon(&*store, 1, started(&r, 2)).await;
    assert_eq!(store.records(&r, 0).await.unwrap().len(), 2);
}

const SOCKET: &str = ".s.PGSQL.5432";

/// What is between a store and its server.
#[derive(Clone, Default)]
struct Between {
    /// Whether a link is lost in the moment in which the server has carried out the next commit and
    /// nobody knows.
    lose: Arc<AtomicBool>,
    /// Whether new links are refused.
    refuse: Arc<AtomicBool>,
}

/// Passes links on from the socket in `folder` to the one in `server`.
fn pass_on(server: &Path, folder: &Path) -> Between {
    let between = Between::default();
    let (Between { lose, refuse }, server) = (between.clone(), server.join(SOCKET));
    let listener = UnixListener::bind(folder.join(SOCKET)).unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            if refuse.load(Ordering::SeqCst) {
                continue;
            }
            let (server, told) = (server.clone(), Arc::clone(&lose));
            tokio::spawn(async move {
                let mut database = UnixStream::connect(server).await.unwrap();
                let (mut from_client, mut to_client) = client.split();
                let (mut from_database, mut to_database) = database.split();
                let asks = async {
                    let mut bytes = vec![0; 65536];
                    loop {
                        let n = from_client.read(&mut bytes).await.unwrap_or(0);
                        to_database.write_all(&bytes[..n]).await.unwrap();
                        let commits = bytes[..n].windows(6).any(|word| word == b"COMMIT");
                        if n == 0 || commits && told.swap(false, Ordering::SeqCst) {
                            return n;
                        }
                    }
                };
                // After the commit the server's answer is read, and kept from the client.
                let asked = tokio::select! {
                    n = asks => n,
                    _ = copy(&mut from_database, &mut to_client) => 0,
                };
                if asked > 0 {
                    let mut answer = [0; 1024];
                    assert!(from_database.read(&mut answer).await.unwrap() > 0);
                }
            });
        }
    });
    between
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_acknowledged_and_not_repeated() {
    let Some(server) = Postgres::start_if_installed().await.unwrap() else { return };
    let place = Place::on(&server, "answer").await;
    let folder = tempfile::tempdir().unwrap();
    let Between { lose, .. } = pass_on(server.folder(), folder.path());
    let url = format!("postgres:///answer?host={}&user=axon", folder.path().display());
    let store = open(&url.parse().unwrap(), OpenOptions::default()).await.unwrap();
    let r = run("r1");
    append(&*store, 0, &[accepted(&r, None)]).await.unwrap();
    lose.store(true, Ordering::SeqCst);
    append_soon(&*store, 1, started(&r, 2)).await;
    assert!(!lose.load(Ordering::SeqCst));
    append(&*store, 2, &[said(&r, 3, "on")]).await.unwrap();
    let direct = place.open().await;
    assert_eq!(direct.records(&r, 0).await.unwrap().len(), 3);
    assert_eq!(direct.report(true).await.unwrap().damage, [] as [String; 0]);
}

#[tokio::test]
async fn a_commit_in_doubt_is_acknowledged_although_another_run_was_recorded_before() {
    let Some(server) = Postgres::start_if_installed().await.unwrap() else { return };
    server.create_database("doubt").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let Between { lose, refuse } = pass_on(server.folder(), folder.path());
    let url = format!("postgres:///doubt?host={}&user=axon", folder.path().display());
    let store = open(&url.parse().unwrap(), OpenOptions::default()).await.unwrap();
    let (r, other) = (run("r1"), run("r2"));
    append(&*store, 0, &[accepted(&r, None)]).await.unwrap();
    append(&*store, 0, &[accepted(&other, None)]).await.unwrap();
    refuse.store(true, Ordering::SeqCst);
    lose.store(true, Ordering::SeqCst);
    let in_doubt = append(&*store, 1, &[started(&r, 2)]).await;
    assert!(matches!(in_doubt, Err(StoreError::Unavailable { .. })), "{in_doubt:?}");
    refuse.store(false, Ordering::SeqCst);
    append_soon(&*store, 1, started(&other, 2)).await;
    let differs = append(&*store, 1, &[said(&r, 2, "x")]).await;
    assert!(matches!(differs, Err(StoreError::Conflict { found: 2, .. })), "{differs:?}");
    append(&*store, 1, &[started(&r, 2)]).await.unwrap();
    let again = append(&*store, 1, &[started(&r, 2)]).await;
    assert!(matches!(again, Err(StoreError::Conflict { found: 2, .. })), "{again:?}");
    append(&*store, 2, &[said(&r, 3, "on")]).await.unwrap();
    assert_eq!(store.records(&r, 0).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_tools_statement_that_met_another_writer_is_carried_out_again() {
    let Some(server) = Postgres::start_if_installed().await.unwrap() else { return };
    let place = Place::on(&server, "races").await;
    let store = place.open().await;
    // A sequence goes on where a transaction is rolled back: the table refuses twice.
    place
        .sql(
            "CREATE TABLE account (id INT); CREATE SEQUENCE met; \
         CREATE FUNCTION meet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF nextval('met') <= NEW.id THEN RAISE EXCEPTION 'met' USING ERRCODE = '40P01'; END IF; \
         RETURN NEW; END $$; \
         CREATE TRIGGER meet BEFORE INSERT ON account FOR EACH ROW EXECUTE FUNCTION meet()",
        )
        .await;
    let r = run("r1");
    append(&*store, 0, &[accepted(&r, None), started(&r, 2)]).await.unwrap();
    let events = [said(&r, 3, "x")];
    let with = async |sql: &str| {
        let writes = [Write { sql: sql.to_owned(), parameters: Vec::new(), changes: Some(1) }];
        let append = Append { run: &r, expected: 2, events: &events, turn: None, writes: &writes };
        store.append(append).await
    };
    let too_few = with("INSERT INTO account VALUES ($1)").await;
    assert!(matches!(too_few, Err(StoreError::Write { .. })), "{too_few:?}");
    let too_often = with("INSERT INTO account VALUES (1000)").await;
    assert!(matches!(too_often, Err(StoreError::Write { .. })), "{too_often:?}");
    place.sql("SELECT setval('met', 1)").await;
    with("INSERT INTO account VALUES (3)").await.unwrap();
    assert_eq!(place.sql("DELETE FROM account").await, 1);
}

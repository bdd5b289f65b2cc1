//! Full disks, files that others hold, and processes that die.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;

use axon_kernel::store::StoreError;

use crate::child::Actor;
use crate::place::*;

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    for kills in 1..=3 {
        let place = Place::file();
        let mut actor = Actor::start("append", &place.path(), "exec");
        let mut acknowledged: HashMap<String, u64> = HashMap::new();
        for _ in 0..kills * 150 {
            let said = actor.says().await.unwrap();
            let (run, n) = said.split_once(' ').unwrap();
            acknowledged.insert(run.to_owned(), n.parse().unwrap());
        }
        actor.process.start_kill().unwrap();
        // What it said before its death, and nobody has read yet, counts too.
        while let Some((run, n)) = actor.says().await.as_deref().and_then(|s| s.split_once(' ')) {
            acknowledged.insert(run.to_owned(), n.parse().unwrap_or(0));
        }
        actor.process.wait().await.unwrap();
        let store = place.open().await;
        for (id, n) in acknowledged {
            let records = store.records(&run(&id), 0).await.unwrap();
            assert!(records.len() as u64 >= n, "{id}: {} of {n}", records.len());
            store.claim(&run(&id)).await.unwrap();
        }
        assert_eq!(store.report(true).await.unwrap().damage, [] as [String; 0]);
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_heals_by_itself() {
    let place = Place::file();
    // Blocks of 512 bytes: the log may reach a megabyte.
    let limits = "trap '' XFSZ; ulimit -S -f 2048; exec";
    let mut actor = Actor::start("fill", &place.path(), limits);
    assert!(actor.says().await.unwrap().starts_with("full at "));
    assert_eq!(actor.says().await.as_deref(), Some("went on"));
    assert!(actor.process.wait().await.unwrap().success());
}

#[tokio::test]
async fn a_file_that_may_not_be_written_is_said_to_be_read_only() {
    let place = Place::file();
    drop(place.open().await);
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o444)).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    // Root may write any file, unless it is told that it may not.
    let limits = if is_root { "exec setpriv --bounding-set=-dac_override" } else { "exec" };
    let mut actor = Actor::start("open", &place.path(), limits);
    assert_eq!(actor.says().await.as_deref(), Some("storage_read_only"));
}

#[tokio::test]
async fn a_file_that_somebody_holds_is_unavailable_and_readable() {
    use sqlx::{ConnectOptions, Executor};
    let place = Place::file();
    let store = place.open().await;
    let r = run("r1");
    append(&*store, 0, &[accepted(&r, None)]).await.unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(place.path());
    let mut other = options.connect().await.unwrap();
    other.execute("BEGIN EXCLUSIVE").await.unwrap();
    let refused = append(&*store, 1, &[started(&r, 2)]).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable { .. }) && refused.may_heal());
    assert_eq!(store.records(&r, 0).await.unwrap().len(), 1);
    other.execute("ROLLBACK").await.unwrap();
    append(&*store, 1, &[started(&r, 2)]).await.unwrap();
}

#[tokio::test]
async fn two_that_create_a_store_at_once_both_get_it() {
    for _ in 0..10 {
        let place = Place::file();
        let (a, b) = tokio::join!(place.open(), place.open());
        let r = run("r1");
        append(&*a, 0, &[accepted(&r, None)]).await.unwrap();
        assert_eq!(b.records(&r, 0).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_store_is_private_and_git_leaves_it_alone() {
    let place = Place::file();
    let _store = place.open().await;
    let folder = place.path().parent().unwrap().to_owned();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&place.path())), (0o700, 0o600));
    assert_eq!(std::fs::read_to_string(folder.join(".gitignore")).unwrap(), "*\n");
}

#[test]
fn a_store_may_outlive_its_runtime() {
    let place = Place::file();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = runtime.block_on(place.open());
    drop(runtime);
    drop(store);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let others = runtime.block_on(async {
        let store = place.open().await;
        store.report(false).await.unwrap().others
    });
    assert_eq!(others, [] as [String; 0]);
}

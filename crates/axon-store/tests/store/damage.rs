//! What is damaged is refused, with its place.

use axon_kernel::ids::ConversationId;
use axon_kernel::store::{Store, StoreError, TurnEnd};
use axon_store::{OpenOptions, open};

use crate::claims::claims;
use crate::place::*;

/// Returns a store that holds a run of four records and a conversation of three messages.
async fn filled(place: &Place) -> std::sync::Arc<dyn Store> {
    let store = place.open().await;
    let (r, c) = (run("r1"), ConversationId::new("c1"));
    let events = [accepted(&r, Some("c1")), started(&r, 2), said(&r, 3, "needle")];
    append(&*store, 0, &events).await.unwrap();
    let messages = [raw(r#"{"a":1}"#), raw(r#"{"a":2}"#), raw(r#"{"a":3}"#)];
    let turn = TurnEnd { conversation: &c, expected: 0, kept: 0, messages: &messages };
    end_turn(&*store, 3, &cancelled(&r, 4), turn).await.unwrap();
    store
}

async fn place_of_damage(store: &dyn Store) -> String {
    match store.records(&run("r1"), 0).await {
        Err(StoreError::Damaged { place, .. }) => place,
        read => panic!("{read:?}"),
    }
}

claims! {
async fn a_changed_value_in_a_record_is_found_and_named(place: &Place) {
    let store = filled(place).await;
    for (change, back) in [
        ("seq = seq + 1", "seq = seq - 1"),
        ("attempt = attempt + 1", "attempt = attempt - 1"),
        ("at = at + 1", "at = at - 1"),
        ("body = replace(body, 'started', 'startee')", "body = replace(body, 'startee', 'started')"),
        ("body = body || ' '", "body = trim(body)"),
        ("checksum = checksum - 1", "checksum = checksum + 1"),
    ] {
        place.sql(&format!("UPDATE axon_records SET {change} WHERE n = 2")).await;
        assert_eq!(place_of_damage(&*store).await, "run `r1`, record 2", "{change}");
        let damage = store.report(true).await.unwrap().damage;
        assert!(damage.len() == 1 && damage[0].starts_with("run `r1`, record 2: "), "{damage:?}");
        place.sql(&format!("UPDATE axon_records SET {back} WHERE n = 2")).await;
        assert_eq!(store.records(&run("r1"), 0).await.unwrap().len(), 4, "{back}");
    }
}

async fn a_record_that_is_missing_or_misplaced_is_found(place: &Place) {
    let store = filled(place).await;
    place.sql("UPDATE axon_records SET n = -n WHERE n IN (2, 3)").await;
    place.sql("UPDATE axon_records SET n = 5 + n WHERE n < 0").await;
    assert_eq!(place_of_damage(&*store).await, "run `r1`, record 2");
    place.sql("DELETE FROM axon_records WHERE n = 2").await;
    assert_eq!(place_of_damage(&*store).await, "run `r1`, record 2");
    assert_eq!(store.run(&run("r1")).await.unwrap().recorded, 4);
}

async fn a_record_that_is_missing_at_the_end_is_found(place: &Place) {
    let store = filled(place).await;
    place.sql("DELETE FROM axon_records WHERE n = 4").await;
    assert_eq!(place_of_damage(&*store).await, "run `r1`, record 4");
    let beyond = store.records(&run("r1"), 3).await;
    assert!(matches!(beyond, Err(StoreError::Damaged { .. })), "{beyond:?}");
}

async fn a_changed_conversation_is_found_and_named(place: &Place) {
    let store = filled(place).await;
    let c = ConversationId::new("c1");
    for change in [
        "UPDATE axon_messages SET body = '{\"a\":7}' WHERE n = 2",
        "UPDATE axon_messages SET checksum = 1 WHERE n = 2",
        "DELETE FROM axon_messages WHERE n = 2",
    ] {
        place.sql(change).await;
        let read = store.history(&c).await;
        let Err(StoreError::Damaged { place, .. }) = read else { panic!("{change}: {read:?}") };
        assert_eq!(place, "conversation `c1`, message 2", "{change}");
        assert_eq!(store.report(true).await.unwrap().damage.len(), 1);
    }
    place.sql("DELETE FROM axon_messages WHERE n = 3").await;
    assert!(matches!(store.history(&c).await, Err(StoreError::Damaged { .. })));
    place.sql("DELETE FROM axon_conversations").await;
    let damage = store.report(true).await.unwrap().damage;
    assert_eq!(damage, ["1 messages belong to conversations that are missing"]);
}

async fn what_a_run_says_of_itself_must_agree_with_its_record(place: &Place) {
    let store = filled(place).await;
    for (change, back) in [
        ("id = 'r9'", "id = 'r1'"),
        ("agent = 'other'", "agent = 'bank_support'"),
        ("conversation = NULL", "conversation = 'c1'"),
        ("parent = 'r0'", "parent = NULL"),
        ("state = 'failed'", "state = 'cancelled'"),
        ("waits_for = 'approval'", "waits_for = NULL"),
        ("accepted_at = accepted_at + 1", "accepted_at = accepted_at - 1"),
        ("updated_at = updated_at + 1", "updated_at = updated_at - 1"),
        ("recorded = recorded - 1", "recorded = recorded + 1"),
        ("seq = seq + 1", "seq = seq - 1"),
        ("head = head - 1", "head = head + 1"),
    ] {
        place.sql(&format!("UPDATE axon_runs SET {change}")).await;
        let damage = store.report(true).await.unwrap().damage;
        assert!(damage.len() == 1 && damage[0].starts_with("run `r"), "{change}: {damage:?}");
        place.sql(&format!("UPDATE axon_runs SET {back}")).await;
        assert_eq!(store.report(true).await.unwrap().damage, [] as [String; 0], "{back}");
    }
    place.sql("UPDATE axon_runs SET state = 'asleep'").await;
    let read = store.run(&run("r1")).await;
    assert!(matches!(read, Err(StoreError::Damaged { ref place, .. }) if place == "run `r1`"));
}

async fn one_damaged_run_leaves_the_others_alone(place: &Place) {
    let store = filled(place).await;
    place.sql("UPDATE axon_records SET at = 0 WHERE n = 3").await;
    let r = run("r2");
    append(&*store, 0, &[accepted(&r, None), said(&r, 2, "fine")]).await.unwrap();
    assert_eq!(store.records(&r, 0).await.unwrap().len(), 2);
    assert_eq!(store.runs(&Default::default()).await.unwrap().len(), 2);
}

async fn a_store_of_a_newer_axon_is_refused(place: &Place) {
    drop(place.open().await);
    place.sql("INSERT INTO axon_schema (version) VALUES (99)").await;
    let refused = open(place.url(), OpenOptions::default()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Newer { found: 99, known: 2 }), "{refused:?}");
}
}

#[tokio::test]
async fn a_flipped_byte_in_the_file_is_found() {
    let place = Place::file();
    drop(filled(&place).await);
    place.sql("PRAGMA wal_checkpoint(TRUNCATE)").await;
    let mut bytes = std::fs::read(place.path()).unwrap();
    let needle = bytes.windows(6).position(|bytes| bytes == b"needle").unwrap();
    bytes[needle] ^= 1;
    std::fs::write(place.path(), &bytes).unwrap();
    let store = place.open().await;
    assert_eq!(place_of_damage(&*store).await, "run `r1`, record 3");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let place = Place::file();
    drop(place.open().await);
    for content in [vec![7; 8192], b"SQLite format 3\0".repeat(300)] {
        let other = place.path().with_extension("other");
        std::fs::write(&other, content).unwrap();
        let url = other.as_path().into();
        let refused = open(&url, OpenOptions::default()).await.unwrap_err();
        assert!(matches!(refused, StoreError::Damaged { .. }), "{refused:?}");
    }
}

#[tokio::test]
async fn a_log_that_is_cut_anywhere_gives_a_clean_prefix() {
    let place = Place::file();
    let store = place.open().await;
    let r = run("r1");
    append(&*store, 0, &[accepted(&r, None)]).await.unwrap();
    place.sql("PRAGMA wal_checkpoint(TRUNCATE)").await;
    for n in 1..12 {
        append(&*store, n, &[said(&r, n + 1, &"x".repeat(n as usize * 700))]).await.unwrap();
    }
    let (path, wal) = (place.path(), place.path().with_extension("db-wal"));
    let (file, log) = (std::fs::read(&path).unwrap(), std::fs::read(&wal).unwrap());
    let mut seen = Vec::new();
    for cut in (0..log.len()).step_by(log.len() / 40) {
        let torn = tempfile::tempdir().unwrap();
        let copy = torn.path().join("axon.db");
        std::fs::write(&copy, &file).unwrap();
        std::fs::write(copy.with_extension("db-wal"), &log[..cut]).unwrap();
        let store = open(&copy.as_path().into(), OpenOptions::default()).await.unwrap();
        let records = store.records(&r, 0).await.unwrap();
        assert_eq!(store.report(true).await.unwrap().damage, [] as [String; 0], "{cut}");
        seen.push(records.len());
    }
    assert!(seen.is_sorted() && seen[0] == 1 && seen.last() > Some(&9), "{seen:?}");
}

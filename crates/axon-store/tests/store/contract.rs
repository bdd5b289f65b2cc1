//! The contract of each method.

use std::sync::Arc;

use axon_kernel::ids::ConversationId;
use axon_kernel::run::RunState;
use axon_kernel::store::{
    Append, Durable, Forget, Owner, RunQuery, StoreError, TurnEnd, TurnTaken, Write,
};
use axon_kernel::time::Timestamp;

use crate::claims::claims;
use crate::place::*;

claims! {
async fn a_record_is_read_back_byte_for_byte(place: &Place) {
    let store = place.open().await;
    let r = run("r1");
    let first = [accepted(&r, Some("c1")), started(&r, 2)];
    assert_eq!(append(&*store, 0, &first).await.unwrap(), Durable { recorded: 2 });
    let more = [said(&r, 7, "gr\u{fc}\u{df} \u{0} \u{1f600}"), said(&r, 8, "")];
    assert_eq!(append(&*store, 2, &more).await.unwrap(), Durable { recorded: 4 });
    let all: Vec<_> = first.into_iter().chain(more).collect();
    let read = store.records(&r, 0).await.unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), serde_json::to_string(&all).unwrap());
    assert_eq!(store.records(&r, 2).await.unwrap(), all[2..]);
    assert_eq!(store.records(&r, 5).await.unwrap(), all[2..]);
    assert_eq!(store.records(&r, 8).await.unwrap(), []);
    let other = place.open().await;
    assert_eq!(other.records(&r, 1).await.unwrap(), all[1..]);
}

async fn a_summary_follows_the_record(place: &Place) {
    let store = place.open().await;
    let r = run("r1");
    append(&*store, 0, &[accepted(&r, Some("c1"))]).await.unwrap();
    let summary = store.run(&r).await.unwrap();
    assert_eq!(summary.agent.as_str(), "bank_support");
    assert_eq!(summary.conversation_id, Some(ConversationId::new("c1")));
    assert_eq!((summary.state, summary.owner), (RunState::Queued, Owner::Us));
    assert_eq!((summary.accepted_at, summary.recorded), (Timestamp(1001), 1));
    append(&*store, 1, &[started(&r, 2), paused(&r, 3)]).await.unwrap();
    let summary = store.run(&r).await.unwrap();
    assert_eq!((summary.state, summary.owner), (RunState::Paused, Owner::Nobody));
    assert_eq!(summary.waits_for.as_deref(), Some("approval"));
    assert_eq!(summary.updated_at, Timestamp(1003));
    store.claim(&r).await.unwrap();
    append(&*store, 3, &[resumed(&r, 4)]).await.unwrap();
    let summary = store.run(&r).await.unwrap();
    assert_eq!((summary.state, summary.waits_for), (RunState::Running, None));
    append(&*store, 4, &[cancelled(&r, 5)]).await.unwrap();
    let summary = store.run(&r).await.unwrap();
    assert_eq!((summary.state, summary.owner), (RunState::Cancelled, Owner::Nobody));
    assert!(matches!(store.run(&run("r2")).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.records(&run("r2"), 0).await, Err(StoreError::NotFound(_))));
}

async fn a_stale_writer_and_an_ended_run_are_refused(place: &Place) {
    let store = place.open().await;
    let r = run("r1");
    let headless = append(&*store, 0, &[started(&r, 1)]).await;
    assert!(matches!(headless, Err(StoreError::Backend(_))), "{headless:?}");
    append(&*store, 0, &[accepted(&r, None), started(&r, 2)]).await.unwrap();
    for expected in [0, 1, 3] {
        let refused = append(&*store, expected, &[said(&r, 9, "x")]).await;
        assert!(matches!(refused, Err(StoreError::Conflict { found: 2, .. })), "{refused:?}");
    }
    append(&*store, 2, &[cancelled(&r, 3)]).await.unwrap();
    let refused = append(&*store, 3, &[said(&r, 9, "x")]).await;
    assert!(matches!(refused, Err(StoreError::Ended { state: RunState::Cancelled, .. })));
    assert!(matches!(store.claim(&r).await, Err(StoreError::Ended { .. })));
    assert_eq!(store.records(&r, 0).await.unwrap().len(), 3);
}

async fn of_two_stores_one_owns_a_run(place: &Place) {
    let (ours, theirs) = (place.open_as("ours").await, place.open_as("theirs").await);
    let r = run("r1");
    append(&*ours, 0, &[accepted(&r, None), started(&r, 2)]).await.unwrap();
    assert_eq!(theirs.run(&r).await.unwrap().owner, Owner::Other("ours".into()));
    let refused = theirs.claim(&r).await;
    assert!(matches!(refused, Err(StoreError::Owned { ref owner, .. }) if owner == "ours"));
    let fenced = append(&*theirs, 2, &[said(&r, 3, "x")]).await;
    assert!(matches!(fenced, Err(StoreError::Fenced { .. })), "{fenced:?}");
    assert!(matches!(theirs.release(&r).await, Err(StoreError::Fenced { .. })));
    let twice = ours.claim(&r).await;
    assert!(matches!(twice, Err(StoreError::Owned { .. })), "one task of a process: {twice:?}");
    ours.release(&r).await.unwrap();
    assert_eq!(theirs.claim(&r).await.unwrap().owner, Owner::Us);
    let fenced = append(&*ours, 2, &[said(&r, 3, "x")]).await;
    assert!(matches!(fenced, Err(StoreError::Fenced { .. })), "{fenced:?}");
    append(&*theirs, 2, &[said(&r, 3, "y")]).await.unwrap();
    assert_eq!(ours.report(false).await.unwrap().others, ["theirs"]);
}

async fn a_run_can_be_claimed_once_its_owner_is_gone(place: &Place) {
    let theirs = place.open_as("theirs").await;
    let gone = place.open_as("gone").await;
    let r = run("r1");
    append(&*gone, 0, &[accepted(&r, None), started(&r, 2)]).await.unwrap();
    let unowned = RunQuery { unowned: true, ..RunQuery::default() };
    assert_eq!(theirs.runs(&unowned).await.unwrap(), []);
    drop(gone);
    claim_soon(&*theirs, &r).await;
    append(&*theirs, 2, &[said(&r, 3, "on")]).await.unwrap();
    assert_eq!(theirs.report(false).await.unwrap().others, [] as [String; 0]);
    drop(theirs);
    let next = place.open().await;
    while next.runs(&unowned).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(next.run(&r).await.unwrap().is_interrupted());
}

async fn one_run_has_the_turn_of_a_conversation(place: &Place) {
    let (ours, theirs) = (place.open().await, place.open().await);
    let c = ConversationId::new("c1");
    let (a, b) = (run("a"), run("b"));
    append(&*ours, 0, &[accepted(&a, Some("c1")), started(&a, 2)]).await.unwrap();
    append(&*theirs, 0, &[accepted(&b, Some("c1")), started(&b, 2)]).await.unwrap();
    assert_eq!(ours.take_turn(&c, &a).await.unwrap(), TurnTaken::Yes);
    assert_eq!(ours.take_turn(&c, &a).await.unwrap(), TurnTaken::Yes);
    assert!(is_busy(&theirs.take_turn(&c, &b).await.unwrap(), &a));
    let foreign = theirs.take_turn(&c, &a).await;
    assert!(matches!(foreign, Err(StoreError::Fenced { .. })), "{foreign:?}");
    append(&*ours, 2, &[paused(&a, 3)]).await.unwrap();
    assert!(is_busy(&theirs.take_turn(&c, &b).await.unwrap(), &a));
    ours.claim(&a).await.unwrap();
    append(&*ours, 3, &[cancelled(&a, 4)]).await.unwrap();
    assert_eq!(theirs.take_turn(&c, &b).await.unwrap(), TurnTaken::Yes);
    place.sql("INSERT INTO axon_turns VALUES ('c2', 'gone'), ('c3', 'a')").await;
    for free in ["c2", "c3"] {
        let free = ConversationId::new(free);
        let d = run(&format!("d-{free}"));
        append(&*theirs, 0, &[accepted(&d, Some(free.as_str()))]).await.unwrap();
        assert_eq!(theirs.take_turn(&free, &d).await.unwrap(), TurnTaken::Yes);
        assert_eq!(theirs.take_turn(&free, &d).await.unwrap(), TurnTaken::Yes);
    }
}

async fn a_turn_extends_its_conversation(place: &Place) {
    let store = place.open().await;
    let c = ConversationId::new("c1");
    let messages = [raw(r#"{"a":1}"#), raw("[2]"), raw("3")];
    let turn = |expected, kept, messages| TurnEnd { conversation: &c, expected, kept, messages };
    assert_eq!(store.history(&c).await.unwrap(), []);
    for (id, this, all) in [
        ("r1", turn(0, 0, &messages[..2]), &messages[..2]),
        ("r2", turn(2, 2, &messages[2..]), &messages[..]),
        ("r3", turn(3, 1, &messages[1..]), &messages[..]),
        ("r4", turn(3, 0, &messages[2..]), &messages[2..]),
        ("r5", turn(1, 1, &[]), &messages[2..]),
    ] {
        let r = run(id);
        append(&*store, 0, &[accepted(&r, Some("c1")), started(&r, 2)]).await.unwrap();
        let stale = TurnEnd { expected: this.expected + 1, ..this };
        let refused = end_turn(&*store, 2, &cancelled(&r, 3), stale).await;
        assert!(matches!(refused, Err(StoreError::Conflict { ref key, .. }) if key == "c1"));
        end_turn(&*store, 2, &cancelled(&r, 3), this).await.unwrap();
        assert_eq!(store.history(&c).await.unwrap(), all, "{id}");
    }
    assert_eq!(store.report(true).await.unwrap().damage, [] as [String; 0]);
}

async fn runs_are_listed_newest_first_and_in_pages(place: &Place) {
    let store = place.open().await;
    for n in 0..7 {
        let r = run(&format!("r{n}"));
        let conversation = (n % 2 == 0).then_some("even");
        append(&*store, 0, &[accepted(&r, conversation)]).await.unwrap();
    }
    append(&*store, 1, &[started(&run("r3"), 2)]).await.unwrap();
    append(&*store, 1, &[cancelled(&run("r4"), 2)]).await.unwrap();
    let ids = async |query: RunQuery| {
        let runs = store.runs(&query).await.unwrap();
        runs.iter().map(|run| run.run_id.as_str().to_owned()).collect::<Vec<_>>().join(" ")
    };
    let all = RunQuery::default();
    assert_eq!(ids(all.clone()).await, "r6 r5 r4 r3 r2 r1 r0");
    assert_eq!(ids(RunQuery { limit: 2, ..all.clone() }).await, "r6 r5");
    let after = Some(run("r5"));
    assert_eq!(ids(RunQuery { limit: 2, after, ..all.clone() }).await, "r4 r3");
    let conversation = Some(ConversationId::new("even"));
    assert_eq!(ids(RunQuery { conversation, ..all.clone() }).await, "r6 r4 r2 r0");
    let states = vec![RunState::Running, RunState::Cancelled];
    assert_eq!(ids(RunQuery { states, ..all.clone() }).await, "r4 r3");
    let agent = Some("nobody".try_into().unwrap());
    assert_eq!(ids(RunQuery { agent, ..all.clone() }).await, "");
    store.release(&run("r2")).await.unwrap();
    assert_eq!(ids(RunQuery { unowned: true, ..all.clone() }).await, "r2");
    let lost = RunQuery { after: Some(run("nobody")), ..all };
    assert!(matches!(store.runs(&lost).await, Err(StoreError::NotFound(_))));
}

async fn runs_below_others_are_known_without_their_records(place: &Place) {
    let store = place.open().await;
    append(&*store, 0, &[accepted(&run("r0"), None)]).await.unwrap();
    for id in ["r1", "r2"] {
        append(&*store, 0, &[below(&run(id), &run("r0")), cancelled(&run(id), 2)]).await.unwrap();
    }
    assert_eq!(store.run(&run("r2")).await.unwrap().parent, Some(run("r0")));
    let top_level = RunQuery { top_level: true, limit: 1, ..RunQuery::default() };
    let found = store.runs(&top_level).await.unwrap();
    assert_eq!((&found[0].run_id, &found[0].parent), (&run("r0"), &None));
    assert_eq!(store.runs(&RunQuery::default()).await.unwrap().len(), 3);
    let record = store.records(&run("r1"), 0).await.unwrap();
    let elsewhere = Place::file();
    let other = elsewhere.open().await;
    assert_eq!(other.import(&record).await.unwrap().parent, Some(run("r0")));
}

async fn a_store_from_before_runs_knew_their_parents_learns_them(place: &Place) {
    let store = place.open().await;
    let asked = accepted(&run("r0"), None);
    append(&*store, 0, &[asked]).await.unwrap();
    append(&*store, 0, &[below(&run("r1"), &run("r0"))]).await.unwrap();
    append(&*store, 0, &[below(&run("r2"), &run("r0"))]).await.unwrap();
    drop(store);
    place
        .sql(
            "DROP INDEX axon_runs_top_level; ALTER TABLE axon_runs DROP COLUMN parent; \
             DELETE FROM axon_schema WHERE version = 2; \
             UPDATE axon_records SET body = '{\"parent\":' WHERE run = 3",
        )
        .await;
    let store = place.open().await;
    let parent = async |id| store.run(&run(id)).await.unwrap().parent;
    assert_eq!(parent("r0").await, None);
    assert_eq!(parent("r1").await, Some(run("r0")));
    // What is damaged keeps nobody from the rest.
    assert_eq!(parent("r2").await, None);
}

async fn a_refused_append_spoils_no_neighbour(place: &Place) {
    let store = place.open().await;
    let runs: Vec<_> = (0..32).map(|n| run(&format!("r{n}"))).collect();
    for r in &runs {
        append(&*store, 0, &[accepted(r, None)]).await.unwrap();
    }
    let mut tasks = tokio::task::JoinSet::new();
    for (n, r) in runs.iter().cloned().enumerate() {
        let store = Arc::clone(&store);
        let expected = if n % 2 == 0 { 1 } else { 5 };
        tasks.spawn(async move { append(&*store, expected, &[said(&r, 2, "x")]).await.is_ok() });
    }
    let recorded = tasks.join_all().await.into_iter().filter(|ok| *ok).count();
    assert_eq!(recorded, 16);
    for (n, r) in runs.iter().enumerate() {
        assert_eq!(store.records(r, 0).await.unwrap().len(), 2 - n % 2);
    }
}

async fn many_writers_lose_nothing_and_keep_their_order(place: &Place) {
    let store = place.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..32 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let r = run(&format!("r{n}"));
            append(&*store, 0, &[accepted(&r, None)]).await.unwrap();
            for seq in 1..20 {
                let events = [said(&r, 2 * seq, "a"), said(&r, 2 * seq + 1, "b")];
                append(&*store, 2 * seq - 1, &events).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    for n in 0..32 {
        let records = store.records(&run(&format!("r{n}")), 0).await.unwrap();
        let seqs: Vec<_> = records.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, (1..40).collect::<Vec<_>>());
    }
    assert_eq!(store.report(true).await.unwrap().damage, [] as [String; 0]);
}

async fn a_tool_writes_in_the_same_transaction(place: &Place) {
    let store = place.open().await;
    place.sql("CREATE TABLE account (id TEXT PRIMARY KEY, balance BIGINT)").await;
    let r = run("r1");
    append(&*store, 0, &[accepted(&r, None), started(&r, 2)]).await.unwrap();
    let write = |sql: &str, parameters: serde_json::Value, changes| Write {
        sql: sql.to_owned(),
        parameters: parameters.as_array().unwrap().clone(),
        changes,
    };
    let insert = "INSERT INTO account VALUES ($1, $2)";
    let events = [said(&r, 3, "x")];
    let with = async |writes: &[Write]| {
        store.append(Append { run: &r, expected: 2, events: &events, turn: None, writes }).await
    };
    let some = |id: &str| serde_json::json!([id, 5]);
    let missed = "UPDATE account SET balance = 1 WHERE id = $1";
    let missed = [write(insert, some("a"), None), write(missed, serde_json::json!(["z"]), Some(1))];
    let refused = with(&missed).await;
    assert!(matches!(refused, Err(StoreError::Changes { expected: 1, found: 0, .. })));
    let twice = with(&[write(insert, some("a"), None), write(insert, some("a"), None)]).await;
    assert!(matches!(twice, Err(StoreError::Write { ref sql, .. }) if sql == insert), "{twice:?}");
    for sql in [
        "DELETE FROM axon_runs",
        "COMMIT",
        "DELETE FROM account; COMMIT",
        "PRAGMA x",
        "INSERT INTO nothing VALUES (1)",
        "INSERT INTO account VALUE",
        "INSERT INTO account VALUES (NULL, $0)",
    ] {
        let refused = with(&[write(sql, serde_json::json!([]), None)]).await;
        let Err(refused @ StoreError::Write { .. }) = refused else {
            panic!("{sql}: {refused:?}")
        };
        assert!(!refused.may_heal() && refused.code() == "storage_failed");
    }
    // Rules that are verified only when the transaction ends.
    place
        .sql(
            "CREATE TABLE branch (id TEXT PRIMARY KEY, account TEXT \
             REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED)",
        )
        .await;
    let orphan = "INSERT INTO branch VALUES ($1, $1)";
    let orphan = with(&[write(orphan, serde_json::json!(["z"]), None)]).await;
    assert!(matches!(orphan, Err(StoreError::Write { .. })), "{orphan:?}");
    assert_eq!(store.run(&r).await.unwrap().recorded, 2);
    let null = serde_json::json!(["b", null]);
    with(&[write(insert, some("a"), Some(1)), write(insert, null, Some(1))]).await.unwrap();
    assert_eq!(place.sql("UPDATE account SET balance = 6 WHERE balance = 5").await, 1);
    assert_eq!(place.sql("DELETE FROM account WHERE balance IS NULL").await, 1);
}

async fn what_is_old_is_forgotten_and_open_runs_never(place: &Place) {
    let store = place.open().await;
    let c = ConversationId::new("old");
    for n in 0..6 {
        let r = run(&format!("r{n}"));
        append(&*store, 0, &[accepted(&r, Some("old")), started(&r, 2)]).await.unwrap();
        if n < 5 {
            let turn =
                TurnEnd { conversation: &c, expected: n, kept: n, messages: &[raw("1")] };
            end_turn(&*store, 2, &cancelled(&r, 10 + n as u64), turn).await.unwrap();
        }
    }
    let forget = async |what: Forget| {
        let forgotten = store.forget(&what).await.unwrap();
        (forgotten.runs, forgotten.conversations)
    };
    let nothing = Forget { at_most: 100, ..Forget::default() };
    assert_eq!(forget(nothing.clone()).await, (0, 0));
    let old = Forget { runs_before: Some(Timestamp(1012)), ..nothing.clone() };
    assert_eq!(forget(Forget { at_most: 1, ..old.clone() }).await, (1, 0));
    assert_eq!(forget(old).await, (1, 0));
    assert!(matches!(store.records(&run("r1"), 0).await, Err(StoreError::NotFound(_))));
    assert_eq!(forget(Forget { runs_beyond: Some(1), ..nothing.clone() }).await, (2, 0));
    assert!(store.run(&run("r4")).await.is_ok());
    let all = Forget {
        runs_before: Some(Timestamp(9999)),
        conversations_before: Some(Timestamp(9999)),
        ..nothing
    };
    assert_eq!(forget(all.clone()).await, (1, 0));
    assert_eq!(store.history(&c).await.unwrap().len(), 5);
    append(&*store, 2, &[cancelled(&run("r5"), 3)]).await.unwrap();
    assert_eq!(forget(all).await, (1, 1));
    assert_eq!(store.history(&c).await.unwrap(), []);
    assert_eq!(store.report(true).await.unwrap().damage, [] as [String; 0]);
}

async fn a_run_moves_to_another_store(place: &Place) {
    let store = place.open().await;
    let r = run("r1");
    let first = [accepted(&r, Some("c1")), started(&r, 2), said(&r, 1_000_003, "x"), paused(&r, 1_000_004)];
    append(&*store, 0, &first).await.unwrap();
    let exported = store.records(&r, 0).await.unwrap();
    assert!(matches!(store.import(&exported).await, Err(StoreError::Conflict { found: 4, .. })));
    let elsewhere = Place::file();
    let other = elsewhere.open().await;
    let summary = other.import(&exported).await.unwrap();
    assert_eq!((summary.state, &summary.owner), (RunState::Paused, &Owner::Nobody));
    assert_eq!(summary, store.run(&r).await.unwrap());
    let again = other.records(&r, 0).await.unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), serde_json::to_string(&first).unwrap());
    other.claim(&r).await.unwrap();
    append(&*other, 4, &[resumed(&r, 1_000_005)]).await.unwrap();
}

async fn what_is_no_record_of_a_run_at_rest_is_not_taken_in(place: &Place) {
    let store = place.open().await;
    let r = run("r1");
    let whole = [accepted(&r, None), started(&r, 2), said(&r, 3, "x"), cancelled(&r, 4)];
    let mut twice = whole.clone();
    twice[2].seq = 2;
    let mut mixed = whole.clone();
    mixed[3].run_id = run("r2");
    let impossible = [accepted(&r, None), resumed(&r, 2), cancelled(&r, 3)];
    for (records, why) in [
        (&whole[1..], "acceptance"),
        (&twice, "rise"),
        (&mixed, "several"),
        (&impossible, "event 2"),
        (&whole[..1], "under way"),
        (&whole[..3], "under way"),
    ] {
        let refused = store.import(records).await;
        let Err(StoreError::Unfit { run, detail }) = refused else { panic!("{why}: {refused:?}") };
        assert!(run == r && detail.contains(why), "{why}: {detail}");
    }
    assert!(matches!(store.run(&r).await, Err(StoreError::NotFound(_))));
    store.import(&whole).await.unwrap();
}

async fn a_report_says_what_it_is_and_holds(place: &Place) {
    let store = place.open().await;
    for (id, last) in [("r1", 2), ("r2", 3)] {
        let r = run(id);
        append(&*store, 0, &[accepted(&r, None), started(&r, 2)]).await.unwrap();
        if last == 3 {
            append(&*store, 2, &[cancelled(&r, 3)]).await.unwrap();
        }
    }
    let report = store.report(true).await.unwrap();
    assert_eq!(report.name, place.url().to_string());
    assert_eq!(report.runs, [(RunState::Running, 1), (RunState::Cancelled, 1)]);
    assert_eq!((report.schema, report.conversations, report.durable), (2, 0, true));
    assert!(report.bytes.unwrap() > 10_000, "{:?}", report.bytes);
    assert_eq!(report.damage, [] as [String; 0]);
    assert!(store.is_durable());
}
}

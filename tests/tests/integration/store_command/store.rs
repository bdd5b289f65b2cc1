//! Where the store is, and what is said when it cannot be had.

use axon_test::{Postgres, Reply};
use serde_json::json;

use super::Desk;
use crate::command_line::{axon_without_space, said};
use crate::support::until;

#[tokio::test]
async fn the_default_store_lies_beside_the_agents_and_out_of_git() {
    let desk = Desk::new(Reply::text("fine")).await;
    for verb in ["validate", "agents", "doctor", "runs"] {
        desk.axon(0, &[verb]).await;
        assert!(!desk.project.path().join(".axon").exists(), "`{verb}` made a store");
    }
    desk.answer(&["run", "desk", "hello"]).await;
    let ignored = std::fs::read_to_string(desk.project.path().join(".axon/.gitignore")).unwrap();
    assert_eq!(ignored.trim(), "*");
    let (stdout, _) = desk.axon(0, &["doctor", "--thorough"]).await;
    assert!(stdout.contains("1 completed") && stdout.contains("every checksum"), "{stdout}");
}

#[tokio::test]
async fn settings_name_a_store_and_what_is_typed_wins() {
    let desk = Desk::new(Reply::text("fine")).await;
    desk.project.write("agents/axon.toml", "[store]\nurl = \"data/mine.db\"\n");
    desk.answer(&["run", "desk", "hello"]).await;
    assert!(desk.project.path().join("data/mine.db").is_file());
    desk.answer(&["run", "desk", "hello", "--store", "typed.db"]).await;
    assert!(desk.project.path().join("typed.db").is_file());
    assert_eq!(desk.runs().await.len(), 1);
    let (_, stderr) = desk.axon(3, &["runs", "--store", "mysql://u:secret@h/x"]).await;
    assert!(stderr.contains("unknown scheme") && !stderr.contains("secret"), "{stderr}");
}

#[tokio::test]
async fn a_damaged_store_is_refused_with_a_way_on() {
    let desk = Desk::new(Reply::text("fine")).await;
    desk.project.write(".axon/axon.db", &"this is no database ".repeat(500));
    let (stdout, stderr) = desk.axon(4, &["run", "desk", "hello"]).await;
    assert_eq!(stdout, "");
    assert!(stderr.contains("storage_damaged") && stderr.contains("--store memory"), "{stderr}");
    let (stdout, _) = desk.axon(4, &["doctor"]).await;
    assert!(stdout.contains("✗ store"), "{stdout}");
    assert_eq!(desk.answer(&["run", "desk", "hello", "--store", "memory"]).await, "fine");
}

#[tokio::test]
async fn a_full_disk_refuses_new_runs_and_can_still_be_read() {
    let desk =
        Desk::new([Reply::text("one two").chunks(2).hang_after(1), Reply::text("fine")]).await;
    let child = desk.spawn(&["run", "desk", "talk"]);
    until("the answer begins", async || desk.model.requests().len() == 1).await;
    let full =
        async |arguments: &[&str]| said(&mut axon_without_space(&desk.project, arguments)).await;
    let (code, stdout, stderr) = full(&["run", "desk", "again"]).await;
    assert_eq!((code, stdout.as_str()), (4, ""), "{stderr}");
    assert!(stderr.contains("storage_full"), "{stderr}");
    let (code, stdout, stderr) = full(&["runs"]).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("in process"), "{stdout}");
    let (code, stdout, _) = full(&["doctor"]).await;
    assert_eq!(code, 4);
    assert!(stdout.contains("✗ store") && stdout.contains("runs: 1 "), "{stdout}");
    desk.kill(child).await;
    assert_eq!(desk.answer(&["run", "desk", "again"]).await, "fine");
    assert_eq!(desk.model.requests().len(), 2);
}

#[tokio::test]
async fn a_killed_run_goes_on_from_postgres_too() {
    let Some(server) = Postgres::start_if_installed().await.unwrap() else { return };
    let mut desk = Desk::new([
        Reply::tool_calls([("balance", json!({}))]),
        Reply::text("one two").chunks(2).hang_after(1),
        Reply::text("all of it"),
    ])
    .await;
    let url = server.create_database("desk").await.unwrap();
    desk.project.set("AXON_STORE", &url);
    let child = desk.spawn(&["run", "desk", "talk", "--conversation", "c1"]);
    until("the answer begins", async || desk.model.requests().len() == 2).await;
    desk.kill(child).await;
    // The server notices by itself that the process has gone.
    until("it is interrupted", async || desk.runs().await[0]["interrupted"] == true).await;
    assert_eq!(desk.answer(&["runs", "resume"]).await, "all of it");
    assert_eq!((desk.model.requests().len(), desk.effects("lookups")), (3, 1));
    assert!(!desk.project.path().join(".axon/axon.db").exists());
    let (stdout, _) = desk.axon(0, &["doctor", "--thorough"]).await;
    assert!(stdout.contains("PostgreSQL") && stdout.contains("1 completed"), "{stdout}");
}

//! What is on record can be listed, read, moved and forgotten.

use std::process::Stdio;

use axon_test::Reply;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::Desk;
use crate::command_line::axon;
use crate::support::PATIENCE;

#[tokio::test]
async fn a_run_is_listed_and_its_record_is_what_was_seen() {
    let desk = Desk::new([
        Reply::tool_calls([("balance", serde_json::json!({}))]),
        Reply::text("It is fine."),
    ])
    .await;
    let (stdout, stderr) = desk.axon(0, &["runs"]).await;
    assert_eq!(stdout, "");
    assert!(stderr.contains("nothing has been recorded"), "{stderr}");
    let run = ["run", "desk", "How is it?", "--json", "--conversation", "c1"];
    let (seen, _) = desk.axon(0, &run).await;
    let seen: Vec<Value> = seen.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let id = desk.newest().await;
    let (stdout, _) = desk.axon(0, &["runs", "events", &id]).await;
    let recorded: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(recorded.iter().all(|event| seen.contains(event)), "{recorded:?}\n{seen:?}");
    let after = recorded[recorded.len() - 2]["seq"].to_string();
    let (stdout, _) = desk.axon(0, &["runs", "events", &id, "--after", &after]).await;
    assert_eq!(stdout.lines().count(), 1);
    let (stdout, _) = desk.axon(0, &["runs", "show", &id]).await;
    for text in ["How is it?", "→ balance", "← balance", "It is fine.", "c1", "completed"] {
        assert!(stdout.contains(text), "{text} is missing in {stdout}");
    }
    for (filter, count) in [
        (["--conversation", "c1"], 1),
        (["--conversation", "c2"], 0),
        (["--state", "failed"], 0),
        (["--agent", "desk"], 1),
    ] {
        let (stdout, _) = desk.axon(0, &[&["runs", "--json"], &filter[..]].concat()).await;
        assert_eq!(stdout.lines().count(), count, "{filter:?}");
    }
    let (_, stderr) = desk.axon(2, &["runs", "show", "nothing-like-this"]).await;
    assert!(stderr.contains("unknown_run"), "{stderr}");
}

#[tokio::test]
async fn a_run_moves_to_another_store_and_only_once() {
    let desk = Desk::new(Reply::text("fine")).await;
    desk.answer(&["run", "desk", "hello"]).await;
    let id = desk.newest().await;
    let (record, _) = desk.axon(0, &["runs", "export", &id]).await;
    for code in [0, 1] {
        let mut command = axon(&desk.project, &["--store", "other.db", "runs", "import"]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(record.as_bytes()).await.unwrap();
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        let output = output.unwrap().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
    let (again, _) = desk.axon(0, &["--store", "other.db", "runs", "export", &id]).await;
    assert_eq!(again, record);
}

#[tokio::test]
async fn what_is_old_is_forgotten_and_what_is_open_is_not() {
    let desk = Desk::new([
        Reply::text("one"),
        Reply::text("two"),
        Reply::tool_calls([("refund", serde_json::json!({"amount": 1}))]),
    ])
    .await;
    desk.answer(&["run", "desk", "first"]).await;
    desk.answer(&["run", "desk", "second"]).await;
    desk.axon(7, &["run", "desk", "third"]).await;
    assert_eq!(desk.answer(&["runs", "prune"]).await, "0 runs forgotten");
    let dry = ["runs", "prune", "--keep", "1", "--dry-run"];
    assert_eq!(desk.answer(&dry).await, "1 run would be forgotten");
    assert_eq!(desk.answer(&["runs", "prune", "--keep", "1"]).await, "1 run forgotten");
    assert_eq!(desk.answer(&["runs", "prune", "--older-than", "0s"]).await, "1 run forgotten");
    let left = desk.runs().await;
    assert_eq!((left.len(), &left[0]["state"]), (1, &Value::from("paused")));
}

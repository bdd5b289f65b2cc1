//! What is on record can be listed, read, moved and forgotten.

use std::process::Stdio;

use axon_test::Reply;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::Desk;
use super::terminal::Terminal;
use crate::command_line::{axon, said};
use crate::support::{PATIENCE, Project};

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
        import(&desk.project, &["--store", "other.db"], &record, code).await;
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

/// An id of a tool call that a model may give: it would have the terminal do things, and, where it is
/// typed, the shell.
pub(crate) const EVIL: &str =
    "c1\u{1b}]0;owned\u{7}\u{1b}[41m\u{9b}2J'; touch pwned; '$(touch pwned)\n#";

/// The record of the run `run-1`, which waits for decisions about these calls.
pub(crate) fn waiting_with(calls: &[&str]) -> String {
    let request = |call: &&str| json!({ "tool_call_id": call, "name": "pay", "args": {}, "kind": "approval" });
    let requests: Vec<Value> = calls.iter().map(request).collect();
    let events = [
        json!({ "event": "accepted", "agent": "desk", "conversation_id": EVIL, "prompt": "pay" }),
        json!({ "event": "started", "queued_ms": 0 }),
        json!({ "event": "attempt_started", "generation": 1, "model": "m", "offline": true }),
        json!({ "event": "paused", "reason": { "approval": { "requests": requests } } }),
    ];
    let mut record = String::new();
    for (seq, mut event) in (1..).zip(events) {
        let attempt = i32::from(seq > 2);
        let place = json!({ "run_id": "run-1", "seq": seq, "attempt": attempt, "at": seq });
        event.as_object_mut().unwrap().extend(place.as_object().unwrap().clone());
        record += &format!("{event}\n");
    }
    record
}

/// Checks that what a terminal got are texts in the styles of the command, and nothing else.
pub(crate) fn check_tame(shown: &str) {
    let styles = ["0", "1", "2", "31", "32", "33", "36"].map(|style| format!("\u{1b}[{style}m"));
    let plain = styles.iter().fold(shown.to_owned(), |text, style| text.replace(style, ""));
    let wild = |c: char| c.is_control() && !matches!(c, '\r' | '\n' | '\t');
    assert!(!plain.contains(wild), "{shown:?}");
}

#[tokio::test]
async fn the_id_of_a_call_controls_neither_the_terminal_nor_the_shell_that_it_is_pasted_into() {
    let desk = Desk::new(Reply::text("fine")).await;
    let others = ["--always", "c 2"];
    let record = waiting_with(&[EVIL, others[0], others[1]]);
    import(&desk.project, &[], &record, 0).await;
    for words in [&["runs"] as &[&str], &["runs", "show", "run-1"], &["runs", "resume", "run-1"]] {
        let (_, shown) = Terminal::in_colour(&desk.project, words).ends().await;
        assert!(shown.contains("axon approve") || shown.contains("approve run-1"), "{shown}");
        check_tame(&shown);
    }
    let listed = desk.runs().await;
    let next: Vec<&str> =
        listed[0]["next"].as_array().unwrap().iter().map(|next| next.as_str().unwrap()).collect();
    assert_eq!(next.len(), 6, "{next:?}");
    for (command, call) in next.iter().zip([EVIL, EVIL, others[0], others[0], others[1], others[1]])
    {
        let script = format!("axon() {{ printf '%s' \"${{!#}}\"; }}; {command}");
        let mut shell = Command::new("bash");
        let (out, err) = (Stdio::piped(), Stdio::piped());
        shell.args(["-c", &script]).current_dir(desk.project.path()).stdout(out).stderr(err);
        let typed = said(&mut shell).await;
        assert_eq!(typed, (0, call.to_owned(), String::new()), "{command}");
    }
    assert!(!desk.project.path().join("pwned").exists());
    let words = ["deny", "run-1", "--", others[0]];
    let (code, shown) = Terminal::in_colour(&desk.project, &words).ends().await;
    assert!(code == 0 && shown.contains("still waits"), "{code}: {shown}");
    check_tame(&shown);
}

/// Takes in a record.
pub(crate) async fn import(project: &Project, before: &[&str], record: &str, code: i32) {
    let mut command = axon(project, &[before, &["runs", "import"]].concat());
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(record.as_bytes()).await.unwrap();
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
}

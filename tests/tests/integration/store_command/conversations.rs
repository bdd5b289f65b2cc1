//! Conversations across processes.

use std::process::Stdio;

use axon_test::Reply;
use tokio::io::AsyncWriteExt;

use super::Desk;
use crate::command_line::axon;
use crate::support::{PATIENCE, until};

impl Desk {
    /// Chats one line each, and returns what was said on stderr.
    async fn chat(&self, arguments: &[&str], lines: &str) -> String {
        let arguments = [&["chat", "desk"], arguments].concat();
        let mut child = axon(&self.project, &arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(lines.as_bytes()).await.unwrap();
        drop(stdin);
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        let output = output.unwrap().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        stderr
    }

    fn last_request(&self) -> String {
        self.model.requests().pop().unwrap().body.to_string()
    }
}

#[tokio::test]
async fn a_chat_goes_on_with_yesterdays() {
    let desk =
        Desk::new([Reply::text("Hello Ada."), Reply::text("Ada."), Reply::text("Still Ada.")])
            .await;
    let stderr = desk.chat(&[], "I am Ada.\n").await;
    let said = stderr.lines().find_map(|line| line.split_once("--conversation "));
    let (_, id) = said.unwrap_or_else(|| panic!("it says how to go on: {stderr}"));
    desk.chat(&["--conversation", id], "Who am I?\n").await;
    assert!(desk.last_request().contains("I am Ada."));
    desk.chat(&["--continue"], "And now?\n").await;
    let last = desk.last_request();
    assert!(last.contains("I am Ada.") && last.contains("Who am I?"), "{last}");
}

#[tokio::test]
async fn a_chat_first_finishes_the_turn_that_was_interrupted() {
    let desk = Desk::new([
        Reply::text("one two").chunks(2).hang_after(1),
        Reply::text("the rest"),
        Reply::text("You said hello."),
    ])
    .await;
    let child = desk.spawn(&["run", "desk", "hello", "--conversation", "c1"]);
    until("the model is asked", async || desk.model.requests().len() == 1).await;
    desk.kill(child).await;
    let stderr = desk.chat(&["--continue"], "What did I say?\n").await;
    assert!(stderr.contains("was interrupted"), "{stderr}");
    let last = desk.last_request();
    assert!(last.contains("hello") && last.contains("the rest"), "{last}");
}

#[tokio::test]
async fn two_processes_take_turns_in_one_conversation() {
    let desk = Desk::new(Reply::text("noted")).await;
    let turn = |prompt: &'static str| ["run", "desk", prompt, "--conversation", "c1"];
    let (first, second) = (turn("one thing"), turn("another thing"));
    let (first, second) = tokio::join!(desk.answer(&first), desk.answer(&second));
    assert_eq!((first.as_str(), second.as_str()), ("noted", "noted"));
    desk.answer(&turn("the last")).await;
    let last = desk.last_request();
    assert!(last.contains("one thing") && last.contains("another thing"), "{last}");
}

#[tokio::test]
async fn two_processes_work_on_one_store_at_once() {
    let desk = Desk::new(Reply::text("noted")).await;
    let arguments = ["run", "desk", "at once"];
    let both = tokio::join!(desk.answer(&arguments), desk.answer(&arguments));
    assert_eq!(both, ("noted".to_owned(), "noted".to_owned()));
    let runs = desk.runs().await;
    assert_eq!(runs.len(), 2);
    assert!(runs.iter().all(|run| run["state"] == "completed"), "{runs:?}");
}

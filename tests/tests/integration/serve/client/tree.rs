//! `axon tree` of a service, once and as it changes.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::super::talking;
use super::{answer, lines};
use crate::command_line::{axon, signal};
use crate::store_command::terminal::Terminal;
use crate::support::PATIENCE;

#[tokio::test]
async fn the_tree_of_a_service_is_shown_as_text_and_as_data() {
    let (project, service) = talking().await;
    let shown = answer(&project, &service, &["tree"]).await;
    let line = shown.lines().find(|line| line.contains("talker")).unwrap();
    assert!(line.contains("up, ") && line.contains(", generation 1, pid "), "{shown}");
    let data = lines(&answer(&project, &service, &["tree", "--json"]).await);
    let there: Value = super::super::service::ok(service.get("/v1/tree")).await;
    assert_eq!(data[0]["root"]["children"][2]["id"], there["root"]["children"][2]["id"]);
    assert_eq!(data[0].as_object().unwrap().len(), there.as_object().unwrap().len());
}

#[tokio::test]
async fn a_watched_tree_is_printed_again_where_there_is_no_terminal() {
    let (project, service) = talking().await;
    let url = service.url("");
    let mut command = axon(&project, &["--url", &url, "tree", "--watch"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut shown = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut until = async |wanted: &str| {
        let found = async {
            while let Some(line) = shown.next_line().await.unwrap() {
                assert!(!line.contains('\u{1b}'), "no styles: {line:?}");
                if line.contains("talker") && line.contains(wanted) {
                    return;
                }
            }
            panic!("it ended without {wanted}");
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("never: {wanted}"));
    };
    until("up, ").await;
    answer(&project, &service, &["agents", "drain", "talker"]).await;
    until("drained").await;
    answer(&project, &service, &["agents", "restart", "talker"]).await;
    until("generation 2").await;
    signal(&child, Signal::INT);
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(130));
}

#[tokio::test]
async fn a_watched_tree_is_drawn_in_place_and_leaves_the_terminal_as_it_was() {
    let (project, service) = talking().await;
    let url = service.url("");
    let plain = [("TERM", "xterm-256color"), ("NO_COLOR", "1")];
    let mut at = Terminal::with(&project, &["--url", &url, "tree", "--watch"], &plain);
    at.shows("\u{1b}[?1049h").await;
    at.shows("talker").await;
    answer(&project, &service, &["agents", "drain", "talker"]).await;
    let before = at.shows("drained").await;
    // Each frame is drawn over the one before, without colours where none are wanted.
    assert!(before.contains("\u{1b}[Hroot "), "{before:?}");
    assert!(!before.contains("\u{1b}[1m"), "{before:?}");
    let address = service.address.clone();
    service.signal(Signal::KILL);
    service.ended().await;
    at.shows("no service answers").await;
    let service = super::super::service::Service::start_at(&project, &address).await;
    at.shows("up, ").await;
    at.signal(Signal::INT);
    let (code, shown) = at.ends().await;
    assert_eq!(code, 130, "{shown}");
    let (_, after) = shown.split_once("\u{1b}[?25h\u{1b}[?1049l").expect("the screen is put back");
    assert!(after.contains("talker") && !after.contains("\u{1b}[?"), "{after}");
    assert_eq!(service.stop().await, 0);
}

#[tokio::test]
async fn a_watched_tree_is_printed_again_at_a_terminal_that_moves_no_cursor() {
    let (project, service) = talking().await;
    let url = service.url("");
    let words = ["--url", &url, "tree", "--watch"];
    let mut at = Terminal::with(&project, &words, &[("TERM", "dumb")]);
    let mut shown = at.shows("talker").await;
    answer(&project, &service, &["agents", "drain", "talker"]).await;
    shown += &at.shows("drained").await;
    at.signal(Signal::INT);
    let (code, rest) = at.ends().await;
    assert_eq!(code, 130, "{rest}");
    assert!(!shown.contains('\u{1b}') && !rest.contains('\u{1b}'), "{shown:?}{rest:?}");
}

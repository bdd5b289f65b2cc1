//! The command line as a client of a service: what is typed with `--url`.

mod broken;
mod decisions;
mod lost;
mod refusals;
mod runs;
mod tree;

use std::collections::BTreeSet;

use serde_json::Value;

use super::service::Service;
use crate::command_line::run;
use crate::support::Project;
pub(super) use broken::head;

/// Types a command, asked of the service.
async fn asked(project: &Project, service: &Service, words: &[&str]) -> (i32, String, String) {
    run(project, &[&["--url", &service.url("")], words].concat()).await
}

/// Returns the answer of a command that succeeds.
async fn answer(project: &Project, service: &Service, words: &[&str]) -> String {
    let (code, stdout, stderr) = asked(project, service, words).await;
    assert_eq!(code, 0, "{words:?}: {stdout}{stderr}");
    stdout.trim_end().to_owned()
}

/// Returns the lines of JSON.
fn lines(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Returns the shape of a run's events: the name of each, and what it has. How often text came is
/// the moment's.
fn shape(events: &[Value]) -> Vec<(String, BTreeSet<String>)> {
    let of = |event: &Value| {
        let keys = event.as_object().unwrap().keys().cloned().collect();
        (event["event"].as_str().unwrap().to_owned(), keys)
    };
    let mut shape: Vec<_> = events.iter().map(of).collect();
    shape.dedup_by(|a, b| a.0 == b.0 && a.0 == "text_delta");
    shape
}

/// Returns the text that streamed.
fn text(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["text"].as_str()).collect()
}

/// Leaves out how long it took.
fn without_times(stderr: &str) -> String {
    let line = |line: &str| match line.rsplit_once(" · ") {
        Some((rest, time)) if time.ends_with(" s") => rest.to_owned(),
        _ => line.to_owned(),
    };
    stderr.lines().map(line).collect::<Vec<_>>().join("\n")
}

//! A hundred agents, each with a process of its own, come and go.
//!
//! The runtimes live in a host process of their own, so that what it has open can be counted.

use std::time::Duration;

use procfs::process::Process;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::support::Project;

const AGENTS: usize = 100;

/// How long the hundred may take, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(200);

/// A host process that takes orders, one JSON record for each line.
struct Crowd {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    project: Project,
}

impl Crowd {
    fn new() -> Self {
        let project = Project::new();
        let mut child = Command::new(env!("CARGO_BIN_EXE_axon-crowd"))
            .current_dir(project.path())
            .env_clear()
            .envs(project.variables())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, orders, answers, project }
    }

    /// Gives an order and waits until it is carried out.
    async fn order(&mut self, order: &str) -> Value {
        self.orders.write_all(format!("{order}\n").as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, self.answers.next_line()).await;
        let answer = answer.expect("in time").unwrap().expect("the host lives");
        serde_json::from_str(&answer).unwrap()
    }

    fn process(&self) -> Process {
        Process::new(self.child.id().unwrap().try_into().unwrap()).unwrap()
    }

    /// Returns how many descriptors the host has, and the names of the processes below it.
    fn has(&self) -> (usize, Vec<String>) {
        let own = self.process();
        let stats = procfs::process::all_processes().unwrap().flatten();
        let stats: Vec<_> = stats.filter_map(|process| process.stat().ok()).collect();
        let mut parents = vec![own.pid];
        let mut names = Vec::new();
        while let Some(parent) = parents.pop() {
            for stat in stats.iter().filter(|stat| stat.ppid == parent) {
                parents.push(stat.pid);
                // Whether it runs or sleeps at the moment says nothing; that it was not reaped does.
                let unreaped = if stat.state == 'Z' { " (not reaped)" } else { "" };
                names.push(format!("{}{unreaped}", stat.comm));
            }
        }
        names.sort();
        (own.fd_count().unwrap(), names)
    }

    /// Ends it, and checks that it has left no file.
    async fn end(self) {
        let Self { mut child, orders, project, .. } = self;
        drop(orders);
        let status = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
        assert!(status.success());
        assert_eq!(project.sockets(), Vec::<std::path::PathBuf>::new());
    }
}

fn runners(names: &[String]) -> usize {
    names.iter().filter(|name| name.starts_with("axon:")).count()
}

#[tokio::test]
async fn a_hundred_agents_start_and_stop_and_leave_nothing() {
    let mut crowd = Crowd::new();
    // What a runtime opens once and keeps is there after the first agent.
    crowd.order("start 1").await;
    crowd.order("shutdown").await;
    let before = crowd.has();
    assert_eq!(before.1, Vec::<String>::new());
    assert_eq!(crowd.order(&format!("start {AGENTS}")).await["up"], AGENTS);
    assert_eq!(runners(&crowd.has().1), AGENTS);
    assert_eq!(crowd.order("run").await["completed"], AGENTS);
    crowd.order("shutdown").await;
    assert_eq!(crowd.has(), before);
    crowd.end().await;
}

#[tokio::test]
async fn a_hundred_agents_are_added_and_stopped_while_the_runtime_serves() {
    let mut crowd = Crowd::new();
    crowd.order("start 1").await;
    crowd.order("add 1").await;
    crowd.order("stop 1").await;
    let before = crowd.has();
    assert_eq!(runners(&before.1), 1);
    // One by one, and then in batches.
    assert_eq!(crowd.order("add 20").await["up"], 20);
    assert_eq!(runners(&crowd.has().1), 21);
    crowd.order("stop 20").await;
    assert_eq!(crowd.has(), before);
    for _ in 0..4 {
        assert_eq!(crowd.order("add-at-once 20").await["up"], 20);
        assert_eq!(crowd.order("run").await["completed"], 21);
        crowd.order("stop-at-once 20").await;
        assert_eq!(crowd.has(), before);
    }
    crowd.order("shutdown").await;
    assert_eq!(crowd.has().1, Vec::<String>::new());
    crowd.end().await;
}

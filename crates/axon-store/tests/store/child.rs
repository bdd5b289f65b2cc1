//! This test program once more, as a process of its own that can be limited and killed.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use axon_kernel::store::{Store, StoreError};
use axon_store::{OpenOptions, StoreUrl, open};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::place::*;

const ROLE: &str = "AXON_STORE_TEST_ROLE";
const PATH: &str = "AXON_STORE_TEST_PATH";

/// A child, and what it says.
pub(crate) struct Actor {
    pub(crate) process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Actor {
    /// Starts a child that plays `role` on the store at `path`. `limits` is a line of shell before
    /// its start.
    pub(crate) fn start(role: &str, path: &Path, limits: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{limits} \"$0\" \"$@\"")).arg(program);
        command.args(["--exact", "child::a_child_plays_the_role_that_it_is_given", "--nocapture"]);
        command.env(ROLE, role).env(PATH, path).kill_on_drop(true);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// Returns what it says next after `: `; nothing at its end.
    pub(crate) async fn says(&mut self) -> Option<String> {
        while let Some(line) = self.lines.next_line().await.unwrap() {
            if let Some((_, said)) = line.split_once("said: ") {
                return Some(said.to_owned());
            }
        }
        None
    }
}

fn say(what: &str) {
    println!("said: {what}");
}

#[tokio::test]
async fn a_child_plays_the_role_that_it_is_given() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let path = PathBuf::from(std::env::var_os(PATH).unwrap());
    let opened = open(&StoreUrl::from(path.as_path()), OpenOptions::default()).await;
    match (role.as_str(), opened) {
        ("open", opened) => say(opened.err().map_or("opened", |error| error.code())),
        ("append", Ok(store)) => append_for_ever(store).await,
        ("fill", Ok(store)) => fill(&*store).await,
        (role, opened) => panic!("{role}: {opened:?}"),
    }
}

/// Appends to eight runs at once, and says of each append that it was acknowledged.
async fn append_for_ever(store: Arc<dyn Store>) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let r = run(&format!("r{n}"));
            append(&*store, 0, &[accepted(&r, None)]).await.unwrap();
            for recorded in 1_u64.. {
                let text = "x".repeat(recorded as usize % 3000);
                append(&*store, recorded, &[said(&r, recorded + 1, &text)]).await.unwrap();
                say(&format!("{r} {}", recorded + 1));
            }
        });
    }
    tasks.join_all().await;
}

/// Writes until the file may not grow, and goes on when it may.
async fn fill(store: &dyn Store) {
    let r = run("r1");
    let text = "x".repeat(20_000);
    append(store, 0, &[accepted(&r, None)]).await.unwrap();
    let mut recorded = 1;
    let refused = loop {
        match append(store, recorded, &[said(&r, recorded + 1, &text)]).await {
            Ok(durable) => recorded = durable.recorded,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, StoreError::Full { .. }) && refused.may_heal(), "{refused:?}");
    let other = run("r2");
    let new = append(store, 0, &[accepted(&other, None), said(&other, 2, &text)]).await;
    assert!(matches!(new, Err(StoreError::Full { .. })), "{new:?}");
    say(&format!("full at {recorded}"));
    assert_eq!(store.records(&r, 0).await.unwrap().len() as u64, recorded);
    let limit = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: limit.maximum, ..limit }).unwrap();
    append(store, recorded, &[said(&r, recorded + 1, &text)]).await.unwrap();
    append(store, 0, &[accepted(&other, None)]).await.unwrap();
    assert_eq!(store.records(&r, 0).await.unwrap().len() as u64, recorded + 1);
    assert_eq!(store.report(true).await.unwrap().damage, [] as [String; 0]);
    say("went on");
}

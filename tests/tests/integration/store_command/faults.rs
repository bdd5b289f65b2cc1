//! Stores that cannot be written, or are not as they were: what the command says, and with which
//! code.

use crate::support::left_out;
use std::path::PathBuf;
use std::process::Stdio;

use axon_test::Reply;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use super::Desk;

/// Opens the database in its first argument, runs the statement in its second, says so, and holds
/// what it has until its input ends.
const SQL: &str = "
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute(sys.argv[2])
print('done', flush=True)
sys.stdin.read()
";

impl Desk {
    fn database(&self) -> PathBuf {
        self.project.path().join(".axon/axon.db")
    }

    /// Runs a statement in the store behind Axon's back, and holds what it locks.
    async fn sql(&self, statement: &str) -> Child {
        let python = self.project.variables().get("AXON_PYTHON");
        let mut child = Command::new(python.map_or("python3", String::as_str))
            .args(["-c", SQL])
            .arg(self.database())
            .arg(statement)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).await.unwrap();
        assert_eq!(line, "done\n", "{statement}");
        child
    }
}

async fn let_go(mut child: Child) {
    child.stdin.take().unwrap().shutdown().await.unwrap();
    child.wait().await.unwrap();
}

/// A desk whose store holds one run.
async fn used() -> Desk {
    let desk = Desk::new(Reply::text("fine")).await;
    desk.answer(&["run", "desk", "needle"]).await;
    desk
}

#[tokio::test]
async fn a_store_that_somebody_else_holds_is_waited_for_and_then_refused_with_a_code_of_its_own() {
    let desk = used().await;
    let holder = desk.sql("BEGIN IMMEDIATE").await;
    let (stdout, stderr) = desk.axon(4, &["run", "desk", "hello"]).await;
    assert_eq!(stdout, "");
    assert!(stderr.contains("storage_unavailable"), "{stderr}");
    let_go(holder).await;
    assert_eq!(desk.answer(&["run", "desk", "hello"]).await, "fine");
}

#[tokio::test]
async fn a_store_of_a_newer_axon_is_refused_and_left_as_it_is() {
    let desk = used().await;
    let_go(desk.sql("INSERT INTO axon_schema (version) VALUES (99)").await).await;
    let before = std::fs::read(desk.database()).unwrap();
    for verb in [&["run", "desk", "hello"][..], &["runs"]] {
        let (stdout, stderr) = desk.axon(4, verb).await;
        assert_eq!(stdout, "", "{verb:?}");
        assert!(stderr.contains("storage_newer") && stderr.contains("99"), "{stderr}");
    }
    assert_eq!(std::fs::read(desk.database()).unwrap(), before);
}

#[tokio::test]
async fn a_flipped_byte_is_told_with_its_place_and_the_other_runs_go_on() {
    let desk = used().await;
    let run = desk.newest().await;
    desk.answer(&["run", "desk", "hello"]).await;
    let_go(desk.sql("PRAGMA wal_checkpoint(TRUNCATE)").await).await;
    let mut bytes = std::fs::read(desk.database()).unwrap();
    // Some places may be of pages that are not in use any more.
    for place in 0..bytes.len() - 6 {
        if bytes[place..].starts_with(b"needle") {
            bytes[place] ^= 1;
        }
    }
    std::fs::write(desk.database(), bytes).unwrap();
    let (_, stderr) = desk.axon(4, &["runs", "events", &run]).await;
    assert!(stderr.contains("storage_damaged") && stderr.contains(&run), "{stderr}");
    let (stdout, _) = desk.axon(4, &["doctor", "--thorough"]).await;
    assert!(stdout.contains(&run), "{stdout}");
    assert_eq!(desk.answer(&["run", "desk", "hello"]).await, "fine");
    assert_eq!(desk.runs().await.len(), 3);
}

#[tokio::test]
async fn a_log_that_is_torn_at_its_end_gives_what_came_before() {
    let desk = used().await;
    // The last process to close it puts the log away, so somebody else stays in.
    let reader = desk.sql("SELECT count(*) FROM axon_runs").await;
    desk.answer(&["run", "desk", "hello"]).await;
    let log = desk.database().with_extension("db-wal");
    let torn = std::fs::read(&log).unwrap();
    let copy = desk.project.path().join("torn.db");
    std::fs::copy(desk.database(), &copy).unwrap();
    std::fs::write(copy.with_extension("db-wal"), &torn[..torn.len() - 100]).unwrap();
    let_go(reader).await;
    let (stdout, _) = desk.axon(0, &["runs", "--json", "--store", "torn.db"]).await;
    assert!((1..=2).contains(&stdout.lines().count()), "{stdout}");
    let (stdout, _) = desk.axon(0, &["doctor", "--thorough", "--store", "torn.db"]).await;
    assert!(stdout.contains("every checksum"), "{stdout}");
}

#[tokio::test]
async fn a_read_only_store_can_be_read_and_says_why_it_takes_nothing() {
    let desk = used().await;
    // Root may write any file, unless the file system itself forbids it.
    let script = "mount --bind .axon .axon && mount -o remount,bind,ro .axon && exec \"$0\" \"$@\"";
    let inside = async |arguments: &[&str]| {
        Command::new("unshare")
            .args(["-Urm", "sh", "-c", script, env!("CARGO_BIN_EXE_axon-under-test")])
            .args(arguments)
            .current_dir(desk.project.path())
            .env_clear()
            .envs(desk.project.variables())
            .output()
            .await
            .unwrap()
    };
    if !inside(&["--version"]).await.status.success() {
        // A container may forbid namespaces.
        left_out("this user may not have a mount namespace of its own");
        return;
    }
    let output = inside(&["run", "desk", "hello"]).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    assert!(stderr.contains("storage_read_only"), "{stderr}");
    let output = inside(&["runs", "--json"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
}

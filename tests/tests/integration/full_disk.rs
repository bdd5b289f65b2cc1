//! A disk without space, for real: a small file system of memory in a namespace of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use axon_kernel::ids::RunId;
use axon_tests::kill::{
    Boundary, Cell, Class, Fault, Order, Passage, Process, Program, Project, Said, Shape, Trap,
    When, World,
};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::PATIENCE;
use crate::support::left_out;

/// Mounts the store's folder before the program starts.
const MOUNTED: &str = "mount -t tmpfs -o size=3m none store && exec \"$0\" \"$@\"";

/// A run that is stopped when its tool has acted.
const CELL: Cell = Cell {
    boundary: Boundary::Effect,
    when: When::After,
    class: Class::Once,
    fault: Fault::Full,
    shape: Shape::Structured,
};

fn prompt(name: &str, calls: u32) -> String {
    json!({"cell": name, "calls": calls, "tool": "once", "structured": false}).to_string()
}

/// Returns whether this user may have a namespace of its own; a container may forbid that.
async fn may_mount() -> bool {
    let mount = ["-Urm", "mount", "-t", "tmpfs", "none", "/mnt"];
    let tried = Command::new("unshare").args(mount).stderr(Stdio::null()).status().await;
    tried.is_ok_and(|status| status.success())
}

/// Takes all the space that there is.
fn fill(ballast: &Path) {
    let mut file = std::fs::File::create(ballast).unwrap();
    for size in [65536, 4096, 512, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

async fn heard(process: &mut Process, wanted: impl Fn(&Said) -> bool) -> Said {
    let heard = async {
        loop {
            let said = process.next().await.unwrap();
            if wanted(&said) {
                return said;
            }
        }
    };
    timeout(PATIENCE, heard).await.expect("it says so in time")
}

async fn asks(process: &mut Process, prompt: String) -> Said {
    let (agent, conversation) = ("plain".to_owned(), None);
    process.order(&Order::Start { agent, prompt, conversation }).await.unwrap();
    heard(process, |said| matches!(said, Said::Accepted { .. } | Said::Refused { .. })).await
}

/// Asks the command, in the program's own namespace, for the states of all runs.
async fn states(process: &Process, project: &Project) -> Vec<Value> {
    let pid = process.pid().unwrap().to_string();
    let listed = Command::new("nsenter")
        .args(["-t", &pid, "-U", "-m", "--preserve-credentials"])
        .arg(format!("--wd={}", project.path().display()))
        .arg(env!("CARGO_BIN_EXE_axon-under-test"))
        .args(["runs", "--json", "--store", &project.store()])
        .env_clear()
        .envs(project.variables())
        .output();
    let output = timeout(Duration::from_secs(30), listed).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let runs = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    runs.map(|run| run["state"].clone()).collect()
}

async fn ends_well(process: &mut Process, run: &RunId) {
    let ended = |said: &Said| matches!(said, Said::Settled { run: ended, .. } if ended == run);
    let Said::Settled { how, .. } = heard(process, ended).await else { unreachable!() };
    assert_eq!(how, "completed");
}

#[tokio::test]
async fn without_space_new_runs_are_refused_and_others_wait_until_there_is_some() {
    if !may_mount().await {
        left_out("this user may not have a mount namespace of its own");
        return;
    }
    let (world, mut springs) = World::start().await.unwrap();
    let project = Project::new(&world).unwrap();
    let mut program = Program::new(env!("CARGO_BIN_EXE_axon-cell"));
    program.wrapper = ["unshare", "-Urm", "sh", "-c", MOUNTED].map(str::to_owned).to_vec();
    let mut process = Process::start(&program, &project, &world).await.unwrap();
    world.set(Some(Trap::new("waits", CELL)));
    let Said::Accepted { run, .. } = asks(&mut process, prompt("waits", 1)).await else {
        panic!("refused");
    };
    let sprung = timeout(PATIENCE, springs.recv()).await.unwrap().unwrap();
    let root = PathBuf::from(format!("/proc/{}/root", process.pid().unwrap()));
    let folder = project.store_folder();
    let ballast = root.join(folder.strip_prefix("/").unwrap()).join("ballast");
    fill(&ballast);
    sprung.release(Passage::Go);
    timeout(PATIENCE, world.failed_append(|failed| *failed == run)).await.unwrap();

    let refused = asks(&mut process, prompt("new", 0)).await;
    assert!(
        matches!(&refused, Said::Refused { code, .. } if code == "storage_full"),
        "{refused:?}"
    );
    assert_eq!(states(&process, &project).await, [json!("running")]);

    std::fs::remove_file(ballast).unwrap();
    ends_well(&mut process, &run).await;
    let counts = world.counts("waits");
    assert_eq!(counts.calls.values().map(Vec::len).sum::<usize>(), 1, "{counts:?}");
    assert!(counts.requests.values().all(|asked| asked.len() == 1), "{counts:?}");
    let Said::Accepted { run, .. } = asks(&mut process, prompt("newer", 0)).await else {
        panic!("refused although there is space");
    };
    ends_well(&mut process, &run).await;
}

//! Nobody outlives the host: whatever it has started, directly or not, and however it ends.
//!
//! In each test there are an idle runner, one that holds its interpreter's lock in C, and three
//! processes that a tool has started: in the runner's group, in a session of its own, and one that
//! forked twice, leads a session and has closed all descriptors. The figures for 1,000 rounds come
//! from `cargo bench -p axon-tests --bench orphans`.

pub(crate) mod field;
pub(crate) mod rounds;

use std::process::ExitStatus;
use std::time::Duration;

use axon_kernel::spec::Effect;
use axon_runtime::{Outcome, RuntimeEvent};
use axon_test::ScriptedModel;
use rustix::process::Signal;
use serde_json::json;
use tokio::time::Instant;

use crate::scene::{Told, agent, tooled};
use crate::support::{Project, output, until};
use field::{ALL, Field, Host, Watched};

const HOST: &str = env!("CARGO_BIN_EXE_axon-host");
const AXON: &str = env!("CARGO_BIN_EXE_axon-under-test");

/// Rounds in which the host is killed at some moment; the bench makes more.
const ROUNDS: u64 = 50;

/// How long everything may take to be gone.
const SECOND: Duration = Duration::from_secs(1);

/// How often it may take longer: others use the processors too.
const TRIES: usize = 5;

/// Ends hosts until everything was gone within a second of the host's end.
async fn within_a_second<T>(end: impl AsyncFn() -> (T, Duration)) -> T {
    let mut took = Vec::new();
    while took.len() < TRIES {
        let (ended, after) = end().await;
        if after < SECOND {
            return ended;
        }
        took.push(after);
    }
    panic!("everything is gone in the end, but never within a second: {took:?}")
}

/// Starts a host, and waits until there is a process of every kind below it.
async fn busy_host(field: &Field) -> (Host, Vec<Watched>) {
    let mut host = field.start(HOST, &["agents"]).unwrap();
    host.busy().await.unwrap_or_else(|error| panic!("{error:#}\n{}", host.log()));
    let watched = host.below().unwrap();
    let names: Vec<&str> = watched.iter().map(|one| one.name.as_str()).collect();
    for name in ALL.iter().chain(&["axon-launcher", "axon:idle"]) {
        assert!(names.contains(name), "{names:?}");
    }
    (host, watched)
}

/// Waits for the end of the host, and says how long everything below it took to be gone after that.
async fn nothing_is_left(mut host: Host, watched: Vec<Watched>) -> (ExitStatus, Duration) {
    let status = host.ended().await.unwrap();
    (status, all_are_gone(host, watched, Instant::now()).await)
}

async fn all_are_gone(host: Host, watched: Vec<Watched>, since: Instant) -> Duration {
    let gone = tokio::task::spawn_blocking(move || host.gone(watched, since)).await.unwrap();
    gone.unwrap_or_else(|left| panic!("left behind: {:?}", left.names())).after
}

async fn these_are_gone(watched: Vec<Watched>, since: Instant) {
    let wait = move || {
        let left = watched.into_iter().find(|one| !one.is_gone_by(since + field::LEAKED));
        assert!(left.is_none(), "left behind: {left:?}");
    };
    tokio::task::spawn_blocking(wait).await.unwrap();
}

async fn told_to(how: &str) -> ExitStatus {
    within_a_second(async || {
        let field = Field::new().unwrap();
        let (mut host, watched) = busy_host(&field).await;
        host.say(how).await.unwrap();
        nothing_is_left(host, watched).await
    })
    .await
}

#[tokio::test]
async fn nobody_outlives_a_host_that_shuts_down() {
    assert!(told_to("shutdown").await.success());
}

#[tokio::test]
async fn nobody_outlives_a_host_that_drops_the_runtime_and_returns() {
    assert!(told_to("drop").await.success());
}

#[tokio::test]
async fn nobody_outlives_a_host_that_panics() {
    assert_eq!(told_to("panic").await.code(), Some(101));
}

#[tokio::test]
async fn nobody_outlives_a_host_that_aborts() {
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(told_to("abort").await.signal(), Some(Signal::ABORT.as_raw()));
}

#[tokio::test]
async fn nobody_outlives_a_host_that_is_killed() {
    within_a_second(async || {
        let field = Field::new().unwrap();
        let (mut host, watched) = busy_host(&field).await;
        let since = Instant::now();
        host.kill().unwrap();
        ((), all_are_gone(host, watched, since).await)
    })
    .await;
}

/// The command-line program, which runs one agent, is told to end.
async fn axon_is_told(signal: Signal) {
    let status = within_a_second(async || {
        let field = Field::new().unwrap();
        let mut axon = field.start(AXON, &["run", "busy", "go"]).unwrap();
        axon.busy().await.unwrap_or_else(|error| panic!("{error:#}\n{}", axon.log()));
        let watched = axon.below().unwrap();
        axon.signal(signal).unwrap();
        nothing_is_left(axon, watched).await
    })
    .await;
    assert_eq!(status.code(), Some(128 + signal.as_raw()));
}

#[tokio::test]
async fn nobody_outlives_an_axon_that_is_interrupted() {
    axon_is_told(Signal::INT).await;
}

#[tokio::test]
async fn nobody_outlives_an_axon_that_is_told_to_end() {
    axon_is_told(Signal::TERM).await;
}

/// The kernel ends what the launcher has started and their groups; sessions of their own are found
/// by their mark, when any Axon starts.
#[tokio::test]
async fn what_outlives_a_host_and_its_launcher_is_ended_at_the_next_start() {
    let field = Field::new().unwrap();
    let (mut host, watched) = busy_host(&field).await;
    let since = Instant::now();
    host.kill().unwrap();
    watched.iter().find(|one| one.name == "axon-launcher").unwrap().kill();
    host.ended().await.unwrap();
    let (away, close): (Vec<_>, Vec<_>) =
        watched.into_iter().partition(|one| matches!(one.name.as_str(), "daemon" | "session"));
    these_are_gone(close, since).await;
    let next = Field::new().unwrap();
    let (mut other, theirs) = busy_host(&next).await;
    all_are_gone(host, away, Instant::now()).await;
    other.say("shutdown").await.unwrap();
    assert!(nothing_is_left(other, theirs).await.0.success());
}

/// It stays away while its own process lives, and answers when it is called once more.
const SECOND_TIME: &str = r#"
import ctypes, os, pathlib, subprocess

def leave() -> str:
    here = pathlib.Path("pids")
    if here.exists():
        return "done"
    pids = [subprocess.Popen(["sleep", "600"], start_new_session=new).pid for new in (False, True)]
    if os.fork() == 0:
        os.setsid()
        if (daemon := os.fork()) != 0:
            pids += [daemon, os.getppid()]
            pathlib.Path("pids.new").write_text(" ".join(map(str, pids)))
            os.rename("pids.new", here)
            os._exit(0)
        os.closerange(0, 4096)
        ctypes.CDLL(None).sleep(600)
        os._exit(0)
    ctypes.PyDLL(None).sleep(600)
    return "late"
"#;

#[tokio::test]
async fn the_death_of_the_launcher_leaves_nothing_and_loses_no_run() {
    let model = ScriptedModel::start(crate::launcher::one_call("leave")).await;
    let project = Project::with_model(&model);
    project.write("leaving.py", SECOND_TIME);
    let spec = tooled("agent", [("leaving:leave", Effect::Pure)]);
    let runtime = project.runtime().agent(spec).start().await.unwrap();
    let mut told = Told::by(&runtime);
    let run = agent(&runtime, "agent").run("go").start().await.unwrap();
    let pids = project.path().join("pids");
    until("all of them are there", async || pids.exists()).await;
    let pids = std::fs::read_to_string(pids).unwrap();
    let mut watched: Vec<Watched> =
        pids.split(' ').map(|pid| Watched::process(pid.parse().unwrap()).unwrap()).collect();
    let launcher = Watched::process(crate::launcher::parent(watched[3].pid)).unwrap();
    let since = Instant::now();
    launcher.kill();
    watched.push(launcher);
    these_are_gone(watched, since).await;
    let ended = run.outcome().await;
    assert_eq!(output(&ended.outcome), json!("done"));
    let Outcome::Completed(completed) = &ended.outcome else { panic!("{ended:?}") };
    assert_eq!(completed.attempts, 2);
    let parked = |event: &RuntimeEvent| format!("{event:?}").contains("Parked");
    assert!(!told.all().iter().any(parked), "{:#?}", told.all());
    runtime.shutdown().await;
}

#[tokio::test]
async fn fifty_hosts_that_are_killed_at_some_moment_leave_nothing() {
    let mut figures = rounds::Figures::default();
    let plan = rounds::Plan { rounds: ROUNDS, at_once: 3, seed: 1 };
    figures.add(rounds::all(HOST, plan).await.unwrap());
    assert_eq!(figures.leaks, Vec::<String>::new(), "{figures}");
}

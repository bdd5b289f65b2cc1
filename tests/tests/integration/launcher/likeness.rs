//! A forked runner is in everything as one that was started from nothing.

use std::collections::{BTreeMap, BTreeSet};

use axon_kernel::spec::{Effect, LauncherMode};
use axon_runtime::Runtime;
use axon_test::ScriptedModel;
use axon_test::conformance::{Target, check};
use procfs::process::{FDTarget, Process};
use serde_json::Value;

use super::{one_call, process};
use crate::conformance::python;
use crate::scene::{agent, pid, tooled};
use crate::support::{Project, output};

/// Tells of its process what can only be told from inside.
const TOOL: &str = r#"
import asyncio, gc, json, locale, os, resource, signal, sys, threading, time

async def tells() -> str:
    names = [name for name in dir(signal) if name.startswith("SIG") and "_" not in name]
    return json.dumps({
        "env": {name: value for name, value in os.environ.items() if name != "AXON_RUNNER"},
        "handlers": {name: str(signal.getsignal(getattr(signal, name))).split(" at ")[0] for name in names},
        "wakeup": signal.set_wakeup_fd(-1) >= 0,
        "argv": sys.argv,
        "path": sys.path,
        "flags": str(sys.flags),
        "zone": time.tzname,
        "locale": locale.setlocale(locale.LC_ALL),
        "encodings": [sys.stdout.encoding, sys.stderr.encoding, sys.getfilesystemencoding()],
        "buffering": [sys.stdout.line_buffering, sys.stderr.line_buffering],
        "main": threading.main_thread() is threading.current_thread(),
        "file": sys.modules["__main__"].__dict__.get("__file__") is not None,
        "limits": [resource.getrlimit(which) for which in range(10)],
        "umask": os.umask(0o22) or os.umask(0o22),
        "collector": gc.isenabled(),
    })
"#;

/// What is compared, and so has to be equal.
#[derive(Debug, PartialEq)]
struct Likeness {
    told: Value,
    leads: (bool, bool),
    terminal: i32,
    nice: i64,
    working_directory: std::path::PathBuf,
    /// The kind of each of the first descriptors.
    descriptors: BTreeMap<i32, String>,
    others: BTreeSet<String>,
    /// Signals that are blocked, ignored, caught, and on their way.
    signals: [u64; 4],
    umask: Option<u32>,
    privileges: (u64, u64, Option<u32>, Vec<u32>),
}

impl Likeness {
    async fn of(runtime: &Runtime, name: &str) -> Self {
        let run = agent(runtime, name).run("go").wait().await.unwrap();
        let told = output(&run.outcome);
        let told = serde_json::from_str(told.as_str().unwrap()).unwrap();
        let process = process(pid(runtime, name).await);
        let (stat, status) = (process.stat().unwrap(), process.status().unwrap());
        let (descriptors, others) = descriptors(&process);
        Self {
            told,
            leads: (stat.pgrp == stat.pid, stat.session == stat.pid),
            terminal: stat.tty_nr,
            nice: stat.nice,
            working_directory: process.cwd().unwrap(),
            descriptors,
            others,
            signals: [status.sigblk, status.sigign, status.sigcgt, status.shdpnd],
            umask: status.umask,
            privileges: (status.capeff, status.capprm, status.seccomp, status.groups),
        }
    }
}

/// Returns the kinds of the descriptors that a runner is given, and of all others that it has.
fn descriptors(process: &Process) -> (BTreeMap<i32, String>, BTreeSet<String>) {
    let kind = |target: &FDTarget| match target {
        FDTarget::Path(path) => path.display().to_string(),
        FDTarget::Socket(_) => "socket".to_owned(),
        FDTarget::Pipe(_) => "pipe".to_owned(),
        FDTarget::AnonInode(name) => name.clone(),
        other @ (FDTarget::Net(_)
        | FDTarget::MemFD(_)
        | FDTarget::Other(..)
        | FDTarget::Unknown(..)) => format!("{other:?}"),
    };
    let all: Vec<_> = process.fd().unwrap().flatten().collect();
    let given = all.iter().filter(|fd| fd.fd < 6).map(|fd| (fd.fd, kind(&fd.target)));
    let others = all.iter().filter(|fd| fd.fd >= 6).map(|fd| kind(&fd.target));
    (given.collect(), others.collect())
}

#[tokio::test]
async fn a_forked_runner_is_as_one_that_was_started_from_nothing() {
    let model = ScriptedModel::start(one_call("tells")).await;
    let mut project = Project::with_model(&model);
    project.set("TZ", "Asia/Tokyo");
    project.set("LC_ALL", "C.UTF-8");
    project.write("telling.py", TOOL);
    let spec = |name: &str, launcher| {
        let mut spec = tooled(name, [("telling:tells", Effect::Pure)]);
        spec.runner.launcher = launcher;
        spec.runner.env.insert("GIVEN".parse().unwrap(), "by the agent".to_owned());
        spec
    };
    let runtime = project.runtime().agent(spec("cold", LauncherMode::Cold));
    let runtime = runtime.agent(spec("warm", LauncherMode::Warm)).start().await.unwrap();
    let cold = Likeness::of(&runtime, "cold").await;
    let warm = Likeness::of(&runtime, "warm").await;
    assert_eq!(format!("{warm:#?}"), format!("{cold:#?}"));
    assert_eq!((cold.leads, cold.terminal), ((true, true), 0));
    assert_eq!(cold.descriptors[&0], "/dev/null");
    assert_eq!(cold.told["env"]["GIVEN"], "by the agent");
    runtime.shutdown().await;
}

/// Forks the runner as a launcher does, and ends as it ends.
const PARENT: &str = r#"
import os, signal, sys

sys.path.insert(0, sys.argv.pop())
from axon_runner import lifeline, offspring

lifeline.arm(5)  # the child takes it over
from axon_runner.warm import warm

warm([])
start = offspring.Start(1, True, "conformance", [], dict(os.environ), os.getcwd(), [])
parent, child = os.getpid(), os.fork()
if child == 0:
    offspring.become_or_end(start, (3, 4, 5, 1, 2), parent)
    offspring.run()
os.closerange(3, 6)
signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if code != -signal.SIGKILL else None
    os.kill(parent, -code)
os._exit(code)
"#;

#[tokio::test]
async fn a_forked_runner_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let (interpreter, sources) = tokio::task::spawn_blocking(python).await.unwrap();
    let mut target = Target::python(&interpreter, &sources, folder.path()).unwrap();
    let parent = folder.path().join("parent.py");
    std::fs::write(&parent, PARENT).unwrap();
    target.command.insert(2, parent.display().to_string());
    let report = check(&target).await;
    let told: Vec<&str> = report.disagreements().map(|(name, _)| name).collect();
    // The suite knows the parent's id only.
    let about_ids = ["ready_record_says_protocol_generation_and_process", "health_says_who_it_is"];
    assert!(told.iter().all(|name| about_ids.contains(name)), "{report}");
}

//! What a user sees of how runners are started, limited and replaced.

use std::time::Duration;

use proptest::prelude::*;

use super::{load, problems};
use crate::spec::{ByteSize, LauncherMode, Recycle, RunnerLimits, RunnerProgram};

prop_compose! {
    pub(super) fn settings()(
        (age, requests) in (prop::option::of(1..10_000_000_u64), prop::option::of(1..1_000_000_u64)),
        memory in prop::option::of(1_u64 << 25..1 << 40),
        limit in prop::option::of((32..100_000_u64).prop_map(ByteSize::from_mib)),
        (cpu, files) in (prop::option::of(1..10_000_000_u64), prop::option::of(64..100_000_u64)),
    ) -> (Recycle, RunnerLimits) {
        let seconds = |seconds: Option<u64>| seconds.map(Duration::from_secs);
        let memory = memory.map(ByteSize::from_bytes);
        let recycle = Recycle { age: seconds(age), requests, memory };
        let limits =
            RunnerLimits { memory: limit, cpu_time: seconds(cpu), open_files: files };
        (recycle, limits)
    }
}

fn with(rest: &str) -> String {
    format!("model = 'test'\n{rest}")
}

#[test]
fn runners_are_started_warm_and_neither_limited_nor_replaced_unless_it_is_said() {
    let spec = load(&with("")).unwrap();
    assert_eq!(spec.runner.launcher, LauncherMode::Warm);
    assert_eq!(spec.runner.recycle, Recycle::default());
    assert_eq!(spec.runner.limits, RunnerLimits::default());
    let said = "[runner]\nlauncher = 'cold'\nreplicas = 4\n[runner.recycle]\nage = '24h'\n\
        requests = 10_000\nmemory = '1GiB'\n[runner.limits]\nmemory = 2_147_483_648\n\
        cpu_time = '1h'\nopen_files = 1024";
    let runner = load(&with(said)).unwrap().runner;
    assert_eq!((runner.launcher, runner.replicas.get()), (LauncherMode::Cold, 4));
    assert_eq!(
        runner.recycle,
        Recycle {
            age: Some(Duration::from_secs(86_400)),
            requests: Some(10_000),
            memory: Some(ByteSize::from_mib(1024)),
        }
    );
    assert_eq!(runner.limits.memory, Some(ByteSize::from_mib(2048)));
    assert_eq!(runner.limits.cpu_time, Some(Duration::from_secs(3600)));
    assert_eq!(runner.limits.open_files, Some(1024));
}

#[test]
fn settings_of_a_process_that_make_no_sense_are_told_with_their_place() {
    let text = "[runner]\nlauncher = 'hot'\nreplicas = 4\nrecycle = { memory = 'much', age = 5 }";
    let found = problems(&with(text));
    for (problem, start) in found.iter().zip([
        "agent.toml:3:12: runner.launcher: unknown variant `hot`, expected `warm` or `cold`",
        "agent.toml:5:22: runner.recycle.memory: `much` is not an amount of memory: write it like",
        "agent.toml:5:36: runner.recycle.age: invalid type: integer `5`, expected a duration",
    ]) {
        assert!(problem.starts_with(start), "{problem}\n{start}");
    }
    assert_eq!(found.len(), 3, "{found:#?}");
    let text = "[runner]\nreplicas = 65\n[runner.recycle]\nage = '999ms'\nrequests = 0\n\
        memory = '31MiB'\nmemroy = 1\n[runner.limits]\nmemory = 1\ncpu_time = '1ms'\nopen_files = 63";
    assert_eq!(
        problems(&with(text)),
        [
            "agent.toml:3:12: runner.replicas: 65 is out of range: give a number from 1 to 64",
            "agent.toml:5:7: runner.recycle.age: 999ms is too short: give at least 1s",
            "agent.toml:6:12: runner.recycle.requests: 0 is out of range: give a number from 1 to \
             1000000000",
            "agent.toml:7:10: runner.recycle.memory: 31MiB is too little: give at least 32MiB",
            "agent.toml:8:1: runner.recycle: unknown key `memroy`; did you mean `memory`?",
            "agent.toml:10:10: runner.limits.memory: 1B is too little: give at least 32MiB",
            "agent.toml:11:12: runner.limits.cpu_time: 1ms is too short: give at least 1s",
            "agent.toml:12:14: runner.limits.open_files: 63 is out of range: give a number from 64 \
             to 1048576",
        ]
    );
}

#[test]
fn a_runner_at_a_url_has_a_token_and_no_other_has_one() {
    let text = "[runner]\nurl = 'http://127.0.0.1:9000'\ntoken_env = 'RUNNER_TOKEN'";
    let spec = load(&with(text)).unwrap();
    assert_eq!(spec.runner.program, RunnerProgram::Url("http://127.0.0.1:9000".to_owned()));
    assert_eq!(spec.runner.token_env.as_ref().unwrap().as_str(), "RUNNER_TOKEN");
    assert_eq!(load(&spec.to_toml().unwrap()).unwrap().runner, spec.runner);
    assert_eq!(
        problems(&with("[runner]\nurl = 'http://127.0.0.1:9000'")),
        ["agent.toml:3:7: runner.url: a runner at a url needs a token: name the variable that \
             holds it in token_env"]
    );
    assert_eq!(
        problems(&with("[runner]\ntoken_env = 'RUNNER_TOKEN'")),
        ["agent.toml:3:13: runner.token_env: only a runner at a url is asked for with a token: \
             leave token_env out, or give a url"]
    );
}

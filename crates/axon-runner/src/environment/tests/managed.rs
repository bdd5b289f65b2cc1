//! The managed environment: built once, complete or not at all.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::thread;

use super::bench::{Bench, output, site_packages};
use crate::environment::{BuildError, Installer, Origin, Progress, SyncError, resolve};

fn failed(error: SyncError) -> BuildError {
    match error {
        SyncError::Build(error) => error,
        SyncError::Resolve(_) | SyncError::Check(_) | SyncError::Frozen { .. } => panic!("{error}"),
    }
}

fn builds_and_then_keeps(bench: &Bench, with: Installer) {
    let lock = bench.lock();
    let ready = bench.sync(&lock).unwrap();
    assert_eq!(
        bench.steps(),
        [Progress::CreatingVenv, Progress::Installing { with }, Progress::Done]
    );
    assert_eq!(ready.choice.origin, Origin::Managed);
    assert_eq!(ready.inspection.pydantic_ai.as_deref(), Some("2.68.0"));
    let python = &ready.choice.python;
    let code = "import pydantic_ai; print(pydantic_ai.ANSWER, pydantic_ai.__file__)";
    let said = output(Command::new(python).args(["-I", "-c", code]));
    assert!(said.starts_with(&format!("42 {}", bench.path("cache/envs").display())), "{said}");

    assert_eq!(bench.sync(&lock).unwrap(), ready);
    assert_eq!(bench.steps(), []);
}

#[test]
fn pip_builds_it_where_there_is_no_uv() {
    builds_and_then_keeps(&Bench::new(), Installer::Pip);
}

#[test]
fn uv_builds_it_where_there_is_one() {
    builds_and_then_keeps(&Bench::with_uv(), Installer::Uv);
}

#[test]
fn renamed_environment_knows_its_place() {
    for bench in [Bench::with_uv(), Bench::with_stand_in_uv()] {
        let ready = bench.sync(&bench.lock()).unwrap();
        let root = ready.choice.python.parent().unwrap().parent().unwrap();
        assert_eq!(ready.inspection.prefix, root);
        assert_eq!(ready.inspection.executable, ready.choice.python);
        let modules = "import json, pydantic_ai; print(pydantic_ai.__spec__.origin)";
        let origin = output(Command::new(&ready.choice.python).args(["-I", "-c", modules]));
        assert!(origin.starts_with(root.to_str().unwrap()), "{origin}");
    }
}

#[test]
fn what_is_frozen_is_taken_as_it_is_and_never_built() {
    let mut bench = Bench::with_stand_in_uv();
    let lock = bench.lock();
    bench.search.frozen = true;
    assert!(matches!(bench.sync(&lock).unwrap_err(), SyncError::Frozen { .. }));
    assert!(!bench.path("cache").exists(), "nothing was written");
    bench.search.frozen = false;
    let built = bench.sync(&lock).unwrap();
    bench.steps();
    bench.search.frozen = true;
    assert_eq!(bench.sync(&lock).unwrap(), built);
    // One that is damaged is not mended either.
    fs::remove_file(&built.choice.python).unwrap();
    let root = built.choice.python.parent().unwrap().parent().unwrap();
    let refused = bench.sync(&lock).unwrap_err();
    assert!(matches!(&refused, SyncError::Frozen { root: place } if place == root), "{refused}");
    assert_eq!(bench.steps(), []);
}

#[test]
fn other_lock_is_another_environment_and_the_first_one_stays() {
    let bench = Bench::with_stand_in_uv();
    let lock = bench.lock();
    let first = bench.sync(&lock).unwrap();
    let second = bench.sync(&[b"# changed\n", &*lock].concat()).unwrap();
    assert_ne!(first.choice, second.choice);
    assert!(first.choice.python.exists());
}

#[test]
fn processes_that_start_together_build_once() {
    let bench = Bench::with_stand_in_uv();
    let lock = bench.lock();
    thread::scope(|scope| {
        let started: Vec<_> = (0..4).map(|_| scope.spawn(|| bench.sync(&lock).unwrap())).collect();
        let ready: Vec<_> = started.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(ready.windows(2).all(|pair| pair[0] == pair[1]));
    });
    let steps = bench.steps();
    let count = |step| steps.iter().filter(|other| **other == step).count();
    assert_eq!(count(Progress::CreatingVenv), 1, "{steps:?}");
    assert_eq!(bench.envs().len(), 2, "the environment and its lock: {:?}", bench.envs());
}

#[test]
fn what_a_killed_build_left_is_discarded() {
    let bench = Bench::with_stand_in_uv();
    let lock = bench.lock();
    let root = resolve_root(&bench, &lock);
    let key = root.file_name().unwrap().to_str().unwrap().to_owned();
    // Half an environment, in both places where one could stand.
    bench.venv(&format!("cache/envs/{key}"), Some("2.68.0"));
    bench.venv(&format!("cache/envs/.{key}-abc"), None);
    bench.sync(&lock).unwrap();
    assert!(bench.steps().contains(&Progress::CreatingVenv), "half an environment was used");
    assert_eq!(bench.envs(), [key.clone().into(), std::ffi::OsString::from(key + ".lock")]);
}

fn resolve_root(bench: &Bench, lock: &[u8]) -> std::path::PathBuf {
    let ready = bench.sync(lock).unwrap();
    let root = ready.choice.python.parent().unwrap().parent().unwrap().to_path_buf();
    fs::remove_dir_all(&root).unwrap();
    bench.steps();
    root
}

#[test]
fn damaged_environment_is_built_anew() {
    let bench = Bench::with_stand_in_uv();
    let lock = bench.lock();
    let ready = bench.sync(&lock).unwrap();
    let root = ready.inspection.prefix.clone();
    let damages: [&dyn Fn(); 3] = [
        &|| fs::remove_dir_all(site_packages(&root)).unwrap(),
        &|| {
            fs::remove_file(&ready.choice.python).unwrap();
            symlink("/gone", &ready.choice.python).unwrap();
        },
        &|| fs::remove_file(root.join("axon-environment.json")).unwrap(),
    ];
    for damage in damages {
        bench.steps();
        damage();
        assert_eq!(bench.sync(&lock).unwrap(), ready);
        assert!(bench.steps().contains(&Progress::CreatingVenv));
    }
}

#[test]
fn package_with_another_hash_is_refused_and_nothing_is_left() {
    let bench = Bench::new();
    let lock = String::from_utf8(bench.lock()).unwrap();
    let (start, _) = lock.split_once("sha256:").unwrap();
    let lock = format!("{start}sha256:{}\n", "0".repeat(64));
    let error = failed(bench.sync(lock.as_bytes()).unwrap_err());
    let BuildError::Failed { command, output, .. } = &error else { panic!("{error}") };
    assert!(command.contains("-m pip install"), "{command}");
    assert!(output.contains("THESE PACKAGES DO NOT MATCH THE HASHES"), "{output}");
    assert!(output.lines().count() <= 20);
    assert_eq!(bench.envs().len(), 1, "only the lock: {:?}", bench.envs());
}

#[test]
fn python_that_cannot_make_environments_is_told_with_the_command_that_mends_it() {
    let bench = Bench::new();
    fs::remove_file(bench.path("bin/python3")).unwrap();
    let facts = r#"{"version": "3.12.1", "abi": "x", "executable": [47, 112], "has_venv": false}"#;
    bench.program("bin/python3", &format!("#!/bin/sh\necho '{facts}'\n"));
    let error = failed(bench.sync(b"").unwrap_err());
    let BuildError::NoVenv { fix, .. } = &error else { panic!("{error}") };
    assert!(["apt install python3.12-venv", "pip install uv"].contains(&fix.as_str()), "{fix}");
    assert!(error.to_string().contains(fix));
}

#[test]
fn cache_that_cannot_be_written_is_named() {
    let bench = Bench::new();
    fs::write(&bench.search.cache_dir, "a file").unwrap();
    let error = failed(bench.sync(b"").unwrap_err());
    let BuildError::Cache { path, source } = &error else { panic!("{error}") };
    assert!(path.starts_with(&bench.search.cache_dir));
    assert_eq!(source.kind(), io::ErrorKind::NotADirectory);
    assert!(error.to_string().contains("AXON_CACHE_DIR"));
}

#[test]
fn resolving_builds_nothing() {
    let bench = Bench::with_stand_in_uv();
    assert_eq!(resolve(&bench.search).unwrap().origin, Origin::Managed);
    assert!(!bench.search.cache_dir.exists());
}

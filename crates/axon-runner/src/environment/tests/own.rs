//! The user's environments: which is chosen, what is checked, and that nothing in them changes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::bench::{Bench, snapshot};
use crate::environment::{
    CheckError, EnvironmentError, Origin, Status, SyncError, check, diagnose, inspect, resolve,
};

/// Answers every question like an interpreter of version 3.10.
const OLD_PYTHON: &str = r#"#!/bin/sh
echo '{"version": "3.10.4", "pydantic_ai": "2.68.0", "prefix": [47, 111], "executable": [47, 111], "installs": "Pip", "path": [], "abi": "x", "has_venv": true}'
"#;

#[test]
fn first_that_is_given_or_exists_is_chosen() {
    let mut bench = Bench::new();
    let agent = bench.venv("project/agent/.venv", None);
    let project = bench.venv("project/.venv", None);
    let configured = bench.venv("configured", None);
    let named = bench.venv("named", None);
    bench.search.configured = Some(configured.clone());
    bench.search.axon_python = Some(named.clone());
    let chosen = |bench: &Bench| {
        let choice = resolve(&bench.search).unwrap();
        (choice.origin, choice.python)
    };
    assert_eq!(chosen(&bench), (Origin::Configured, configured));
    bench.search.configured = None;
    assert_eq!(chosen(&bench), (Origin::AxonPython, named));
    bench.search.axon_python = Some(PathBuf::new());
    assert_eq!(chosen(&bench), (Origin::AgentVenv, agent));
    fs::remove_dir_all(bench.path("project/agent/.venv")).unwrap();
    assert_eq!(chosen(&bench), (Origin::ProjectVenv, project));
    fs::remove_dir_all(bench.path("project/.venv")).unwrap();
    let (origin, python) = chosen(&bench);
    assert_eq!(origin, Origin::Managed);
    assert!(python.starts_with(bench.path("cache/envs")) && !python.exists());
}

#[test]
fn setting_may_be_relative_to_the_project_or_a_name_on_path() {
    let mut bench = Bench::new();
    let inside = bench.venv("project/py", None);
    bench.search.configured = Some("py/bin/python".into());
    assert_eq!(resolve(&bench.search).unwrap().python, inside);
    bench.search.configured = Some("python3".into());
    assert_eq!(resolve(&bench.search).unwrap().python, bench.path("bin/python3"));
}

#[test]
fn wrong_setting_is_an_error_that_names_it_though_other_choices_would_work() {
    let mut bench = Bench::new();
    bench.venv("project/.venv", Some("2.68.0"));
    let file = bench.path("file");
    fs::write(&file, "").unwrap();
    let other = bench.program("other", "#!/bin/sh\necho I am no snake\nexit 0\n");
    let failing = bench.program("failing", "#!/bin/sh\necho '{}'; echo broken >&2; exit 1\n");
    let cases = [
        (bench.path("nothing"), "does not exist"),
        (file, "not an executable file"),
        (bench.path("project"), "name the interpreter, "),
        (other, "no working Python 3"),
        (failing, "no working Python 3"),
    ];
    for (python, expected) in cases {
        bench.search.axon_python = Some(python.clone());
        let error = resolve(&bench.search).unwrap_err().to_string();
        assert!(error.contains("AXON_PYTHON") && error.contains(expected), "{error}");
        bench.search.configured = Some(python);
        let error = resolve(&bench.search).unwrap_err().to_string();
        assert!(error.contains("`[runner] python`") && error.contains(expected), "{error}");
        bench.search.configured = None;
    }
}

#[test]
fn broken_venv_is_an_error_and_an_empty_folder_is_no_venv() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("project/agent/.venv")).unwrap();
    bench.venv("project/.venv", None);
    assert_eq!(resolve(&bench.search).unwrap().origin, Origin::ProjectVenv);

    let python = bench.path("project/.venv/bin/python");
    fs::remove_file(&python).unwrap();
    symlink("/usr/lib/gone/python3", &python).unwrap();
    let error = resolve(&bench.search).unwrap_err();
    assert!(matches!(error, EnvironmentError::NotExecutable { origin: Origin::ProjectVenv, .. }));
    assert!(error.to_string().contains("/usr/lib/gone/python3"), "{error}");

    fs::remove_file(&python).unwrap();
    let error = resolve(&bench.search).unwrap_err();
    assert!(matches!(error, EnvironmentError::Missing { origin: Origin::ProjectVenv, .. }));
}

#[test]
fn no_recent_python_on_path_is_an_error_with_what_was_found() {
    let mut bench = Bench::new();
    fs::remove_file(bench.path("bin/python3")).unwrap();
    bench.program("bin/python3", OLD_PYTHON);
    bench.program("bin/python3.13", "#!/bin/sh\nexit 127\n");
    let error = resolve(&bench.search).unwrap_err().to_string();
    assert!(error.contains("bin/python3 is 3.10.4") && !error.contains("3.13"), "{error}");
    bench.search.path_var = None;
    assert!(matches!(
        resolve(&bench.search).unwrap_err(),
        EnvironmentError::NoPython { found } if found.is_empty()
    ));
}

#[test]
fn package_out_of_the_tested_range_is_refused_with_the_command_that_fixes_it() {
    for (version, accepted) in
        [(None, false), (Some("2.59.0"), false), (Some("2.60.0"), true), (Some("3.0.0"), false)]
    {
        let bench = Bench::new();
        let python = bench.venv("project/.venv", version);
        let Err(error) = check(&resolve(&bench.search).unwrap()) else {
            assert!(accepted, "{version:?}");
            continue;
        };
        assert!(!accepted, "{version:?}: {error}");
        assert!(error.to_string().contains(version.unwrap_or("no pydantic-ai")), "{error}");
        // This environment has no pip of its own.
        let fix = error.fix().unwrap();
        let start = format!("uv pip install --python {} 'pydantic-ai-slim[", python.display());
        assert!(fix.starts_with(&start), "{fix}");
    }
}

#[test]
fn environment_with_pip_is_fixed_with_its_own_pip_at_the_locks_pin() {
    let bench = Bench::new();
    let python = bench.venv("project/.venv", Some("1.0.0"));
    fs::create_dir(super::bench::site_packages(&bench.path("project/.venv")).join("pip")).unwrap();
    let error = bench.sync(b"pydantic-ai-slim[openai]==2.68.0 --hash=sha256:00").unwrap_err();
    let SyncError::Check(error) = error else { panic!("{error}") };
    assert_eq!(
        error.fix(),
        Some(&*format!("{} -m pip install 'pydantic-ai-slim[openai]==2.68.0'", python.display()))
    );
}

#[test]
fn old_python_is_refused() {
    let mut bench = Bench::new();
    bench.search.axon_python = Some(bench.program("old", OLD_PYTHON));
    let choice = resolve(&bench.search).unwrap();
    let error = check(&choice).unwrap_err();
    assert!(matches!(&error, CheckError::OldPython { found, .. } if found == "3.10.4"), "{error}");
    assert!(error.fix().unwrap().contains("AXON_PYTHON"));
}

#[test]
fn users_environment_is_never_changed() {
    let bench = Bench::with_stand_in_uv();
    let python = bench.venv("project/.venv", Some("2.60.0"));
    // A start-up hook whose import would leave bytecode behind, and which prints.
    let site = super::bench::site_packages(&bench.path("project/.venv"));
    fs::write(site.join("hook.py"), "print('hooked')\n").unwrap();
    fs::write(site.join("hook.pth"), "import hook\n").unwrap();
    let before = snapshot(&bench.path("project"));
    let ready = bench.sync(&bench.lock()).unwrap();
    assert_eq!((ready.choice.origin, &ready.choice.python), (Origin::ProjectVenv, &python));
    assert_eq!(ready.inspection.pydantic_ai.as_deref(), Some("2.60.0"));
    assert_eq!(ready.inspection, inspect(&python).unwrap());
    diagnose(&bench.search, &bench.path("sockets"));
    assert_eq!(snapshot(&bench.path("project")), before);
    assert!(bench.steps().is_empty() && !bench.path("cache/envs").exists());
}

#[test]
fn diagnosis_tells_what_stands_in_the_way() {
    let mut bench = Bench::with_stand_in_uv();
    let told = |bench: &Bench| diagnose(&bench.search, &bench.path("sockets"));
    let summary = |bench: &Bench| -> Vec<(&str, Status)> {
        told(bench).iter().map(|check| (check.name, check.status)).collect()
    };
    let rest = [
        ("runner-sources", Status::Ok),
        ("cache", Status::Ok),
        ("uv", Status::Ok),
        ("unix-socket", Status::Ok),
    ];
    let with_rest = |first: &[(&'static str, Status)]| [first, &rest].concat();

    let unbuilt = [("python", Status::Ok), ("environment", Status::Warn)];
    assert_eq!(summary(&bench), with_rest(&unbuilt));

    bench.venv("project/.venv", Some("2.59.0"));
    let old = [("python", Status::Ok), ("environment", Status::Ok), ("pydantic-ai", Status::Fail)];
    assert_eq!(summary(&bench), with_rest(&old));
    assert!(told(&bench)[2].fix.as_ref().unwrap().contains("pip install"));

    bench.search.axon_python = Some("/nowhere".into());
    assert_eq!(summary(&bench), with_rest(&[("python", Status::Fail)]));

    fs::remove_dir_all(bench.path("cache")).unwrap();
    fs::write(bench.path("cache"), "a file").unwrap();
    fs::remove_file(bench.path("bin/uv")).unwrap();
    let checks = summary(&bench);
    assert!(checks.contains(&("cache", Status::Fail)) && checks.contains(&("uv", Status::Warn)));

    let long = bench.path(&"x".repeat(100));
    fs::create_dir(&long).unwrap();
    let check = diagnose(&bench.search, &long).pop().unwrap();
    assert_eq!((check.name, check.status), ("unix-socket", Status::Fail));
}

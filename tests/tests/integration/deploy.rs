//! The files of `examples/deploy`, as far as they can be tried without a container or a service
//! manager: what they name is there, and what they run is run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use crate::command_line::axon;
use crate::support::{Project, lacks, program, repository};

fn text(file: &str) -> String {
    std::fs::read_to_string(repository().join("examples/deploy").join(file)).unwrap()
}

/// Returns the instructions of the Dockerfile, each on one line: its name and the rest.
fn instructions() -> Vec<(String, String)> {
    let lines = text("Dockerfile");
    let lines = lines.lines().filter(|line| !line.trim_start().starts_with('#'));
    let whole = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let pairs = whole.lines().filter_map(|line| line.trim().split_once(' '));
    pairs.map(|(name, rest)| (name.to_owned(), rest.trim().to_owned())).collect()
}

fn of<'a>(all: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    all.iter().filter(|(known, _)| known == name).map(|(_, rest)| rest.as_str()).collect()
}

fn last<'a>(all: &'a [(String, String)], name: &str) -> &'a str {
    of(all, name).pop().unwrap_or_else(|| panic!("the Dockerfile has no {name}"))
}

/// Returns the value of a setting of the unit, or of the option of a command.
fn value<'a>(text: &'a str, name: &str) -> &'a str {
    let mut lines = text.lines().filter_map(|line| line.split_once('='));
    lines.find(|(key, _)| *key == name).unwrap_or_else(|| panic!("there is no {name}")).1
}

fn option<'a>(words: &[&'a str], name: &str) -> &'a str {
    let at = words.iter().position(|word| *word == name).unwrap_or_else(|| panic!("no {name}"));
    words[at + 1]
}

fn seconds(text: &str) -> Duration {
    humantime::parse_duration(text).unwrap()
}

/// Runs `axon` without a Python of the test's own, and with its own cache: as it is deployed.
async fn ran(project: &Project, cache: &Path, words: &[&str]) -> Output {
    let mut command = axon(project, words);
    command.env_remove("AXON_PYTHON").env("AXON_CACHE_DIR", cache);
    command.env("PATH", path(project));
    // How this machine reaches the package index, and whom it trusts.
    command.envs(std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        ["SSL_CERT", "UV_", "PIP_"].iter().any(|start| name.starts_with(start))
    }));
    command.env("AXON_AGENTS", repository().join("agents"));
    command.env("AXON_STORE", project.path().join("axon.db"));
    command.output().await.unwrap()
}

/// Returns the PATH with the uv of the tests' Python in front, if there is one: pip takes long.
fn path(project: &Project) -> OsString {
    let folder = project.path().join("bin");
    let python = project.variables().get("AXON_PYTHON").map(Path::new);
    let uv = python.map(|python| python.with_file_name("uv")).filter(|uv| uv.is_file());
    if let Some(uv) = uv
        && std::fs::create_dir(&folder).is_ok()
    {
        std::os::unix::fs::symlink(uv, folder.join("uv")).unwrap();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths([folder].into_iter().chain(std::env::split_paths(&path))).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns whether the binary takes these words: it reads all of them before it shows its help.
async fn takes(project: &Project, words: &[&str]) -> bool {
    let output = ran(project, project.path(), &[words, &["--help"]].concat()).await;
    output.status.success()
}

#[tokio::test]
async fn the_dockerfile_copies_what_is_there_and_runs_what_the_binary_takes() {
    let all = instructions();
    for copied in of(&all, "COPY") {
        let words: Vec<&str> = copied.split(' ').filter(|word| !word.starts_with("--")).collect();
        let (_, sources) = words.split_last().unwrap();
        for source in sources {
            let built = *source == "/src/target/release/axon" && copied.contains("--from=build");
            assert!(built || repository().join(source).exists(), "{source} is not there");
        }
    }
    let manifest = std::fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    for member in ["crates/*", "examples/*", "tests"] {
        assert!(manifest.contains(&format!("\"{member}\"")), "{member}");
    }
    let project = Project::new();
    for run in of(&all, "RUN") {
        if let Some(words) = run.strip_prefix("axon ") {
            assert!(takes(&project, &words.split(' ').collect::<Vec<_>>()).await, "{run}");
        }
    }
    assert!(!takes(&project, &["serve", "--no-such-option"]).await);
    assert_eq!(last(&all, "ENTRYPOINT"), "[\"axon\"]");
    let command: Vec<String> = serde_json::from_str(last(&all, "CMD")).unwrap();
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    assert!(takes(&project, &command).await, "{command:?}");
    assert!(command.contains(&"--frozen"), "a container downloads nothing");
    let port = option(&command, "--listen").rsplit_once(':').unwrap().1;
    assert_eq!(last(&all, "EXPOSE"), port);
    assert!(last(&all, "HEALTHCHECK").contains(&format!("127.0.0.1:{port}/healthz")));
    assert_eq!(last(&all, "STOPSIGNAL"), "SIGTERM");
    // From the user on everything is the user's, and the environment is built before it is frozen.
    let at = |name: &str, rest: &str| {
        let found = all.iter().position(|(known, of)| known == name && of == rest);
        found.unwrap_or_else(|| panic!("no {name} {rest}"))
    };
    assert!(at("USER", "axon") < at("RUN", "axon env sync"));
    assert!(at("RUN", "axon env sync") < at("RUN", "axon --frozen validate"));
    let grace = text("README.md");
    let grace = grace.split("--stop-timeout ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(seconds(&format!("{grace}s")) > seconds(option(&command, "--drain")));
}

#[tokio::test]
async fn the_unit_runs_what_the_binary_takes_and_leaves_it_the_time_it_needs() {
    let unit = text("axon.service");
    let start: Vec<&str> = value(&unit, "ExecStart").split(' ').collect();
    let (binary, words) = start.split_first().unwrap();
    let project = Project::new();
    assert!(takes(&project, words).await, "{words:?}");
    assert!(words.contains(&"--frozen"), "a start downloads nothing");
    assert_eq!(value(&unit, "KillSignal"), "SIGTERM");
    // Else the runners are told to end with the service, in the middle of their runs.
    assert_eq!(value(&unit, "KillMode"), "mixed");
    assert!(seconds(value(&unit, "TimeoutStopSec")) > seconds(option(words, "--drain")));
    let Some(verifier) = program("systemd-analyze") else {
        return lacks("there is no systemd-analyze (Debian: systemd)");
    };
    let unit = unit.replace(binary, env!("CARGO_BIN_EXE_axon-under-test"));
    project.write("axon.service", &unit);
    let mut command = tokio::process::Command::new(verifier);
    command.args(["verify", "--man=no"]).arg(project.path().join("axon.service"));
    let output = command.output().await.unwrap();
    let said = said(&output);
    let about_it: Vec<&str> = said.lines().filter(|line| line.contains("axon.service")).collect();
    assert!(output.status.success() && about_it.is_empty(), "{said}");
}

#[tokio::test]
async fn what_is_frozen_downloads_nothing_and_serves_what_was_built_before() {
    let project = Project::new();
    let empty = project.path().join("cache");
    std::fs::create_dir(&empty).unwrap();
    for words in [
        &["--frozen", "run", "bank_support", "hi", "--dep", "customer_id=123"][..],
        &["serve", "--frozen", "--offline", "--listen", "127.0.0.1:0"],
        &["env", "sync", "--frozen"],
    ] {
        let output = ran(&project, &empty, words).await;
        let said = said(&output);
        assert_eq!(output.status.code(), Some(4), "{words:?}: {said}");
        assert!(said.contains("axon env sync") && said.contains("frozen"), "{said}");
        assert!(!empty.join("envs").exists(), "{words:?} built something");
    }
    let built = cache();
    let synced = ran(&project, &built, &["env", "sync"]).await;
    assert!(synced.status.success(), "{}", said(&synced));
    // What was laid down is all that a start needs of its cache.
    assert!(built.join("runner").exists());
    let valid = ran(&project, &built, &["--frozen", "validate"]).await;
    assert!(valid.status.success(), "{}", said(&valid));
    let words = ["--frozen", "run", "bank_support", "What is my balance?"];
    let asked = ran(&project, &built, &[&words[..], &["--dep", "customer_id=123"]].concat()).await;
    assert!(String::from_utf8_lossy(&asked.stdout).contains("123.45"), "{}", said(&asked));
}

/// Returns where the tests keep what takes long to build.
fn cache() -> PathBuf {
    let named = std::env::var_os("AXON_CACHE_DIR").map(PathBuf::from);
    named.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("axon-cache"))
}

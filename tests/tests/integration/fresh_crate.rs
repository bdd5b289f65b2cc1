//! A crate of somebody else's, outside this repository, that depends on the runtime and on nothing
//! else of it.

use std::path::Path;
use std::process::Command;

use crate::support::{Project, repository};

const MAIN: &str = r#"
use axon_runtime::Runtime;
use axon_runtime::kernel::spec::AgentSpec;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut greeter = AgentSpec::new("greeter".parse()?);
    greeter.model = Some("test".parse()?);
    let runtime = Runtime::builder().agent(greeter).allow_offline().start().await?;
    let outcome = runtime.named("greeter")?.run("hello").wait().await?;
    println!("{}", outcome.completed()?.output);
    runtime.shutdown().await;
    Ok(())
}
"#;

fn manifest() -> String {
    let runtime = repository().join("crates/axon-runtime");
    format!(
        "[package]\nname = \"fresh\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
         [dependencies]\naxon-runtime = {{ path = \"{}\" }}\n\
         tokio = {{ version = \"1\", features = [\"macros\", \"rt-multi-thread\"] }}\n\n\
         [profile.dev]\ndebug = false\n\n[workspace]\n",
        runtime.display()
    )
}

#[test]
fn a_crate_outside_the_repository_runs_an_agent_with_nothing_else_of_it() {
    let project = Project::new();
    project.write("Cargo.toml", &manifest());
    project.write("src/main.rs", MAIN);
    // The versions that were tested; cargo drops the packages that this crate does not need.
    std::fs::copy(repository().join("Cargo.lock"), project.path().join("Cargo.lock")).unwrap();
    // Kept between runs, so that only the first one builds everything.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fresh-crate");
    let ran = Command::new(env!("CARGO"))
        .args(["run", "--quiet"])
        .current_dir(project.path())
        .env("CARGO_TARGET_DIR", target)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{errors}");
    assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), "\"success (no tool calls)\"");
}

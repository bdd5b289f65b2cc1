//! What the README types, with the system's own curl.

use serde_json::Value;
use tokio::process::Command;

use super::service::Service;
use crate::support::{PATIENCE, Project, lacks, program, repository};

/// Returns the command of the README that asks an agent.
fn of_the_readme() -> String {
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let lines = readme.lines().skip_while(|line| !line.starts_with("curl "));
    let count = lines.clone().take_while(|line| line.ends_with('\\')).count();
    lines.take(count + 1).collect::<Vec<_>>().join("\n")
}

async fn typed(command: &str) -> String {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).env("NO_PROXY", "*").kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, shell.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_curl_of_the_readme_is_answered_and_streams() {
    if program("curl").is_none() {
        return lacks("there is no curl (Debian: curl)");
    }
    let mut project = Project::new();
    project.set("AXON_AGENTS", &repository().join("agents").display().to_string());
    let service = Service::start(&project, &["bank_support"]).await;
    let command = of_the_readme().replace("127.0.0.1:8700", &service.address);
    assert!(command.contains(&service.address), "{command}");
    let answer: Value = serde_json::from_str(&typed(&command).await).unwrap();
    assert!(answer["output"]["support_advice"].as_str().unwrap().contains("123.45"), "{answer}");
    let told = typed(&format!("{command} -N -H 'Accept: text/event-stream'")).await;
    let names: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!((names.first(), names.last()), (Some(&"accepted"), Some(&"completed")), "{told}");
    assert_eq!(service.stop().await, 0);
}

//! The surroundings of what is measured.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use axon_runner::environment;
use axon_runtime::Host;

use super::{repository, say};

/// The agent that benches start.
pub(crate) const AGENT: &str = "bank_support";

/// What is taken from the environment, and nothing else.
const TAKEN: [&str; 5] = ["PATH", "HOME", "AXON_PYTHON", "AXON_CACHE_DIR", "XDG_CACHE_HOME"];

/// Returns surroundings in which everything lies in `data` and the model is the scripted one.
pub(crate) fn host(data: &Path, base_url: &str) -> Host {
    let mut variables: BTreeMap<String, String> = TAKEN
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect();
    for (name, value) in [
        ("OPENAI_BASE_URL", base_url),
        ("OPENAI_API_KEY", "sk-scripted"),
        ("AXON_MODEL", "openai-chat:scripted"),
        ("AXON_DATA_DIR", &data.display().to_string()),
        ("TMPDIR", &data.display().to_string()),
    ] {
        variables.insert(name.to_owned(), value.to_owned());
    }
    Host::new(data.to_owned(), variables)
}

/// Returns the interpreter that Axon chooses for the agent.
pub(crate) async fn python(host: &Host) -> anyhow::Result<PathBuf> {
    let search = host.search(Some(repository().join("agents").join(AGENT)));
    let ready = tokio::task::spawn_blocking(move || {
        environment::sync(&search, &|step| say(&format!("{step:?}")))
    });
    Ok(ready.await??.choice.python)
}

//! A project on disk whose agents act on the world.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;

use super::world::World;

/// What is taken from the environment, and nothing else.
const TAKEN: [&str; 5] = ["PATH", "HOME", "AXON_PYTHON", "AXON_CACHE_DIR", "XDG_CACHE_HOME"];

/// Tells the world that a call acts, and returns when it has.
const TOOLS: &str = r#"
import asyncio
import json

from pydantic_ai import RunContext


async def act(ctx: RunContext[None], cell: str, call: int, world: str) -> str:
    host, port = world.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    arrival = {"at": "effect", "cell": cell, "call": call, "key": ctx.tool_call_id}
    writer.write(json.dumps(arrival).encode() + b"\n")
    await writer.drain()
    line = await reader.readline()
    writer.close()
    if line != b"go\n":
        raise OSError("the world has cut the line")
    return f"acted {call}"
"#;

/// What both agents say of themselves. Nothing parks them: their runners are killed all the time.
const AGENT: &str = r#"
model = "openai-chat:scripted"

[supervision]
intensity = { max_restarts = 1000, within = "1s" }
backoff = { min = "1ms", max = "10ms" }
"#;

const OUTPUT: &str = r#"
[output]
schema = { type = "object", properties = { answer = { type = "string" } }, required = ["answer"], additionalProperties = false }
"#;

/// A project on disk whose agents act on the world. It goes when it is dropped.
#[derive(Debug)]
pub struct Project {
    folder: TempDir,
    variables: BTreeMap<String, String>,
}

impl Project {
    /// Writes it: `plain` answers in text, `structured` with an output of a schema, and both have a
    /// tool of each effect, plain and with approval.
    ///
    /// # Errors
    ///
    /// If nothing can be written.
    pub fn new(world: &World) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("axon-kill-").tempdir()?;
        let given = |name: &str| Some((name.to_owned(), std::env::var(name).ok()?));
        let mut variables: BTreeMap<_, _> = TAKEN.iter().filter_map(|name| given(name)).collect();
        let temporary = folder.path().join("tmp");
        std::fs::create_dir(&temporary)?;
        let set = [
            ("TMPDIR", temporary.display().to_string()),
            ("OPENAI_BASE_URL", world.base_url()),
            ("OPENAI_API_KEY", "sk-scripted".to_owned()),
            ("RUST_BACKTRACE", "0".to_owned()),
        ];
        variables.extend(set.map(|(name, value)| (name.to_owned(), value)));
        let project = Self { folder, variables };
        for (agent, output) in [("plain", ""), ("structured", OUTPUT)] {
            let tools = tools(agent);
            project
                .write(&format!("agents/{agent}/agent.toml"), &format!("{AGENT}{output}{tools}"))?;
            project.write(&format!("agents/{agent}/__init__.py"), "")?;
            project.write(&format!("agents/{agent}/tools.py"), TOOLS)?;
        }
        std::fs::create_dir(project.store_folder())?;
        Ok(project)
    }

    /// Returns its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the folder of the store, and of nothing else.
    #[must_use]
    pub fn store_folder(&self) -> PathBuf {
        self.path().join("store")
    }

    /// Returns the store's address.
    #[must_use]
    pub fn store(&self) -> String {
        format!("sqlite:{}", self.store_folder().join("axon.db").display())
    }

    /// Returns the variables that a program in it sees.
    #[must_use]
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    fn write(&self, relative: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path().join(relative);
        std::fs::create_dir_all(path.parent().context("it is below the folder")?)?;
        Ok(std::fs::write(path, text)?)
    }
}

fn tools(agent: &str) -> String {
    let tool = |effect: &str, guarded: bool| {
        let name = if guarded { format!("guarded_{effect}") } else { effect.to_owned() };
        format!(
            "\n[[tools]]\nname = \"{name}\"\npython = \"{agent}.tools:act\"\neffect = \"{effect}\"\n\
             requires_approval = {guarded}\n"
        )
    };
    let effects = ["pure", "idempotent", "once"];
    effects.iter().flat_map(|effect| [tool(effect, false), tool(effect, true)]).collect()
}

//! Agents as folders: `agents/NAME/agent.toml` with the agent's own Python package beside it,
//! `router.toml` or `pipeline.toml` in place of it for what has no model of its own, and
//! `agents/axon.toml` with what holds for all of them.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axon_kernel::config::Config;
use axon_kernel::failure::Failure;
use axon_kernel::flow::{GraphError, GraphProblem, System};
use axon_kernel::spec::{AgentName, AgentSpec, FileText, Kind, Problem, SpecError};

use crate::define::AgentCode;
use crate::host::Host;
use crate::registry::nearest;

/// One agent's definition, with where it came from.
#[derive(Clone, Debug)]
pub struct AgentDefinition {
    /// What the agent is.
    pub spec: AgentSpec,
    /// The agent's own folder, where it has one.
    pub folder: Option<PathBuf>,
    /// Folders that its Python modules are looked for in, after the installed ones.
    pub path: Vec<PathBuf>,
    /// Its Rust functions, where it has any.
    pub code: AgentCode,
}

impl AgentDefinition {
    /// Returns the file that defines it, where one does.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(self.spec.kind().file_name()))
    }

    /// Checks what can be checked without starting anything and no schema can say.
    ///
    /// # Errors
    ///
    /// The [`Failure`] that starting it would end with: a module that is not there, a provider
    /// that nobody knows, a key that is missing.
    pub fn check(&self, host: &Host) -> Result<(), Failure> {
        crate::definition::check(&self.spec, host, self.folder.as_deref())?;
        self.code.complete(&mut self.spec.clone(), &AgentCode::default())
    }
}

impl AgentDefinition {
    /// Returns where it stands: its file, or its kind and name.
    fn place(&self) -> String {
        let named = || format!("{} `{}`", self.spec.kind(), self.spec.name);
        self.file().map_or_else(named, |file| file.display().to_string())
    }
}

impl From<AgentSpec> for AgentDefinition {
    fn from(spec: AgentSpec) -> Self {
        Self { spec, folder: None, path: Vec::new(), code: AgentCode::default() }
    }
}

/// One of several definitions that does not fit together with the others.
#[derive(Debug)]
pub struct Misfit {
    /// Whose definition it is.
    pub agent: AgentName,
    /// Everything that does not fit, each with its place in its file.
    pub error: SpecError,
}

/// Returns which of `all`, agents, routers and pipelines that are to start as one, do not fit
/// together with the others.
#[must_use]
pub fn misfits(all: &[AgentDefinition]) -> Vec<Misfit> {
    let mut found: BTreeMap<AgentName, Vec<Problem>> = BTreeMap::new();
    for problem in System::new(all.iter().map(|definition| &definition.spec)).check() {
        found.entry(problem.agent.clone()).or_default().push(problem.in_file());
    }
    let of = |(agent, problems)| {
        let definition = all.iter().rfind(|definition| definition.spec.name == agent);
        let path = definition.map_or_else(|| agent.to_string(), AgentDefinition::place);
        Misfit { error: SpecError { path, problems }, agent }
    };
    found.into_iter().map(of).collect()
}

/// Checks that all of `all` fit together.
///
/// # Errors
///
/// What is wrong with the first that does not.
pub fn check_together(all: &[AgentDefinition]) -> Result<(), SpecError> {
    misfits(all).into_iter().next().map_or(Ok(()), |misfit| Err(misfit.error))
}

/// Checks that `definition` fits `others`, which are there already; that it closes a circle with them
/// is no misfit.
///
/// # Errors
///
/// What does not fit in it.
pub(crate) fn check_among(
    definition: &AgentDefinition,
    others: &[Arc<AgentSpec>],
) -> Result<(), SpecError> {
    let all = others.iter().map(AsRef::as_ref).chain([&definition.spec]);
    let own = System::new(all).check().into_iter().filter(|problem| {
        let closes = matches!(problem.what, GraphError::Circle { .. });
        problem.agent == definition.spec.name && !closes
    });
    let problems: Vec<Problem> = own.map(GraphProblem::in_file).collect();
    if problems.is_empty() {
        return Ok(());
    }
    Err(SpecError { path: definition.place(), problems })
}

/// Why an agent, or what holds for all of them, could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is no such agent.
    #[error(
        "there is no agent `{name}` in {}{}", folder.display(),
        nearest.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
    )]
    NotFound {
        /// The name that was asked for.
        name: String,
        /// The folder that was looked in.
        folder: PathBuf,
        /// The agent whose name looks most like it.
        nearest: Option<String>,
    },
    /// A file or folder cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A folder defines more than one thing.
    #[error(
        "{} has {}: keep one of them, each in a folder of its own", folder.display(), files.join(" and ")
    )]
    Several {
        /// The folder.
        folder: PathBuf,
        /// The files that define something.
        files: Vec<&'static str>,
    },
    /// The definition is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

/// Reads the agent `name` from `agents`, a folder of agents.
///
/// # Errors
///
/// [`FolderError`] if there is no such agent or its definition is wrong.
pub fn load_agent(agents: &Path, name: &str, host: &Host) -> Result<AgentDefinition, FolderError> {
    let not_found = || FolderError::NotFound {
        name: name.to_owned(),
        folder: agents.to_owned(),
        nearest: nearest(name, agent_names(agents).iter().map(String::as_str)).map(str::to_owned),
    };
    let valid = AgentName::try_from(name).map_err(|_gone| not_found())?;
    let folder = agents.join(name);
    let kind = match kinds(&folder).as_slice() {
        [] => return Err(not_found()),
        [kind] => *kind,
        several => {
            let files = several.iter().map(|kind| kind.file_name()).collect();
            return Err(FolderError::Several { folder, files });
        }
    };
    let file = folder.join(kind.file_name());
    let text = std::fs::read_to_string(&file)
        .map_err(|source| FolderError::Read { path: file.clone(), source })?;
    let shown = file.display().to_string();
    let read = match kind {
        Kind::Agent => AgentSpec::from_toml,
        Kind::Router => AgentSpec::router_from_toml,
        Kind::Pipeline => AgentSpec::pipeline_from_toml,
    };
    let spec = read(
        valid,
        FileText { path: &shown, text: &text },
        &|variable| host.variable(variable),
        &|relative| Ok(std::fs::read_to_string(folder.join(relative))?),
    )?;
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (folder, path) = (Some(absolute(&folder)), vec![absolute(agents)]);
    Ok(AgentDefinition { spec, folder, path, code: AgentCode::default() })
}

/// Reads every agent of the folder `agents`, by name.
///
/// # Errors
///
/// [`FolderError`] of the first agent that cannot be read.
pub fn load_agents(agents: &Path, host: &Host) -> Result<Vec<AgentDefinition>, FolderError> {
    if let Err(source) = std::fs::read_dir(agents) {
        return Err(FolderError::Read { path: agents.to_owned(), source });
    }
    agent_names(agents).iter().map(|name| load_agent(agents, name, host)).collect()
}

/// Returns where the settings lie of the folder `agents`.
#[must_use]
pub fn config_file(agents: &Path) -> PathBuf {
    agents.join("axon.toml")
}

/// Reads what holds for all agents of the folder `agents`: the defaults, if there is no such file.
///
/// Whether the agents exist that it names is for [`Config::check_agents`].
///
/// # Errors
///
/// [`FolderError`] if there is a file and it cannot be read or is wrong.
pub fn load_config(agents: &Path, host: &Host) -> Result<Config, FolderError> {
    let path = config_file(agents);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        // A link that leads nowhere is no missing file.
        Err(gone) if gone.kind() == ErrorKind::NotFound && !path.is_symlink() => {
            return Ok(Config::default());
        }
        Err(source) => return Err(FolderError::Read { path, source }),
    };
    let shown = path.display().to_string();
    let file = FileText { path: &shown, text: &text };
    Ok(Config::from_toml(file, &|variable| host.variable(variable))?)
}

/// Returns what the folder defines: one thing, if all is well.
fn kinds(folder: &Path) -> Vec<Kind> {
    let mut kinds = vec![Kind::Agent, Kind::Router, Kind::Pipeline];
    kinds.retain(|kind| folder.join(kind.file_name()).is_file());
    kinds
}

/// Returns the names of the agents in the folder `agents`, sorted; none if it cannot be read.
#[must_use]
pub fn agent_names(agents: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(agents) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| !kinds(&entry.path()).is_empty())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

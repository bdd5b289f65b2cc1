//! Which Python is chosen.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::base::{self, is_executable, on_path};
use super::inspect::{InspectError, Inspection, inspect};
use super::managed::Managed;
use crate::embedded;

/// Where to look for a Python; the caller fills it from settings and the process environment.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// `[runner] python` of the agent: a path (relative ones are to `project_dir`), or a name on
    /// PATH.
    pub configured: Option<PathBuf>,
    /// The value of `AXON_PYTHON`, as `configured`. Empty counts as unset.
    pub axon_python: Option<PathBuf>,
    /// The agent's folder, whose `.venv` is looked at.
    pub agent_dir: Option<PathBuf>,
    /// The project's folder, whose `.venv` is looked at.
    pub project_dir: PathBuf,
    /// Where the managed environment lives; see [`cache_dir`](super::cache_dir).
    pub cache_dir: PathBuf,
    /// The value of `PATH`: where the managed environment's base interpreter and uv are found.
    pub path_var: Option<OsString>,
    /// Whether the managed environment is taken as it is: built by nobody, and nothing downloaded.
    pub frozen: bool,
}

/// Where the chosen Python comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// `[runner] python` of the agent.
    Configured,
    /// `AXON_PYTHON`.
    AxonPython,
    /// `.venv` in the agent's folder.
    AgentVenv,
    /// `.venv` in the project's folder.
    ProjectVenv,
    /// The environment that Axon builds and owns; the only one that it ever changes.
    Managed,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Configured => "`[runner] python`",
            Self::AxonPython => "AXON_PYTHON",
            Self::AgentVenv => "the agent's .venv",
            Self::ProjectVenv => "the project's .venv",
            Self::Managed => "the managed environment",
        })
    }
}

/// A Python to run runners with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The interpreter. A managed one need not exist before [`sync`](super::sync).
    pub python: PathBuf,
    /// Why this one.
    pub origin: Origin,
}

/// Why no Python could be chosen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// A setting or a `.venv` names an interpreter that is not there.
    #[error(
        "{origin} names {}, which does not exist; correct it, or remove it to use the next choice",
        python.display()
    )]
    Missing {
        /// What names it.
        origin: Origin,
        /// The interpreter.
        python: PathBuf,
    },
    /// A setting or a `.venv` names something that cannot be executed.
    #[error("{origin} names {}, which is not an executable file{hint}", python.display())]
    NotExecutable {
        /// What names it.
        origin: Origin,
        /// What is named.
        python: PathBuf,
        /// What was probably meant.
        hint: String,
    },
    /// A setting or a `.venv` names something that is no Python 3.
    #[error("{origin} names {}, which is no working Python 3", python.display())]
    NotPython {
        /// What names it.
        origin: Origin,
        /// What is named.
        python: PathBuf,
        /// What it did instead.
        #[source]
        source: InspectError,
    },
    /// No Python that the managed environment could be based on is on PATH.
    #[error(
        "no Python 3.11 or newer on PATH ({}); install one, or set AXON_PYTHON to it",
        if found.is_empty() { "found none".to_owned() } else { found.join(", ") }
    )]
    NoPython {
        /// The interpreters that are too old, each with its version.
        found: Vec<String>,
    },
}

/// What was chosen, and what is known about it.
pub(super) enum Plan<'a> {
    /// A Python of the user's, never changed.
    Own(Choice, Inspection),
    /// Ours, perhaps to be built.
    Managed(Managed<'a>),
}

/// Chooses the Python: `configured`, `AXON_PYTHON`, the agent's `.venv`, the project's `.venv`,
/// else the managed environment.
///
/// The first that is given or exists is it: one that is broken is an error and never passed over,
/// since an agent that silently runs with other packages is worse than one that does not run.
/// Nothing is written.
///
/// ```no_run
/// use axon_runner::environment::{Origin, Search, resolve};
///
/// let search = Search {
///     project_dir: "/home/me/shop".into(),
///     cache_dir: "/home/me/.cache/axon".into(),
///     path_var: std::env::var_os("PATH"),
///     ..Search::default()
/// };
/// let choice = resolve(&search)?;
/// assert!(matches!(choice.origin, Origin::ProjectVenv | Origin::Managed));
/// # Ok::<(), axon_runner::environment::EnvironmentError>(())
/// ```
///
/// # Errors
///
/// [`EnvironmentError`], which names the setting that is at fault.
pub fn resolve(search: &Search) -> Result<Choice, EnvironmentError> {
    Ok(match plan(search, embedded::requirements_lock())? {
        Plan::Own(choice, _) => choice,
        Plan::Managed(managed) => managed.choice(),
    })
}

/// As [`resolve`], with the packages of the managed environment given.
pub(super) fn plan<'a>(search: &Search, lock: &'a [u8]) -> Result<Plan<'a>, EnvironmentError> {
    if let Some(choice) = own(search) {
        let inspection = examine(&choice)?;
        return Ok(Plan::Own(choice, inspection));
    }
    let base = base::find_base(search.path_var.as_deref())
        .map_err(|found| EnvironmentError::NoPython { found })?;
    Ok(Plan::Managed(Managed::new(&search.cache_dir, lock, base)))
}

/// The first Python of the user's that is named or exists.
fn own(search: &Search) -> Option<Choice> {
    let given = |path: &Option<PathBuf>, origin| {
        let path = path.as_deref().filter(|path| !path.as_os_str().is_empty())?;
        Some(Choice { python: located(path, search), origin })
    };
    let venv = |folder: &Path, origin| {
        let root = std::path::absolute(folder).ok()?.join(".venv");
        let python = root.join("bin/python");
        let exists = root.join("pyvenv.cfg").exists() || python.symlink_metadata().is_ok();
        exists.then_some(Choice { python, origin })
    };
    given(&search.configured, Origin::Configured)
        .or_else(|| given(&search.axon_python, Origin::AxonPython))
        .or_else(|| venv(search.agent_dir.as_deref()?, Origin::AgentVenv))
        .or_else(|| venv(&search.project_dir, Origin::ProjectVenv))
}

/// Where a setting points: a bare name is looked for on PATH, a relative path is the project's.
fn located(path: &Path, search: &Search) -> PathBuf {
    let bare = path.components().count() == 1 && path.is_relative();
    if let Some(found) = path
        .to_str()
        .filter(|_| bare)
        .and_then(|name| on_path(name, search.path_var.as_deref()).next())
    {
        return found;
    }
    let joined = search.project_dir.join(path);
    std::path::absolute(&joined).unwrap_or(joined)
}

/// Asks the interpreter, so that what is chosen is known to run.
fn examine(choice: &Choice) -> Result<Inspection, EnvironmentError> {
    let (python, origin) = (choice.python.clone(), choice.origin);
    if python.symlink_metadata().is_err() {
        return Err(EnvironmentError::Missing { origin, python });
    }
    if !is_executable(&python) {
        let hint = hint(&python);
        return Err(EnvironmentError::NotExecutable { origin, python, hint });
    }
    inspect(&python).map_err(|source| EnvironmentError::NotPython { origin, python, source })
}

/// What was probably meant by a path that is no executable file.
fn hint(python: &Path) -> String {
    let inner = ["bin/python", ".venv/bin/python"].map(|inner| python.join(inner));
    if let Some(inner) = inner.iter().find(|inner| is_executable(inner)) {
        return format!("; name the interpreter, {}", inner.display());
    }
    match python.read_link() {
        Ok(target) if !python.exists() => {
            format!("; it links to {}, which is gone: make that environment anew", target.display())
        }
        Ok(_) | Err(_) => String::new(),
    }
}

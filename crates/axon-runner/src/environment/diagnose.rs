//! Checks of everything that starting a runner needs, as data.

use std::os::unix::net::UnixListener;
use std::path::Path;

use serde::Serialize;

use super::base::find_uv;
use super::check::{CheckError, SYNC, examine};
use super::inspect::Inspection;
use super::search::{Choice, EnvironmentError, Plan, Search, plan};
use super::staging::create_private_dir;
use super::tested::TESTED_PYDANTIC_AI;
use crate::embedded::{self, LaidDown};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it is about; stable, for programs that read it.
    pub name: &'static str,
    /// How it stands.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// What to do about it: a command where one helps.
    pub fix: Option<String>,
}

/// How a [`Check`] stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Works, or will by itself at the next start.
    Warn,
    /// No runner starts before this is mended.
    Fail,
}

impl Check {
    fn new(name: &'static str, status: Status, detail: impl Into<String>) -> Self {
        Self { name, status, detail: detail.into(), fix: None }
    }

    fn with_fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }
}

/// Looks at everything that starting a runner needs: `python`, `environment`, `pydantic-ai`,
/// `runner-sources`, `cache`, `uv` and `unix-socket`, in this order.
///
/// `sockets` is the folder under which runners get their sockets, as in
/// [`LaunchPlan`](crate::plan::LaunchPlan). Builds and repairs nothing; of the cache, its folder
/// is made.
pub fn diagnose(search: &Search, sockets: &Path) -> Vec<Check> {
    let cache_dir = &search.cache_dir;
    let mut checks = environment(search, embedded::requirements_lock());
    checks.extend([sources(cache_dir), cache(cache_dir), uv(search), socket(sockets)]);
    checks
}

/// The checks of the interpreter and its packages.
fn environment(search: &Search, lock: &[u8]) -> Vec<Check> {
    match plan(search, lock) {
        Err(error) => {
            let fix = match &error {
                EnvironmentError::NoPython { .. } => {
                    "install Python 3.11 or newer, or set AXON_PYTHON to one".to_owned()
                }
                EnvironmentError::Missing { origin, .. }
                | EnvironmentError::NotExecutable { origin, .. }
                | EnvironmentError::NotPython { origin, .. } => format!("correct {origin}"),
            };
            vec![Check::new("python", Status::Fail, explain(&error)).with_fix(fix)]
        }
        Ok(Plan::Own(choice, inspection)) => chosen(&choice, &inspection, lock),
        Ok(Plan::Managed(managed)) => match managed.inspection() {
            Ok(Some(inspection)) => chosen(&managed.choice(), &inspection, lock),
            Ok(None) => {
                let base = managed.base();
                let python = format!("{} ({})", base.version, base.executable.display());
                let detail = format!("managed, not built yet: {}", managed.root().display());
                vec![
                    Check::new("python", Status::Ok, python),
                    Check::new("environment", Status::Warn, detail).with_fix(SYNC),
                ]
            }
            Err(error) => vec![Check::new("environment", Status::Fail, explain(&error))],
        },
    }
}

/// The checks of an environment that is there.
fn chosen(choice: &Choice, inspection: &Inspection, lock: &[u8]) -> Vec<Check> {
    let python = format!("{} ({})", inspection.version, inspection.executable.display());
    let place = format!("{}: {}", choice.origin, inspection.prefix.display());
    let found = inspection.pydantic_ai.as_deref().unwrap_or("not installed");
    let versions = format!("{found}; tested with {TESTED_PYDANTIC_AI}");
    let mut checks = vec![
        Check::new("python", Status::Ok, python),
        Check::new("environment", Status::Ok, place),
        Check::new("pydantic-ai", Status::Ok, versions),
    ];
    if let Err(error) = examine(choice, inspection, lock) {
        let about = if matches!(error, CheckError::OldPython { .. }) { 0 } else { 2 };
        checks[about].status = Status::Fail;
        checks[about].fix = error.fix().map(str::to_owned);
    }
    checks
}

fn sources(cache: &Path) -> Check {
    let hash = embedded::sources_hash();
    let folder = embedded::sources_dir(cache);
    let check = |status, state: &str| {
        Check::new("runner-sources", status, format!("{hash} {state} {}", folder.display()))
    };
    match embedded::laid_down(cache) {
        LaidDown::Intact => check(Status::Ok, "in"),
        LaidDown::Missing => check(Status::Ok, "will be written at the first start to"),
        LaidDown::Damaged => check(Status::Warn, "damaged, and will be written anew to"),
    }
}

fn cache(cache: &Path) -> Check {
    let path = cache.display();
    match create_private_dir(cache).and_then(|()| tempfile::tempfile_in(cache)) {
        Ok(_) => Check::new("cache", Status::Ok, format!("{path} is writable")),
        Err(error) => Check::new("cache", Status::Fail, format!("{path}: {error}"))
            .with_fix("set AXON_CACHE_DIR to a writable folder"),
    }
}

fn uv(search: &Search) -> Check {
    match find_uv(search.path_var.as_deref()) {
        Some(uv) => Check::new("uv", Status::Ok, uv.display().to_string()),
        None => Check::new("uv", Status::Warn, "not on PATH; pip is used, which is slower")
            .with_fix("pip install uv"),
    }
}

/// Makes a socket as a launch does. The system allows 104 to 108 bytes for its path, and the paths
/// of some temporary folders are longer.
fn socket(sockets: &Path) -> Check {
    let made = tempfile::Builder::new().prefix("axon-").tempdir_in(sockets).and_then(|folder| {
        let path = folder.path().join("runner.sock");
        UnixListener::bind(&path).map(|_| path.as_os_str().len())
    });
    let folder = sockets.display();
    match made {
        Ok(length) => {
            Check::new("unix-socket", Status::Ok, format!("{folder}: paths of {length} bytes work"))
        }
        Err(error) => Check::new("unix-socket", Status::Fail, format!("{folder}: {error}"))
            .with_fix("set TMPDIR to a writable folder with a short path, such as /tmp"),
    }
}

/// An error with its causes, on one line.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

//! The programs on PATH that a managed environment is made with.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustix::fs::{Access, access};
use serde::Deserialize;

use super::child;
use super::inspect::{ask, bytes_path};
use super::tested::is_python_recent;
use super::told::Told;

/// The names that an interpreter is looked for under, best first.
const NAMES: [&str; 5] = ["python3", "python3.13", "python3.12", "python3.11", "python3.14"];

/// `uv --version` prints at once; more is a hang.
const UV_DEADLINE: Duration = Duration::from_secs(20);

/// Prints the facts as one line of JSON, without looking at installed packages. The real path of
/// the base interpreter makes an environment survive that `python3` becomes another version, and
/// keeps it independent of the environment that happens to be active.
const SCRIPT: &str = r#"
import json, os, sys, sysconfig
from importlib.util import find_spec
executable = getattr(sys, "_base_executable", None) or sys.executable
print(json.dumps({
    "version": "%d.%d.%d" % sys.version_info[:3],
    "abi": "%s %s %s" % (sys.implementation.cache_tag, sysconfig.get_platform(), sysconfig.get_config_var("SOABI")),
    "executable": list(os.fsencode(os.path.realpath(executable))),
    "has_venv": bool(find_spec("venv") and find_spec("ensurepip")),
}))
"#;

/// The interpreter that the managed environment is based on.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    pub(crate) executable: PathBuf,
    pub(crate) version: String,
    /// Implementation, version, platform and C library: what compiled packages depend on.
    pub(crate) abi: String,
    /// Whether it can make environments with a pip inside.
    pub(crate) has_venv: bool,
}

#[derive(Deserialize)]
struct Facts {
    version: String,
    abi: String,
    executable: Vec<u8>,
    has_venv: bool,
}

/// The first interpreter on PATH that is recent enough, or those that were found and are not.
pub(crate) fn find_base(path_var: Option<&OsStr>) -> Result<Base, Vec<String>> {
    let mut too_old = Vec::new();
    for python in NAMES.into_iter().flat_map(|name| on_path(name, path_var)) {
        // One that does not run is a shim of a version that is not installed, and is passed over.
        let Some(base) = probe(&python) else { continue };
        if is_python_recent(&base.version) {
            return Ok(base);
        }
        too_old.push(format!("{} is {}", python.display(), base.version));
    }
    Err(too_old)
}

/// uv on PATH, when it runs.
pub(crate) fn find_uv(path_var: Option<&OsStr>) -> Option<PathBuf> {
    on_path("uv", path_var).find(|uv| {
        child::run(Command::new(uv).arg("--version"), UV_DEADLINE)
            .is_ok_and(|ended| ended.succeeded())
    })
}

/// The executables called `name`, in the order of PATH; relative entries are passed over, so that
/// nothing from the current folder is run.
pub(crate) fn on_path(name: &str, path_var: Option<&OsStr>) -> impl Iterator<Item = PathBuf> {
    let folders: Vec<PathBuf> = path_var.map(std::env::split_paths).into_iter().flatten().collect();
    folders
        .into_iter()
        .filter(|folder| folder.is_absolute())
        .map(move |folder| folder.join(name))
        .filter(|path| is_executable(path))
}

pub(crate) fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

/// What interpreters have said of themselves.
static TOLD: Told<Base> = Told::new();

fn probe(python: &Path) -> Option<Base> {
    if let Some(base) = TOLD.by(python) {
        return Some(base);
    }
    let asked = SystemTime::now();
    let mut command = Command::new(python);
    command.args(["-I", "-S", "-B", "-c", SCRIPT]).env_remove("__PYVENV_LAUNCHER__");
    let facts: Facts = ask(python, &mut command).ok()?;
    let base = Base {
        executable: bytes_path(facts.executable),
        version: facts.version,
        abi: facts.abi,
        has_venv: facts.has_venv,
    };
    // What a shim says depends on settings of its own, and what is missing can be installed.
    if base.has_venv && python.canonicalize().is_ok_and(|real| real == base.executable) {
        TOLD.remember(python, asked, (base.clone(), [python.to_owned()]));
    }
    Some(base)
}

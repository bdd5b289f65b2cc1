//! What a Python interpreter says of itself.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::child::{self, How};
use super::told::Told;

/// A cold start from a slow disk takes seconds; more is a hang.
const DEADLINE: Duration = Duration::from_secs(30);

/// Prints the facts as one line of JSON. Paths go as bytes, since they need not be UTF-8. Works on
/// every Python 3, so that an old one can say its version.
const SCRIPT: &str = r#"
import json, os, sys
version = lambda name: None
try:
    from importlib import metadata
    def version(name):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return None
except ImportError:
    pass
from importlib.util import find_spec
import sysconfig
stdlib = sysconfig.get_path("stdlib", sysconfig.get_default_scheme()) if hasattr(sysconfig, "get_default_scheme") else ""
if sys.prefix == sys.base_prefix and os.path.exists(os.path.join(stdlib, "EXTERNALLY-MANAGED")):
    installs = "ExternallyManaged"
else:
    installs = "Pip" if find_spec("pip") else "WithoutPip"
print(json.dumps({
    "version": "%d.%d.%d" % sys.version_info[:3],
    "pydantic_ai": version("pydantic-ai-slim"),
    "prefix": list(os.fsencode(sys.prefix)),
    "executable": list(os.fsencode(sys.executable)),
    "installs": installs,
    "path": [list(os.fsencode(entry)) for entry in sys.path],
}))
"#;

/// Why an interpreter could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// It cannot be started.
    #[error("{} cannot be started", python.display())]
    Start {
        /// The interpreter.
        python: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ran, and did not do what a Python 3 does.
    #[error("{} is no working Python 3; it said: {output}", python.display())]
    NotPython {
        /// The interpreter.
        python: PathBuf,
        /// The last lines that it printed.
        output: String,
    },
    /// It did not answer.
    #[error("{} did not answer within {} s", python.display(), after.as_secs())]
    Expired {
        /// The interpreter.
        python: PathBuf,
        /// How long was waited.
        after: Duration,
    },
}

impl InspectError {
    /// Tells whether it says something about the interpreter, and not about a busy machine.
    pub(super) fn is_about_python(&self) -> bool {
        match self {
            Self::NotPython { .. } => true,
            Self::Start { source, .. } => {
                matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
            }
            Self::Expired { .. } => false,
        }
    }
}

/// What a Python interpreter says of itself and its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The version of Python, such as `3.11.7`.
    pub version: String,
    /// The version of pydantic-ai that is installed.
    pub pydantic_ai: Option<String>,
    /// The root of the environment (`sys.prefix`).
    pub prefix: PathBuf,
    /// The interpreter (`sys.executable`): another path than the one asked when that is a shim.
    pub executable: PathBuf,
    /// How packages are installed there.
    pub installs: Installs,
}

/// How packages are installed into an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Installs {
    /// With its own pip.
    Pip,
    /// It has no pip: with one from outside, such as uv's.
    WithoutPip,
    /// Not at all: the operating system owns it (PEP 668).
    ExternallyManaged,
}

#[derive(Deserialize)]
struct Facts {
    version: String,
    pydantic_ai: Option<String>,
    prefix: Vec<u8>,
    executable: Vec<u8>,
    installs: Installs,
    #[serde(default)]
    path: Vec<Vec<u8>>,
}

/// What interpreters have said of themselves.
static TOLD: Told<Inspection> = Told::new();

/// Asks the interpreter at `python` what it is and what its environment holds.
///
/// It runs isolated (`-I`), with an empty environment, and writes no bytecode, so nothing in its
/// environment changes. It is asked once, until something is installed into its environment.
///
/// # Errors
///
/// [`InspectError`] when it cannot be started, is no Python 3, or takes longer than 30 s.
pub fn inspect(python: &Path) -> Result<Inspection, InspectError> {
    if let Some(inspection) = TOLD.by(python) {
        return Ok(inspection);
    }
    let asked = SystemTime::now();
    let mut command = Command::new(python);
    command.args(["-I", "-B", "-c", SCRIPT]).env_clear();
    let facts: Facts = ask(python, &mut command)?;
    let inspection = Inspection {
        version: facts.version,
        pydantic_ai: facts.pydantic_ai,
        prefix: bytes_path(facts.prefix),
        executable: bytes_path(facts.executable),
        installs: facts.installs,
    };
    // What a shim says depends on settings of its own.
    if inspection.executable == python {
        let own = [python.to_owned(), inspection.prefix.join("pyvenv.cfg")];
        let sources = own.into_iter().chain(facts.path.into_iter().map(bytes_path));
        TOLD.remember(python, asked, (inspection.clone(), sources));
    }
    Ok(inspection)
}

/// Runs `command` (an invocation of `python`), and reads the JSON of the last line it prints:
/// start-up hooks of the environment may print before it.
pub(crate) fn ask<T: DeserializeOwned>(
    python: &Path,
    command: &mut Command,
) -> Result<T, InspectError> {
    let python = python.to_path_buf();
    let ended = match child::run(command, DEADLINE) {
        Ok(ended) => ended,
        Err(source) => return Err(InspectError::Start { python, source }),
    };
    if ended.how == How::Expired {
        return Err(InspectError::Expired { python, after: DEADLINE });
    }
    let last = ended.stdout.lines().last().unwrap_or_default();
    match serde_json::from_str(last) {
        Ok(facts) if ended.succeeded() => Ok(facts),
        Ok(_) | Err(_) => Err(InspectError::NotPython { python, output: ended.tail(5) }),
    }
}

pub(super) fn bytes_path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

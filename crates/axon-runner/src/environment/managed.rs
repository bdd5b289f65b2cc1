//! The environment that Axon builds and owns.
//!
//! `<cache>/envs/<key>/`, where the key is the hash of everything it depends on: the lock, and the
//! interpreter's version and platform. Another lock is another folder, so an environment is never
//! changed once it is there, and running services keep theirs through an upgrade.
//!
//! It is built under a hidden name beside its place and renamed when it is complete. A virtual
//! environment holds absolute paths, but survives that for our use: `bin/python` links to the base
//! interpreter by an absolute path, and Python finds `pyvenv.cfg` from where `bin/python` stands
//! (`renamed_environment_knows_its_place` holds this down). Only the scripts beside it
//! (`bin/pip`, `bin/activate`) name the old path, and nothing here runs them.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use super::base::{Base, is_executable};
use super::check::{CheckError, examine};
use super::inspect::{Inspection, inspect};
use super::install::{Installer, Tool};
use super::lock::{self, LockError};
use super::search::{Choice, Origin};
use super::staging;
use crate::embedded::short_hash;

/// The last file of a build; an environment without it is not used.
const MARKER: &str = "axon-environment.json";

/// Changes when environments of the same lock have to be built differently.
const LAYOUT: &[u8] = b"1";

/// A process that builds may use up each of its own deadlines.
const LOCK_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Why the managed environment could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The cache folder, or something in it, cannot be read or written, or the disk is full.
    #[error(
        "cannot write the Python environment to {}; make room and make it writable, or point \
         AXON_CACHE_DIR to another folder", path.display()
    )]
    Cache {
        /// What could not be written.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The lock that keeps processes from building at the same time could not be had.
    #[error("cannot lock the Python environment")]
    Lock(#[source] LockError),
    /// The interpreter cannot make environments, and there is no uv.
    #[error(
        "{} has no venv and ensurepip modules, and uv is not on PATH; run: {fix}",
        python.display()
    )]
    NoVenv {
        /// The interpreter.
        python: PathBuf,
        /// The command that mends it.
        fix: String,
    },
    /// A program of the build cannot be started.
    #[error("cannot start {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A step of the build failed.
    #[error("`{command}` failed ({status}) while setting up Python:\n{output}")]
    Failed {
        /// The step.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The last 20 lines that it printed.
        output: String,
    },
    /// A step of the build took too long, and was killed.
    #[error("`{command}` did not end within {} s, and was killed:\n{output}", after.as_secs())]
    Expired {
        /// The step.
        command: String,
        /// How long it was given.
        after: Duration,
        /// The last 20 lines that it printed.
        output: String,
    },
}

/// How far the managed environment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Another process builds it; this one waits.
    WaitingForLock,
    /// An empty virtual environment is being made.
    CreatingVenv,
    /// The packages are being installed.
    Installing {
        /// By what.
        with: Installer,
    },
    /// It is ready. Comes only after one of the others.
    Done,
}

/// The managed environment of one lock and one interpreter, built or not.
#[derive(Debug)]
pub(super) struct Managed<'a> {
    envs: PathBuf,
    key: String,
    lock: &'a [u8],
    base: Base,
}

impl<'a> Managed<'a> {
    pub(super) fn new(cache: &Path, lock: &'a [u8], base: Base) -> Self {
        let key = short_hash([LAYOUT, lock, base.abi.as_bytes()]);
        Self { envs: cache.join("envs"), key, lock, base }
    }

    pub(super) fn root(&self) -> PathBuf {
        self.envs.join(&self.key)
    }

    pub(super) fn base(&self) -> &Base {
        &self.base
    }

    pub(super) fn choice(&self) -> Choice {
        Choice { python: self.root().join("bin/python"), origin: Origin::Managed }
    }

    /// Asks the environment when it is complete; `None` when it has to be built, since it is not
    /// there, was left half way, or has been damaged.
    pub(super) fn inspection(&self) -> Result<Option<Inspection>, CheckError> {
        let choice = self.choice();
        if !self.root().join(MARKER).is_file() || !is_executable(&choice.python) {
            return Ok(None);
        }
        match self.check() {
            Ok(inspection) => Ok(Some(inspection)),
            // A machine that is too busy to answer says nothing about the environment.
            Err(CheckError::Inspect(error)) if !error.is_about_python() => Err(error.into()),
            Err(_) => Ok(None),
        }
    }

    /// Asks the environment as it stands, whether it is what it should be.
    pub(super) fn check(&self) -> Result<Inspection, CheckError> {
        let choice = self.choice();
        let inspection = inspect(&choice.python)?;
        examine(&choice, &inspection, self.lock)?;
        Ok(inspection)
    }

    /// Builds the environment unless another process has done so by the time of the lock.
    pub(super) fn build(
        &self,
        path_var: Option<&OsStr>,
        progress: &dyn Fn(Progress),
    ) -> Result<(), BuildError> {
        let at = |path: &Path| {
            let path = path.to_path_buf();
            move |source| BuildError::Cache { path, source }
        };
        let envs = &self.envs;
        staging::create_private_dir(envs).map_err(at(envs))?;
        let lock_path = envs.join(format!("{}.lock", self.key));
        let waiting = || progress(Progress::WaitingForLock);
        let _lock =
            lock::exclusive(&lock_path, LOCK_DEADLINE, &waiting).map_err(BuildError::Lock)?;
        if matches!(self.inspection(), Ok(Some(_))) {
            progress(Progress::Done);
            return Ok(());
        }
        let tool = Tool::find(path_var, &self.base)?;
        let staged = staging::begin(envs, &self.key).map_err(at(envs))?;
        progress(Progress::CreatingVenv);
        tool.create(&self.base, staged.path())?;
        progress(Progress::Installing { with: tool.installer() });
        tool.install(self.lock, staged.path())?;
        let marker = staged.path().join(MARKER);
        fs::write(&marker, self.marker(tool.installer())).map_err(at(&marker))?;
        staging::put(staged, &self.root()).map_err(at(&self.root()))?;
        progress(Progress::Done);
        Ok(())
    }

    /// What the environment was made of, for whoever looks into the cache.
    fn marker(&self, installer: Installer) -> String {
        let facts = serde_json::json!({
            "axon": env!("CARGO_PKG_VERSION"),
            "python": self.base.version,
            "abi": self.base.abi,
            "base": self.base.executable.display().to_string(),
            "installer": installer.to_string(),
        });
        format!("{facts:#}\n")
    }
}

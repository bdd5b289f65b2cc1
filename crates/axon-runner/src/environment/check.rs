//! Whether a chosen Python can run the runner.

use std::path::PathBuf;

use super::inspect::{InspectError, Inspection, Installs, inspect};
use super::search::{Choice, Origin};
use super::tested::{TESTED_PYDANTIC_AI, is_python_recent, is_tested, requirement, shell_word};
use crate::embedded;

/// Why a Python cannot run the runner.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// It cannot be asked.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// It is too old.
    #[error(
        "{} is Python {found}, and the runner needs 3.11 or newer; {fix}", python.display()
    )]
    OldPython {
        /// The interpreter.
        python: PathBuf,
        /// Its version.
        found: String,
        /// What to do.
        fix: String,
    },
    /// pydantic-ai is not installed there.
    #[error("{} has no pydantic-ai; run: {fix}", python.display())]
    NoPydanticAi {
        /// The interpreter.
        python: PathBuf,
        /// The command that installs it.
        fix: String,
    },
    /// pydantic-ai is installed in a version that the runner is not tested with.
    #[error(
        "{} has pydantic-ai {found}, and Axon is tested with {TESTED_PYDANTIC_AI}; run: {fix}",
        python.display()
    )]
    OutOfRange {
        /// The interpreter.
        python: PathBuf,
        /// The version that it has.
        found: String,
        /// The command that installs a tested one.
        fix: String,
    },
}

impl CheckError {
    /// What to do about it: a command where one helps.
    pub fn fix(&self) -> Option<&str> {
        match self {
            Self::Inspect(_) => None,
            Self::OldPython { fix, .. }
            | Self::NoPydanticAi { fix, .. }
            | Self::OutOfRange { fix, .. } => Some(fix),
        }
    }
}

/// Checks that the chosen Python is 3.11 or newer and has pydantic-ai in the tested range.
///
/// Reads only: the fix is for the user to run.
///
/// # Errors
///
/// [`CheckError`]: what was found, what is tested, and the command that fixes it.
pub fn check(choice: &Choice) -> Result<Inspection, CheckError> {
    let inspection = inspect(&choice.python)?;
    examine(choice, &inspection, embedded::requirements_lock())?;
    Ok(inspection)
}

/// As [`check`], of an interpreter that has been asked, with a fix that installs what `lock` pins.
pub(super) fn examine(
    choice: &Choice,
    inspection: &Inspection,
    lock: &[u8],
) -> Result<(), CheckError> {
    let python = choice.python.clone();
    if !is_python_recent(&inspection.version) {
        let fix = newer_python(choice, inspection);
        return Err(CheckError::OldPython { python, found: inspection.version.clone(), fix });
    }
    let fix = || install_command(choice, inspection, lock);
    match &inspection.pydantic_ai {
        None => Err(CheckError::NoPydanticAi { python, fix: fix() }),
        Some(found) if !is_tested(found) => {
            Err(CheckError::OutOfRange { python, found: found.clone(), fix: fix() })
        }
        Some(_) => Ok(()),
    }
}

fn newer_python(choice: &Choice, inspection: &Inspection) -> String {
    match choice.origin {
        Origin::Configured | Origin::AxonPython => format!("name a newer one in {}", choice.origin),
        Origin::AgentVenv | Origin::ProjectVenv => format!(
            "make it anew with a newer one: python3.11 -m venv --clear {}",
            shell_word(&inspection.prefix)
        ),
        Origin::Managed => SYNC.to_owned(),
    }
}

/// The command that makes the managed environment anew.
pub(super) const SYNC: &str = "axon env sync";

fn install_command(choice: &Choice, inspection: &Inspection, lock: &[u8]) -> String {
    if choice.origin == Origin::Managed {
        return SYNC.to_owned();
    }
    let (python, requirement) = (shell_word(&choice.python), requirement(lock));
    match inspection.installs {
        Installs::Pip => format!("{python} -m pip install '{requirement}'"),
        Installs::WithoutPip => format!("uv pip install --python {python} '{requirement}'"),
        // The operating system owns this one, so an environment has to be made first.
        Installs::ExternallyManaged => format!(
            "{python} -m venv .venv && .venv/bin/python -m pip install '{requirement}'  # then set \
             {} to .venv/bin/python",
            choice.origin
        ),
    }
}

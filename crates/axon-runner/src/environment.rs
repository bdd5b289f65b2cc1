//! The Python environment that runners run in.
//!
//! Start reading at [`sync`], which does all there is to do before a runner starts: it chooses
//! ([`resolve`]), builds the managed environment when that is the choice, and checks what it got
//! ([`check()`]). [`diagnose()`] tells the same as data.
//!
//! Invariants: a user's environment is never changed; a setting that is wrong is an error and never
//! passed over; an environment that is not complete is never used; nothing here downloads a
//! Python or a tool; every child process has a deadline.
//!
//! All functions block, for seconds and when building for minutes: call them outside of async code
//! (`spawn_blocking`). Nothing here reads the process environment, except that pip and uv inherit
//! it for their index, proxy and certificate settings.

mod base;
mod cache;
mod check;
mod child;
mod diagnose;
mod inspect;
mod install;
pub(crate) mod lock;
mod managed;
mod search;
pub(crate) mod staging;
mod tested;
mod told;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use crate::embedded;

pub use cache::{CacheDirError, cache_dir};
pub use check::{CheckError, check};
pub use diagnose::{Check, Status, diagnose};
pub(crate) use inspect::ask;
pub use inspect::{InspectError, Inspection, Installs, inspect};
pub use install::Installer;
pub use lock::LockError;
pub use managed::{BuildError, Progress};
pub use search::{Choice, EnvironmentError, Origin, Search, resolve};
pub use tested::{OLDEST_PYTHON, TESTED_PYDANTIC_AI};

use search::Plan;

/// An environment that a runner can be started in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The interpreter, and why this one.
    pub choice: Choice,
    /// What it said of itself.
    pub inspection: Inspection,
}

/// Why no environment is ready. All are the environment's fault: exit code 4.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// No Python could be chosen.
    #[error(transparent)]
    Resolve(#[from] EnvironmentError),
    /// The managed environment could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The chosen Python cannot run the runner.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The managed environment is not there or is damaged, and may not be built.
    #[error(
        "there is no complete Python environment at {}, and none is built while frozen",
        root.display()
    )]
    Frozen {
        /// Where it would be.
        root: PathBuf,
    },
}

/// Chooses the environment, builds the managed one when that is the choice and is not there or is
/// damaged (unless [`Search::frozen`] forbids it), and checks it.
///
/// When everything is in place it starts two interpreters, the first time, and writes nothing. `progress` is called
/// from the same thread, and only when something is built or waited for.
///
/// ```no_run
/// use axon_runner::environment::{Progress, Search, cache_dir, sync};
///
/// let search = Search {
///     axon_python: std::env::var_os("AXON_PYTHON").map(Into::into),
///     project_dir: std::env::current_dir()?,
///     cache_dir: cache_dir(|name| std::env::var_os(name))?,
///     path_var: std::env::var_os("PATH"),
///     ..Search::default()
/// };
/// let ready = sync(&search, &|step| {
///     if let Progress::Installing { with } = step {
///         eprintln!("installing with {with}");
///     }
/// })?;
/// println!("{}", ready.choice.python.display());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`SyncError`]: no usable Python, a build that failed or is forbidden, or packages out of the
/// tested range.
pub fn sync(search: &Search, progress: &dyn Fn(Progress)) -> Result<Ready, SyncError> {
    sync_with(search, embedded::requirements_lock(), progress)
}

/// Finds an interpreter that is recent enough, whatever is installed in it: `AXON_PYTHON`, else the
/// first on the PATH. Takes the time of starting it once.
#[must_use]
pub fn any_python(search: &Search) -> Option<PathBuf> {
    let found = || base::find_base(search.path_var.as_deref()).ok();
    search.axon_python.clone().or_else(|| Some(found()?.executable))
}

/// As [`sync`], with the packages of the managed environment given.
fn sync_with(
    search: &Search,
    lock: &[u8],
    progress: &dyn Fn(Progress),
) -> Result<Ready, SyncError> {
    let managed = match search::plan(search, lock)? {
        Plan::Own(choice, inspection) => {
            check::examine(&choice, &inspection, lock)?;
            return Ok(Ready { choice, inspection });
        }
        Plan::Managed(managed) => managed,
    };
    let inspection = match managed.inspection()? {
        Some(inspection) => inspection,
        None if search.frozen => return Err(SyncError::Frozen { root: managed.root() }),
        None => {
            managed.build(search.path_var.as_deref(), progress)?;
            managed.check()?
        }
    };
    Ok(Ready { choice: managed.choice(), inspection })
}

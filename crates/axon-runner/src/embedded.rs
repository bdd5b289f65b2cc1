//! The runner's Python sources and lock, carried inside the crate.
//!
//! A program that depends on this crate needs no checkout and no package index to find the
//! runner: [`lay_down`] writes the sources below a cache folder, and the runner is started as
//! `<python> -I <that folder>`. The folder's name is the hash of what is in it, so two versions of
//! a program never share one, and a version skew between the two sides cannot happen.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::environment::lock::{self, LockError};
use crate::environment::staging;

include!(concat!(env!("OUT_DIR"), "/embedded_table.rs"));

/// Writing the sources takes milliseconds, so another process that needs longer hangs.
const LOCK_DEADLINE: Duration = Duration::from_secs(30);

/// Where Python puts its bytecode, beside the sources.
const BYTECODE: &str = "__pycache__";

/// Why the runner's sources could not be laid down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayDownError {
    /// The cache folder, or something in it, cannot be read or written.
    #[error(
        "cannot write the runner's sources to {}; make it writable, or point AXON_CACHE_DIR to a \
         folder that is", path.display()
    )]
    Write {
        /// What could not be written.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The lock that keeps processes from writing at the same time could not be had.
    #[error("cannot lock the runner's sources")]
    Lock(#[source] LockError),
}

/// What stands in the cache at the place of the runner's sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaidDown {
    /// Exactly the embedded sources.
    Intact,
    /// Nothing.
    Missing,
    /// Something else: [`lay_down`] replaces it.
    Damaged,
}

/// The runner's Python sources: path relative to their folder, and content.
pub fn sources() -> &'static [(&'static str, &'static [u8])] {
    FILES
}

/// The hash-pinned requirements of the managed Python environment.
pub fn requirements_lock() -> &'static [u8] {
    LOCK
}

/// The first 16 hexadecimal digits of the SHA-256 of the sources' paths and contents.
pub fn sources_hash() -> &'static str {
    static HASH: LazyLock<String> = LazyLock::new(|| {
        let parts = FILES.iter().flat_map(|(path, bytes)| [path.as_bytes(), bytes]);
        short_hash(parts)
    });
    &HASH
}

/// The folder below `cache` in which [`lay_down`] puts the sources of this version.
pub fn sources_dir(cache: &Path) -> PathBuf {
    cache.join("runner").join(sources_hash())
}

/// Tells whether `cache` holds the sources of this version.
///
/// Reads every file (about a hundred kilobytes), so that a truncated one is seen; bytecode that
/// Python wrote beside them is ignored, since Python checks it against the source by itself.
pub fn laid_down(cache: &Path) -> LaidDown {
    state(FILES, &sources_dir(cache))
}

/// Writes the runner's sources to `<cache>/runner/<hash>/` unless they are there, and returns that
/// folder.
///
/// A damaged folder is replaced. The folder appears in one step, complete; any number of processes
/// may do this at the same time.
///
/// ```
/// let cache = tempfile::tempdir()?;
/// let folder = axon_runner::embedded::lay_down(cache.path())?;
/// assert!(folder.join("__main__.py").is_file());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`LayDownError`] when the cache cannot be written, or another process holds its lock for longer
/// than half a minute.
pub fn lay_down(cache: &Path) -> Result<PathBuf, LayDownError> {
    let folder = sources_dir(cache);
    if state(FILES, &folder) != LaidDown::Intact {
        replace(FILES, &folder)?;
    }
    Ok(folder)
}

/// The first 16 hexadecimal digits of the SHA-256 of `parts`, each preceded by its length.
pub(crate) fn short_hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Puts `files` in the place of `folder`, whatever stands there.
fn replace(files: &[(&str, &[u8])], folder: &Path) -> Result<(), LayDownError> {
    let at = |path: &Path| {
        let path = path.to_path_buf();
        move |source| LayDownError::Write { path, source }
    };
    let parent = folder.parent().unwrap_or(folder);
    staging::create_private_dir(parent).map_err(at(parent))?;
    let _lock = lock::exclusive(&parent.join(".lock"), LOCK_DEADLINE, &|| ())
        .map_err(LayDownError::Lock)?;
    if state(files, folder) == LaidDown::Intact {
        return Ok(());
    }
    let fresh = staging::begin(parent, "sources").map_err(at(parent))?;
    for (path, bytes) in files {
        let path = fresh.path().join(path);
        let within = path.parent().unwrap_or(fresh.path());
        fs::create_dir_all(within).map_err(at(within))?;
        fs::write(&path, bytes).map_err(at(&path))?;
    }
    staging::put(fresh, folder).map_err(at(folder))
}

/// Compares `folder` with `files`.
fn state(files: &[(&str, &[u8])], folder: &Path) -> LaidDown {
    if fs::symlink_metadata(folder).is_err() {
        return LaidDown::Missing;
    }
    let same = files
        .iter()
        .all(|(path, bytes)| fs::read(folder.join(path)).is_ok_and(|found| found == *bytes));
    let known: BTreeSet<PathBuf> = files.iter().map(|(path, _)| folder.join(path)).collect();
    if same && has_only(folder, &known) { LaidDown::Intact } else { LaidDown::Damaged }
}

/// Tells whether `folder` holds no file but `known` ones and bytecode: the folder is first on the
/// runner's module path, and a stray module there would hide an installed one.
fn has_only(folder: &Path, known: &BTreeSet<PathBuf>) -> bool {
    let Ok(mut entries) = fs::read_dir(folder) else { return false };
    entries.all(|entry| {
        entry.is_ok_and(|entry| {
            let path = entry.path();
            entry.file_name() == BYTECODE
                || known.contains(&path)
                || (path.is_dir() && has_only(&path, known))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files_below(folder: &Path) -> BTreeSet<PathBuf> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries
            .flat_map(|path| if path.is_dir() { files_below(&path) } else { [path].into() })
            .collect()
    }

    /// Contents are watched by cargo; a file that is new and that nothing imports yet is not.
    #[test]
    fn table_names_what_stands_in_the_source_folder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/src");
        let is_source = |path: &PathBuf| {
            path.extension().is_some_and(|extension| extension == "py" || extension == "typed")
        };
        let table = sources().iter().map(|(path, _)| folder.join(path));
        assert_eq!(
            files_below(&folder).into_iter().filter(is_source).collect::<BTreeSet<_>>(),
            table.collect(),
            "touch crates/axon-runner/build.rs and build again"
        );
    }

    #[test]
    fn table_has_what_the_runner_is_started_by() {
        let has = |path| sources().iter().any(|(other, _)| *other == path);
        assert!(has("__main__.py") && has("axon_runner/__init__.py"));
    }

    #[test]
    fn laid_down_folder_holds_exactly_the_sources_and_is_kept() {
        let cache = tempfile::tempdir().unwrap();
        assert_eq!(laid_down(cache.path()), LaidDown::Missing);
        let folder = lay_down(cache.path()).unwrap();
        assert_eq!(
            files_below(&folder),
            sources().iter().map(|(path, _)| folder.join(path)).collect()
        );

        fs::create_dir(folder.join("__pycache__")).unwrap();
        fs::write(folder.join("__pycache__/x.pyc"), "bytecode").unwrap();
        assert_eq!(lay_down(cache.path()).unwrap(), folder);
        assert!(folder.join("__pycache__/x.pyc").exists(), "an intact folder was replaced");
    }

    #[test]
    fn damaged_folder_is_repaired() {
        let damages: [fn(&Path); 5] = [
            |folder| fs::write(folder.join("__main__.py"), "").unwrap(),
            |folder| fs::remove_file(folder.join("__main__.py")).unwrap(),
            |folder| fs::write(folder.join("pydantic_ai.py"), "").unwrap(),
            |folder| fs::remove_dir_all(folder).unwrap(),
            |folder| {
                fs::remove_dir_all(folder).unwrap();
                fs::write(folder, "a file").unwrap();
            },
        ];
        for damage in damages {
            let cache = tempfile::tempdir().unwrap();
            damage(&lay_down(cache.path()).unwrap());
            assert_ne!(laid_down(cache.path()), LaidDown::Intact);
            let folder = lay_down(cache.path()).unwrap();
            assert_eq!(laid_down(cache.path()), LaidDown::Intact);
            let beside: Vec<_> = fs::read_dir(folder.parent().unwrap())
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .filter(|name| name != ".lock" && Some(name.as_os_str()) != folder.file_name())
                .collect();
            assert!(beside.is_empty(), "left behind: {beside:?}");
        }
    }

    #[test]
    fn concurrent_processes_all_see_a_complete_folder() {
        let cache = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let folder = lay_down(cache.path()).unwrap();
                    assert_eq!(state(FILES, &folder), LaidDown::Intact);
                });
            }
        });
    }

    #[test]
    fn cache_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = lay_down(&file).unwrap_err();
        assert!(matches!(&error, LayDownError::Write { path, .. } if path.starts_with(&file)));
        assert!(error.to_string().contains("AXON_CACHE_DIR"));
    }
}

//! Folders of the cache that appear in one step, complete.
//!
//! A folder is filled under a hidden name beside its place and then renamed. Both steps are taken
//! under the caller's lock, so a hidden folder that is found at the start belongs to nobody.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use tempfile::TempDir;

/// Creates `path` and its parents, for their owner only.
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// An empty folder in `parent` to fill for `name`; what a killed process left is removed first.
pub(crate) fn begin(parent: &Path, name: &str) -> io::Result<TempDir> {
    let prefix = format!(".{name}-");
    for entry in fs::read_dir(parent)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            // An orphaned installer may still write there; then the next build removes it.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
    tempfile::Builder::new().prefix(&prefix).tempdir_in(parent)
}

/// Puts `fresh` in the place of `target`, whatever stands there.
pub(crate) fn put(mut fresh: TempDir, target: &Path) -> io::Result<()> {
    let parent = target.parent().unwrap_or(target);
    // A folder that is not empty cannot be renamed over: the old one moves into `aside`, and goes
    // away with it.
    let name = fresh.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let aside = tempfile::Builder::new().prefix(&name).tempdir_in(parent)?;
    match fs::rename(target, aside.path().join("was")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::rename(fresh.path(), target)?;
    fresh.disable_cleanup(true);
    Ok(())
}

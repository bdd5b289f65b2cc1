//! An exclusive lock on a file of the cache.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Why a lock on a file of the cache could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The lock file cannot be opened or locked.
    #[error("cannot lock {}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process held the lock for the whole time.
    #[error(
        "another process has held {} for {} s; end it (`lsof {}` names it), or point \
         AXON_CACHE_DIR to another folder", path.display(), after.as_secs(), path.display()
    )]
    Expired {
        /// The lock file.
        path: PathBuf,
        /// How long was waited.
        after: Duration,
    },
}

/// Holds the lock until it is dropped, or its process ends in any way.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Locks `path`, creating it; calls `on_wait` once when another process holds the lock.
///
/// The file stays: removing it while another process waits for it would hand out two locks.
pub(crate) fn exclusive(
    path: &Path,
    deadline: Duration,
    on_wait: &dyn Fn(),
) -> Result<Lock, LockError> {
    let failed = |source| LockError::Lock { path: path.to_path_buf(), source };
    let file =
        File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => return Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => on_wait(),
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    let (sender, locked) = mpsc::sync_channel(1);
    // Past the deadline this thread stays in the wait; it then gets the lock, finds nobody to give
    // it to, and drops it.
    thread::Builder::new()
        .name("axon-cache-lock".into())
        .spawn(move || {
            let result = wait(&file).map(|()| file);
            drop(sender.send(result));
        })
        .map_err(failed)?;
    match locked.recv_timeout(deadline) {
        Ok(Ok(file)) => Ok(Lock { _file: file }),
        Ok(Err(source)) => Err(failed(source)),
        Err(_) => Err(LockError::Expired { path: path.to_path_buf(), after: deadline }),
    }
}

fn wait(file: &File) -> io::Result<()> {
    loop {
        match file.lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn held_lock_is_waited_for_and_the_wait_has_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = exclusive(&path, Duration::ZERO, &|| ()).unwrap();
        let waited = Cell::new(false);
        let error = exclusive(&path, Duration::from_millis(50), &|| waited.set(true)).unwrap_err();
        assert!(matches!(error, LockError::Expired { .. }) && waited.get());

        drop(held);
        // The thread of the expired wait may have the lock for a moment.
        exclusive(&path, Duration::from_secs(30), &|| ()).unwrap();
    }
}

//! The folders of sockets: who owns one, and what is left of owners that are gone.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};
use tempfile::TempDir;

/// What the names of our folders begin with.
const PREFIX: &str = "axon-";

/// The file that is locked as long as the folder's owner lives.
const LOCK: &str = "owner.lock";

/// The file before it is locked.
const UNLOCKED: &str = "owner.lock.new";

/// The socket in a folder.
pub(crate) const SOCKET: &str = "runner.sock";

/// How old a folder without a lock is before it counts as left behind.
const OLD: Duration = Duration::from_secs(24 * 60 * 60);

/// A folder for sockets, which goes when it is dropped; after a crash, [`sweep_folders`] finds it.
#[derive(Debug)]
pub(crate) struct OwnedFolder {
    folder: TempDir,
    _lock: File,
}

impl OwnedFolder {
    /// Makes a folder directly in `parent`.
    ///
    /// # Errors
    ///
    /// [`io::Error`] if it cannot be made, or its lock cannot be had.
    pub(crate) fn make(parent: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)?;
        let unlocked = folder.path().join(UNLOCKED);
        let lock = File::create_new(&unlocked)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        // From the first moment that a sweep can see the file, it is locked.
        fs::rename(unlocked, folder.path().join(LOCK))?;
        Ok(Self { folder, _lock: lock })
    }

    /// Returns where it is.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the folders of sockets directly in `parent` that are ours and whose owners are gone, and
/// returns how many those were. What cannot be read or removed stays. Blocks for milliseconds.
pub fn sweep_folders(parent: &Path) -> usize {
    let Ok(entries) = fs::read_dir(parent) else { return 0 };
    let folders = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        entry.file_name().to_str()?.starts_with(PREFIX).then(|| entry.path())
    });
    folders.filter(|folder| is_private(folder) && sweep_folder(folder)).count()
}

/// Returns whether it is a folder, no link to one, that only our user can look into.
fn is_private(folder: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(folder)
        .is_ok_and(|found| found.is_dir() && found.uid() == own && found.mode() & 0o7777 == 0o700)
}

fn sweep_folder(folder: &Path) -> bool {
    // Held until the folder is removed, so that of two sweeps one removes it.
    let _lock = match lock_of(folder) {
        Ok(lock) => match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Some(lock),
            Err(_) => return false,
        },
        Err(Errno::NOENT) if is_forgotten(folder) => None,
        Err(_) => return false,
    };
    match fs::remove_dir_all(folder) {
        Ok(()) => {
            tracing::info!(folder = %folder.display(), "removed what a dead process had left behind");
            true
        }
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "what a dead process left behind cannot be removed");
            false
        }
    }
}

fn lock_of(folder: &Path) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let folder = rustix::fs::open(folder, flags | OFlags::DIRECTORY, Mode::empty())?;
    openat(folder, LOCK, flags, Mode::empty()).map(File::from)
}

/// Returns whether a folder without a lock, as earlier versions made them, holds nothing but a
/// socket that nobody listens on any more.
fn is_forgotten(folder: &Path) -> bool {
    let is_old = fs::symlink_metadata(folder)
        .and_then(|found| found.modified())
        .is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > OLD));
    let Ok(entries) = fs::read_dir(folder) else { return false };
    let mut names = entries.map(|entry| entry.map(|entry| entry.file_name()));
    is_old
        && names.all(|name| name.is_ok_and(|name| name == SOCKET))
        && !is_listening(&folder.join(SOCKET))
}

/// Returns whether somebody may listen on the socket.
fn is_listening(path: &Path) -> bool {
    let connected = || {
        let address = SocketAddrUnix::new(path)?;
        let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
        // A full queue of connections must not hold us up.
        rustix::io::ioctl_fionbio(&socket, true)?;
        connect(&socket, &address)
    };
    !matches!(connected(), Err(Errno::CONNREFUSED | Errno::NOENT))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Makes a folder like a process that has crashed leaves it.
    fn left_behind(parent: &Path) -> std::path::PathBuf {
        let OwnedFolder { folder, _lock } = OwnedFolder::make(parent).unwrap();
        let folder = folder.keep();
        drop(UnixListener::bind(folder.join(SOCKET)).unwrap());
        folder
    }

    fn without_lock(parent: &Path, age: Duration) -> std::path::PathBuf {
        let folder = left_behind(parent);
        fs::remove_file(folder.join(LOCK)).unwrap();
        let at = SystemTime::now() - age;
        File::open(&folder).unwrap().set_modified(at).unwrap();
        folder
    }

    #[test]
    fn only_the_folders_of_owners_that_are_gone_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let living = OwnedFolder::make(parent.path()).unwrap();
        let left = left_behind(parent.path());
        assert_eq!(sweep_folders(parent.path()), 1);
        assert!(living.path().exists() && !left.exists());
        let path = living.path().to_owned();
        drop(living);
        assert!(!path.exists());
        assert_eq!(sweep_folders(&path), 0, "a parent that is not there is no error");
    }

    #[test]
    fn what_is_not_surely_ours_stays() {
        let parent = tempfile::tempdir().unwrap();
        let open = left_behind(parent.path());
        fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let target = left_behind(elsewhere.path());
        symlink(&target, parent.path().join("axon-link")).unwrap();
        let other = parent.path().join("other");
        fs::rename(left_behind(parent.path()), &other).unwrap();
        let planted = left_behind(parent.path());
        fs::remove_file(planted.join(LOCK)).unwrap();
        symlink(target.join(LOCK), planted.join(LOCK)).unwrap();
        assert_eq!(sweep_folders(parent.path()), 0);
        assert!(open.exists() && target.exists() && other.exists() && planted.exists());
    }

    #[test]
    fn a_folder_without_a_lock_goes_when_it_is_old_and_nobody_listens() {
        let parent = tempfile::tempdir().unwrap();
        let fresh = without_lock(parent.path(), Duration::ZERO);
        let full = without_lock(parent.path(), Duration::ZERO);
        fs::write(full.join("more"), "").unwrap();
        File::open(&full).unwrap().set_modified(SystemTime::now() - 2 * OLD).unwrap();
        let used = without_lock(parent.path(), 2 * OLD);
        fs::remove_file(used.join(SOCKET)).unwrap();
        let _listening = UnixListener::bind(used.join(SOCKET)).unwrap();
        File::open(&used).unwrap().set_modified(SystemTime::now() - 2 * OLD).unwrap();
        let old = without_lock(parent.path(), 2 * OLD);
        assert_eq!(sweep_folders(parent.path()), 1);
        assert!(fresh.exists() && full.exists() && used.exists() && !old.exists());
    }
}

//! Where a store is, and how a connection to it is set up.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axon_kernel::config::Durability;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use crate::fault::{Doing, Fault};

/// How long SQLite waits for another process that holds the file.
pub(crate) const BUSY: Duration = Duration::from_secs(5);

/// How many prepared statements a connection keeps: every size of every bulk statement, and the
/// others.
const STATEMENTS: usize = 256;

/// How much room there has to be, in bytes, for a write not to have failed for want of it: some
/// pages.
const ROOM: u64 = 256 * 1024;

/// Where a store is.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Sqlite(SqliteFile),
    Postgres(Server),
}

/// A database in a file.
#[derive(Clone, Debug)]
pub(crate) struct SqliteFile {
    pub(crate) path: PathBuf,
    pub(crate) durability: Durability,
}

impl SqliteFile {
    pub(crate) fn options(&self, doing: Doing) -> SqliteConnectOptions {
        let options = SqliteConnectOptions::new()
            .filename(&self.path)
            .busy_timeout(BUSY)
            .foreign_keys(true)
            .statement_cache_capacity(STATEMENTS)
            .row_buffer_size(256)
            .thread_name(|_| "axon-store".to_owned())
            .disable_statement_logging();
        match doing {
            Doing::Reading => options.read_only(true),
            Doing::Writing => options
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(match self.durability {
                    Durability::Full => SqliteSynchronous::Full,
                    Durability::Normal => SqliteSynchronous::Normal,
                }),
        }
    }

    /// Returns the folder of the lock files.
    pub(crate) fn locks(&self) -> PathBuf {
        beside(&self.path, ".owners")
    }

    /// Returns how many bytes the database and its log take.
    pub(crate) fn bytes(&self) -> u64 {
        let files = [self.path.clone(), beside(&self.path, "-wal")];
        files.iter().filter_map(|file| std::fs::metadata(file).ok()).map(|found| found.len()).sum()
    }

    /// Says why a write failed, which SQLite does not. Nothing was recorded either way.
    fn fault_of_writing(&self, detail: &str) -> Fault {
        if self.has_no_space() {
            return Fault::Full(detail.to_owned());
        }
        Fault::Unavailable(format!("the disk refuses writes: {detail}"))
    }

    fn has_no_space(&self) -> bool {
        let space = rustix::fs::statvfs(&self.path);
        if space.is_ok_and(|space| space.f_bavail.saturating_mul(space.f_frsize) < ROOM) {
            return true;
        }
        let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Fsize).current
        else {
            return false;
        };
        let files = ["", "-wal", "-shm"].map(|suffix| beside(&self.path, suffix));
        let mut sizes = files.iter().filter_map(|file| std::fs::metadata(file).ok());
        sizes.any(|found| found.len().saturating_add(ROOM) > limit)
    }

    fn is_read_only(&self) -> bool {
        let opened = std::fs::OpenOptions::new().append(true).open(&self.path);
        opened.is_err_and(|error| {
            matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
        })
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A database of a server's. How it is reached may hold a password, and is never shown.
#[derive(Clone)]
pub(crate) struct Server(Box<PgConnectOptions>);

impl Server {
    pub(crate) fn new(options: PgConnectOptions) -> Self {
        let options = options.statement_cache_capacity(STATEMENTS).disable_statement_logging();
        Self(Box::new(options))
    }

    pub(crate) fn options(&self) -> &PgConnectOptions {
        &self.0
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.to_string()).finish()
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let database = self.0.get_database().unwrap_or_else(|| self.0.get_username());
        match self.0.get_socket() {
            Some(folder) => write!(f, "{} ({database})", folder.display()),
            None => write!(f, "{}:{}/{database}", self.0.get_host(), self.0.get_port()),
        }
    }
}

impl Source {
    /// Says what it is and where, without secrets.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Sqlite(file) => format!("SQLite {}", file.path.display()),
            Self::Postgres(server) => format!("PostgreSQL {server}"),
        }
    }

    /// Says why a connection failed.
    pub(crate) fn fault_of_connecting(&self, error: sqlx::Error, doing: Doing) -> Fault {
        match (self, Fault::of(error, doing)) {
            (Self::Sqlite(file), Fault::Unavailable(detail)) if file.is_read_only() => {
                Fault::ReadOnly(detail)
            }
            (_, fault) => self.explained(fault),
        }
    }

    /// Finds out what `fault` leaves open.
    pub(crate) fn explained(&self, fault: Fault) -> Fault {
        match (self, fault) {
            (Self::Sqlite(file), Fault::Unwritten(detail)) => file.fault_of_writing(&detail),
            (_, fault) => fault,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_fails_where_there_is_room_is_blamed_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("axon.db");
        std::fs::write(&path, "x").unwrap();
        let source = Source::Sqlite(SqliteFile { path, durability: Durability::Full });
        let fault = source.explained(Fault::Unwritten("disk I/O error".to_owned()));
        let Fault::Unavailable(detail) = fault else { panic!("{fault:?}") };
        assert_eq!(detail, "the disk refuses writes: disk I/O error");
    }
}

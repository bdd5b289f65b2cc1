//! What a database can fail with, in the store's own words.

use std::io;
use std::path::Path;
use std::sync::Arc;

use axon_kernel::store::StoreError;

/// Why a statement or a transaction failed. Unlike [`StoreError`] it can be told to several
/// callers, because one transaction carries the writes of many.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("no space: {0}")]
    Full(String),
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The link itself is of no more use, and what it was asked last may have been done.
    #[error("the link was lost: {0}")]
    Lost(String),
    /// A write to SQLite's file failed, and SQLite does not say why.
    #[error("a write failed: {0}")]
    Unwritten(String),
    #[error("read only: {0}")]
    ReadOnly(String),
    #[error("damaged at {place}: {detail}")]
    Damaged { place: String, detail: String },
    #[error("schema {found} is newer than {known}")]
    Newer { found: i64, known: i64 },
    #[error("another number of rows changed")]
    Changes { sql: String, expected: u64, found: u64 },
    /// A statement of a tool's own failed. One that only met another writer may succeed `again`.
    #[error("a tool's statement failed: {detail}")]
    Write { sql: String, detail: String, again: bool },
    #[error("the disk failed: {0}")]
    Stopped(String),
    /// Two writers met. The same once more, alone, finds out what is true.
    #[error("two writers met: {0}")]
    Clash(String),
    #[error("the database refused")]
    Other(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

/// What the statement was part of, which decides what a failing disk means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    Reading,
    Writing,
}

impl Fault {
    pub(crate) fn damaged(place: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Damaged { place: place.into(), detail: detail.into() }
    }

    pub(crate) fn other(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Other(Arc::new(error))
    }

    /// Returns whether the fault may belong to one operation of a batch and not to its neighbours.
    pub(crate) fn may_be_of_one(&self) -> bool {
        matches!(self, Self::Clash(_) | Self::Other(_) | Self::Damaged { .. }) || self.is_a_race()
    }

    /// Returns whether the same operation, alone, may succeed the next time.
    pub(crate) fn is_a_race(&self) -> bool {
        matches!(self, Self::Clash(_) | Self::Write { again: true, .. })
    }

    /// Says what `error` means of the statement `sql`, which is a tool's own.
    pub(crate) fn of_write(error: sqlx::Error, sql: &str) -> Self {
        let code = error.as_database_error().and_then(|refusal| refusal.code());
        let again = matches!(code.as_deref(), Some("40001" | "40P01"));
        Self::of(error, Doing::Writing).blamed_on(sql, again)
    }

    /// Blames the statement `sql` of a tool's for what is not the store's own trouble.
    pub(crate) fn blamed_on(self, sql: &str, again: bool) -> Self {
        let write = |detail| Self::Write { sql: sql.to_owned(), detail, again };
        if let Self::Clash(detail) = self {
            return write(detail);
        }
        if let Self::Other(error) = self { write(error.to_string()) } else { self }
    }

    /// Says what `error` of SQLite's or PostgreSQL's means.
    pub(crate) fn of(error: sqlx::Error, doing: Doing) -> Self {
        let sqlx::Error::Database(refusal) = &error else { return Self::of_link(error) };
        let Some(code) = refusal.code() else { return Self::other(error) };
        let detail = refusal.message().to_owned();
        let known = match code.parse::<u32>() {
            // SQLSTATEs have five characters; SQLite's extended codes have at most four digits.
            Ok(number) if code.len() < 5 => of_sqlite(number, detail, doing),
            _ => of_postgres(&code, detail),
        };
        known.unwrap_or_else(|| Self::other(error))
    }

    fn of_link(error: sqlx::Error) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "its enum has arms by feature")]
        match &error {
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed => {
                Self::Lost(error.to_string())
            }
            sqlx::Error::ColumnDecode { index, source } => {
                Self::damaged(format!("column {index}"), source.to_string())
            }
            sqlx::Error::Decode(source) => Self::damaged("a value", source.to_string()),
            // sqlx says so when the server went away between two messages.
            sqlx::Error::Protocol(detail) => Self::Lost(detail.clone()),
            _ => Self::other(error),
        }
    }

    /// Says what an error at `path` means, which is a file beside the database.
    pub(crate) fn of_file(path: &Path, error: &io::Error) -> Self {
        use io::ErrorKind as E;
        let detail = format!("{}: {error}", path.display());
        let kind = error.kind();
        if matches!(kind, E::StorageFull | E::QuotaExceeded | E::FileTooLarge) {
            Self::Full(detail)
        } else if matches!(kind, E::PermissionDenied | E::ReadOnlyFilesystem) {
            Self::ReadOnly(detail)
        } else {
            Self::Unavailable(detail)
        }
    }
}

fn of_sqlite(code: u32, detail: String, doing: Doing) -> Option<Fault> {
    const IOERR_SHORT_READ: u32 = 522;
    const IOERR_WRITE: u32 = 778;
    const IOERR_SHMSIZE: u32 = 4874;
    const IOERR_DATA: u32 = 8202;
    const IOERR_CORRUPTFS: u32 = 8458;
    match (code & 0xff, code) {
        (_, IOERR_WRITE | IOERR_SHMSIZE) => Some(Fault::Unwritten(detail)),
        (13, _) => Some(Fault::Full(detail)),
        (_, IOERR_SHORT_READ | IOERR_DATA | IOERR_CORRUPTFS) | (11 | 26, _) => {
            Some(Fault::damaged("the database file", detail))
        }
        (5 | 6 | 15, _) => Some(Fault::Unavailable(detail)),
        (8, _) => Some(Fault::ReadOnly(detail)),
        (14, _) => Some(Fault::Unavailable(detail)),
        (10, _) if doing == Doing::Writing => Some(Fault::Stopped(detail)),
        (19, _) => Some(Fault::Clash(detail)),
        _ => None,
    }
}

fn of_postgres(code: &str, detail: String) -> Option<Fault> {
    match code {
        "53100" => Some(Fault::Full(detail)),
        "58030" => Some(Fault::Stopped(detail)),
        "25006" => Some(Fault::ReadOnly(detail)),
        "XX001" | "XX002" => Some(Fault::damaged("the database", detail)),
        "40001" | "40P01" | "23505" => Some(Fault::Clash(detail)),
        "55P03" | "53300" => Some(Fault::Unavailable(detail)),
        // What the server says to a statement that it was given too few parameters for.
        "08P01" => None,
        _ if code.starts_with("08") || code.starts_with("57P") => Some(Fault::Lost(detail)),
        _ => None,
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Full(detail) => Self::Full { detail },
            Fault::Unavailable(detail)
            | Fault::Lost(detail)
            | Fault::Clash(detail)
            | Fault::Unwritten(detail) => Self::Unavailable { detail },
            Fault::ReadOnly(detail) => Self::ReadOnly { detail },
            Fault::Damaged { place, detail } => Self::Damaged { place, detail },
            Fault::Newer { found, known } => Self::Newer { found, known },
            Fault::Changes { sql, expected, found } => Self::Changes { sql, expected, found },
            Fault::Write { sql, detail, .. } => Self::Write { sql, detail },
            Fault::Stopped(detail) => Self::Stopped { detail },
            Fault::Other(error) => Self::Backend(Box::new(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(fault: Option<Fault>) -> &'static str {
        fault.map_or("failed", |fault| StoreError::from(fault).code())
    }

    #[test]
    fn what_sqlite_says_has_one_meaning() {
        for (code, doing, meaning) in [
            (13, Doing::Writing, "storage_full"),
            (778, Doing::Writing, "storage_unavailable"),
            (4874, Doing::Writing, "storage_unavailable"),
            (5, Doing::Writing, "storage_unavailable"),
            (517, Doing::Writing, "storage_unavailable"),
            (6, Doing::Reading, "storage_unavailable"),
            (1032, Doing::Writing, "storage_read_only"),
            (11, Doing::Reading, "storage_damaged"),
            (26, Doing::Writing, "storage_damaged"),
            (1, Doing::Writing, "failed"),
            (266, Doing::Reading, "failed"),
        ] {
            assert_eq!(name(of_sqlite(code, String::new(), doing)), meaning, "{code}");
        }
    }

    #[test]
    fn a_disk_that_fails_stops_writing_and_not_reading() {
        for code in [1034, 1290, 1546] {
            let fault = of_sqlite(code, String::new(), Doing::Writing);
            assert!(matches!(fault, Some(Fault::Stopped(_))), "{code}: {fault:?}");
            assert!(of_sqlite(code, String::new(), Doing::Reading).is_none());
        }
        assert!(matches!(of_postgres("58030", String::new()), Some(Fault::Stopped(_))));
    }

    #[test]
    fn what_postgres_says_has_one_meaning() {
        for (code, meaning) in [
            ("53100", "storage_full"),
            ("57P01", "storage_unavailable"),
            ("08006", "storage_unavailable"),
            ("25006", "storage_read_only"),
            ("XX001", "storage_damaged"),
            ("42601", "failed"),
            ("08P01", "failed"),
        ] {
            assert_eq!(name(of_postgres(code, String::new())), meaning, "{code}");
        }
    }
}

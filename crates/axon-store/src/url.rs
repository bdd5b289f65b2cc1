//! Where a store is, as a text says it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use axon_kernel::config::Durability;
use sqlx::postgres::PgConnectOptions;

use crate::source::{Server, Source, SqliteFile};

/// Where a store is: a path or `sqlite:PATH`, or `postgres://USER:PASSWORD@HOST/DATABASE`.
///
/// A password in it is never shown, not even by `Debug`.
///
/// # Examples
///
/// ```
/// let url: axon_store::StoreUrl = "sqlite:.axon/axon.db".parse()?;
/// assert_eq!(url.under("/srv/bank".as_ref()).to_string(), "SQLite /srv/bank/.axon/axon.db");
/// # Ok::<(), axon_store::UrlError>(())
/// ```
#[derive(Clone, Debug)]
pub struct StoreUrl(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Sqlite(PathBuf),
    Postgres(Server),
}

/// A text that says no place where a store could be. It quotes nothing, because the text may hold
/// a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is empty.
    #[error("the store's URL is empty: write a path, `sqlite:PATH` or `postgres://…`")]
    Empty,
    /// It names the store that lasts as long as its process.
    #[error("`memory` is no database: it is the runtime's own store")]
    Memory,
    /// It begins as a URL of PostgreSQL's and does not go on as one.
    #[error("the store's URL is not one of PostgreSQL: write `postgres://USER@HOST:PORT/DATABASE`")]
    Postgres,
    /// It is a URL of something else.
    #[error("the store's URL has an unknown scheme: write a path, `sqlite:PATH` or `postgres://…`")]
    Scheme,
}

impl FromStr for StoreUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let path = text.strip_prefix("sqlite:").map(|rest| rest.strip_prefix("//").unwrap_or(rest));
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            let options = PgConnectOptions::from_str(text).map_err(|_quotes| UrlError::Postgres)?;
            return Ok(Self(Kind::Postgres(Server::new(options))));
        }
        match path.unwrap_or(text) {
            "" => Err(UrlError::Empty),
            "memory" | ":memory:" => Err(UrlError::Memory),
            rest if rest.contains("://") => Err(UrlError::Scheme),
            rest => Ok(Self(Kind::Sqlite(PathBuf::from(rest)))),
        }
    }
}

impl From<&Path> for StoreUrl {
    fn from(path: &Path) -> Self {
        Self(Kind::Sqlite(path.to_owned()))
    }
}

impl StoreUrl {
    /// Takes a relative path as one under `folder`.
    #[must_use]
    pub fn under(self, folder: &Path) -> Self {
        match self.0 {
            Kind::Sqlite(path) => Self(Kind::Sqlite(folder.join(path))),
            Kind::Postgres(server) => Self(Kind::Postgres(server)),
        }
    }

    /// Returns the file that it names, if it names one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Sqlite(path) => Some(path),
            Kind::Postgres(_) => None,
        }
    }

    pub(crate) fn source(&self, durability: Durability) -> Source {
        match &self.0 {
            Kind::Sqlite(path) => Source::Sqlite(SqliteFile { path: path.clone(), durability }),
            Kind::Postgres(server) => Source::Postgres(server.clone()),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source(Durability::default()).name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let url: StoreUrl = "postgres://me:hunter2@db.test:6543/bank".parse().unwrap();
        assert_eq!(url.to_string(), "PostgreSQL db.test:6543/bank");
        assert!(!format!("{url:?}").contains("hunter2"));
        let wrong = "postgres://me:hunter2@db.test:notaport/bank".parse::<StoreUrl>().unwrap_err();
        assert!(!format!("{wrong:?} {wrong}").contains("hunter2"));
    }

    #[test]
    fn what_is_no_place_is_refused_with_a_hint() {
        for (text, why) in [
            ("", UrlError::Empty),
            ("sqlite:", UrlError::Empty),
            ("memory", UrlError::Memory),
            ("mysql://localhost/x", UrlError::Scheme),
        ] {
            assert_eq!(text.parse::<StoreUrl>().unwrap_err(), why, "{text}");
        }
    }
}

//! Where runs and conversations are kept, and who said so.

use std::path::Path;
use std::sync::Arc;

use axon_kernel::config::Durability;
use axon_kernel::store::{Store, StoreError};
use axon_runtime::MemoryStore;
use axon_store::{OpenOptions, StoreUrl, UrlError};

use crate::report::Report;

/// What stands for no store at all.
const MEMORY: &str = "memory";

/// Where the store lies from the folder that holds the folder of agents.
const DEFAULT: &str = ".axon/axon.db";

/// Where runs and conversations are kept.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// Nowhere: they go with the process.
    Memory,
    /// Where the service around this command line keeps them.
    Given(Arc<dyn Store>),
    /// In a database.
    Database(Database),
}

/// A database.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    url: StoreUrl,
    /// Where it is, as whoever named it wrote it, without secrets.
    shown: String,
    durability: Durability,
}

/// What can say where the store is; whoever comes first decides.
#[derive(Debug)]
pub(crate) struct Choices<'a> {
    /// `--store` or `AXON_STORE`, from the working directory.
    pub(crate) named: Option<(String, &'a Path)>,
    /// The store of the service around this command line.
    pub(crate) given: Option<Arc<dyn Store>>,
    /// `[store] url`.
    pub(crate) configured: Option<&'a str>,
    /// The folder that holds the folder of agents.
    pub(crate) home: &'a Path,
    pub(crate) durability: Durability,
}

impl Choices<'_> {
    /// Decides.
    pub(crate) fn decide(self) -> Result<Place, Report> {
        let Self { named, given, configured, home, durability } = self;
        match (named, given) {
            (Some((url, directory)), _) => Place::at(&url, directory, durability),
            (None, Some(store)) => Ok(Place::Given(store)),
            (None, None) => Place::at(configured.unwrap_or(DEFAULT), home, durability),
        }
    }
}

impl Place {
    fn at(url: &str, directory: &Path, durability: Durability) -> Result<Self, Report> {
        if url == MEMORY {
            return Ok(Self::Memory);
        }
        let url: StoreUrl = url.parse().map_err(|error: UrlError| {
            Report::config(error.to_string())
                .todo("correct --store, AXON_STORE or `[store] url` of axon.toml")
        })?;
        let shown = url.to_string();
        Ok(Self::Database(Database { url: url.under(directory), shown, durability }))
    }

    /// Returns whether there is something to read: a file that nobody has made yet holds nothing.
    pub(crate) fn exists(&self) -> bool {
        match self {
            Self::Memory => false,
            Self::Given(_) => true,
            Self::Database(database) => database.url.path().is_none_or(Path::exists),
        }
    }

    /// Opens it, and makes it if it is not there.
    pub(crate) async fn open(&self) -> Result<Arc<dyn Store>, Report> {
        let database = match self {
            Self::Memory => return Ok(Arc::new(MemoryStore::default())),
            Self::Given(store) => return Ok(store.clone()),
            Self::Database(database) => database,
        };
        let opened = axon_store::open(&database.url, database.options()).await;
        opened.map_err(|error| database.cannot(error))
    }

    /// Opens it, which has to be there. It can be read where its disk is full, too.
    pub(crate) async fn open_to_read(&self) -> Result<Arc<dyn Store>, Report> {
        let Self::Database(database) = self else { return self.open().await };
        let opened = axon_store::open_to_read(&database.url, database.options()).await;
        opened.map_err(|error| database.cannot(error))
    }
}

impl Database {
    fn options(&self) -> OpenOptions {
        OpenOptions { durability: self.durability, ..OpenOptions::default() }
    }

    fn cannot(&self, error: StoreError) -> Report {
        Report::from(error).about(format!("the store {} cannot be opened", self.shown))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Given(_) => f.write_str("the service's own store"),
            Self::Database(database) => f.write_str(&database.shown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(named: Option<&str>, configured: Option<&str>) -> Place {
        let named = named.map(|url| (url.to_owned(), Path::new("/here")));
        let home = Path::new("/project");
        let durability = Durability::Full;
        Choices { named, given: None, configured, home, durability }.decide().unwrap()
    }

    fn file(place: &Place) -> Option<&Path> {
        let Place::Database(database) = place else { return None };
        database.url.path()
    }

    #[test]
    fn what_is_typed_wins_over_the_file_and_that_over_the_default() {
        let default = decided(None, None);
        assert_eq!(file(&default), Some(Path::new("/project/.axon/axon.db")));
        let configured = decided(None, Some("data/runs.db"));
        assert_eq!(file(&configured), Some(Path::new("/project/data/runs.db")));
        let named = decided(Some("sqlite:mine.db"), Some("data/runs.db"));
        assert_eq!(file(&named), Some(Path::new("/here/mine.db")));
        assert!(matches!(decided(Some("memory"), Some("x")), Place::Memory));
        assert!(!decided(Some("memory"), None).exists());
    }

    #[test]
    fn the_store_of_a_service_wins_over_the_file_and_not_over_what_is_typed() {
        let decide = |named: Option<(String, &'static Path)>| {
            let given: Option<Arc<dyn Store>> = Some(Arc::new(MemoryStore::default()));
            let (configured, home) = (Some("data/runs.db"), Path::new("/project"));
            let durability = Durability::Full;
            Choices { named, given, configured, home, durability }.decide().unwrap()
        };
        assert!(matches!(decide(None), Place::Given(_)));
        let named = ("mine.db".to_owned(), Path::new("/here"));
        assert_eq!(file(&decide(Some(named))), Some(Path::new("/here/mine.db")));
    }

    #[test]
    fn a_password_is_never_shown() {
        let place = decided(Some("postgres://me:hunter2@db.test/axon"), None);
        assert!(place.exists());
        let shown = format!("{place} {place:?}");
        assert!(shown.contains("db.test") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn an_unknown_scheme_is_a_wrong_setting() {
        let home = Path::new("/project");
        let refused = Place::at("mysql://x/y", home, Durability::Full).unwrap_err();
        assert_eq!(refused.exit(), crate::exit::Exit::CONFIG);
    }
}

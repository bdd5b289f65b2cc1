//! Opening a store.

use std::fs::{DirBuilder, OpenOptions as FileOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axon_kernel::config::Durability;
use axon_kernel::store::{Store, StoreError};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::fault::{Doing, Fault};
use crate::link::Link;
use crate::owners::Ownership;
use crate::readers::Readers;
use crate::schema;
use crate::source::{BUSY, Source};
use crate::store::SqlStore;
use crate::url::StoreUrl;
use crate::writer::{Job, QUEUE, Writer};

/// How long to wait before a database that somebody else is just opening is tried again.
const AGAIN: Duration = Duration::from_millis(50);

/// The owner that owns nothing: epochs begin with 1.
const NOBODY: i64 = 0;

/// How a store is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// What SQLite waits for before something counts as recorded. PostgreSQL has a setting of its
    /// own for that, `synchronous_commit`.
    pub durability: Durability,
    /// What this process calls itself to others that use the store.
    pub label: String,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { durability: Durability::default(), label: format!("process {}", std::process::id()) }
    }
}

/// Opens the store at `url`, which is created if it is new: SQLite's file with its folder, and the
/// tables in either database.
///
/// The store writes in a task of the tokio runtime that this is called on. It ends with the last
/// clone of what is returned, after what was asked of it before.
///
/// # Errors
///
/// [`StoreError::Newer`] if a newer Axon wrote it, [`StoreError::Damaged`] if it is no database,
/// [`StoreError::ReadOnly`], [`StoreError::Full`] and [`StoreError::Unavailable`] as they say.
pub async fn open(url: &StoreUrl, options: OpenOptions) -> Result<Arc<dyn Store>, StoreError> {
    let source = url.source(options.durability);
    if let Source::Sqlite(file) = &source {
        create(&file.path).map_err(|error| Fault::of_file(&file.path, &error))?;
    }
    let (link, ownership) = enter(&source, &options.label).await?;
    Ok(writing(source, link, ownership))
}

fn writing(source: Source, link: Link, ownership: Ownership) -> Arc<dyn Store> {
    // Bounded, so that who appends faster than the disk writes waits and piles nothing up.
    let (queue, jobs) = mpsc::channel(QUEUE);
    let store = SqlStore { epoch: ownership.epoch, queue, readers: Readers::new(source.clone()) };
    tokio::spawn(Writer::new(source, link, ownership).run(jobs));
    Arc::new(store)
}

/// Opens a store that is there, as [`open`] does; but where it cannot be written to, because its
/// disk is full or its file is somebody else's, it can still be read. Whatever would write is
/// refused with that reason then.
///
/// # Errors
///
/// [`StoreError`] as of [`open`], if it cannot be read either.
pub async fn open_to_read(
    url: &StoreUrl,
    options: OpenOptions,
) -> Result<Arc<dyn Store>, StoreError> {
    let source = url.source(options.durability);
    let fault = match enter(&source, &options.label).await {
        Ok((link, ownership)) => return Ok(writing(source, link, ownership)),
        Err(fault @ (Fault::Full(_) | Fault::ReadOnly(_))) => fault,
        Err(fault) => return Err(fault.into()),
    };
    let readers = Readers::new(source);
    let found = readers.read(|mut link| async move {
        let found = schema::version(&mut link).await?;
        Ok((link, found))
    });
    let found = found.await?;
    if found > schema::KNOWN {
        return Err(Fault::Newer { found, known: schema::KNOWN }.into());
    }
    if found < schema::KNOWN {
        // It cannot be brought to what is read here.
        return Err(fault.into());
    }
    // Each waits for its refusal, so there is no more than one for each caller.
    let (queue, jobs) = mpsc::channel(QUEUE);
    tokio::spawn(refuse(fault, jobs));
    Ok(Arc::new(SqlStore { epoch: NOBODY, queue, readers }))
}

async fn refuse(fault: Fault, mut jobs: mpsc::Receiver<Job>) {
    while let Some(job) = jobs.recv().await {
        // Whoever asked may have gone.
        let _ = job.reply.send(Err(fault.clone().into()));
    }
}

/// Connects, and enters this store among those that live.
async fn enter(source: &Source, label: &str) -> Result<(Link, Ownership), Fault> {
    let deadline = Instant::now() + BUSY;
    loop {
        match try_enter(source, label).await {
            // Two that create the same file at once get in each other's way without waiting.
            Err(Fault::Unavailable(_) | Fault::Lost(_)) if Instant::now() < deadline => {
                tokio::time::sleep(AGAIN).await;
            }
            entered => return entered,
        }
    }
}

async fn try_enter(source: &Source, label: &str) -> Result<(Link, Ownership), Fault> {
    let mut link = Link::open(source, Doing::Writing).await?;
    let entered = enter_on(&mut link, source, label).await;
    entered.map(|ownership| (link, ownership)).map_err(|fault| source.explained(fault))
}

async fn enter_on(link: &mut Link, source: &Source, label: &str) -> Result<Ownership, Fault> {
    link.begin().await?;
    schema::migrate(link).await?;
    let ownership = Ownership::enter(source, link, label).await?;
    link.commit().await?;
    Ok(ownership)
}

/// Creates the file and its folder, so that nobody else can read them.
fn create(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        if folder.file_name().is_some_and(|name| name == ".axon") {
            create_new(&folder.join(".gitignore"), b"*\n")?;
        }
    }
    create_new(path, b"")
}

fn create_new(path: &Path, content: &[u8]) -> io::Result<()> {
    match FileOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => file.write_all(content),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use axon_kernel::store::Forget;
    use axon_kernel::time::Timestamp;

    use super::*;

    /// Crashes the thread of SQLite's driver: it counts parameters from one.
    async fn crash(link: &mut Link) {
        let _ = link.execute("SELECT $0", &[]).await;
        // What it is asked while it goes has no answer.
        let ask = async |link: &mut Link| {
            tokio::time::timeout(AGAIN, link.execute("SELECT 1", &[])).await
        };
        while !matches!(ask(link).await, Ok(Err(Fault::Lost(_)))) {}
    }

    #[tokio::test]
    async fn a_writer_whose_link_has_died_connects_again() {
        let folder = tempfile::tempdir().unwrap();
        let url = StoreUrl::from(folder.path().join("axon.db").as_path());
        let source = url.source(Durability::default());
        create(url.path().unwrap()).unwrap();
        let (mut link, ownership) = enter(&source, "a test").await.unwrap();
        crash(&mut link).await;
        let store = writing(source, link, ownership);
        let what = Forget { runs_before: Some(Timestamp(1)), at_most: 1, ..Forget::default() };
        assert_eq!(store.forget(&what).await.unwrap().runs, 0);
    }
}

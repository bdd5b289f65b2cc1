//! Who uses the database, and who of them lives.
//!
//! Each opened store has an epoch of its own and holds a lock that the operating system or the
//! server frees when its process ends, however that ends.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::fault::Fault;
use crate::link::{Link, Value};
use crate::rows::{Living, signed};
use crate::source::Source;

/// How many locks are tried in a row that somebody holds already, before something else is wrong.
/// They are those of processes that still use a database of the same name that was deleted.
const TRIES: usize = 1000;

/// This store among those that use the database. It lives as long as this value does.
#[derive(Debug)]
pub(crate) struct Ownership {
    pub(crate) epoch: i64,
    /// The file whose lock says that this store lives. PostgreSQL holds the lock by the session.
    #[expect(dead_code, reason = "the lock ends with it")]
    lock: Option<LockFile>,
}

#[derive(Debug)]
struct LockFile {
    path: PathBuf,
    #[expect(dead_code, reason = "the lock ends with the file that is open")]
    file: File,
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // A file that stays is removed by whoever finds that nobody holds it.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Ownership {
    /// Enters this store as one that lives, within the transaction that `link` is in.
    pub(crate) async fn enter(
        source: &Source,
        link: &mut Link,
        label: &str,
    ) -> Result<Self, Fault> {
        forget_dead(source, link).await?;
        for _ in 0..TRIES {
            let epoch = link
                .number(
                    "INSERT INTO axon_owners (label, started) VALUES ($1, $2) RETURNING epoch",
                    &[label.into(), now().into()],
                )
                .await?;
            match source {
                Source::Sqlite(file) => {
                    let folder = file.locks();
                    let lock = hold(&folder, epoch);
                    let lock = lock.map_err(|error| Fault::of_file(&folder, &error))?;
                    if lock.is_some() {
                        return Ok(Self { epoch, lock });
                    }
                }
                Source::Postgres(_) => {
                    if hold_session(link, epoch).await? {
                        return Ok(Self { epoch, lock: None });
                    }
                }
            }
        }
        Err(Fault::Unavailable("the locks of the store's owners are held by others".to_owned()))
    }
}

/// Returns the stores that live, this one included.
pub(crate) async fn living(source: &Source, link: &mut Link) -> Result<Living, Fault> {
    let mut living = entered(link, source).await?;
    if let Source::Sqlite(file) = source {
        let folder = file.locks();
        living.retain(|epoch, _| is_held(&folder, *epoch));
    }
    Ok(living)
}

/// Takes the lock of `epoch` for the session of `link`, which has lost the one that held it.
pub(crate) async fn hold_session(link: &mut Link, epoch: i64) -> Result<bool, Fault> {
    let sql =
        "SELECT pg_try_advisory_lock('axon_owners'::regclass::oid::int4, $1::int4)::int::int8";
    Ok(link.number(sql, &[epoch.into()]).await? == 1)
}

/// Returns who entered; with PostgreSQL only those whose session holds their lock.
async fn entered(link: &mut Link, source: &Source) -> Result<Living, Fault> {
    let sql = match source {
        Source::Sqlite(_) => "SELECT epoch, label FROM axon_owners",
        Source::Postgres(_) => {
            "SELECT o.epoch, o.label FROM axon_owners o JOIN pg_locks l ON l.objid::int8 = o.epoch \
             WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted \
             AND l.classid = 'axon_owners'::regclass::oid \
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        }
    };
    let mut entered = Living::new();
    for row in link.fetch(sql, &[]).await? {
        entered.insert(row.int(0)?, row.text(1)?);
    }
    Ok(entered)
}

/// Forgets the stores that are gone and own nothing.
async fn forget_dead(source: &Source, link: &mut Link) -> Result<(), Fault> {
    let living = living(source, link).await?;
    let idle = "SELECT epoch FROM axon_owners o \
                WHERE NOT EXISTS (SELECT 1 FROM axon_runs r WHERE r.owner = o.epoch)";
    for row in link.fetch(idle, &[]).await? {
        let epoch = row.int(0)?;
        if !living.contains_key(&epoch) {
            let gone: [Value; 1] = [epoch.into()];
            link.execute("DELETE FROM axon_owners WHERE epoch = $1", &gone).await?;
        }
    }
    Ok(())
}

fn lock_path(folder: &Path, epoch: i64) -> PathBuf {
    folder.join(format!("{epoch}.lock"))
}

/// Takes the lock of `epoch`; none if somebody has it.
fn hold(folder: &Path, epoch: i64) -> io::Result<Option<LockFile>> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let path = lock_path(folder, epoch);
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(LockFile { path, file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Returns whether somebody holds the lock of `epoch`. It is tried as a shared one, so that two who
/// look at the same time do not take each other for its holder.
fn is_held(folder: &Path, epoch: i64) -> bool {
    let path = lock_path(folder, epoch);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) => return error.kind() != io::ErrorKind::NotFound,
    };
    if matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        return true;
    }
    // Nobody takes this lock again: epochs are never given twice.
    let _ = std::fs::remove_file(&path);
    false
}

/// Returns the moment by the wall clock, in milliseconds.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    signed(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

//! The connections that only read. They never wait for the writer, nor it for them.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use crate::fault::{Doing, Fault};
use crate::link::Link;
use crate::source::Source;

/// How many reads run at the same time; the others wait for one of these.
const READERS: usize = 4;

/// The connections that only read.
#[derive(Debug)]
pub(crate) struct Readers {
    pub(crate) source: Source,
    permits: Semaphore,
    idle: Mutex<Vec<Link>>,
}

impl Readers {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, permits: Semaphore::new(READERS), idle: Mutex::new(Vec::new()) }
    }

    /// Waits for a connection, with which `read` reads and which it gives back with what it found.
    /// A read that fails, or that nobody waits for any more, takes its connection with it.
    pub(crate) async fn read<T, R>(&self, read: impl Fn(Link) -> R) -> Result<T, Fault>
    where
        R: Future<Output = Result<(Link, T), Fault>>,
    {
        let _permit = self.permits.acquire().await.map_err(Fault::other)?;
        let idle = self.idle().pop();
        let was_idle = idle.is_some();
        let link = match idle {
            Some(link) => link,
            None => self.connect().await?,
        };
        let (link, found) = match read(link).await {
            // The server may have gone and come back while nobody used the link.
            Err(Fault::Lost(_)) if was_idle => read(self.connect().await?).await?,
            found => found?,
        };
        self.idle().push(link);
        Ok(found)
    }

    async fn connect(&self) -> Result<Link, Fault> {
        Link::open(&self.source, Doing::Reading).await
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Link>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axon_kernel::supervision::{ChildId, Restart, Shutdown, Terms};
use serde::Serialize;

use super::{BoxError, Child};

type Starting = Pin<Box<dyn Future<Output = Result<Child, BoxError>> + Send>>;

/// What a child is, in OTP's terms: a worker or a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildKind {
    /// It does the work.
    Worker,
    /// It supervises children of its own.
    Supervisor,
}

/// How a child is started, restarted and stopped. Cheap to clone.
#[derive(Clone)]
pub struct ChildSpec {
    id: ChildId,
    start: Arc<dyn Fn() -> Starting + Send + Sync>,
    restart: Restart,
    shutdown: Option<Shutdown>,
    start_timeout: Option<Duration>,
    kind: ChildKind,
}

impl ChildSpec {
    /// Makes the spec of a child that is always restarted.
    ///
    /// `start` is called for each incarnation, in a task of its own. When the start is called off
    /// its future is dropped: what it holds must end with it.
    pub fn permanent<F, T, E>(id: impl Into<ChildId>, start: F) -> Self
    where
        F: Fn() -> T + Send + Sync + 'static,
        T: Future<Output = Result<Child, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let start = Arc::new(start);
        let start = move || {
            let start = start.clone();
            // The call itself is user code too: it runs, and panics, where it is awaited.
            Box::pin(async move { start().await.map_err(Into::into) }) as Starting
        };
        Self {
            id: id.into(),
            start: Arc::new(start),
            restart: Restart::Permanent,
            shutdown: None,
            start_timeout: None,
            kind: ChildKind::Worker,
        }
    }

    /// Makes the spec of a child that is restarted after an abnormal exit only.
    pub fn transient<F, T, E>(id: impl Into<ChildId>, start: F) -> Self
    where
        F: Fn() -> T + Send + Sync + 'static,
        T: Future<Output = Result<Child, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self { restart: Restart::Transient, ..Self::permanent(id, start) }
    }

    /// Makes the spec of a child that is never restarted, and forgotten when it ends.
    pub fn temporary<F, T, E>(id: impl Into<ChildId>, start: F) -> Self
    where
        F: Fn() -> T + Send + Sync + 'static,
        T: Future<Output = Result<Child, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self { restart: Restart::Temporary, ..Self::permanent(id, start) }
    }

    /// Sets how the child is stopped: a `Duration` is what it may take before it is killed.
    ///
    /// The default is 5 s for a worker and unlimited for a supervisor.
    #[must_use]
    pub fn shutdown(self, shutdown: impl Into<Shutdown>) -> Self {
        Self { shutdown: Some(shutdown.into()), ..self }
    }

    /// Makes every stop of the child a kill.
    #[must_use]
    pub fn brutal_kill(self) -> Self {
        self.shutdown(Shutdown::BrutalKill)
    }

    /// Lets the child take as long as it needs to stop.
    #[must_use]
    pub fn infinity(self) -> Self {
        self.shutdown(Shutdown::Infinity)
    }

    /// Says that the child is a supervisor.
    #[must_use]
    pub fn supervisor(self) -> Self {
        Self { kind: ChildKind::Supervisor, ..self }
    }

    /// Fails a start that takes longer than this; the default is no limit.
    #[must_use]
    pub fn start_timeout(self, timeout: Duration) -> Self {
        Self { start_timeout: Some(timeout), ..self }
    }

    /// Returns the identity of the child.
    #[must_use]
    pub fn id(&self) -> &ChildId {
        &self.id
    }

    /// Returns whether the child is a worker or a supervisor.
    #[must_use]
    pub fn kind(&self) -> ChildKind {
        self.kind
    }

    /// Returns when the child is restarted and how it is stopped.
    #[must_use]
    pub fn terms(&self) -> Terms {
        let shutdown = self.shutdown.unwrap_or(match self.kind {
            ChildKind::Worker => Shutdown::default(),
            ChildKind::Supervisor => Shutdown::Infinity,
        });
        Terms { restart: self.restart, shutdown }
    }

    pub(super) fn with_id(self, id: ChildId) -> Self {
        Self { id, ..self }
    }

    pub(super) fn start(&self) -> Starting {
        (self.start)()
    }

    pub(super) fn timeout(&self) -> Option<Duration> {
        self.start_timeout
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("id", &self.id)
            .field("terms", &self.terms())
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

//! Supervisors after OTP's, for actors, tasks, processes and other supervisors.
//!
//! A supervisor starts its children in order, restarts those that fail, and stops them in reverse
//! order. [`ChildSpec`] says how one child is started, restarted and stopped:
//!
//! - *restart*: a `permanent` child always, a `transient` one after an abnormal exit, a `temporary`
//!   one never. Clean exits are `normal` and `shutdown`; error, panic, kill and abort are abnormal.
//! - *strategy*: `one_for_one` restarts the child alone, `one_for_all` all children, `rest_for_one`
//!   the child and those that were started after it.
//! - *intensity*: more restarts within the window than it allows, and the supervisor stops all
//!   children and exits, abnormally, for its own supervisor to decide. Failed starts count too.
//! - *shutdown*: a child is asked, waited for, killed, and waited for again; only then is its place
//!   free.
//!
//! Three things OTP does not do: restarts wait, with backoff and jitter, and a child that ran for
//! the longest wait starts afresh; a child whose error is a
//! [`Failure`](axon_kernel::failure::Failure) of the configuration or the credentials is *given up*
//! instead of restarted, until somebody calls [`SupervisorHandle::restart_child`]; and a child that
//! does not even end when it is killed (its handler blocks the thread) counts as leaked after two
//! seconds, and is left behind.
//!
//! ```
//! use std::time::Duration;
//!
//! use axon_runtime::supervisor::{Child, ChildSpec, Supervisor};
//! # use ractor::{Actor, ActorProcessingErr, ActorRef};
//! # struct BankSupport;
//! # impl Actor for BankSupport {
//! #     type Msg = ();
//! #     type State = ();
//! #     type Arguments = ();
//! #     async fn pre_start(&self, _: ActorRef<()>, _: ()) -> Result<(), ActorProcessingErr> {
//! #         Ok(())
//! #     }
//! # }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let start = || async {
//!     let (_bank, child) = Child::spawn(BankSupport, ()).await?;
//!     Ok::<_, ractor::SpawnErr>(child)
//! };
//! let agents = Supervisor::one_for_one()
//!     .intensity(3, Duration::from_secs(60))
//!     .child(ChildSpec::permanent("bank_support", start).shutdown(Duration::from_secs(5)))
//!     .start()
//!     .await?;
//!
//! let tick = ChildSpec::transient("tick", || async {
//!     Ok::<_, std::io::Error>(Child::task(|mut stop| async move { stop.stopped().await }))
//! });
//! agents.start_child(tick).await?;
//! assert_eq!(agents.count_children().await?.active, 2);
//! agents.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! To start reading: [`Supervisor`] starts one, [`Child`] is what it sees of a child,
//! [`SupervisorHandle`] asks it. What it decides is
//! [`axon_kernel::supervision`], without any I/O.
//!
//! The invariant: no user code runs inside the supervisor, so nothing that a child does or fails to
//! do holds up its siblings.

mod actor;
mod child;
mod event;
mod exit;
mod handle;
mod keeper;
mod snapshot;
mod spec;
mod template;

use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axon_kernel::spec::{Backoff, Intensity};
use axon_kernel::supervision::{Flags, Machine};
use ractor::{Actor, SpawnErr};
use tokio::sync::{oneshot, watch};

/// The actors that [`Child::spawn`] and [`Child::actor`] take, in the one version that fits.
pub use ractor;

pub use axon_kernel::supervision::{ChildId, Incarnation, Restart, Shutdown, Strategy, Terms};
pub use child::{Child, StopSignal};
pub use event::{Happening, OnEvent, SupervisionEvent};
pub use exit::{Abnormal, BoxError, EndedUnwatched, Exit};
pub use handle::{ChildError, SupervisorHandle};
pub use keeper::StartTimedOut;
pub use snapshot::{ChildSnapshot, ChildStatus, Counts, SupervisorSnapshot};
pub use spec::{ChildKind, ChildSpec};
pub use template::{Template, TemplateHandle};

use actor::{Arguments, SupervisorActor};

/// Builds a supervisor.
pub struct Supervisor {
    flags: Flags,
    label: Arc<str>,
    children: Vec<ChildSpec>,
    on_event: Option<OnEvent>,
}

/// Why a supervisor did not start. What had been started is stopped again.
#[derive(Debug)]
pub enum SupervisorStartError {
    /// Two children have the same id.
    Duplicate(ChildId),
    /// A child could not be started.
    Child {
        /// Which one.
        id: ChildId,
        /// Why.
        cause: Abnormal,
    },
    /// It was stopped before all children were started.
    Stopped,
    /// Its own actor could not be started.
    Actor(SpawnErr),
}

impl Supervisor {
    /// Makes a supervisor that restarts a failed child alone.
    #[must_use]
    pub fn one_for_one() -> Self {
        Self::with(Strategy::OneForOne)
    }

    /// Makes a supervisor that restarts all children when one fails.
    #[must_use]
    pub fn one_for_all() -> Self {
        Self::with(Strategy::OneForAll)
    }

    /// Makes a supervisor that restarts a failed child and those that were started after it.
    #[must_use]
    pub fn rest_for_one() -> Self {
        Self::with(Strategy::RestForOne)
    }

    fn with(strategy: Strategy) -> Self {
        Self {
            flags: Flags::new(strategy),
            label: Arc::from("supervisor"),
            children: Vec::new(),
            on_event: None,
        }
    }

    /// Allows so many restarts within this time; the default is 1 in 5 s.
    #[must_use]
    pub fn intensity(mut self, max_restarts: u32, within: Duration) -> Self {
        self.flags.intensity = Intensity { max_restarts, within };
        self
    }

    /// Sets how long restarts wait, from 200 ms to 30 s by default; `None`: not at all.
    #[must_use]
    pub fn backoff(mut self, backoff: impl Into<Option<Backoff>>) -> Self {
        self.flags.backoff = backoff.into();
        self
    }

    /// Adds a child, after those that were added before.
    #[must_use]
    pub fn child(mut self, spec: ChildSpec) -> Self {
        self.children.push(spec);
        self
    }

    /// Sets the name that events, logs and snapshots carry. No registry knows it.
    #[must_use]
    pub fn named(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = label.into();
        self
    }

    /// Sets who is told what happens. It is called in the supervisor, so it must return at once.
    #[must_use]
    pub fn on_event(mut self, on_event: OnEvent) -> Self {
        self.on_event = Some(on_event);
        self
    }

    /// Starts the supervisor and its children, in order, and waits until all of them are started.
    ///
    /// Dropping the future before that ends what has been started, by force.
    ///
    /// # Errors
    ///
    /// [`SupervisorStartError::Child`] with the id and the cause of the first child that does not
    /// start: those before it have been stopped again, in reverse order.
    pub async fn start(self) -> Result<SupervisorHandle, SupervisorStartError> {
        let mut ids = HashSet::with_capacity(self.children.len());
        if let Some(twice) = self.children.iter().find(|spec| !ids.insert(spec.id())) {
            return Err(SupervisorStartError::Duplicate(twice.id().clone()));
        }
        let strategy = self.flags.strategy;
        let (begun, answer) = oneshot::channel();
        let (exit, exited) = watch::channel(None);
        let leaked = Arc::new(AtomicU64::new(0));
        let arguments = Arguments {
            label: self.label.clone(),
            machine: Machine::new(self.flags, random()),
            children: self.children,
            on_event: self.on_event,
            begun,
            exit,
            leaked: leaked.clone(),
        };
        let (actor, _task) = Actor::spawn(None, SupervisorActor, arguments)
            .await
            .map_err(SupervisorStartError::Actor)?;
        let handle = SupervisorHandle { actor, label: self.label, strategy, exit: exited, leaked };
        let mut unfinished = KillOnDrop(Some(handle.clone()));
        let begun = answer.await.unwrap_or(Err(SupervisorStartError::Stopped));
        unfinished.0 = None;
        if begun.is_err() {
            handle.exited().await;
        }
        begun.map(|()| handle)
    }
}

/// Ends a supervisor that nobody waits for any longer.
struct KillOnDrop(Option<SupervisorHandle>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.kill();
        }
    }
}

/// Returns a number that differs between supervisors, for jitter.
fn random() -> u64 {
    std::hash::RandomState::new().hash_one(0)
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("flags", &self.flags)
            .field("label", &self.label)
            .field("children", &self.children)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for SupervisorStartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate(id) => write!(f, "two children have the id {id}"),
            Self::Child { id, .. } => write!(f, "the child {id} could not be started"),
            Self::Stopped => f.write_str("the supervisor was stopped before it had started"),
            Self::Actor(_) => f.write_str("the supervisor's actor could not be started"),
        }
    }
}

impl Error for SupervisorStartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Child { cause, .. } => Some(cause.as_source()),
            Self::Actor(error) => Some(error),
            Self::Duplicate(_) | Self::Stopped => None,
        }
    }
}

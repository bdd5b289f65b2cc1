use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axon_kernel::supervision::{ChildId, Incarnation};
use serde::{Serialize, Serializer};

use super::Exit;

/// Something that happened to a child of a supervisor.
#[derive(Clone, Debug, Serialize)]
pub struct SupervisionEvent {
    /// The label of the supervisor.
    pub supervisor: Arc<str>,
    /// The child; `None` if it is about the supervisor itself.
    pub child: Option<ChildId>,
    /// Which start of the child.
    pub incarnation: Option<Incarnation>,
    /// What happened.
    #[serde(flatten)]
    pub happening: Happening,
}

/// What happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happening {
    /// The child runs; or, without a child, all first children do.
    Started,
    /// The child ended by itself.
    Exited {
        /// How.
        cause: Exit,
    },
    /// The child will be started again.
    RestartScheduled {
        /// After this wait; as data in seconds.
        #[serde(serialize_with = "seconds")]
        after: Duration,
        /// How many more restarts the window allows.
        restarts_left: u32,
    },
    /// The child could not be started.
    StartFailed {
        /// Why.
        cause: Exit,
    },
    /// The child is left down, because a restart would not help.
    GivenUp {
        /// Why.
        cause: Exit,
    },
    /// The child failed once too often: its supervisor stops all children and exits.
    Exhausted {
        /// How the child ended the last time.
        cause: Exit,
    },
    /// The child was stopped; or, without a child, the supervisor has ended.
    Stopped,
    /// The child did not end although it was killed.
    Leaked,
}

/// Takes the events of a supervisor. It is called by the supervisor, so it must return at once.
pub type OnEvent = Arc<dyn Fn(SupervisionEvent) + Send + Sync>;

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("started"),
            Self::Exited { cause } => write!(f, "exited: {cause}"),
            Self::RestartScheduled { after, restarts_left } => {
                write!(f, "restarts in {after:?}, {restarts_left} more allowed")
            }
            Self::StartFailed { cause } => write!(f, "start failed: {cause}"),
            Self::GivenUp { cause } => write!(f, "given up: {cause}"),
            Self::Exhausted { cause } => write!(f, "failed too often: {cause}"),
            Self::Stopped => f.write_str("stopped"),
            Self::Leaked => f.write_str("survived its kill"),
        }
    }
}

pub(super) fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// Logs an event, each at the level of what it means to an operator.
pub(super) fn log(event: &SupervisionEvent) {
    let supervisor = &*event.supervisor;
    let child = event.child.as_ref().map(ChildId::as_str);
    let incarnation = event.incarnation.map(|incarnation| incarnation.0);
    let happening = &event.happening;
    match happening {
        Happening::Started | Happening::Stopped => {
            tracing::debug!(supervisor, child, incarnation, "{happening}");
        }
        Happening::Exited { cause } if cause.is_clean() => {
            tracing::debug!(supervisor, child, incarnation, "{happening}");
        }
        Happening::Exited { .. }
        | Happening::RestartScheduled { .. }
        | Happening::StartFailed { .. } => {
            tracing::warn!(supervisor, child, incarnation, "{happening}");
        }
        Happening::GivenUp { .. } | Happening::Exhausted { .. } | Happening::Leaked => {
            tracing::error!(supervisor, child, incarnation, "{happening}");
        }
    }
}

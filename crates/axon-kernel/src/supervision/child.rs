use super::{CallerId, ChildId, Incarnation, Moment, Terms, Ticket};

/// A child as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildView {
    /// Its identity.
    pub id: ChildId,
    /// When it is restarted and how it is stopped.
    pub terms: Terms,
    /// What it is doing.
    pub state: ChildState,
    /// Its current or last incarnation.
    pub incarnation: Option<Incarnation>,
    /// How often it was restarted automatically.
    pub restarts: u32,
}

/// What a child is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildState {
    /// Being started.
    Starting,
    /// Running.
    Running,
    /// Waiting for its restart: until `due`, or for its siblings' turn.
    Restarting {
        /// When the wait is over.
        due: Option<Moment>,
    },
    /// Being stopped.
    Stopping,
    /// Not running, until somebody asks for it.
    Stopped,
    /// Not running, because a restart would not help.
    GivenUp,
}

/// One entry of the child table.
#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) id: ChildId,
    pub(super) terms: Terms,
    pub(super) state: State,
    pub(super) role: Role,
    pub(super) incarnation: Option<Incarnation>,
    pub(super) restarts: u32,
    /// Failures in a row, for the backoff.
    pub(super) failures: u32,
    /// Who waits for it to be stopped.
    pub(super) terminators: Vec<CallerId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Starting(Origin),
    Running { since: Moment },
    Stopping { then: Then },
    Restarting { due: Moment, ticket: Ticket },
    Stopped,
    GivenUp,
}

/// Who wanted a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The restart of this child alone.
    Restart,
    /// A start or restart of several children in order.
    Cycle,
    /// `start_child`.
    Added(CallerId),
    /// `restart_child` of a stopped child.
    Asked(CallerId),
    /// `restart_child` of a child that was given up.
    Revived(CallerId),
}

impl Origin {
    pub(super) fn caller(self) -> Option<CallerId> {
        match self {
            Self::Added(caller) | Self::Asked(caller) | Self::Revived(caller) => Some(caller),
            Self::Restart | Self::Cycle => None,
        }
    }
}

/// What becomes of an entry when its child has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Keep,
    Remove,
}

/// What the restart of several children wants of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing.
    Free,
    /// To be down, then to be started in its turn.
    Queued,
    /// To be down until the child that was given up is revived.
    Held,
}

impl Child {
    pub(super) fn new(id: ChildId, terms: Terms) -> Self {
        Self {
            id,
            terms,
            state: State::Stopped,
            role: Role::Free,
            incarnation: None,
            restarts: 0,
            failures: 0,
            terminators: Vec::new(),
        }
    }

    /// Returns whether an incarnation is starting, running or stopping.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.state, State::Starting(_) | State::Running { .. } | State::Stopping { .. })
    }
}

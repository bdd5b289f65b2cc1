use std::time::Duration;

use super::{ChildId, Incarnation, Moment, Shutdown, Terms};

/// Names a caller who waits for an answer. The driver makes it up, and maps it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallerId(pub u64);

/// Names one wait, so that a wait which no longer matters is not acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// How an incarnation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was done.
    Normal,
    /// It was asked to stop.
    Shutdown,
    /// Error, panic, kill or abort.
    Abnormal {
        /// The error will not heal by a restart: it is neither counted nor restarted.
        hopeless: bool,
    },
}

/// What happened to a supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its driver is ready: start these children, in this order.
    Begin(Vec<(ChildId, Terms)>),
    /// A start succeeded.
    Started {
        /// The child.
        id: ChildId,
        /// Which start.
        incarnation: Incarnation,
    },
    /// A start failed; nothing of it runs.
    StartFailed {
        /// The child.
        id: ChildId,
        /// Which start.
        incarnation: Incarnation,
        /// The error will not heal by a restart.
        hopeless: bool,
    },
    /// An incarnation ended, by itself or because it was asked to.
    Exited {
        /// The child.
        id: ChildId,
        /// Which incarnation.
        incarnation: Incarnation,
        /// How it ended.
        ending: Ending,
    },
    /// An incarnation did not end although it was killed; nobody waits for it any longer.
    Leaked {
        /// The child.
        id: ChildId,
        /// Which incarnation.
        incarnation: Incarnation,
    },
    /// A wait is over.
    Due(Ticket),
    /// Somebody calls.
    Called {
        /// Who.
        caller: CallerId,
        /// What for.
        call: Call,
    },
    /// Somebody wants it to stop: all children in order, then itself.
    Stop,
}

/// OTP's manual calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Add a child and start it.
    Start(ChildId, Terms),
    /// Stop a child; its entry stays, unless it is temporary.
    Terminate(ChildId),
    /// Start a child that is not running.
    Restart(ChildId),
    /// Drop the entry of a child that is not running.
    Delete(ChildId),
}

/// What a successful call is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The child runs, as this incarnation.
    Started(Incarnation),
    /// It is done.
    Done,
}

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such child.
    NotFound,
    /// The child is running.
    Running,
    /// The child is waiting for its restart.
    Restarting,
    /// A child with this id is running already.
    AlreadyStarted,
    /// A child with this id exists already, but is not running.
    AlreadyPresent,
    /// The start failed, with the cause that the driver has just reported.
    StartFailed,
    /// The start was called off: the child was terminated meanwhile.
    Cancelled,
    /// The supervisor is stopping.
    Stopped,
}

/// What a supervisor wants done. The driver carries the effects out in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start a child, and report [`Event::Started`] or [`Event::StartFailed`].
    Start {
        /// The child.
        id: ChildId,
        /// Which start.
        incarnation: Incarnation,
    },
    /// Stop an incarnation, or call off its start, and report its end.
    Stop {
        /// The child.
        id: ChildId,
        /// Which incarnation.
        incarnation: Incarnation,
        /// How.
        shutdown: Shutdown,
    },
    /// Report [`Event::Due`] at this moment.
    WaitUntil {
        /// What to report.
        ticket: Ticket,
        /// When.
        due: Moment,
    },
    /// Answer a caller.
    Reply {
        /// Who.
        caller: CallerId,
        /// With what.
        answer: Result<Answer, Refusal>,
    },
    /// The entry of a child is gone.
    Forget(ChildId),
    /// Tell whoever watches.
    Note {
        /// About which child.
        id: ChildId,
        /// And which of its incarnations; `None` before the first.
        incarnation: Option<Incarnation>,
        /// What.
        note: Note,
    },
    /// All children of [`Event::Begin`] were started.
    Begun,
    /// All children have ended: end too.
    Exit(ExitReason),
}

/// What is worth telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// It runs.
    Started,
    /// It ended by itself.
    Exited,
    /// It could not be started.
    StartFailed,
    /// It will be started again.
    RestartScheduled {
        /// After this wait.
        after: Duration,
        /// So many more restarts are allowed in the window now.
        restarts_left: u32,
    },
    /// It will not be restarted until somebody asks for it.
    GivenUp,
    /// Its restart would be one too many: the supervisor ends.
    Exhausted,
    /// It was stopped.
    Stopped,
    /// It did not end although it was killed.
    Leaked,
}

/// Why a supervisor ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// It was asked to.
    Stopped,
    /// A child's first start failed.
    StartFailed(ChildId),
    /// This child's restart was one too many.
    Exhausted(ChildId),
}

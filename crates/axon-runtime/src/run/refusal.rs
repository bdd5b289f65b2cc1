//! Why a request was refused before it became a run.

use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::ConversationId;
use axon_kernel::run::RunState;
use axon_kernel::spec::AgentName;
use axon_kernel::store::{RunSummary, StoreError};

/// Why a request was refused before it became a run. Nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No agent has this name.
    #[error("there is no agent `{name}`{}", hint(nearest.as_deref()))]
    NotFound {
        /// The name.
        name: String,
        /// The name that looks most like it.
        nearest: Option<String>,
    },
    /// The request is wrong.
    #[error("{problem}")]
    Invalid {
        /// What is wrong with it.
        problem: String,
    },
    /// The agent has as many runs as it takes.
    #[error("agent `{agent}` is overloaded: {in_flight} runs under way, {queued} waiting")]
    Overloaded {
        /// The agent.
        agent: AgentName,
        /// Runs under way.
        in_flight: usize,
        /// Runs that wait.
        queued: usize,
        /// When to try again.
        retry_after: Duration,
    },
    /// The agent's runner cannot be had, and it is not known to come back by itself soon.
    #[error("agent `{agent}` is unavailable: {cause}")]
    Unavailable {
        /// The agent.
        agent: AgentName,
        /// Why.
        cause: Box<Failure>,
        /// When it is tried again; nothing if only a restart or a reload helps.
        retry_after: Option<Duration>,
    },
    /// The whole runtime is about to end: it lets what is under way finish.
    #[error("the service is about to end and begins no new run; ask again in a moment")]
    Ending,
    /// The agent takes no new run until it is restarted.
    #[error("agent `{agent}` was drained and takes no run until it is restarted")]
    Draining {
        /// The agent.
        agent: AgentName,
    },
    /// Another turn of the conversation is under way, and this one was not to wait.
    #[error("conversation `{conversation}` {}", busy(by.as_deref()))]
    ConversationBusy {
        /// The conversation.
        conversation: ConversationId,
        /// The run that has the turn, if it waits for a person or its process has gone.
        by: Option<Box<RunSummary>>,
    },
    /// The agent, or the whole runtime, was stopped.
    #[error("agent `{agent}` was stopped")]
    Stopped {
        /// The agent.
        agent: AgentName,
    },
    /// The store did not take the run.
    #[error("the run was not accepted, because it could not be recorded: {0}")]
    Store(#[from] StoreError),
}

impl Refusal {
    /// Returns the code by which every door names this refusal.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "unknown_agent",
            Self::Invalid { .. } => "invalid_request",
            Self::Overloaded { .. } => "overloaded",
            Self::Unavailable { .. } => "agent_unavailable",
            Self::Ending => "draining",
            Self::Draining { .. } => "agent_draining",
            Self::ConversationBusy { .. } => "conversation_busy",
            Self::Stopped { .. } => "agent_stopped",
            Self::Store(error) => error.code(),
        }
    }

    /// Returns the refusal as the failure that a run would end with.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        let kind = match &self {
            Self::NotFound { .. } | Self::Invalid { .. } => FailureKind::Config,
            Self::Unavailable { cause, .. } => cause.kind,
            Self::Stopped { .. } | Self::Draining { .. } | Self::Ending => FailureKind::Cancelled,
            Self::Overloaded { .. } | Self::ConversationBusy { .. } => FailureKind::Busy,
            Self::Store(_) => FailureKind::Internal,
        };
        let mut failure = Failure::new(kind, self.to_string());
        match self {
            Self::Overloaded { retry_after, .. } => {
                failure.retry_after = Some(retry_after.as_secs_f64());
            }
            Self::Unavailable { cause, retry_after, .. } => {
                failure.message = format!("agent is unavailable: {}", cause.message);
                failure.retry_after = retry_after.map(|wait| wait.as_secs_f64());
                failure.help = cause.help;
            }
            Self::NotFound { .. }
            | Self::Invalid { .. }
            | Self::Draining { .. }
            | Self::Ending
            | Self::ConversationBusy { .. }
            | Self::Stopped { .. }
            | Self::Store(_) => {}
        }
        failure
    }
}

fn busy(by: Option<&RunSummary>) -> String {
    match by {
        None => "has a turn under way".to_owned(),
        Some(by) if by.state == RunState::Paused => {
            format!("waits for a person's decision in run `{}`", by.run_id)
        }
        Some(by) => format!("has a turn that was interrupted: run `{}`", by.run_id),
    }
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default()
}

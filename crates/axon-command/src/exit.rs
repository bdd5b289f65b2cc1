//! How the process ends: every exit code, in one place.

use std::process::ExitCode;

use axon_kernel::event::PauseReason;
use axon_kernel::failure::FailureKind;

/// The exit code of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit(u8);

impl Exit {
    pub(crate) const OK: Self = Self(0);
    /// Something failed that has no code of its own.
    pub(crate) const FAILED: Self = Self(1);
    /// What was asked cannot be asked.
    pub(crate) const USAGE: Self = Self(2);
    /// A definition or a setting is wrong.
    pub(crate) const CONFIG: Self = Self(3);
    /// The machine lacks something.
    pub(crate) const ENVIRONMENT: Self = Self(4);
    /// The provider, or a service, does not accept who asks.
    pub(crate) const CREDENTIALS: Self = Self(5);
    /// Somebody has to decide first.
    pub(crate) const UNDECIDED: Self = Self(7);
    /// Whoever read our output has gone; what a shell reports of a program that SIGPIPE ended.
    pub(crate) const CLOSED_PIPE: Self = Self(141);

    /// Returns the code by which a shell reports that `signal` ended a program.
    pub(crate) const fn of_signal(signal: u8) -> Self {
        Self(128 + signal)
    }

    /// Returns the code of a run that failed: the kernel's table says it.
    pub(crate) fn of_failure(kind: FailureKind) -> Self {
        Self(kind.row().exit_code)
    }

    /// Returns the code of a run that waits for a person.
    pub(crate) fn of_pause(reason: &PauseReason) -> Self {
        match reason {
            PauseReason::Approval { .. } => Self(7),
            PauseReason::Ambiguous { .. } => Self(8),
            PauseReason::Changed { .. } => Self::CONFIG,
            PauseReason::Quarantined { .. } | PauseReason::Interrupted { .. } => Self::FAILED,
        }
    }

    /// Returns the code of a run that cannot go on before somebody decides; `ambiguous` if about a
    /// call that may have taken effect.
    pub(crate) fn of_undecided(ambiguous: bool) -> Self {
        if ambiguous { Self(8) } else { Self::UNDECIDED }
    }

    /// Returns the code as a number.
    pub(crate) fn code(self) -> u8 {
        self.0
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

#[cfg(test)]
mod tests {
    use axon_kernel::json::RawJson;

    use super::*;

    #[test]
    fn failures_end_with_the_code_of_their_kind() {
        let codes = [
            (FailureKind::ModelAuth, 5),
            (FailureKind::OutputInvalid, 6),
            (FailureKind::RunTimeout, 124),
            (FailureKind::Config, 3),
            (FailureKind::Tool, 1),
        ];
        for (kind, code) in codes {
            assert_eq!(Exit::of_failure(kind).code(), code, "{kind}");
        }
    }

    #[test]
    fn signals_and_pauses_have_codes_of_their_own() {
        assert_eq!((Exit::of_signal(2).code(), Exit::of_signal(15).code()), (130, 143));
        let reason = PauseReason::Approval { requests: RawJson::null() };
        assert_eq!(Exit::of_pause(&reason).code(), 7);
        let reason = PauseReason::Changed { was: "a".to_owned(), is: "b".to_owned() };
        assert_eq!(Exit::of_pause(&reason), Exit::CONFIG);
    }
}

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use axon_kernel::failure::{Failure, Row};
use axon_kernel::supervision::{ChildId, Ending};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An error of any type.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// How a child or a supervisor ended. As text and as data it is its cause with the whole chain.
#[derive(Clone, Debug)]
pub enum Exit {
    /// It was done.
    Normal,
    /// It was stopped, perhaps with a reason.
    Shutdown(Option<String>),
    /// Everything else.
    Abnormal(Abnormal),
}

/// An end that was not meant to be.
#[derive(Clone, Debug)]
pub enum Abnormal {
    /// It returned an error. Downcast it to decide by its type.
    Error(Arc<dyn Error + Send + Sync>),
    /// It panicked, with this text.
    Panic(String),
    /// It was killed.
    Killed,
    /// Its task was aborted.
    Aborted,
    /// A supervisor's children failed too often.
    Exhausted {
        /// The child whose restart would have been one too many.
        child: ChildId,
        /// How that child ended.
        cause: Arc<Exit>,
    },
}

/// An actor ended before anybody watched it, so how it ended is not known (OTP's `noproc`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the actor had ended before it was watched")]
pub struct EndedUnwatched;

impl Exit {
    /// Makes an abnormal exit of an error.
    pub fn error(error: impl Into<BoxError>) -> Self {
        Self::Abnormal(Abnormal::error(error))
    }

    /// Returns whether it is OTP's `normal`, `shutdown` or `{shutdown, Info}`.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        !matches!(self, Self::Abnormal(_))
    }

    /// Returns what the kernel must know of it.
    pub(super) fn ending(&self) -> Ending {
        match self {
            Self::Normal => Ending::Normal,
            Self::Shutdown(_) => Ending::Shutdown,
            Self::Abnormal(abnormal) => Ending::Abnormal { hopeless: abnormal.is_hopeless() },
        }
    }
}

impl Abnormal {
    /// Makes an abnormal end of an error.
    pub fn error(error: impl Into<BoxError>) -> Self {
        Self::Error(Arc::from(error.into()))
    }

    /// Returns the failure behind it: the error itself, or the first one in its chain of sources.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        let Self::Error(error) = self else { return None };
        let mut next: Option<&(dyn Error + 'static)> = Some(&**error);
        while let Some(error) = next {
            if let Some(failure) = error.downcast_ref::<Failure>() {
                return Some(failure);
            }
            next = error.source();
        }
        None
    }

    /// Returns whether a restart cannot help: the definition or the credentials are wrong.
    #[must_use]
    pub fn is_hopeless(&self) -> bool {
        self.failure().is_some_and(|failure| {
            matches!(failure.kind.row().row, Row::Configuration | Row::Credentials)
        })
    }

    /// Returns it as the source of another error: its own error, where it is one.
    pub(super) fn as_source(&self) -> &(dyn Error + 'static) {
        match self {
            Self::Error(error) => &**error,
            Self::Panic(_) | Self::Killed | Self::Aborted | Self::Exhausted { .. } => self,
        }
    }
}

impl Exit {
    /// Returns it as the source of another error, where it is abnormal.
    pub(super) fn as_source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Abnormal(abnormal) => Some(abnormal.as_source()),
            Self::Normal | Self::Shutdown(_) => None,
        }
    }
}

impl From<()> for Exit {
    fn from((): ()) -> Self {
        Self::Normal
    }
}

impl<E: Into<BoxError>> From<Result<(), E>> for Exit {
    fn from(done: Result<(), E>) -> Self {
        match done {
            Ok(()) => Self::Normal,
            Err(error) => Self::error(error),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("normal"),
            Self::Shutdown(None) => f.write_str("shutdown"),
            Self::Shutdown(Some(reason)) => write!(f, "shutdown: {reason}"),
            Self::Abnormal(abnormal) => write_chain(f, abnormal),
        }
    }
}

impl Serialize for Exit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What another process tells of an end is its text, and that it was not meant to be.
impl<'de> Deserialize<'de> for Exit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::error)
    }
}

impl fmt::Display for Abnormal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => fmt::Display::fmt(error, f),
            Self::Panic(text) => write!(f, "panicked: {text}"),
            Self::Killed => f.write_str("killed"),
            Self::Aborted => f.write_str("aborted"),
            Self::Exhausted { child, .. } => {
                write!(f, "the children failed too often, {child} at last")
            }
        }
    }
}

impl Error for Abnormal {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Error(error) => error.source(),
            Self::Exhausted { cause, .. } => cause.as_source(),
            Self::Panic(_) | Self::Killed | Self::Aborted => None,
        }
    }
}

/// Writes an error and its sources, `: ` between them.
fn write_chain(f: &mut fmt::Formatter<'_>, error: &dyn Error) -> fmt::Result {
    fmt::Display::fmt(error, f)?;
    let mut next = error.source();
    while let Some(error) = next {
        write!(f, ": {error}")?;
        next = error.source();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axon_kernel::failure::FailureKind;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the launch failed")]
    struct Launch(#[source] Failure);

    fn launch(kind: FailureKind) -> Abnormal {
        Abnormal::error(Launch(Failure::new(kind, "no key")))
    }

    #[test]
    fn only_configuration_and_credentials_are_hopeless() {
        for row in axon_kernel::failure::KIND_TABLE {
            let hopeless = matches!(row.row, Row::Configuration | Row::Credentials);
            assert_eq!(launch(row.kind).is_hopeless(), hopeless, "{}", row.label);
        }
    }

    #[test]
    fn an_exit_tells_its_whole_chain() {
        let cause = Arc::new(Exit::Abnormal(launch(FailureKind::ModelAuth)));
        let child = ChildId::from("bank");
        let exhausted = Abnormal::Exhausted { child, cause };
        assert!(!exhausted.is_hopeless());
        assert_eq!(
            Exit::Abnormal(exhausted).to_string(),
            "the children failed too often, bank at last: the launch failed: model_auth: no key"
        );
    }

    #[test]
    fn a_failure_is_found_by_type_from_an_exit() {
        let abnormal = launch(FailureKind::Config);
        assert_eq!(abnormal.failure().map(|failure| failure.kind), Some(FailureKind::Config));
        assert!(Abnormal::Panic("config".to_owned()).failure().is_none());
    }
}

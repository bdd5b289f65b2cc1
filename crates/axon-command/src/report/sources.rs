//! The other errors, told to a person.

use axon_kernel::failure::FailureKind;
use axon_kernel::spec::{NameError, SpecError};
use axon_runner::TypeSchemaError;
use axon_runner::environment::{BuildError, CheckError, EnvironmentError, SyncError};
use axon_runtime::{FolderError, Refusal, StartError};
use axon_server::PageError;

use super::Report;
use crate::exit::Exit;

/// The code of everything that the machine lacks.
const ENVIRONMENT: &str = "environment";

impl From<StartError> for Report {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Folder(error) => error.into(),
            StartError::Environment(error) => error.into(),
            StartError::Refused { agent, failure } => {
                let mut report = Self::from(*failure);
                let message =
                    std::mem::replace(&mut report.what, format!("agent `{agent}` cannot start"));
                report.why.insert(0, message);
                report
            }
            StartError::Host(_) | StartError::Sources(_) => {
                Self::new(ENVIRONMENT, Exit::ENVIRONMENT, error.to_string())
                    .caused_by(&error)
                    .todo("`axon doctor` looks at everything that is needed")
            }
            StartError::Duplicate(_)
            | StartError::Unknown(_)
            | StartError::SecondSettings(..)
            | StartError::Definition(_) => Self::config(error.to_string()),
            StartError::Actor(_) => Self::failed(error.to_string()).caused_by(&error),
        }
    }
}

impl From<SyncError> for Report {
    fn from(error: SyncError) -> Self {
        let todo = fix(&error);
        let text = error.to_string();
        let (what, why) = match todo.as_deref().and_then(|fix| text.split_once(fix)) {
            // The message ends with the command, which stands in a line of its own here.
            Some((what, _)) => (what.trim_end_matches(['\n', ' ', ':']), None),
            None => match text.split_once('\n') {
                Some((what, why)) => (what.trim_end_matches(':'), Some(why)),
                None => (text.as_str(), None),
            },
        };
        let what = what.strip_suffix("; run").unwrap_or(what).trim_end_matches(';');
        let mut report = Self::new(ENVIRONMENT, Exit::ENVIRONMENT, what);
        report.why.extend(why.map(str::to_owned));
        report = report.caused_by(&error);
        report.todo.extend(todo);
        report
    }
}

/// Returns the one thing to do about a Python that cannot be used.
fn fix(error: &SyncError) -> Option<String> {
    if let SyncError::Check(CheckError::Inspect(_)) | SyncError::Build(BuildError::Lock(_)) = error
    {
        Some("axon doctor".to_owned())
    } else if let SyncError::Check(error) = error {
        error.fix().map(str::to_owned)
    } else if let SyncError::Build(BuildError::NoVenv { fix, .. }) = error {
        Some(fix.clone())
    } else if let SyncError::Build(BuildError::Failed { .. } | BuildError::Expired { .. }) = error {
        let todo = "try again with a network, or set AXON_PYTHON to a Python that has pydantic-ai";
        Some(todo.to_owned())
    } else if let SyncError::Frozen { .. } = error {
        Some("axon env sync".to_owned())
    } else if let SyncError::Resolve(EnvironmentError::NotPython { origin, .. }) = error {
        Some(format!("correct {origin}, or remove it to use the next choice"))
    } else {
        None
    }
}

impl From<TypeSchemaError> for Report {
    fn from(error: TypeSchemaError) -> Self {
        if let TypeSchemaError::Ask(error) = error {
            return Self::new("environment", Exit::ENVIRONMENT, error.to_string());
        }
        Self::config(error.to_string())
    }
}

impl From<PageError> for Report {
    fn from(error: PageError) -> Self {
        let report = Self::config(error.to_string()).caused_by(&error);
        match error {
            PageError::NoIndex(_) => report.todo("name the folder whose index.html is the page"),
            PageError::Read { .. } | PageError::TooLarge(_) => report,
        }
    }
}

impl From<FolderError> for Report {
    fn from(error: FolderError) -> Self {
        match error {
            FolderError::NotFound { name, folder, nearest } => {
                let what = format!("there is no agent `{name}` in {}", folder.display());
                let report = Self::new("unknown_agent", Exit::USAGE, what);
                match nearest {
                    Some(nearest) => report.todo(format!("did you mean `{nearest}`?")),
                    None => report,
                }
            }
            FolderError::Spec(error) => error.into(),
            FolderError::Read { .. } | FolderError::Several { .. } => {
                Self::config(error.to_string()).caused_by(&error)
            }
        }
    }
}

impl From<SpecError> for Report {
    fn from(error: SpecError) -> Self {
        let count = error.problems.len();
        let what = match count {
            1 => format!("{} has a problem", error.path),
            _ => format!("{} has {count} problems", error.path),
        };
        let mut report = Self::config(what);
        report.why =
            error.problems.iter().map(|problem| format!("{}:{problem}", error.path)).collect();
        let of =
            [("axon.toml", "config"), ("router.toml", "router"), ("pipeline.toml", "pipeline")];
        let of = of.iter().find(|(file, _)| error.path.ends_with(file));
        let of = of.map_or("agent", |(_, of)| of);
        report.todo(format!("correct the file; `axon schema {of}` gives editors its schema"))
    }
}

impl From<Refusal> for Report {
    fn from(refusal: Refusal) -> Self {
        if let Refusal::Unavailable { agent, cause, retry_after } = &refusal {
            let report = Self::from(cause.as_ref().clone());
            let report = report.about(format!("agent `{agent}` is unavailable"));
            let report = match retry_after {
                Some(wait) => {
                    report.because(format!("it is tried again in {:.0} s", wait.as_secs_f64()))
                }
                None => report,
            };
            let failure = Some(Box::new(refusal.into_failure()));
            return Self { code: "agent_unavailable", failure, ..report };
        }
        if let Refusal::ConversationBusy { conversation, by: Some(by) } = &refusal {
            return Self::conversation_held(conversation, by);
        }
        if let Refusal::Store(error) = refusal {
            return Self::from(error).about("the run was not accepted");
        }
        let exit = match &refusal {
            Refusal::NotFound { .. } | Refusal::Invalid { .. } => Exit::USAGE,
            Refusal::Unavailable { cause, .. } => Exit::of_failure(cause.kind),
            Refusal::Overloaded { .. } | Refusal::ConversationBusy { .. } => {
                Exit::of_failure(FailureKind::Busy)
            }
            Refusal::Stopped { .. }
            | Refusal::Draining { .. }
            | Refusal::Ending
            | Refusal::Store(_) => Exit::FAILED,
        };
        let text = refusal.to_string();
        let (what, todo) = match text.split_once("; did you mean") {
            Some((what, near)) => (what.to_owned(), Some(format!("did you mean{near}"))),
            None => (text, None),
        };
        let mut report = Self::new(refusal.code(), exit, what).caused_by(&refusal);
        report.todo.extend(todo);
        let code = report.code;
        let mut failure = refusal.into_failure();
        failure.class = code.to_owned();
        report.failure = Some(Box::new(failure));
        report
    }
}

impl From<NameError> for Report {
    fn from(error: NameError) -> Self {
        Self::usage(format!("`{}` is not {}", error.given, error.what)).todo(error.rule)
    }
}

/// Whoever reads our output has gone, or the disk behind it is full.
impl From<std::io::Error> for Report {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new("closed_pipe", Exit::CLOSED_PIPE, "nobody reads the output any more");
        }
        Self::failed("the output cannot be written").because(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_the_request_are_wrong_usage() {
        let nearest = Some("bank_support".to_owned());
        let report = Report::from(Refusal::NotFound { name: "bank".to_owned(), nearest });
        assert_eq!((report.exit, report.code), (Exit::USAGE, "unknown_agent"));
        assert_eq!(report.todo, ["did you mean `bank_support`?"]);
        let report = Report::from(Refusal::Invalid { problem: "no".to_owned() });
        assert_eq!((report.exit, report.code), (Exit::USAGE, "invalid_request"));
    }

    #[test]
    fn the_fixing_command_stands_alone() {
        let error = CheckError::NoPydanticAi { python: "/p".into(), fix: "pip install x".into() };
        let report = Report::from(SyncError::from(error));
        assert_eq!(report.exit, Exit::ENVIRONMENT);
        assert_eq!(report.what, "/p has no pydantic-ai");
        assert_eq!(report.todo, ["pip install x"]);
    }
}

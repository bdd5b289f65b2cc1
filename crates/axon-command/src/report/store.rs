//! What the store and the records refuse, told to a person.

use axon_kernel::ids::RunId;
use axon_kernel::run::ReplayError;
use axon_kernel::store::StoreError;
use axon_runtime::{RecordError, ResumeError};

use super::Report;
use crate::exit::Exit;
use crate::runs::short;
use crate::service::ServiceError;

/// How a run is run without any store.
const WITHOUT: &str = "`--store memory` runs without it";

impl From<StoreError> for Report {
    fn from(error: StoreError) -> Self {
        let error = if let StoreError::Backend(source) = error {
            match source.downcast::<ServiceError>() {
                Ok(error) => return Self::from(*error),
                Err(source) => StoreError::Backend(source),
            }
        } else {
            error
        };
        let exit = exit(&error);
        let report = Self::new(error.code(), exit, error.to_string()).caused_by(&error);
        match &error {
            StoreError::NotFound(_) => {
                report.todo("`axon runs` lists them; --store names another store")
            }
            StoreError::Owned { run, owner } => report
                .because(format!("{owner} lives and drives it"))
                .todo(format!("axon runs events {}", short(run)))
                .todo("end that process first, with Ctrl-C or `kill -INT`"),
            StoreError::Ended { run, .. } => report.todo(format!("axon runs show {}", short(run))),
            StoreError::Unfit { .. } => {
                report.todo("give all of what `axon runs export ID` prints of such a run")
            }
            StoreError::Conflict { .. } | StoreError::Fenced { .. } => {
                report.todo("look at it again with `axon runs`")
            }
            StoreError::Full { .. } => {
                report.todo("make space, or name another store with --store").todo(WITHOUT)
            }
            StoreError::Unavailable { .. } => {
                report.todo("try again in a moment; `axon doctor` says more").todo(WITHOUT)
            }
            StoreError::ReadOnly { .. } => report
                .todo("give this user the right to write there, or name another with --store")
                .todo(WITHOUT),
            StoreError::Damaged { .. } => report
                .because("nothing is read past the damage, and nothing is mended by itself")
                .todo("`axon doctor --thorough` finds all of it")
                .todo("put a copy back, or move the file away and begin a new one")
                .todo(WITHOUT),
            StoreError::Newer { .. } => {
                report.todo("use the newer Axon, or name another store with --store").todo(WITHOUT)
            }
            StoreError::Stopped { .. } => report
                .because("what it had acknowledged before stands")
                .todo("look at the disk, then `axon runs resume`"),
            StoreError::Changes { .. } | StoreError::Write { .. } | StoreError::Backend(_) => {
                report.todo("axon doctor")
            }
        }
    }
}

fn exit(error: &StoreError) -> Exit {
    match error {
        StoreError::NotFound(_) | StoreError::Ended { .. } | StoreError::Unfit { .. } => {
            Exit::USAGE
        }
        StoreError::Conflict { .. } | StoreError::Owned { .. } | StoreError::Fenced { .. } => {
            Exit::FAILED
        }
        StoreError::Full { .. }
        | StoreError::Unavailable { .. }
        | StoreError::ReadOnly { .. }
        | StoreError::Damaged { .. }
        | StoreError::Newer { .. }
        | StoreError::Changes { .. }
        | StoreError::Write { .. }
        | StoreError::Stopped { .. }
        | StoreError::Backend(_) => Exit::ENVIRONMENT,
    }
}

impl From<ReplayError> for Report {
    fn from(error: ReplayError) -> Self {
        Self::new("storage_damaged", Exit::ENVIRONMENT, error.to_string())
            .caused_by(&error)
            .todo("`axon doctor --thorough` looks for more of it")
    }
}

impl From<RecordError> for Report {
    fn from(error: RecordError) -> Self {
        let code = error.code();
        match error {
            RecordError::Store(error) => error.into(),
            RecordError::Unreadable { source, .. } => source.into(),
            RecordError::NotAsked { ref run, .. } => {
                Self::new(code, Exit::USAGE, error.to_string())
                    .todo(format!("axon runs show {}", short(run)))
            }
            RecordError::Decided { ref run, .. } => Self::new(code, Exit::USAGE, error.to_string())
                .because("the first decision about a call stands")
                .todo(format!("axon runs show {}", short(run))),
            RecordError::Expired { ref run, .. } => Self::new(code, Exit::USAGE, error.to_string())
                .because("nothing was decided now: what happens then was said when the run paused")
                .todo(format!("axon runs resume {}", short(run))),
            RecordError::InvalidArgs { .. } => Self::new(code, Exit::USAGE, error.to_string())
                .caused_by(&error)
                .because("nothing was decided: the call still waits"),
            RecordError::Several { ref run, .. } => Self::new(code, Exit::USAGE, error.to_string())
                .because("nothing was decided: the calls still wait")
                .todo(format!("axon runs show {}", short(run))),
            RecordError::Unwanted { ref parent, .. } => {
                Self::new(code, Exit::USAGE, error.to_string())
                    .todo(format!("axon runs show {}", short(parent)))
            }
            RecordError::OtherKind { .. } => Self::new(code, Exit::USAGE, error.to_string())
                .todo("`axon runs show ID` says what it waits for, and the commands that go on"),
        }
    }
}

impl From<ResumeError> for Report {
    fn from(error: ResumeError) -> Self {
        let (code, text) = (error.code(), error.to_string());
        let of = |exit: Exit, run: &RunId, then: &str| {
            let then = then.replace("ID", short(run));
            Self::new(code, exit, text.clone()).todo(format!("axon runs {then}"))
        };
        match error {
            ResumeError::Record(error) => error.into(),
            ResumeError::Refused(refusal) => refusal.into(),
            ResumeError::Undecided { run, .. } => of(Exit::of_undecided(false), &run, "show ID"),
            ResumeError::Changed { run, was, is, .. } => {
                of(Exit::CONFIG, &run, "resume ID --allow-changed")
                    .because(format!("its digest was {was} then, and is {is} now"))
                    .because("what the run has said and done came of the old one")
            }
            ResumeError::Quarantined { run, .. } => of(Exit::FAILED, &run, "show ID"),
            ResumeError::Secrets { .. } => Self::new(code, Exit::USAGE, text)
                .todo("go on with it in the service that gave them"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_the_environments_fault_and_has_a_way_out() {
        let report = Report::from(StoreError::Full { detail: "disk is full".to_owned() });
        assert_eq!((report.code, report.exit), ("storage_full", Exit::ENVIRONMENT));
        assert!(report.todo.iter().any(|todo| todo.contains("--store memory")));
    }

    #[test]
    fn a_run_that_is_not_there_is_wrong_usage() {
        let report = Report::from(StoreError::NotFound(RunId::new("r1")));
        assert_eq!((report.code, report.exit), ("unknown_run", Exit::USAGE));
    }

    #[test]
    fn a_changed_agent_is_allowed_by_a_flag() {
        let error = ResumeError::Changed {
            run: RunId::new("r1"),
            agent: "a".to_owned(),
            was: "1".to_owned(),
            is: "2".to_owned(),
        };
        let report = Report::from(error);
        assert_eq!(report.exit, Exit::CONFIG);
        assert_eq!(report.todo, ["axon runs resume r1 --allow-changed"]);
    }
}

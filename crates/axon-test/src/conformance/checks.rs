//! Every check, and the runner that they share.

/// Lists the checks of a module under their own names.
macro_rules! checks {
    ($($name:ident)*) => {
        pub(super) const CHECKS: &[super::Check] = &[
            $(super::Check {
                name: stringify!($name),
                run: |subject| Box::pin($name(subject)),
            },)*
        ];
    };
}

mod attempts;
mod limits;
mod permits;
mod process;
mod reconcile;
mod requests;
mod resumption;
mod steering;
mod tools;

use std::pin::Pin;
use std::time::Duration;

use axon_kernel::wire::ReadyRecord;

use super::Target;
use super::launched::Launched;
use super::link::Link;
use super::report::{CheckResult, Disagreement, Report, Verdict, expected};

/// How long one check may take.
const CHECK_WITHIN: Duration = Duration::from_secs(60);

/// How long the runner may take to be idle after a check.
const IDLE_WITHIN: Duration = Duration::from_secs(5);

type Running<'a> = Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// A claim about runners.
#[derive(Clone, Copy)]
struct Check {
    name: &'static str,
    run: for<'a> fn(&'a Subject<'a>) -> Running<'a>,
}

/// What a check is made on.
#[derive(Debug)]
struct Subject<'a> {
    target: &'a Target,
    /// The shared runner: it must be there after the check, and idle.
    shared: Launched,
    ready: ReadyRecord,
}

impl Subject<'_> {
    fn link(&self) -> &Link {
        self.shared.link()
    }

    /// Launches a runner that the check may end.
    async fn launch(&self) -> Result<Launched, Disagreement> {
        Launched::ready(self.target).await.map(|(launched, _)| launched)
    }
}

/// Makes every check on `target`.
pub(super) async fn all(target: &Target) -> Report {
    let mut report = Report::default();
    let (shared, ready) = match Launched::ready(target).await {
        Ok(launched) => launched,
        Err(disagreement) => {
            let name = "launched_runner_becomes_ready";
            report.results.push(CheckResult { name, outcome: Err(disagreement) });
            return report;
        }
    };
    let subject = Subject { target, shared, ready };
    let groups = [
        process::CHECKS,
        requests::CHECKS,
        limits::CHECKS,
        attempts::CHECKS,
        permits::CHECKS,
        tools::CHECKS,
        reconcile::CHECKS,
        resumption::CHECKS,
        steering::CHECKS,
    ];
    for check in groups.into_iter().flatten() {
        let outcome = one(check, &subject).await;
        report.results.push(CheckResult { name: check.name, outcome });
    }
    report
}

async fn one(check: &Check, subject: &Subject<'_>) -> Verdict {
    let outcome = tokio::time::timeout(CHECK_WITHIN, (check.run)(subject)).await;
    let outcome =
        outcome.unwrap_or_else(|_elapsed| Err(expected("an end of the check", "none in a minute")));
    // What a check left open is cancelled by its disconnect; it must not be in the next one's way.
    outcome.and(subject.link().idle(IDLE_WITHIN).await)
}

//! Where runs are kept, and whether it is well.

use std::sync::Arc;

use axon_kernel::run::RunState;
use axon_kernel::store::{RunQuery, Store, StoreReport};
use axon_runner::environment::Status;

use super::Finding;
use crate::report::Report;
use crate::session::Session;
use crate::store::Place;

const NAME: &str = "store";

/// How many interrupted runs are counted.
const COUNTED: usize = 1000;

/// What there is to look at.
pub(super) enum Found {
    /// One that can be read, and why it cannot be written to.
    Store(Arc<dyn Store>, Option<Finding>),
    /// No store that could be looked at, and what there is to say about that.
    Nothing(Finding),
}

/// Opens the store, and makes none.
pub(super) async fn find(session: &Session) -> Found {
    let place = match session.place() {
        Ok(place) => place,
        Err(report) => return Found::Nothing(failed(&report, "axon validate")),
    };
    if let Place::Memory = place {
        let detail = "in memory: runs and conversations go with their process";
        return Found::Nothing(ok(detail.to_owned()));
    }
    if !place.exists() {
        return Found::Nothing(ok(format!("none yet: the first run makes {place}")));
    }
    let problem = match place.open().await {
        Ok(store) => return Found::Store(store, None),
        Err(report) => failed(&report, report.first_todo().unwrap_or("--store memory")),
    };
    match place.open_to_read().await {
        Ok(store) => Found::Store(store, Some(problem)),
        Err(_same) => Found::Nothing(problem),
    }
}

/// Looks at what was found; `thorough` reads and verifies all of it.
pub(super) async fn look_at(found: Found, thorough: bool) -> Vec<Finding> {
    match found {
        Found::Nothing(finding) => vec![finding],
        Found::Store(store, problem) => {
            let mut findings = report(store.as_ref(), thorough).await;
            findings.extend(problem);
            findings
        }
    }
}

async fn report(store: &dyn Store, thorough: bool) -> Vec<Finding> {
    let report = match store.report(thorough).await {
        Ok(report) => report,
        Err(error) => {
            let report = Report::from(error);
            return vec![failed(&report, report.first_todo().unwrap_or("axon doctor"))];
        }
    };
    let mut findings = vec![ok(describe(&report, thorough))];
    findings.extend(report.damage.iter().map(|damage| Finding {
        name: NAME.to_owned(),
        status: Status::Fail,
        detail: format!("damaged: {damage}"),
        fix: Some("save what can be read with `axon runs export ID`, then put a copy back".into()),
    }));
    let query = RunQuery {
        states: vec![RunState::Queued, RunState::Running],
        unowned: true,
        limit: COUNTED,
        ..RunQuery::default()
    };
    let interrupted = store.runs(&query).await.map(|runs| runs.len()).unwrap_or_default();
    if interrupted > 0 {
        let runs = if interrupted == 1 { "run was" } else { "runs were" };
        findings.push(Finding {
            name: NAME.to_owned(),
            status: Status::Warn,
            detail: format!("{interrupted} {runs} interrupted"),
            fix: Some("axon runs resume".to_owned()),
        });
    }
    findings
}

fn describe(report: &StoreReport, thorough: bool) -> String {
    let mut parts = vec![report.name.clone(), format!("schema {}", report.schema)];
    parts.extend(report.bytes.map(size));
    let by_state: Vec<String> = report
        .runs
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(state, count)| format!("{count} {}", state.label()))
        .collect();
    parts.push(match by_state.as_slice() {
        [] => "no runs".to_owned(),
        by_state => format!("runs: {}", by_state.join(", ")),
    });
    let s = if report.conversations == 1 { "" } else { "s" };
    parts.push(format!("{} conversation{s}", report.conversations));
    if !report.others.is_empty() {
        parts.push(format!("also used by {}", report.others.join(", ")));
    }
    if thorough && report.damage.is_empty() {
        parts.push("every checksum is right".to_owned());
    }
    parts.join("; ")
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} bytes"),
        10_240..10_485_760 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

fn ok(detail: String) -> Finding {
    Finding { name: NAME.to_owned(), status: Status::Ok, detail, fix: None }
}

fn failed(report: &Report, fix: &str) -> Finding {
    Finding {
        name: NAME.to_owned(),
        status: Status::Fail,
        detail: report.in_a_line(),
        fix: Some(fix.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_described_by_what_it_holds_and_who_uses_it() {
        let mut report = StoreReport {
            name: "SQLite .axon/axon.db".to_owned(),
            durable: true,
            schema: 1,
            runs: vec![(RunState::Completed, 3), (RunState::Failed, 0), (RunState::Paused, 1)],
            conversations: 2,
            bytes: Some(40_960),
            others: vec!["process 7".to_owned()],
            damage: Vec::new(),
        };
        assert_eq!(
            describe(&report, true),
            "SQLite .axon/axon.db; schema 1; 40 KiB; runs: 3 completed, 1 paused; \
             2 conversations; also used by process 7; every checksum is right"
        );
        report.damage.push("run r1".to_owned());
        assert!(!describe(&report, true).contains("checksum"));
    }
}

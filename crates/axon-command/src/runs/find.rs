//! Which run is meant by a part of its id.

use axon_kernel::ids::RunId;
use axon_kernel::store::{RunQuery, RunSummary, Store, StoreError};

use super::next::state;
use crate::exit::Exit;
use crate::report::Report;

/// The shortest part of an id that is looked for.
const SHORTEST: usize = 4;

/// How many runs are named that a part of an id could mean.
const NAMED: usize = 5;

/// How many runs are asked for at a time.
const PAGE: usize = 1000;

/// Returns the part of an id that is shown: of a UUID its random end, of others the whole.
pub(crate) fn short(run: &RunId) -> &str {
    let text = run.as_str();
    let is_uuid = text.len() == 36 && text.bytes().filter(|byte| *byte == b'-').count() == 4;
    text.rsplit('-').next().filter(|_| is_uuid).unwrap_or(text)
}

/// Finds the run that `text` names: its id, or the beginning or end that no other run has.
pub(crate) async fn find(store: &dyn Store, text: &str) -> Result<RunSummary, Report> {
    match store.run(&RunId::new(text)).await {
        Err(StoreError::NotFound(_)) => {}
        found => return Ok(found?),
    }
    if text.len() < SHORTEST {
        let what = format!("`{text}` is too short to name a run");
        return Err(Report::usage(what).todo(format!("give {SHORTEST} characters or more")));
    }
    let mut found = matching(store, text).await?;
    match (found.pop(), found.len()) {
        (Some(run), 0) => Ok(run),
        (Some(last), _) => {
            found.push(last);
            Err(several(text, &found))
        }
        (None, _) => Err(StoreError::NotFound(RunId::new(text)).into()),
    }
}

/// Returns the newest runs whose id begins or ends like this, and no more than are worth naming.
async fn matching(store: &dyn Store, text: &str) -> Result<Vec<RunSummary>, StoreError> {
    let mut found = Vec::new();
    let mut query = RunQuery { limit: PAGE, ..RunQuery::default() };
    loop {
        let page = store.runs(&query).await?;
        let is_last = page.len() < PAGE;
        query.after = page.last().map(|run| run.run_id.clone());
        found.extend(page.into_iter().filter(|run| {
            let id = run.run_id.as_str();
            id.starts_with(text) || id.ends_with(text)
        }));
        if is_last || found.len() > NAMED {
            return Ok(found);
        }
    }
}

fn several(text: &str, found: &[RunSummary]) -> Report {
    let line = |run: &RunSummary| format!("{}  {}  {}", run.run_id, run.agent, state(run));
    let mut names: Vec<String> = found.iter().take(NAMED).map(line).collect();
    if found.len() > NAMED {
        names.push("and more".to_owned());
    }
    Report::new("usage", Exit::USAGE, format!("`{text}` could be several runs"))
        .because(names.join("\n"))
        .todo("give more of the id")
}

#[cfg(test)]
mod tests {
    use axon_kernel::event::{Accepted, RunEvent, RunTerms, Sequenced};
    use axon_kernel::ids::Attempt;
    use axon_kernel::json::RawJson;
    use axon_kernel::store::Append;
    use axon_kernel::time::Timestamp;
    use axon_runtime::MemoryStore;

    use super::*;

    async fn store_of(runs: &[&str]) -> MemoryStore {
        let store = MemoryStore::default();
        for run in runs {
            let run_id = RunId::new(*run);
            let accepted = Accepted {
                agent: "a".parse().unwrap(),
                conversation_id: None,
                prompt: RawJson::null(),
                deps: None,
                terms: RunTerms::default(),
            };
            let event = Sequenced {
                run_id: run_id.clone(),
                seq: 1,
                attempt: Attempt(0),
                at: Timestamp(1),
                event: RunEvent::Accepted(accepted),
            };
            let append =
                Append { run: &run_id, expected: 0, events: &[event], turn: None, writes: &[] };
            store.append(append).await.unwrap();
        }
        store
    }

    #[tokio::test]
    async fn a_part_that_one_run_has_names_it_and_one_that_several_have_lists_them() {
        let store = store_of(&["aaaa-1111", "aaaa-2222", "bbbb-3333"]).await;
        for (text, id) in [("bbbb", "bbbb-3333"), ("2222", "aaaa-2222"), ("aaaa-1", "aaaa-1111")] {
            assert_eq!(find(&store, text).await.unwrap().run_id.as_str(), id);
        }
        let report = find(&store, "aaaa").await.unwrap_err();
        let line = report.in_a_line();
        assert!(line.contains("aaaa-1111") && line.contains("aaaa-2222"), "{line}");
        assert!(!line.contains("bbbb"), "{line}");
    }

    #[tokio::test]
    async fn what_is_too_short_or_nowhere_is_refused() {
        let store = store_of(&["aaaa-1111"]).await;
        for text in ["aaa", "cccc"] {
            let report = find(&store, text).await.unwrap_err();
            assert_eq!(report.exit(), Exit::USAGE, "{text}");
        }
    }

    #[test]
    fn of_a_uuid_the_random_end_is_shown() {
        let uuid = RunId::new("0199aa00-1111-7222-8333-5f3a9c01d2e4");
        assert_eq!(short(&uuid), "5f3a9c01d2e4");
        assert_eq!(short(&RunId::new("my-own-run")), "my-own-run");
    }
}

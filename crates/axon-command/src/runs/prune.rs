//! `axon runs prune`: forgets what is old, a bounded number at a time.

use std::time::Duration;

use axon_kernel::run::RunState;
use axon_kernel::store::{Forget, Forgotten, RunQuery, Store, StoreError};
use axon_kernel::time::Timestamp;

use super::now;
use crate::args::PruneArgs;
use crate::exit::Exit;
use crate::report::Report;
use crate::session::Session;
use crate::terminal;

/// How much is forgotten in one transaction, so that nobody waits for long.
const BATCH: u64 = 500;

/// How many runs are counted at a time.
const PAGE: usize = 1000;

/// The states in which a run has ended.
const ENDED: [RunState; 4] =
    [RunState::Completed, RunState::Failed, RunState::Cancelled, RunState::Rejected];

pub(super) async fn run(args: PruneArgs, mut session: Session) -> Result<Exit, Report> {
    let keep = session.settings()?.store.keep_runs;
    let what = forget(&args, keep, now());
    let Some(store) = session.store_to_read().await? else {
        terminal::say(&format!("nothing has been recorded in {} yet", session.place()?));
        return Ok(Exit::OK);
    };
    if args.dry_run {
        let count = count(store.as_ref(), &what).await?;
        terminal::answer(&format!("{} would be forgotten", runs(count)))?;
        return Ok(Exit::OK);
    }
    let mut gone = Forgotten::default();
    loop {
        let batch = tokio::select! {
            batch = store.forget(&what) => batch?,
            signal = session.signals.next() => {
                terminal::say(&told(gone));
                return Ok(signal.exit());
            }
        };
        gone.runs += batch.runs;
        gone.conversations += batch.conversations;
        if batch == Forgotten::default() {
            terminal::answer(&told(gone))?;
            return Ok(Exit::OK);
        }
    }
}

/// Returns what is to be forgotten; without any bound, what is older than the settings keep.
fn forget(args: &PruneArgs, keep: Duration, now: Timestamp) -> Forget {
    let before = |age: Duration| Timestamp(now.0.saturating_sub(axon_kernel::event::millis(age)));
    let age = match (args.older_than, args.keep) {
        (Some(age), _) => Some(age),
        (None, None) => Some(keep),
        (None, Some(_)) => None,
    };
    Forget {
        runs_before: age.map(before),
        runs_beyond: args.keep,
        conversations_before: args.conversations.then(|| before(age.unwrap_or(keep))),
        at_most: BATCH,
    }
}

/// Counts the runs that would be forgotten.
async fn count(store: &dyn Store, what: &Forget) -> Result<u64, StoreError> {
    let mut query = RunQuery { states: ENDED.to_vec(), limit: PAGE, ..RunQuery::default() };
    let (mut seen, mut count) = (0, 0);
    loop {
        let page = store.runs(&query).await?;
        for run in &page {
            seen += 1;
            let is_old = what.runs_before.is_some_and(|before| run.updated_at < before);
            let is_beyond = what.runs_beyond.is_some_and(|newest| seen > newest);
            count += u64::from(is_old || is_beyond);
        }
        if page.len() < PAGE {
            return Ok(count);
        }
        query.after = page.last().map(|run| run.run_id.clone());
    }
}

fn told(gone: Forgotten) -> String {
    let conversations = match gone.conversations {
        0 => String::new(),
        1 => " and 1 conversation".to_owned(),
        count => format!(" and {count} conversations"),
    };
    format!("{}{conversations} forgotten", runs(gone.runs))
}

fn runs(count: u64) -> String {
    format!("{count} run{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn args(older_than: Option<Duration>, keep: Option<u64>, conversations: bool) -> PruneArgs {
        PruneArgs { older_than, keep, conversations, dry_run: false }
    }

    #[test]
    fn without_a_bound_the_settings_say_what_is_old() {
        let now = Timestamp(10_000_000);
        let settings = forget(&args(None, None, false), HOUR, now);
        assert_eq!(settings.runs_before, Some(Timestamp(6_400_000)));
        assert_eq!(settings.conversations_before, None);
        let counted = forget(&args(None, Some(3), true), HOUR, now);
        assert_eq!((counted.runs_before, counted.runs_beyond), (None, Some(3)));
        assert_eq!(counted.conversations_before, Some(Timestamp(6_400_000)));
        let aged = forget(&args(Some(HOUR * 2), None, false), HOUR, now);
        assert_eq!(aged.runs_before, Some(Timestamp(2_800_000)));
    }

    #[test]
    fn what_went_is_said() {
        assert_eq!(told(Forgotten { runs: 1, conversations: 0 }), "1 run forgotten");
        let both = Forgotten { runs: 2, conversations: 2 };
        assert_eq!(told(both), "2 runs and 2 conversations forgotten");
    }
}

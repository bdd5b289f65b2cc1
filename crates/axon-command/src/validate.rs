//! `axon validate`: checks definitions without starting anything.

use axon_kernel::failure::Row;

use crate::args::ValidateArgs;
use crate::exit::Exit;
use crate::report::Report;
use crate::session::Session;
use crate::terminal;

/// Checks one agent or all of them: what is in order on stdout, what is not on stderr.
pub(crate) fn run(args: &ValidateArgs, session: &Session) -> Result<Exit, Report> {
    let names = match &args.agent {
        Some(name) => vec![name.clone()],
        None => session.names_or_complain()?,
    };
    let mut broken = 0;
    for name in &names {
        match check(name, session) {
            Ok(note) => terminal::answer(&format!("ok  {name}{note}"))?,
            // An agent that was asked for and does not exist is no broken definition.
            Err(report) if args.agent.is_some() => return Err(report),
            Err(report) => {
                report.show(session.verbose);
                broken += 1;
            }
        }
    }
    match broken {
        0 => Ok(Exit::OK),
        _ => Err(Report::config(format!("{broken} of {} agents are broken", names.len()))),
    }
}

/// Returns what is worth a note about an agent that is in order.
fn check(name: &str, session: &Session) -> Result<String, Report> {
    let agent = session.load(name)?;
    match agent.check(&session.host) {
        Ok(()) => Ok(String::new()),
        // A key is missing here, which says nothing about the definition.
        Err(failure) if failure.kind.row().row == Row::Credentials => {
            Ok(format!("  (here {})", failure.message))
        }
        Err(failure) => Err(Report::from(failure).about(format!("agent `{name}` is broken"))),
    }
}

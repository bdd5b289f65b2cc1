//! The log: one stream on stderr for Rust and Python, for people or for programs.
//!
//! The invariant: whatever a record says, it is one line, and nothing in it controls the terminal
//! or hides from who reads.

mod escape;
mod layer;
mod record;

use std::io;
use std::panic::PanicHookInfo;

use anstream::{AutoStream, ColorChoice};
use axon_runtime::Host;
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::{GlobalArgs, LogFormat, Verb};
use crate::report::Report;
use crate::terminal;
use layer::Lines;
pub(crate) use record::Record;
use record::{Look, Style};

/// What is logged when nobody asks for more: what a run's own lines on stderr do not say, and its end
/// does not, which is told as the error of the command.
const QUIET: &str =
    "warn,axon_runtime::agent=off,axon_runtime::run=error,axon_runtime::run::observed=off";

/// What a service logs, whose operator has no other lines to read.
const SERVICE: &str = "info";

/// What Axon itself does, in detail. Python says more only to who asks for it by its target: libraries
/// log what models are asked.
const DETAILED: &str = "info,axon=debug,axon::python=info";

/// For what the log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Somebody who waits for an answer.
    Caller,
    /// Whoever operates a service.
    Operator,
}

impl Audience {
    pub(crate) fn of(verb: &Verb) -> Self {
        if let Verb::Serve(_) = verb { Self::Operator } else { Self::Caller }
    }
}

/// Tells a panic as a record. Those of tools are caught, and told with what they come to.
fn tell_panic(panic: &PanicHookInfo<'_>, style: Style) {
    let message = panic.payload_as_str().unwrap_or("something that is no text");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let record = Record::new(Level::WARN, format!("a panic: {message}")).with("place", place);
    terminal::log(&record.line(style));
}

/// Starts the log.
pub(crate) fn start(args: &GlobalArgs, audience: Audience, host: &Host) -> Result<(), Report> {
    let wanted = host.variable("AXON_LOG").unwrap_or_else(|| {
        let level = match (args.verbose, audience) {
            (0, Audience::Caller) => QUIET,
            (0, Audience::Operator) => SERVICE,
            (1, Audience::Caller) => "info",
            (1, Audience::Operator) | (2, _) => DETAILED,
            _ => "trace",
        };
        level.to_owned()
    });
    let filter = EnvFilter::try_new(&wanted).map_err(|error| {
        Report::config(format!("AXON_LOG is no log filter: {error}"))
            .todo("write a level, or levels by target, as in AXON_LOG=info,axon::python=debug")
    })?;
    let style = match args.log {
        LogFormat::Json => Style::Json,
        LogFormat::Human => Style::Human(Look {
            colors: AutoStream::choice(&io::stderr()) != ColorChoice::Never,
            targets: args.verbose > 0,
        }),
    };
    if audience == Audience::Operator {
        terminal::wait_for_nobody(move |lines| {
            let told = Record::new(Level::WARN, "lines of the log were dropped: nobody read them");
            told.with("lines", lines).line(style)
        });
        std::panic::set_hook(Box::new(move |panic| tell_panic(panic, style)));
        if args.log == LogFormat::Json {
            terminal::speak_json();
        }
    }
    // Whoever embeds the command line may have started a log already.
    let _started = tracing_subscriber::registry().with(filter).with(Lines::new(style)).try_init();
    Ok(())
}

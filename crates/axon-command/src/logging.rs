//! The log: on stderr, for people or for programs.

use std::io::{self, Write};

use anstream::{AutoStream, ColorChoice};
use axon_runtime::Host;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::args::{GlobalArgs, LogFormat};
use crate::report::Report;
use crate::terminal;

/// What is logged when nobody asks for more: what a run's own lines on stderr do not say.
const QUIET: &str = "warn,axon_runtime::agent=off,axon_runtime::run=error";

/// Starts the log.
pub(crate) fn start(args: &GlobalArgs, host: &Host) -> Result<(), Report> {
    let wanted = host.variable("AXON_LOG").unwrap_or_else(|| {
        let level = match args.verbose {
            0 => QUIET,
            1 => "info",
            2 => "info,axon_kernel=debug,axon_runner=debug,axon_runtime=debug,axon=debug",
            _ => "trace",
        };
        level.to_owned()
    });
    let filter = EnvFilter::try_new(&wanted).map_err(|error| {
        Report::config(format!("AXON_LOG is no log filter: {error}"))
            .todo("write a level, or levels by target, as in AXON_LOG=info,axon::python=debug")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Stderr);
    // Whoever embeds the command line may have started a log already.
    let _started = match args.log {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Human => builder
            .with_ansi(AutoStream::choice(&io::stderr()) != ColorChoice::Never)
            .with_target(args.verbose > 0)
            .without_time()
            .try_init(),
    };
    Ok(())
}

/// Stderr, where a run may be in the middle of a line.
struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        terminal::close_line();
        io::stderr().lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

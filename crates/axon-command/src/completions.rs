//! `axon completions`: completions for a shell.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs};
use crate::exit::Exit;
use crate::report::Report;

pub(crate) fn run(args: &CompletionsArgs) -> Result<Exit, Report> {
    let mut command = Cli::command();
    // A service has the same command line under its own name.
    let called = std::env::args_os().next().map(PathBuf::from);
    let name = called.as_ref().and_then(|path| path.file_name()?.to_str()).unwrap_or("axon");
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(Exit::OK)
}

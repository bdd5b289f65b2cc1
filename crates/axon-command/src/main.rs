//! The stock `axon`: agents from folders, with tools in Python.

use std::process::ExitCode;

fn main() -> ExitCode {
    axon_command::main()
}

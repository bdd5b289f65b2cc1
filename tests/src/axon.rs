//! The stock `axon`, built here so that tests find it.

use std::process::ExitCode;

fn main() -> ExitCode {
    axon_command::main()
}

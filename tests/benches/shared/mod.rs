//! What several benches need: the scripted model beside them, and what the machine was busy with.

pub(crate) mod cpu;
pub(crate) mod host;
pub(crate) mod model;

use std::io::Write;
use std::path::{Path, PathBuf};

/// Returns the root of the repository.
pub(crate) fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// Tells progress on standard error; standard output has the table alone.
pub(crate) fn say(line: &str) {
    // Nobody may be there to read it.
    let _unread = writeln!(std::io::stderr(), "{line}");
}

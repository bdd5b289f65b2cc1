//! What Axon processes that crashed have left behind, found by a mark in its environment.
//!
//! Everything that is launched carries the mark of the process that launched it, and hands it on to
//! what it starts itself. So the mark finds grandchildren too, whatever group, session or parent
//! they have by now. Nothing is done to what carries the mark of a process that lives.

#[cfg(target_os = "linux")]
#[path = "orphans/linux.rs"]
mod system;

/// Elsewhere there is no `/proc` to look into.
#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn origin() -> Option<String> {
        None
    }

    pub(super) fn sweep() -> super::Swept {
        super::Swept::default()
    }

    pub(super) fn kill_marked(_name: &str, _value: &str) -> usize {
        0
    }
}

/// The variable that everything launched carries: the value is [`origin`] of who launched it.
pub const ORIGIN: &str = "AXON_ORIGIN";

/// The longest command line that is told, in bytes.
const COMMAND_BYTES: usize = 200;

/// How often `/proc` is gone through at most: what is found may have forked meanwhile.
const PASSES: usize = 8;

/// What a sweep found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// The processes that were killed.
    pub killed: Vec<u32>,
    /// Those that were to be killed and could not be: the kernel knows no process descriptors, or
    /// does not allow it.
    pub spared: Vec<u32>,
}

/// Returns the mark of this process, for the variable [`ORIGIN`] of what it launches: its id, its
/// start time, and the namespace in which the id means it. Nothing where there is no `/proc`.
#[must_use]
pub fn origin() -> Option<String> {
    system::origin()
}

/// Kills every process of our user that carries the mark of an Axon process that is gone, and logs
/// and counts each. Takes milliseconds, and blocks for as long.
///
/// What carries the same mark as this process itself is kin of ours and is left alone.
pub fn sweep() -> Swept {
    system::sweep()
}

/// Kills every process of our user that has the variable `name` with this value in the environment
/// that it was started with, this one left out, and returns how many those were. Blocks for
/// milliseconds.
pub fn kill_marked(name: &str, value: &str) -> usize {
    system::kill_marked(name, value)
}

//! What users of the module see, with real interpreters and environments.

mod bench;
mod managed;
mod own;

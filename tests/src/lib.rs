//! What tests and benches share: programs that are killed in every way, the world outside of them
//! that keeps count, and who judges what came out.

pub mod kill;
pub mod soak;
pub mod venv;

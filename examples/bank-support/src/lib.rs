//! A service with an agent of its own. To start reading: [`support`] is the whole agent, [`bank`]
//! the database that it works with; `main.rs` asks it, and asks a person where it has to.

pub mod approval;
pub mod bank;
pub mod support;

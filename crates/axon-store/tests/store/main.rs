//! What the store promises, on either database.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers too")]
#![expect(clippy::print_stdout, reason = "children tell their parent, and claims are named")]

mod child;
mod claims;
mod contract;
mod damage;
mod faults;
mod place;
mod server;

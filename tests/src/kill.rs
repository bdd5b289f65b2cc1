//! Faults at every boundary of a run, and what an oracle outside says of it afterwards.
//!
//! A [`Cell`] names one fault at one boundary. A [`Lane`] carries cells out one after the other: it
//! starts the host program, which appends through a store that stops before and after every append
//! and tells the [`World`]. The world is also the model provider and what tools act on; it stops
//! whoever reaches the boundary of the cell until the lane has struck. Nothing in the product knows
//! of any of this.

mod cell;
mod heal;
mod judge;
mod lane;
mod plan;
mod process;
mod project;
mod said;
mod shim;
mod table;
mod watched_store;
mod world;

pub use cell::{Boundary, Cell, Class, Fault, Shape, When};
pub use judge::{Evidence, Verdict, judge};
pub use lane::{Lane, Report};
pub use plan::{Choice, Figures, Plan, carry_out, smallest};
pub use process::{Process, Program};
pub use project::Project;
pub use said::{Order, Said};
pub use shim::Shim;
pub use table::Table;
pub use watched_store::WatchedStore;
pub use world::{Arrival, Counts, Passage, Sprung, Trap, World};

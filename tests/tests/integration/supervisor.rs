//! OTP's rules for supervisors, each as a claim about real actors and tasks.
//!
//! Time is paused in all but the one test that blocks a thread, so waits cost nothing and a budget
//! can be measured exactly.

mod calls;
mod groups;
mod hopeless;
mod nesting;
mod restarts;
mod stage;
mod stops;

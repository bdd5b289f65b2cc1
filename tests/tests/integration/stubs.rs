//! `axon stubs`: what it writes passes the checks of the language that it is written in, and works.

mod python;
mod rust;

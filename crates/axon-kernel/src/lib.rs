//! The decisions of Axon, and nothing else: no I/O, no clock, no actors.
//!
//! Two drivers are meant to run this logic: the local runtime (`axon-runtime`), and a distributed
//! durable engine. So everything here is a type or a pure function over what the caller hands in.
//!
//! To start reading: [`spec`] says what an agent is, [`event`] what happens in a run, [`run`] which
//! orders of events are legal, [`failure`] and [`policy`] what a failure means and what is done
//! about it, [`wire`] how a runner is spoken to.
//!
//! The invariant: no run can have two outcomes, whatever order its events arrive in
//! ([`run::RunStatus::next`] is the only way on).

pub mod ids;
pub mod json;
pub mod schema;
pub mod provider;
pub mod prompt;
pub mod spec;
pub mod failure;
pub mod event;
pub mod run;
pub mod policy;
pub mod store;
pub mod wire;

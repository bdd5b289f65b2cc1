//! The decisions of Axon, and nothing else: no I/O, no clock, no actors.
//!
//! Two drivers are meant to run this logic: the local runtime (`axon-runtime`), and a distributed
//! durable engine. So everything here is a type or a pure function over what the caller hands in.
//!
//! To start reading: [`spec`] says what an agent is, [`flow`] what routers and pipelines do,
//! [`config`] what holds for all of them, [`event`] what happens in a run, [`run`] which orders of
//! events are legal, [`failure`] and [`policy`] what a failure means and what is done about it,
//! [`breaker`] when a provider is left alone, [`budget`] what runs may use, [`supervision`] what a
//! supervisor does, [`transcript`] what a new prompt can follow, [`wire`] how a runner is spoken to,
//! [`metric`] what is measured.
//!
//! The invariant: no run can have two outcomes, whatever order its events arrive in
//! ([`run::RunStatus::next`] is the only way on).

pub mod breaker;
pub mod budget;
pub mod config;
pub mod event;
pub mod failure;
pub mod flow;
pub mod ids;
pub mod json;
pub mod metric;
pub mod policy;
pub mod prompt;
pub mod provider;
pub mod run;
pub mod schema;
pub mod secret;
pub mod spec;
pub mod store;
pub mod supervision;
pub mod time;
pub mod trace;
pub mod transcript;
pub mod wire;

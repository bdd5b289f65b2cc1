//! Flows: what routers and pipelines do, as data, and what comes next, as a pure function.
//!
//! A [`Flow`] is a graph of [`Step`]s. Whoever drives one keeps what has become of its calls, and
//! asks [`Flow::advance`] what is wanted now: which calls are to be under way, or that it is done.
//! The same results always want the same calls, under the same names. So a flow goes on after a
//! crash from what is on record, and nothing that has a result is done again.
//!
//! To start reading: [`Flow`] says what a flow is, [`Flow::advance`] what comes next, [`Condition`]
//! and [`Expression`] what is decided on the way; [`RouterFile`] and [`PipelineFile`] are how one is
//! written, [`FlowRule`] is what it keeps, and [`System`] what all definitions keep together.

mod advance;
pub(crate) mod check;
mod condition;
mod expression;
mod file;
mod graph;
mod known;
mod load;
mod place;
mod plan;
pub(crate) mod print;
mod rule;
mod scope;
#[cfg(test)]
mod tests;

pub use advance::{
    Call, Functions, MAX_CALLS, MAX_ITEMS, Message, NoFunctions, Progress, Settled, Whom,
};
pub use condition::{Condition, Test};
pub use expression::{Expression, ExpressionError, Given, TextTemplate};
pub use file::{
    ArmFile, BalancedFile, ConditionFile, ConditionTable, EdgeFile, OnFailureFile, PipelineFile,
    RepeatFile, RouterFile, RuleFile, RustFunction, SchemaTable, ScriptFile, StepFile,
};
pub use graph::{GraphError, GraphProblem, System};
pub use plan::{
    Arm, Ask, Balance, Does, Edge, Flow, FlowKind, Join, OnFailure, Over, Repeat, Route, Step,
    StepName, Target, is_reserved,
};
pub use rule::{FlowRule, MAX_NESTING, MAX_STEPS, NO_RULE, Why};

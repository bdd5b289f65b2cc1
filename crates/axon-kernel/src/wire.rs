//! The runner's wire protocol, version 1: launch data, requests, and the events of an attempt.
//!
//! One record each way on the control socket, then HTTP/1.1 with JSON bodies and server-sent
//! events. Any program that speaks this can take the place of the Python runner.

mod deferred;
mod events;
mod launch;
mod reconcile;
mod requests;

pub use deferred::{
    Approval, ArgsError, CallAnswer, DeferredKind, DeferredRequest, DeferredResults, Handed,
};
pub use events::{
    AttemptCancelled, AttemptCompleted, AttemptFailed, AttemptPaused, AttemptStarted, Before,
    Checkpointed, LogRecord, ModelAnswered, ModelRequested, OutputCheck, PartialOutput,
    RunnerEvent, ToolFinished, ToolRequested, ToolStarted, UnknownEvent,
};
pub use launch::{ControlRecord, Launch, LaunchCallable, LaunchLimits, LogLevel, ReadyRecord};
pub use reconcile::{ReconcileAnswer, ReconcileRequest};
pub use requests::{
    AttemptRequest, AttemptTrace, CONTENT_HEADER, ErrorBody, Health, MessagePriority,
    MessageRequest, PermitRequest, ToolAnswer, ToolCallRequest, ToolCallResult, ToolResultRequest,
    Unfinished, ValidateRequest, Validated,
};

/// The version of the protocol.
pub const PROTOCOL: u32 = 1;

/// The file descriptor of the control socket in a runner.
pub const CONTROL_FD: i32 = 3;
/// The file descriptor of the listening socket in a runner.
pub const LISTEN_FD: i32 = 4;
/// The file descriptor of the lifeline in a runner.
pub const LIFELINE_FD: i32 = 5;

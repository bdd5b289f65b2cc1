//! Tools that are called directly.

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::json::RawJson;
use axon_kernel::schema::Schema;
use axon_kernel::spec::Role;
use axon_kernel::wire::{ReconcileAnswer, ToolCallRequest};
use axum::http::StatusCode;
use serde_json::Value;

use super::app::App;
use super::refusal::Refusal;
use super::script::{ReconcilePlay, ToolPlay};

/// The status of a tool that raised.
const RAISED: u16 = 422;

/// Returns what the script has for the tool.
pub(super) fn call(app: &App, target: &str, request: &ToolCallRequest) -> Result<RawJson, Refusal> {
    registered(app, Role::Tool, target)?;
    let played = app.life().tools.iter().find(|(name, _)| name.as_str() == target);
    let (_, play) = played.ok_or_else(|| nothing_for(target))?;
    let args: Value = request.args.decode().map_err(|error| Refusal::decode(error.to_string()))?;
    match play {
        ToolPlay::Raises(error) => Err(Refusal::scripted(RAISED, error.clone())),
        ToolPlay::Returns { result, parameters } => {
            if let Some(parameters) = parameters {
                check(parameters, &args)?;
            }
            Ok(result.clone())
        }
    }
}

/// Returns what the script has for the function that is asked what became of a call.
pub(super) fn reconcile(app: &App, target: &str) -> Result<ReconcileAnswer, Refusal> {
    registered(app, Role::Reconcile, target)?;
    let played = app.life().reconcile.iter().find(|(name, _)| name.as_str() == target);
    let (_, play) = played.ok_or_else(|| nothing_for(target))?;
    match play {
        ReconcilePlay::Answers(answer) => Ok(answer.clone()),
        ReconcilePlay::Raises(error) => Err(Refusal::scripted(RAISED, error.as_ref().clone())),
    }
}

fn registered(app: &App, role: Role, target: &str) -> Result<(), Refusal> {
    super::spec::registered(app.launch(), role, target).map_err(|_refusal| {
        let message = format!("{target} is not registered as {role:?} of this runner");
        Refusal::new(StatusCode::NOT_FOUND, FailureKind::Config, message)
    })
}

fn nothing_for(target: &str) -> Refusal {
    let message = format!("the script has nothing for {target}");
    Refusal::scripted(RAISED, Failure::new(FailureKind::Tool, message))
}

fn check(parameters: &Value, args: &Value) -> Result<(), Refusal> {
    let wrong = |message| {
        Refusal::new(StatusCode::BAD_REQUEST, FailureKind::Tool, message).in_phase("arguments")
    };
    let schema = Schema::new(parameters.clone()).map_err(|error| wrong(error.to_string()))?;
    schema.validate(args).map_err(|violations| {
        let found: Vec<String> = violations.iter().map(ToString::to_string).collect();
        wrong(found.join("; "))
    })
}

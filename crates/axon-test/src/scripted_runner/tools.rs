//! Tools that are called directly.

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::json::RawJson;
use axon_kernel::schema::Schema;
use axon_kernel::wire::ToolCallRequest;
use axum::http::StatusCode;
use serde_json::Value;

use super::app::App;
use super::refusal::Refusal;
use super::script::ToolPlay;

/// The status of a tool that raised.
const RAISED: u16 = 422;

/// Returns what the script has for the tool.
pub(super) fn call(app: &App, target: &str, request: &ToolCallRequest) -> Result<RawJson, Refusal> {
    if !app.has_tool(target) {
        let message = format!("{target} is not registered as a tool of this runner");
        return Err(Refusal::new(StatusCode::NOT_FOUND, FailureKind::Config, message));
    }
    let played = app.life().tools.iter().find(|(name, _)| name.as_str() == target);
    let Some((_, play)) = played else {
        let message = format!("the script has nothing for {target}");
        return Err(Refusal::scripted(RAISED, Failure::new(FailureKind::Tool, message)));
    };
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

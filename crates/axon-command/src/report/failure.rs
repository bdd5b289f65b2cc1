//! Failures of runs and runners, told to a person.

use axon_kernel::event::Failed;
use axon_kernel::failure::{Failure, FailureKind};

use super::{Report, Traceback};
use crate::exit::Exit;

/// The classes of exceptions whose traceback is the message: code that Python cannot load.
const UNLOADABLE: [&str; 5] =
    ["ImportError", "ModuleNotFoundError", "SyntaxError", "IndentationError", "TabError"];

/// What helps when code cannot be loaded.
const LOADING: &str = "modules are looked for beside the agent's folder (for MODULE:ATTR, in the \
                       working directory) and in the Python that `axon env path` prints";

impl From<Failure> for Report {
    fn from(failure: Failure) -> Self {
        let kind = failure.kind;
        let (what, rest) = first_line(&failure.message);
        let mut report = Self::new(kind.label(), Exit::of_failure(kind), what);
        report.why.extend(rest.map(str::to_owned));
        report.why.extend(origin(&failure));
        if let Some(cause) = failure.cause.as_ref().filter(|cause| !cause.message.is_empty()) {
            report.why.push(format!("caused by {}: {}", cause.class, cause.message));
        }
        let is_needed = UNLOADABLE.contains(&failure.class.as_str());
        report.traceback = failure.traceback.clone().map(|text| Traceback { text, is_needed });
        let known = if is_needed { Some(LOADING) } else { advice(kind) };
        report.todo.extend(failure.help.clone().or_else(|| known.map(str::to_owned)));
        // Deps that no schema could be asked about are still the caller's, and so are the
        // arguments of a tool that is called directly.
        let callers = match (kind, failure.phase.as_deref()) {
            (FailureKind::Config, Some("deps")) => Some("give --dep KEY=VALUE, or --deps JSON"),
            (FailureKind::Tool, Some("arguments")) => Some("give what the tool's parameters say"),
            _ => None,
        };
        report.failure = Some(Box::new(failure));
        match callers {
            Some(todo) => report.of_caller(todo),
            None => report,
        }
    }
}

impl From<Failed> for Report {
    fn from(failed: Failed) -> Self {
        let mut report = Self::from(failed.failure);
        // What was tried before is the reason why this was the end.
        if failed.history.len() > 1 {
            report.why.push(format!("tried: {}", failed.history.join(", then ")));
        }
        report
    }
}

fn first_line(message: &str) -> (&str, Option<&str>) {
    match message.trim_end().split_once('\n') {
        Some((first, rest)) => (first, Some(rest)),
        None => (message.trim_end(), None),
    }
}

/// Returns where the failure came from, if there is more to say than its class.
fn origin(failure: &Failure) -> Option<String> {
    let tool = failure.tool.as_ref().map(|tool| format!("in tool `{}`", tool.name));
    let phase = failure.phase.as_ref().map(|phase| format!("in phase `{phase}`"));
    let status = failure.status_code.map(|status| format!("HTTP status {status}"));
    let class = Some(failure.class.clone()).filter(|class| !class.is_empty());
    let parts: Vec<String> = [class, tool, phase, status].into_iter().flatten().collect();
    (parts.len() > 1).then(|| parts.join(", "))
}

/// Returns what helps against failures of `kind` where nothing better is known.
fn advice(kind: FailureKind) -> Option<&'static str> {
    Some(match kind {
        FailureKind::ModelRateLimited => {
            "wait a little, or raise the limit with the provider; [policy] in agent.toml says how \
             often to try again"
        }
        FailureKind::ModelQuota => "add credit to the account at the provider",
        FailureKind::ModelOverloaded
        | FailureKind::ModelUnavailable
        | FailureKind::ModelServer
        | FailureKind::ModelConnection
        | FailureKind::ModelTimeout
        | FailureKind::ModelHttp
        | FailureKind::FallbackExhausted => {
            "try again later, or choose another model (--model, AXON_MODEL)"
        }
        FailureKind::ModelAuth => "check the provider's key: `axon doctor` names the variable",
        FailureKind::ModelNotFound => "check the model's name in agent.toml, --model or AXON_MODEL",
        FailureKind::ModelRejected => "check model_settings and the tools' schemas in agent.toml",
        FailureKind::ContextWindow => "shorten the prompt, or choose a model with more context",
        FailureKind::ContentFilter => "rephrase the prompt",
        FailureKind::OutputTokenLimit => "raise model_settings.max_tokens in agent.toml",
        FailureKind::OutputInvalid | FailureKind::ModelBehavior => {
            "raise `retries`, put more into the schema's descriptions, or choose a stronger model"
        }
        FailureKind::UsageLimit => "raise [limits] in agent.toml",
        FailureKind::Busy => "try again later, or raise [limits] concurrency and queue",
        FailureKind::RunTimeout => "give it longer: --timeout 5m, or [limits] timeout",
        FailureKind::Tool => "mend the tool; `axon tool call MODULE:FUNCTION JSON` runs it alone",
        FailureKind::RunnerDied => "see what it wrote, with -v",
        FailureKind::Decode | FailureKind::Internal => {
            "the traceback says where; if the fault is Axon's, report it with the output of -vv"
        }
        FailureKind::Config => "correct the definition; `axon validate` checks it",
        FailureKind::Cancelled | FailureKind::Toolset => return None,
    })
}

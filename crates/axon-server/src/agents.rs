//! Who can be asked: agents, routers and pipelines, with what they take and give.

use std::sync::Arc;
use std::time::Duration;

use axon_kernel::spec::{AgentName, AgentSpec, PythonTarget, Tag, ToolName};
use axon_runtime::{AgentHandle, AgentState, AgentStatus, Refusal, StartError};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::body::{Asked, Json, Segment};
use crate::problem::Problem;
use crate::shared::Shared;

/// How long runs may take to finish where nobody says it.
const DRAIN: Duration = Duration::from_secs(30);

/// How long a runner may take to say what its agent is.
const DESCRIBE: Duration = Duration::from_secs(5);

/// One that can be asked.
#[derive(Serialize, ToSchema)]
pub(crate) struct AgentShown {
    /// How it is: `name`, `kind` (`agent`, `router`, `pipeline`), `state`, `model`, its runners.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    status: AgentStatus,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    description: Option<String>,
    /// Words by which it is found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    tags: Vec<Tag>,
    /// Its tools.
    #[schema(value_type = Vec<String>)]
    tools: Vec<ToolName>,
    /// The Python object that it is, as `pkg.mod:agent`; missing if its definition says it all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    module: Option<PythonTarget>,
    /// What it takes as `deps`, as JSON Schema; missing if it takes anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    deps_schema: Option<Value>,
    /// What it answers, as JSON Schema; missing if that is text, or if only the Python of a `module`
    /// knows. That is asked where one agent is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    output_schema: Option<Value>,
}

/// What a runner says of an agent that is a Python object.
#[derive(Deserialize)]
struct Described {
    agent: Option<DescribedAgent>,
}

#[derive(Default, Deserialize)]
struct DescribedAgent {
    deps: Option<Value>,
    output: Option<Value>,
}

impl DescribedAgent {
    /// Asks the agent's runner. One that does not say it in time is as one that cannot.
    async fn of(agent: &AgentHandle) -> Self {
        let described = tokio::time::timeout(DESCRIBE, agent.describe()).await;
        let described = described.ok().and_then(Result::ok);
        let described: Option<Described> = described.and_then(|described| described.decode().ok());
        described.and_then(|described| described.agent).unwrap_or_default()
    }
}

impl AgentShown {
    /// Shows one with what only its Python knows, too.
    async fn in_full(agent: &AgentHandle) -> Result<Self, Refusal> {
        let mut shown = Self::of(agent).await?;
        let spec = agent.spec();
        let runs = match shown.status.state {
            AgentState::Starting | AgentState::Up | AgentState::Restarting { .. } => true,
            AgentState::Drained | AgentState::Down { .. } | AgentState::Parked { .. } => false,
        };
        if spec.runner.module.is_none() || !runs {
            return Ok(shown);
        }
        let DescribedAgent { deps, output } = DescribedAgent::of(agent).await;
        if spec.deps.factory.is_none() {
            // A factory makes the object that Python speaks of from whatever it takes itself.
            shown.deps_schema = shown.deps_schema.or(deps);
        }
        shown.output_schema = match &spec.output {
            Some(_) => shown.output_schema.or_else(|| Some(json!({ "type": "string" }))),
            None => output,
        };
        Ok(shown)
    }

    async fn of(agent: &AgentHandle) -> Result<Self, Refusal> {
        let (status, spec) = (agent.status().await?, agent.spec());
        let AgentSpec { description, tags, tools, deps, output, .. } = spec.as_ref();
        let output = output.as_ref().and_then(|output| output.schema.as_ref());
        Ok(Self {
            status,
            description: description.clone(),
            tags: tags.iter().cloned().collect(),
            tools: tools.iter().map(|tool| tool.name.clone()).collect(),
            module: spec.runner.module.clone(),
            deps_schema: deps.schema.as_ref().map(|schema| schema.raw().clone()),
            output_schema: output.map(|schema| schema.raw().clone()),
        })
    }
}

/// Everybody who can be asked.
#[derive(Serialize, ToSchema)]
pub(crate) struct AgentsPage {
    /// By name.
    agents: Vec<AgentShown>,
}

/// Lists who can be asked.
#[utoipa::path(
    get, path = "/v1/agents", tag = "agents", operation_id = "list_agents",
    responses((status = 200, description = "All of them, by name.", body = AgentsPage), Problem),
)]
pub(crate) async fn list(State(shared): State<Arc<Shared>>) -> axum::Json<AgentsPage> {
    let handles = shared.runtime.agents();
    let shown = futures_util::future::join_all(handles.iter().map(AgentShown::of)).await;
    // One that was stopped meanwhile is not there any more.
    axum::Json(AgentsPage { agents: shown.into_iter().filter_map(Result::ok).collect() })
}

/// Shows one that can be asked.
#[utoipa::path(
    get, path = "/v1/agents/{name}", tag = "agents", operation_id = "show_agent",
    params(("name" = String, Path, description = "The agent, router or pipeline.")),
    responses(
        (status = 200, description = "It.", body = AgentShown),
        Problem,
    ),
)]
pub(crate) async fn show(
    State(shared): State<Arc<Shared>>,
    Segment(name): Segment,
) -> Result<axum::Json<AgentShown>, Problem> {
    let agent = shared.runtime.named(&name)?;
    Ok(axum::Json(AgentShown::in_full(&agent).await?))
}

/// Replaces an agent's runners, and takes runs again if it was drained or parked.
#[utoipa::path(
    post, path = "/v1/agents/{name}/restart", tag = "agents", operation_id = "restart_agent",
    params(("name" = String, Path, description = "The agent.")),
    responses(
        (status = 202, description = "The new runners are on their way."),
        Problem,
    ),
)]
pub(crate) async fn restart(
    State(shared): State<Arc<Shared>>,
    Segment(name): Segment,
) -> Result<StatusCode, Problem> {
    // At the end of the service nothing is started again.
    shared.check_serving()?;
    shared.runtime.named(&name)?.restart().await?;
    Ok(StatusCode::ACCEPTED)
}

/// An agent to start.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartRequest {
    /// Its name.
    #[schema(pattern = "^[a-z][a-z0-9_]{0,63}$", example = "haiku")]
    name: String,
    /// What it is, by the keys of an agent.toml. Without it, the definition of this name in the
    /// service's own folder is taken.
    #[schema(value_type = Option<Object>)]
    definition: Option<Map<String, Value>>,
}

/// Defines an agent and starts it. It lasts as long as the process: nothing is written.
///
/// The definition uses what the service has: providers of models, other agents, the service's own
/// functions, and Python objects that an agent of it names already. It brings no code, no program,
/// no file and no variable.
#[utoipa::path(
    post, path = "/v1/agents", tag = "agents", operation_id = "start_agent",
    request_body = StartRequest,
    responses(
        (status = 201, description = "It is there; `state` says how it is.", body = AgentShown),
        Problem,
    ),
)]
pub(crate) async fn start(
    State(shared): State<Arc<Shared>>,
    Json(request): Json<StartRequest>,
) -> Result<(StatusCode, axum::Json<AgentShown>), Problem> {
    shared.check_serving()?;
    let name = AgentName::try_from(request.name.as_str());
    let name = name.map_err(|error| Problem::invalid(error.to_string()))?;
    if shared.runtime.named(name.as_str()).is_ok() {
        return Err(StartError::Duplicate(name).into());
    }
    // In a task of its own: half a start would leave an agent that nobody knows of.
    let begun = shared.clone();
    let started = tokio::spawn(async move {
        let runtime = &begun.runtime;
        match (&request.definition, &begun.definitions) {
            (Some(definition), _) => Ok(runtime.start_newcomer(name, definition).await?),
            (None, Some(find)) => Ok(runtime.start_agent(find(name.as_str())?).await?),
            (None, None) => Err(Problem::invalid("`definition` is missing")),
        }
    });
    let agent = started.await.map_err(|_panicked| unfinished("start"))??;
    Ok((StatusCode::CREATED, axum::Json(AgentShown::of(&agent).await?)))
}

/// Takes no new runs for an agent, lets those under way finish, and forgets it: its name is free.
#[utoipa::path(
    delete, path = "/v1/agents/{name}", tag = "agents", operation_id = "stop_agent",
    params(("name" = String, Path, description = "The agent."), DrainQuery),
    responses(
        (status = 200, description = "It is gone.", body = Drained),
        Problem,
    ),
)]
pub(crate) async fn stop(
    State(shared): State<Arc<Shared>>,
    Segment(name): Segment,
    Asked(query): Asked<DrainQuery>,
) -> Result<axum::Json<Drained>, Problem> {
    let deadline = query.deadline()?;
    let agent = shared.runtime.named(&name)?;
    check_unneeded(&shared, &agent)?;
    let stopped = tokio::spawn(async move {
        let cancelled = agent.drain(deadline).await?;
        shared.runtime.stop_agent(&name).await?;
        Ok::<_, Refusal>(cancelled)
    });
    let cancelled = stopped.await.map_err(|_panicked| unfinished("stop"))??;
    Ok(axum::Json(Drained { cancelled }))
}

/// Refuses to forget an agent that others name.
fn check_unneeded(shared: &Shared, agent: &AgentHandle) -> Result<(), Problem> {
    let name = agent.name();
    let handles = shared.runtime.agents();
    let needs = |other: &&AgentHandle| {
        other.name() != name && other.spec().others().iter().any(|(_, needed)| needed == name)
    };
    let by: Vec<String> =
        handles.iter().filter(needs).map(|other| other.name().to_string()).collect();
    if by.is_empty() {
        return Ok(());
    }
    let detail = format!(
        "agent `{name}` is needed by {}: stop those first, or drain it and keep it",
        by.join(", ")
    );
    Err(Problem::new(StatusCode::CONFLICT, "agent_in_use", detail).with("by", by))
}

fn unfinished(what: &str) -> Problem {
    let detail = format!("the {what} was not finished");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
}

/// For how long an agent is drained.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DrainQuery {
    /// How long its runs may take to finish; 30s by default.
    #[param(example = "30s")]
    deadline: Option<String>,
}

impl DrainQuery {
    fn deadline(&self) -> Result<Duration, Problem> {
        let deadline = self.deadline.as_deref().map(humantime::parse_duration).transpose();
        let deadline =
            deadline.map_err(|error| Problem::invalid(format!("`deadline`: {error}")))?;
        Ok(deadline.unwrap_or(DRAIN))
    }
}

/// What came of a drain.
#[derive(Serialize, ToSchema)]
pub(crate) struct Drained {
    /// How many runs had to be cancelled.
    cancelled: usize,
}

/// Takes no new runs for an agent, lets those under way finish, and ends its runners.
#[utoipa::path(
    post, path = "/v1/agents/{name}/drain", tag = "agents", operation_id = "drain_agent",
    params(("name" = String, Path, description = "The agent."), DrainQuery),
    responses(
        (status = 200, description = "It is drained.", body = Drained),
        Problem,
    ),
)]
pub(crate) async fn drain(
    State(shared): State<Arc<Shared>>,
    Segment(name): Segment,
    Asked(query): Asked<DrainQuery>,
) -> Result<axum::Json<Drained>, Problem> {
    let deadline = query.deadline()?;
    let agent = shared.runtime.named(&name)?;
    // In a task of its own: half a drain would leave runners behind an agent that takes no runs.
    let drained = tokio::spawn(async move { agent.drain(deadline).await });
    let cancelled = drained.await.map_err(|_panicked| unfinished("drain"))??;
    Ok(axum::Json(Drained { cancelled }))
}

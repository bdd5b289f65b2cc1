//! How an agent is asked, once or line by line.

use axon_kernel::ids::ConversationId;
use axon_kernel::json::RawJson;
use axon_kernel::schema::Schema;
use axon_kernel::spec::{AgentName, AgentSpec};
use axon_runtime::{AgentHandle, RunBuilder};
use serde::Deserialize;
use serde_json::Value;

use crate::args::{AskArgs, DepsArgs};
use crate::exit::Exit;
use crate::follow::CANCEL_GRACE;
use crate::report::Report;
use crate::service::{Question, Service};
use crate::signals::Signals;
use crate::underway::UnderWay;

/// The part of a runner's description that says what deps are.
#[derive(Deserialize)]
struct Described {
    agent: Option<DescribedAgent>,
}

#[derive(Deserialize)]
struct DescribedAgent {
    deps: Option<Value>,
}

impl AskArgs {
    /// Puts what was asked for in place of the agent's own: its model, the time of its runs.
    ///
    /// # Errors
    ///
    /// A report if a model is named for what has none.
    pub(crate) fn override_in(&self, spec: &mut AgentSpec) -> Result<(), Report> {
        if let Some(model) = &self.model {
            if spec.flow.is_some() {
                let (kind, name) = (spec.kind(), &spec.name);
                return Err(Report::usage(format!("{kind} `{name}` has no model of its own"))
                    .because("each agent that it asks has one, which its own file names")
                    .todo(format!(
                        "AXON_MODEL={model} for all whose files say ${{AXON_MODEL:-…}}"
                    )));
            }
            spec.model = Some(model.clone());
        }
        if let Some(timeout) = self.timeout {
            // The start has no longer than a run either.
            spec.limits.timeout = timeout;
        }
        Ok(())
    }

    /// Prepares one run.
    pub(crate) fn prepare(
        &self,
        agent: &AgentHandle,
        prompt: &str,
        deps: Option<&RawJson>,
    ) -> RunBuilder {
        let mut run = agent.run(prompt);
        if let Some(deps) = deps {
            run = run.deps(deps);
        }
        self.approve.iter().fold(run, RunBuilder::approve)
    }
}

/// One that is asked, with what its tools and prompts get.
pub(crate) enum Asked {
    /// In this process.
    Here { agent: AgentHandle, deps: Option<RawJson> },
    /// In a service.
    There { service: Service, agent: AgentName, deps: Option<RawJson> },
}

impl Asked {
    /// Finds the agent `target` of a service, and checks what it is asked with.
    pub(crate) async fn there(
        service: Service,
        target: &str,
        (deps, ask): (&DepsArgs, &AskArgs),
    ) -> Result<Self, Report> {
        if ask.model.is_some() {
            return Err(Report::usage("an agent of a service keeps its model")
                .because(format!("--model is for runs in this process, and {} is asked", service.url()))
                .todo("leave it out, or define another agent there: axon agents start NAME --file FILE"));
        }
        let agent = AgentName::try_from(target).map_err(|_error| {
            let what = format!("the service at {} has no agent `{target}`", service.url());
            let report = Report::new("unknown_agent", Exit::USAGE, what);
            match target.contains(':') {
                true => report.todo("start one that serves it: axon serve MODULE:ATTR"),
                false => report.todo("`axon agents` lists them"),
            }
        })?;
        let seen = service.agent(&agent).await?;
        let schema = seen.deps_schema;
        if seen.module.is_none() {
            let schema = schema.clone().and_then(|schema| Schema::new(schema).ok());
            check(deps, &agent, schema.as_ref())?;
        }
        // What Python describes, it checks itself: it may take more than its schema says.
        let deps = deps.read(schema.as_ref())?;
        Ok(Self::There { service, agent, deps })
    }

    /// Returns its name.
    pub(crate) fn name(&self) -> &AgentName {
        match self {
            Self::Here { agent, .. } => agent.name(),
            Self::There { agent, .. } => agent,
        }
    }

    /// Asks, and returns when the run is accepted.
    pub(crate) async fn start(
        &self,
        ask: &AskArgs,
        (prompt, conversation): (&str, Option<&ConversationId>),
        signals: &mut Signals,
    ) -> Result<UnderWay, Report> {
        let (service, agent, deps) = match self {
            Self::Here { agent, deps } => {
                let mut run = ask.prepare(agent, prompt, deps.as_ref());
                if let Some(conversation) = conversation {
                    run = run.conversation(conversation.clone());
                }
                return Ok(UnderWay::Here(Box::new(run.start().await?)));
            }
            Self::There { service, agent, deps } => (service, agent, deps),
        };
        let question = Question {
            prompt: Value::String(prompt.to_owned()),
            deps: deps.clone(),
            conversation_id: conversation.map(ToString::to_string),
            timeout: ask.timeout.map(|timeout| timeout.as_secs_f64()),
            approve: ask.approve.clone(),
        };
        let mut asking = std::pin::pin!(service.ask(agent.as_str(), &question));
        let signal = tokio::select! {
            run = &mut asking => return Ok(UnderWay::There(Box::new(run?))),
            signal = signals.next() => signal,
        };
        // A run may come of it all the same.
        let called_off = async {
            if let Ok(run) = asking.await {
                let _gone = run.cancel(signal.reason()).await;
            }
        };
        let _in_time = tokio::time::timeout(CANCEL_GRACE, called_off).await;
        Err(Report::cancelled(signal))
    }
}

/// Reads what the caller gives to the tools and prompts of an agent that says what it wants, and
/// checks it, before anything is started.
pub(crate) fn check(
    args: &DepsArgs,
    agent: &AgentName,
    schema: Option<&Schema>,
) -> Result<(), Report> {
    let Some(schema) = schema else { return Ok(()) };
    let refused = |what: &str| {
        let report = Report::new("invalid_request", Exit::USAGE, format!("agent `{agent}` {what}"));
        report.todo(example(schema.raw()))
    };
    let Some(deps) = args.read(Some(schema.raw()))? else {
        let wanted = properties(schema.raw());
        return Err(wanted.into_iter().fold(refused("needs deps"), Report::because));
    };
    let value: Value = deps.decode().map_err(|error| Report::usage(error.to_string()))?;
    schema.validate(&value).map_err(|violations| {
        let wrong = violations.iter().map(ToString::to_string);
        wrong.fold(refused("cannot take these deps"), Report::because)
    })
}

/// Returns a line for each property of the schema of deps.
fn properties(schema: &Value) -> Vec<String> {
    let members = schema["properties"].as_object().into_iter().flatten();
    let line = |(name, property): (&String, &Value)| {
        let parts = [property["type"].as_str(), property["description"].as_str()];
        let parts: Vec<&str> = parts.into_iter().flatten().collect();
        format!("{name}: {}", parts.join(", "))
    };
    members.map(line).collect()
}

/// Returns how to give what the schema of deps requires.
fn example(schema: &Value) -> String {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let flags: Vec<String> = required.map(|name| format!("--dep {name}=…")).collect();
    match flags.as_slice() {
        [] => "give --dep KEY=VALUE, or --deps JSON".to_owned(),
        flags => format!("give {}, or --deps JSON", flags.join(" ")),
    }
}

/// Reads what the caller gives to `agent`'s tools and prompts.
pub(crate) async fn deps(args: &DepsArgs, agent: &AgentHandle) -> Result<Option<RawJson>, Report> {
    let spec = agent.spec();
    let AgentSpec { deps, runner, .. } = spec.as_ref();
    if let Some(schema) = &deps.schema {
        return args.read(Some(schema.raw()));
    }
    // A factory takes what it likes, and Python speaks of what it makes of that.
    let is_asked = !args.dep.is_empty() && runner.module.is_some() && deps.factory.is_none();
    if !is_asked {
        return args.read(None);
    }
    let described: Option<Described> = agent.describe().await?.decode().ok();
    let schema = described.and_then(|described| described.agent?.deps);
    args.read(schema.as_ref())
}

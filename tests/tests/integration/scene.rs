//! Agents whose runners play a script, agents with tools in Python, and what a runtime tells.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axon_kernel::ids::ConversationId;
use axon_kernel::spec::{AgentSpec, Effect, PythonTarget, RunnerProgram, ToolSpec, ToolTarget};
use axon_runtime::supervisor::{Happening, SupervisionEvent};
use axon_runtime::{
    AgentHandle, AgentState, AgentStatus, Observed, RunHandle, RunUpdate, Runtime, RuntimeEvent,
    RuntimeEvents,
};
use axon_test::scripted_runner::RunnerScript;
use futures_util::FutureExt;
use tokio::task::unconstrained;

use crate::support::{PATIENCE, Project, scripted_agent, until};

/// An agent whose runner plays a script, which a test can replace on disk.
#[derive(Clone, Debug)]
pub(crate) struct Played {
    pub(crate) spec: AgentSpec,
    folder: PathBuf,
}

impl Played {
    pub(crate) fn new(project: &Project, name: &str, script: impl Into<RunnerScript>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = project.path().join(format!("script-{name}-{number}"));
        std::fs::create_dir(&folder).unwrap();
        let mut spec = AgentSpec::new(name.parse().unwrap());
        spec.model = Some("test".parse().unwrap());
        spec.runner.program = RunnerProgram::Command(write(&folder, script));
        spec.supervision.backoff.min = Duration::from_millis(1);
        spec.limits.timeout = Duration::from_secs(30);
        Self { spec, folder }
    }

    /// Has the definition changed.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut AgentSpec)) -> Self {
        change(&mut self.spec);
        self
    }

    /// Gives the next runners another script, as a repair on disk does.
    pub(crate) fn repair(&self, script: impl Into<RunnerScript>) {
        write(&self.folder, script);
    }
}

fn write(folder: &std::path::Path, script: impl Into<RunnerScript>) -> Vec<String> {
    script.into().command(env!("CARGO_BIN_EXE_scripted-runner"), folder).unwrap()
}

impl From<&Played> for axon_runtime::AgentDefinition {
    fn from(played: &Played) -> Self {
        played.spec.clone().into()
    }
}

/// Returns an agent that asks the scripted model and has these functions as tools.
pub(crate) fn tooled<'a>(
    name: &str,
    tools: impl IntoIterator<Item = (&'a str, Effect)>,
) -> AgentSpec {
    let mut spec = scripted_agent(name);
    for (target, effect) in tools {
        let target: PythonTarget = target.parse().unwrap();
        let name = target.to_string().rsplit(':').next().unwrap().parse().unwrap();
        let mut tool = ToolSpec::new(name, ToolTarget::Python(target));
        tool.effect = effect;
        spec.tools.push(tool);
    }
    spec
}

/// Returns the agent called `name`.
pub(crate) fn agent(runtime: &Runtime, name: &str) -> AgentHandle {
    runtime.named(name).unwrap()
}

pub(crate) async fn status(runtime: &Runtime, name: &str) -> AgentStatus {
    agent(runtime, name).status().await.unwrap()
}

pub(crate) async fn pid(runtime: &Runtime, name: &str) -> u32 {
    status(runtime, name).await.pid.expect("its runner is up")
}

/// Waits until the agent's runner is up, of `generation` or later.
pub(crate) async fn up(runtime: &Runtime, name: &str, generation: u32) -> AgentStatus {
    until(&format!("generation {generation} of {name} is up"), async || {
        let now = status(runtime, name).await;
        now.state == AgentState::Up && now.generation.0 >= generation
    })
    .await;
    status(runtime, name).await
}

pub(crate) fn conversation(id: &str) -> ConversationId {
    ConversationId::new(id)
}

/// Waits until `run` shows the event called `name`.
pub(crate) async fn shows(run: &mut RunHandle, name: &str) {
    let shown = async {
        loop {
            match run.events().next().await {
                Some(RunUpdate::Event(event)) if event.event.name() == name => return,
                Some(_) => {}
                None => panic!("it ended without a {name} event"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, shown).await.expect("the run goes on");
}

/// What a runtime has told since this was made.
#[derive(Debug)]
pub(crate) struct Told {
    events: RuntimeEvents,
    told: Vec<RuntimeEvent>,
}

impl Told {
    pub(crate) fn by(runtime: &Runtime) -> Self {
        Self { events: runtime.events(), told: Vec::new() }
    }

    /// Returns everything so far.
    pub(crate) fn all(&mut self) -> &[RuntimeEvent] {
        while let Some(Some(observed)) = unconstrained(self.events.next()).now_or_never() {
            self.take(observed);
        }
        &self.told
    }

    /// Waits until something was told that `wanted` fits.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&RuntimeEvent) -> bool) -> RuntimeEvent {
        let found = async {
            loop {
                if let Some(event) = self.all().iter().find(|event| wanted(event)) {
                    return event.clone();
                }
                let next = self.events.next().await.expect("the runtime lives");
                self.take(next);
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        found.unwrap_or_else(|_| panic!("never told; only {:#?}", self.told))
    }

    /// Returns what supervisors did, in short, each as `supervisor/child happening`.
    pub(crate) fn supervision(&mut self) -> Vec<String> {
        let short = |event: &RuntimeEvent| {
            if let RuntimeEvent::Supervision(event) = event { Some(short(event)) } else { None }
        };
        self.all().iter().filter_map(short).collect()
    }

    /// Waits until a supervisor did this, told as in [`Told::supervision`].
    pub(crate) async fn supervised(&mut self, wanted: &str) {
        self.until(
            |event| matches!(event, RuntimeEvent::Supervision(event) if short(event) == wanted),
        )
        .await;
    }

    fn take(&mut self, observed: Observed) {
        match observed {
            Observed::Event(event) => self.told.push(*event),
            Observed::Missed(count) => panic!("{count} events were missed"),
        }
    }
}

fn short(event: &SupervisionEvent) -> String {
    let child = event.child.as_ref().map_or("", |child| child.as_str());
    let happening = match &event.happening {
        Happening::Started => "started",
        Happening::Exited { .. } => "exited",
        Happening::RestartScheduled { .. } => "restarts",
        Happening::StartFailed { .. } => "start failed",
        Happening::GivenUp { .. } => "given up",
        Happening::Exhausted { .. } => "exhausted",
        Happening::Stopped => "stopped",
        Happening::Leaked => "leaked",
    };
    format!("{}/{child} {happening}", event.supervisor)
}

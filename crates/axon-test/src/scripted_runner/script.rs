//! What a runner does in each of its generations.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use axon_kernel::failure::Failure;
use axon_kernel::ids::{Attempt, Generation};
use axon_kernel::json::RawJson;
use axon_kernel::spec::PythonTarget;
use axon_kernel::wire::ReconcileAnswer;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::step::{Death, Step};

/// The name of the file that [`RunnerScript::command`] writes.
const FILE_NAME: &str = "runner-script.json";

/// What a scripted runner does: one life for each generation.
///
/// # Examples
///
/// ```
/// use axon_test::scripted_runner::{Death, Life, RunnerScript, Start, Step, When};
///
/// // The first process dies in the middle of its answer, the second one is well.
/// let script = RunnerScript::from([Step::complete("You said {{prompt}}.")])
///     .generation(1, [Step::text("You "), Death::signal(9).into()]);
///
/// // Each of many concurrent runs gets its own answer, and one prompt is trouble.
/// let script = RunnerScript::from(
///     Life::default()
///         .on(When::prompt("boom"), [Death::code(3).saying("Segmentation fault").into()])
///         .always([Step::text("Well, "), Step::complete("You said {{prompt}}.")]),
/// );
///
/// // It never becomes ready.
/// let script = RunnerScript::from(Life::starting(Start::NeverReady));
/// # let _ = script;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunnerScript {
    /// The lives of single generations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub generations: BTreeMap<Generation, Life>,
    /// The life of every other one.
    #[serde(default)]
    pub default: Life,
}

impl RunnerScript {
    /// Gives the generation `number` a life of its own.
    #[must_use]
    pub fn generation(mut self, number: u32, life: impl Into<Life>) -> Self {
        self.generations.insert(Generation(number), life.into());
        self
    }

    /// Writes the script into `folder` and returns the command that plays it: the value of
    /// `[runner] command`. `program` is the path of the binary that calls [`super::main`].
    ///
    /// # Errors
    ///
    /// [`io::Error`] if the file cannot be written.
    pub fn command(&self, program: &str, folder: &Path) -> io::Result<Vec<String>> {
        let file = folder.join(FILE_NAME);
        std::fs::write(&file, serde_json::to_vec_pretty(self)?)?;
        Ok(vec![program.to_owned(), file.display().to_string()])
    }

    /// Returns the life of `generation`.
    pub(super) fn life(mut self, generation: Generation) -> Life {
        self.generations.remove(&generation).unwrap_or(self.default)
    }
}

/// The life of one process, from its start on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Life {
    /// How it starts.
    pub start: Start,
    /// Which model it claims to use; absent: the spec's.
    pub model: Option<String>,
    /// Whether that is one that only plays a model.
    pub offline: bool,
    /// What it does on SIGTERM.
    pub on_term: OnTerm,
    /// What it does when it is asked for a stack dump, by SIGUSR1.
    pub on_dump: OnDump,
    /// Answers out of the ordinary; the first that fits and is not used up is given.
    pub answers: Vec<AnswerPlay>,
    /// What attempts do; the first that fits is played.
    pub plays: Vec<Play>,
    /// What directly called tools give.
    pub tools: BTreeMap<PythonTarget, ToolPlay>,
    /// What functions say that are asked what became of a call.
    pub reconcile: BTreeMap<PythonTarget, ReconcilePlay>,
}

impl Life {
    /// Makes a life that starts like this.
    #[must_use]
    pub fn starting(start: Start) -> Self {
        Self { start, ..Self::default() }
    }

    /// Has the attempts that `when` fits play `steps`, unless an earlier one fits.
    #[must_use]
    pub fn on(mut self, when: When, steps: impl IntoIterator<Item = Step>) -> Self {
        self.plays.push(Play { when, steps: steps.into_iter().collect() });
        self
    }

    /// Has every attempt play `steps` that nothing before this fits.
    #[must_use]
    pub fn always(self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.on(When::default(), steps)
    }

    /// Has requests of `endpoint` answered out of the ordinary: the first `times`, or all.
    #[must_use]
    pub fn answering(
        mut self,
        endpoint: Endpoint,
        answer: Answer,
        times: impl Into<Option<u32>>,
    ) -> Self {
        self.answers.push(AnswerPlay { endpoint, answer, times: times.into() });
        self
    }
}

impl From<Life> for RunnerScript {
    fn from(life: Life) -> Self {
        Self { generations: BTreeMap::new(), default: life }
    }
}

impl<const N: usize> From<[Step; N]> for Life {
    fn from(steps: [Step; N]) -> Self {
        Self::default().always(steps)
    }
}

impl<const N: usize> From<[Step; N]> for RunnerScript {
    fn from(steps: [Step; N]) -> Self {
        Life::from(steps).into()
    }
}

/// How a process starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Ready at once.
    #[default]
    Ready,
    /// Ready after milliseconds.
    ReadyAfterMs(u64),
    /// Ready, and dead some milliseconds later, whatever it is doing.
    ReadyThenDie {
        /// How much later.
        after_ms: u64,
        /// How.
        death: Death,
    },
    /// Alive and silent.
    NeverReady,
    /// Dead before it has said anything.
    DieBeforeReady(Death),
    /// This line in place of the ready record.
    GarbageInsteadOfReady(String),
    /// A `failed` record, and exit code 1.
    Failed(Failure),
    /// A ready record of the next protocol.
    WrongProtocol,
    /// A ready record of the next generation.
    WrongGeneration,
}

/// What a process does on SIGTERM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTerm {
    /// It cancels its attempts and exits.
    #[default]
    Exit,
    /// Nothing: it must be killed.
    Ignore,
}

/// What a process does when it is asked for a stack dump, by SIGUSR1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDump {
    /// It writes one, of a single frame, to its standard error.
    #[default]
    Write,
    /// Nothing.
    Ignore,
    /// It dies, as a program does that knows nothing of SIGUSR1.
    Die,
}

/// An answer out of the ordinary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerPlay {
    /// Which requests get it.
    pub endpoint: Endpoint,
    /// What they get.
    pub answer: Answer,
    /// How often. Absent: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `GET /healthz`.
    Health,
    /// `GET /v1/schema`.
    Schema,
    /// `POST /v1/agents/validate`.
    Validate,
    /// `POST /v1/runs`.
    Start,
    /// `POST /v1/runs/{id}/permit`.
    Permit,
    /// `POST /v1/runs/{id}/tool_results`.
    ToolResult,
    /// `POST /v1/runs/{id}/messages`.
    Message,
    /// `DELETE /v1/runs/{id}`.
    Cancel,
    /// `POST /v1/tools/{target}/call`.
    CallTool,
    /// `POST /v1/tools/{target}/reconcile`.
    Reconcile,
    /// `POST /v1/drain`.
    Drain,
}

/// What a request gets in place of the protocol's answer. It is not executed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// An error object.
    Refuse {
        /// The HTTP status.
        status: u16,
        /// The error.
        error: Box<Failure>,
    },
    /// Something that is no protocol.
    Garbage {
        /// The HTTP status.
        status: u16,
        /// The body, as `text/html`.
        body: String,
    },
    /// Nothing, for as long as the connection stays open.
    Silence,
}

impl Answer {
    /// Refuses with an error object.
    #[must_use]
    pub fn refuse(status: u16, error: Failure) -> Self {
        Self::Refuse { status, error: Box::new(error) }
    }

    /// Answers 200 with a web page.
    #[must_use]
    pub fn garbage() -> Self {
        Self::Garbage { status: 200, body: "<html><h1>It works!</h1></html>".to_owned() }
    }
}

/// Which attempts play which steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Play {
    /// Which attempts.
    #[serde(default)]
    pub when: When,
    /// What they do. An attempt that comes to the end without a terminal event fails.
    pub steps: Vec<Step>,
}

/// Which attempts a play is for: those that fit everything that is given here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// The prompt is this text. That of a resumed attempt stands in its history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The prompt contains this text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// It is this attempt of its run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// It resumes from its history (`true`), or starts with a prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed: Option<bool>,
    /// The spec names this model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// A call that waited has a decision of this kind: `tool-approved`, `tool-denied` and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided: Option<String>,
}

impl When {
    /// Fits the attempts of this prompt.
    pub fn prompt(prompt: impl Into<String>) -> Self {
        Self { prompt: Some(prompt.into()), ..Self::default() }
    }

    /// Fits the attempts whose prompt contains `text`.
    pub fn contains(text: impl Into<String>) -> Self {
        Self { contains: Some(text.into()), ..Self::default() }
    }

    /// Fits the attempts with this number.
    #[must_use]
    pub fn attempt(number: u32) -> Self {
        Self::default().and_attempt(number)
    }

    /// Fits the attempts that resume.
    #[must_use]
    pub fn resumed() -> Self {
        Self::default().and_resumed()
    }

    /// Fits only those of them with this number.
    #[must_use]
    pub fn and_attempt(self, number: u32) -> Self {
        Self { attempt: Some(Attempt(number)), ..self }
    }

    /// Fits only those of them that resume.
    #[must_use]
    pub fn and_resumed(self) -> Self {
        Self { resumed: Some(true), ..self }
    }

    /// Fits only those of them in which a call that waited has a decision of this kind.
    #[must_use]
    pub fn and_decided(self, kind: impl Into<String>) -> Self {
        Self { decided: Some(kind.into()), ..self }
    }

    /// Fits only those of them whose spec names this model.
    #[must_use]
    pub fn and_model(self, model: impl Into<String>) -> Self {
        Self { model: Some(model.into()), ..self }
    }
}

/// What a directly called tool gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolPlay {
    /// A result; arguments that break the schema are refused.
    Returns {
        /// The result.
        result: RawJson,
        /// The JSON Schema of the arguments, if they are to be checked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parameters: Option<Value>,
    },
    /// It raises.
    Raises(Failure),
}

/// What a function says that is asked what became of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReconcilePlay {
    /// Its answer.
    Answers(ReconcileAnswer),
    /// It raises.
    Raises(Box<Failure>),
}

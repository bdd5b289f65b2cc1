//! Models asked directly: without an agent of one's own, through the same runners, limits and
//! metrics.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use axon_kernel::event::{RunEvent, TextDelta};
use axon_kernel::ids::RunId;
use axon_kernel::json::RawJson;
use axon_kernel::spec::{AgentName, AgentSpec, ModelName, NameError};
use tokio::sync::OnceCell;

use crate::agent::AgentHandle;
use crate::log::RunUpdate;
use crate::run::{Prompt, Refusal, RunBuilder, RunHandle};
use crate::runtime::{Runtime, StartError};
use crate::typed::RunError;

/// The agents that stand for models, by model: each is started once, by whoever asks first.
#[derive(Debug, Default)]
pub(crate) struct DirectModels(Mutex<HashMap<ModelName, Arc<OnceCell<AgentHandle>>>>);

impl DirectModels {
    fn slot(&self, model: &ModelName) -> Arc<OnceCell<AgentHandle>> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(model.clone()).or_default().clone()
    }
}

/// A model that is asked directly. Its runner starts with the first question, as that of an agent
/// called `model_…`, which the tree and the metrics show like any other; it lives as long as the
/// runtime.
///
/// ```no_run
/// # async fn example(runtime: axon_runtime::Runtime) -> Result<(), Box<dyn std::error::Error>> {
/// let model = runtime.model("openai:gpt-5");
/// let answer = model.complete("Say hello.").await?;
/// println!("{} ({})", answer.text, answer.model);
///
/// let mut stream = model.stream("Tell a story.").await?;
/// while let Some(text) = stream.next().await {
///     print!("{text}");
/// }
/// let whole = stream.completion().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DirectModel {
    runtime: Runtime,
    model: Result<ModelName, NameError>,
}

/// What a model answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The text.
    pub text: String,
    /// The run that it came of.
    pub run_id: RunId,
    /// The model that answered.
    pub model: String,
    /// Whether that model only plays one.
    pub offline: bool,
    /// What it took: requests and tokens, as pydantic-ai counts them.
    pub usage: RawJson,
}

/// Why a model gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The name is none of a model.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Its runner cannot be had.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It was asked and did not answer.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl From<Refusal> for ModelError {
    fn from(refusal: Refusal) -> Self {
        Self::Run(refusal.into())
    }
}

impl Runtime {
    /// Returns a model to ask directly: any pydantic-ai model string.
    #[must_use]
    pub fn model(&self, model: &str) -> DirectModel {
        DirectModel { runtime: self.clone(), model: ModelName::try_from(model) }
    }
}

impl DirectModel {
    /// Asks the model, and returns its whole answer.
    ///
    /// # Errors
    ///
    /// [`ModelError`] if the name is none, its runner cannot be had, or the run failed.
    pub async fn complete(&self, prompt: impl Into<Prompt>) -> Result<Completion, ModelError> {
        let ended = self.run(prompt).await?.wait().await?;
        Ok(Completion::of(ended.answer::<String>()?))
    }

    /// Asks the model, and returns its answer as it comes.
    ///
    /// # Errors
    ///
    /// [`ModelError`] if the name is none, its runner cannot be had, or the run was refused.
    pub async fn stream(&self, prompt: impl Into<Prompt>) -> Result<TextStream, ModelError> {
        let run = self.run(prompt).await?.start().await?;
        Ok(TextStream { run })
    }

    /// Prepares a run, for what [`DirectModel::complete`] has no way to say: a conversation, a
    /// budget, settings of the model.
    ///
    /// # Errors
    ///
    /// [`ModelError`] if the name is none, or its runner cannot be had.
    pub async fn run(&self, prompt: impl Into<Prompt>) -> Result<RunBuilder, ModelError> {
        Ok(self.agent().await?.run(prompt))
    }

    async fn agent(&self) -> Result<AgentHandle, ModelError> {
        let model = self.model.clone()?;
        let slot = self.runtime.direct_models().slot(&model);
        let started = slot.get_or_try_init(|| async {
            let mut spec = AgentSpec::new(name_of(&model));
            spec.description = Some(format!("Asks {model} directly"));
            spec.model = Some(model.clone());
            self.runtime.start_agent(spec).await
        });
        Ok(started.await?.clone())
    }
}

/// Returns the name of the agent that stands for a model: readable, and no other model's.
fn name_of(model: &ModelName) -> AgentName {
    let plain: String = model
        .as_str()
        .chars()
        .map(
            |letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' },
        )
        .take(40)
        .collect();
    // What two models have in common once their names are plain, this tells apart.
    let mut hasher = DefaultHasher::new();
    model.as_str().hash(&mut hasher);
    let name = format!("model_{plain}_{:06x}", hasher.finish() & 0xff_ffff);
    AgentName::try_from(name).expect("lower-case letters, digits and _, at most 53 of them")
}

impl Completion {
    fn of(answer: crate::typed::Answer<String>) -> Self {
        Self {
            text: answer.output,
            run_id: answer.run_id,
            model: answer.model,
            offline: answer.offline,
            usage: answer.usage,
        }
    }
}

/// The answer of a model as it comes. Dropping it lets the run go on.
#[derive(Debug)]
pub struct TextStream {
    run: RunHandle,
}

impl TextStream {
    /// Returns the next piece of the text; none at its end.
    ///
    /// Where an attempt fails half way, the next one begins with the answer anew: then
    /// [`TextStream::completion`] has the text that counts.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            match self.run.events().next().await? {
                RunUpdate::Event(event) => {
                    if let RunEvent::TextDelta(TextDelta { text }) = &event.event {
                        return Some(text.clone());
                    }
                }
                RunUpdate::Lagged { text, .. } if !text.is_empty() => return Some(text),
                RunUpdate::Lagged { .. } => {}
            }
        }
    }

    /// Returns the run behind it, to cancel it or to follow everything that it does.
    #[must_use]
    pub fn run(&mut self) -> &mut RunHandle {
        &mut self.run
    }

    /// Waits for the whole answer.
    ///
    /// # Errors
    ///
    /// [`ModelError`] if the run failed.
    pub async fn completion(self) -> Result<Completion, ModelError> {
        Ok(Completion::of(self.run.outcome().await.answer::<String>()?))
    }
}

//! The instructions of a run, worked out from the parts that its agent has.

use axon_kernel::prompt::{Context, Template};
use axon_kernel::spec::{Instruction, PromptName};
use serde_json::Value;

use super::{Refusal, RunBuilder};
use crate::define::PromptCall;

/// What stands between two parts.
const BETWEEN: &str = "\n\n";

impl RunBuilder {
    /// Works out the instructions that this run's model would see: templates are rendered and
    /// functions of the service called, in order. What only Python gives is not in it.
    ///
    /// # Errors
    ///
    /// [`Refusal::Invalid`] if a template or a function fails on the request.
    pub async fn instructions(&self) -> Result<Option<String>, Refusal> {
        let spec = self.agent.spec();
        let mut parts = Vec::new();
        for part in &spec.instructions {
            let text = match part {
                Instruction::Text(template) => Some(self.rendered(template)?),
                Instruction::Rust(function) => self.given_by(function).await?,
            };
            parts.extend(text.filter(|text| !text.trim().is_empty()));
        }
        Ok((!parts.is_empty()).then(|| parts.join(BETWEEN)))
    }

    /// Renders a template, which never sees a secret: the store keeps what comes of it.
    fn rendered(&self, template: &Template) -> Result<String, Refusal> {
        let deps: Value = match self.request.deps.masked() {
            Some(deps) => deps.decode().map_err(|error| invalid("deps", &error))?,
            None => Value::Null,
        };
        let context = Context {
            agent: self.agent.name(),
            run_id: &self.run_id,
            conversation_id: self.request.conversation.as_ref(),
            deps: &deps,
        };
        template.render(context).map_err(|error| invalid("instructions", &error))
    }

    async fn given_by(&self, name: &PromptName) -> Result<Option<String>, Refusal> {
        let launcher = self.agent.agent.launcher();
        let call = PromptCall {
            agent: self.agent.name().clone(),
            run_id: self.run_id.clone(),
            conversation: self.request.conversation.clone(),
            prompt: self.request.prompt.clone(),
            deps: self.request.deps.clone(),
            provided: launcher.code.provided.clone(),
        };
        let own = &launcher.code.prompts;
        let of_all = &self.agent.services.code.prompts;
        let prompts = if own.has(name) { own } else { of_all };
        let told = tokio::time::timeout(self.request.timeout, prompts.call(name, call)).await;
        let what = format!("the prompt function `{name}`");
        match told {
            Ok(told) => told.map_err(|error| Refusal::Invalid {
                problem: format!("{what} failed: {}", self.request.deps.redact(&error.chain())),
            }),
            Err(_elapsed) => {
                Err(Refusal::Invalid { problem: format!("{what} gave nothing in time") })
            }
        }
    }
}

pub(super) fn invalid(what: &str, error: &dyn std::error::Error) -> Refusal {
    Refusal::Invalid { problem: format!("{what}: {error}") }
}

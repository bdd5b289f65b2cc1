//! One generation of a scripted runner: what it was launched with, what it does, what it is doing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axon_kernel::json::RawJson;
use axon_kernel::wire::{AttemptRequest, Health, Launch, ToolCallRequest, Validated};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;

use super::fill::{Known, prompt_of};
use super::performance::Performance;
use super::refusal::Refusal;
use super::runs::Runs;
use super::script::{Answer, Endpoint, Life, When};
use super::spec;
use super::stage::Stage;
use super::step::Step;
use super::stream::EventBody;
use super::unfinished::Left;

/// The model of a spec that names none.
const MODEL: &str = "scripted";

/// One generation of a scripted runner.
#[derive(Debug)]
pub(super) struct App {
    launch: Launch,
    life: Life,
    runs: Runs,
    /// How often each of the life's answers was given.
    answered: Vec<AtomicU32>,
    left: watch::Sender<Vec<Left>>,
}

impl App {
    pub(super) fn new(launch: Launch, life: Life) -> Self {
        let runs = Runs::new(launch.limits.attempts);
        let answered = life.answers.iter().map(|_| AtomicU32::new(0)).collect();
        Self { launch, life, runs, answered, left: watch::Sender::default() }
    }

    pub(super) fn launch(&self) -> &Launch {
        &self.launch
    }

    pub(super) fn life(&self) -> &Life {
        &self.life
    }

    pub(super) fn runs(&self) -> &Runs {
        &self.runs
    }

    /// Returns the answer that the script has for the next request of `endpoint`, if it has one.
    pub(super) fn scripted_answer(&self, endpoint: Endpoint) -> Option<&Answer> {
        let fits = self.life.answers.iter().zip(&self.answered);
        fits.filter(|(play, _)| play.endpoint == endpoint)
            .find(|(play, given)| {
                let given = given.fetch_add(1, Ordering::Relaxed);
                play.times.is_none_or(|times| given < times)
            })
            .map(|(play, _)| &play.answer)
    }

    pub(super) fn health(&self) -> Health {
        Health {
            ok: true,
            pid: std::process::id(),
            attempts: self.runs.live(),
            protocol: self.launch.protocol,
            generation: self.launch.generation,
            draining: self.runs.is_draining(),
            unfinished: self.left.borrow().iter().filter_map(Left::unfinished).collect(),
        }
    }

    /// Has a tool of an attempt run on when the attempt is over.
    pub(super) fn leave(&self, left: Left) {
        self.left.send_modify(|all| all.push(left));
    }

    pub(super) fn validate(&self, spec: &RawJson) -> Result<Validated, Refusal> {
        let model = self.model(spec)?;
        Ok(Validated { model, offline: self.life.offline })
    }

    fn model(&self, spec: &RawJson) -> Result<String, Refusal> {
        let named = spec::check(spec, &self.launch)?;
        Ok(self.life.model.clone().or(named).unwrap_or_else(|| MODEL.to_owned()))
    }

    /// Lets an attempt in and begins to play it.
    pub(super) fn start(self: &Arc<Self>, request: AttemptRequest) -> Result<EventBody, Refusal> {
        if request.attempt.0 == 0 {
            return Err(Refusal::config("attempts are counted from 1"));
        }
        let model = self.model(&request.spec)?;
        let steps = self.steps(&request);
        let admitted = self.runs.admit(&request.run_id, request.attempt)?;
        let heartbeat = self.launch.limits.heartbeat();
        let (pieces, body) = EventBody::new(admitted.attempt.clone(), heartbeat);
        let known = Known {
            prompt: prompt_of(&request),
            run: request.run_id.clone(),
            attempt: request.attempt,
            generation: self.launch.generation,
            results: BTreeMap::new(),
        };
        let (app, attempt) = (self.clone(), admitted.attempt);
        tokio::spawn(async move {
            let stage = Stage::new(app.clone(), attempt.clone(), request, pieces);
            let performance = Performance { stage, known, steps, lower: admitted.lower };
            performance.perform(model).await;
            app.runs.end(&attempt);
        });
        Ok(body)
    }

    fn steps(&self, request: &AttemptRequest) -> Vec<Step> {
        let fitting = self.life.plays.iter().find(|play| fits(&play.when, request));
        fitting.map(|play| play.steps.clone()).unwrap_or_default()
    }

    /// Returns what the script has for a directly called tool.
    pub(super) fn tool(&self, target: &str, request: &ToolCallRequest) -> Result<RawJson, Refusal> {
        super::tools::call(self, target, request)
    }
}

fn fits(when: &When, request: &AttemptRequest) -> bool {
    let prompt = prompt_of(request);
    when.prompt.as_ref().is_none_or(|expected| *expected == prompt)
        && when.contains.as_ref().is_none_or(|part| prompt.contains(part))
        && when.attempt.is_none_or(|number| number == request.attempt)
        && when.resumed.is_none_or(|resumed| resumed == request.prompt.is_none())
        && (when.model.is_none() || when.model == model_of(&request.spec))
        && when.decided.as_ref().is_none_or(|kind| is_decided(request, kind))
}

/// Returns whether somebody has decided so about one of the calls.
fn is_decided(request: &AttemptRequest, kind: &str) -> bool {
    let decided = request.deferred_tool_results.as_ref().and_then(|raw| raw.decode().ok());
    let decided: Value = decided.unwrap_or_default();
    let each = ["approvals", "calls"].map(|part| decided[part].as_object().cloned());
    each.into_iter().flatten().flatten().any(|(_, decision)| decision["kind"] == kind)
}

fn model_of(spec: &RawJson) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        model: Option<String>,
    }
    spec.decode().ok().and_then(|Named { model }| model)
}

/// The body of `GET /v1/schema`: a scripted runner has nothing to tell.
pub(super) fn schema() -> Value {
    serde_json::json!({"spec": true, "events": true, "messages": true, "agent": null})
}

//! One attempt: a lent runner, its stream of events, and what each of them means for the run.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;

use axon_kernel::breaker::Answer;
use axon_kernel::event::{
    AttemptBegun, Checkpoint, Completed, LogLine, ModelEvent, PartialValue, RunEvent, TextDelta,
    ToolCalled, ToolOutcome, ToolReturned, millis,
};
use axon_kernel::failure::{Failure, FailureKind, Row};
use axon_kernel::json::{RawJson, excerpt};
use axon_kernel::wire::{
    AttemptCompleted, AttemptRequest, AttemptStarted, Before, Checkpointed, DeferredResults,
    PermitRequest, RunnerEvent, ToolFinished, ToolStarted,
};
use axon_runner::{AttemptStream, RequestError, StreamError};
use serde_json::Value;
use tokio::time::Duration;

use super::calls::Calls;
use super::driver::{Driver, Stuck};
use super::elsewhere::{MAX_ELSEWHERE, NotTaken};
use super::journal::With;
use super::model_event::{self, Meaning};
use super::observed::Host;
use super::steering::next_steer;
use crate::agent::{Death, Lease};
use crate::carried::Carried;

/// How long the news of a runner's exit may take after its connection broke.
const EXIT_NEWS: Duration = Duration::from_millis(500);

/// How long the end of a runner may take that was asked to end.
const ENDING_NEWS: Duration = Duration::from_secs(3);

/// How an attempt ended well.
#[derive(Debug)]
pub(super) enum AttemptEnd {
    Completed(Box<Completed>),
    /// Calls want an approval or an answer.
    Asks(RawJson),
}

/// How an attempt ended badly.
#[derive(Debug)]
pub(super) enum AttemptError {
    /// It failed, perhaps with its runner; the policy decides what comes next.
    Failed(Box<Failure>, Option<Death>),
    /// It failed, as the runner told: so the runner is well, whatever the failure is.
    Told(Box<Failure>),
    /// No runner can be had: the agent has already done what it can.
    Unavailable(Box<Failure>),
    /// It is over, and no failure: another agent goes on with the run.
    HandedOn,
    /// The run cannot go on.
    Stuck(Stuck),
}

impl From<Stuck> for AttemptError {
    fn from(stuck: Stuck) -> Self {
        Self::Stuck(stuck)
    }
}

impl From<Failure> for AttemptError {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure), None)
    }
}

impl Driver {
    pub(super) async fn make_attempt(&mut self) -> Result<AttemptEnd, AttemptError> {
        let run = self.log().run_id().clone();
        self.observed.begin_attempt(&self.agent, &run, self.attempt);
        let mut elsewhere = 0;
        loop {
            let lease = match self.take_runner().await {
                Ok(lease) => lease,
                Err(error) => {
                    let end = Err(error);
                    self.observed.end_attempt(&end);
                    return end;
                }
            };
            // What was changed and is on no record did not happen.
            self.state_here = Carried::holding(self.live.state.now());
            let _hiding = lease.tenancy.hide(&self.request.deps.secrets());
            let end = match self.begin(&lease).await {
                Ok(Ok(stream)) => self.follow(stream, &lease).await,
                Ok(Err(not_taken)) if elsewhere < MAX_ELSEWHERE => {
                    elsewhere += 1;
                    self.go_elsewhere(&not_taken, &lease);
                    continue;
                }
                Ok(Err(not_taken)) => Err(not_taken.into_failure().into()),
                Err(error) => Err(error),
            };
            let end = self.judge(end, &lease).await;
            self.lease = None;
            self.see_out().await?;
            self.calls_are_lost();
            self.observed.end_attempt(&end);
            self.calls_here = Calls::of(&self.launcher.spec);
            return end;
        }
    }

    /// Waits for a runner, whose definition then holds for the attempt.
    async fn take_runner(&mut self) -> Result<Arc<Lease>, AttemptError> {
        let run = self.log().run_id().clone();
        let alone = self.suspicion.isolates();
        self.awaits = Some(if alone {
            "it has to be alone in its runner, after others died with it, and others were in it"
        } else {
            "it was waiting for the agent's runner"
        });
        let agent = self.agent.clone();
        let mut lease = pin!(agent.lease(&run, self.sick, alone));
        let lease = loop {
            tokio::select! {
                lease = &mut lease => break lease,
                () = self.journal.is_due() => self.write_what_is_due().await?,
            }
        };
        self.awaits = None;
        let lease = lease.map_err(|failure| AttemptError::Unavailable(Box::new(failure)))?;
        self.launcher = lease.tenancy.launcher.clone();
        let lease = Arc::new(lease);
        self.lease = Some(lease.clone());
        self.observed.has_runner(lease.generation());
        tracing::Span::current().record("generation", lease.generation().0);
        Ok(lease)
    }

    /// Tells the model's breaker how the attempt ended, and settles whose fault that was.
    async fn judge(
        &mut self,
        end: Result<AttemptEnd, AttemptError>,
        lease: &Lease,
    ) -> Result<AttemptEnd, AttemptError> {
        match &end {
            Ok(_) | Err(AttemptError::HandedOn) => self.report(Answer::Success),
            Err(AttemptError::Failed(failure, _) | AttemptError::Told(failure)) => {
                self.report(Answer::Failure(failure));
            }
            Err(AttemptError::Unavailable(_) | AttemptError::Stuck(_)) => {}
        }
        match end {
            Err(AttemptError::Failed(failure, _)) if failure.kind.row().row == Row::Process => {
                let (failure, death) = self.evidence(*failure, lease).await;
                Err(AttemptError::Failed(Box::new(failure), Some(death)))
            }
            Err(AttemptError::Told(failure)) => {
                if failure.kind.row().row == Row::Stopped {
                    self.hard_stop().await;
                }
                Err(AttemptError::Failed(failure, None))
            }
            other => other,
        }
    }

    /// Settles what speaks against the runner: how it ended, or what it was doing when it should
    /// have answered. One that lives on is killed, once, however many attempts say so.
    async fn evidence(&mut self, mut failure: Failure, lease: &Lease) -> (Failure, Death) {
        self.sick = Some(lease.generation());
        let tenancy = &lease.tenancy;
        let news = match (tenancy.is_ending(), failure.kind == FailureKind::RunnerDied) {
            // Somebody ends it in good order: that takes its time.
            (true, _) => ENDING_NEWS,
            (false, true) => EXIT_NEWS,
            (false, false) => Duration::ZERO,
        };
        match tokio::time::timeout(news, tenancy.exited()).await {
            Ok(exit) => failure.message = format!("the runner died: {exit}"),
            Err(_lives) => {
                if failure.kind == FailureKind::RunnerDied {
                    failure.traceback = Some(tenancy.stacks().await.to_owned());
                }
                tenancy.condemn().await;
            }
        }
        let death = tenancy.death();
        if let Death::Ours(reason) = &death {
            failure.message = format!("the runner was replaced: {reason}");
        }
        (failure, death)
    }

    /// Has the runner take the attempt on.
    async fn begin(
        &mut self,
        lease: &Lease,
    ) -> Result<Result<AttemptStream, NotTaken>, AttemptError> {
        let told = |failure| AttemptError::Told(Box::new(failure));
        self.before_attempt(lease).await.map_err(told)?;
        let request = self.attempt_request()?;
        match lease.client().attempt(&request, self.observed.of_attempt()).await {
            Ok(stream) => Ok(Ok(stream)),
            Err(error) => match NotTaken::of(error, lease) {
                Ok(not_taken) => Ok(Err(not_taken)),
                Err(error) => Err(error.into_failure().into()),
            },
        }
    }

    async fn follow(
        &mut self,
        mut stream: AttemptStream,
        lease: &Lease,
    ) -> Result<AttemptEnd, AttemptError> {
        let mut model = (String::new(), false);
        loop {
            let next = self.next_event(&mut stream, lease).await?;
            let Some((seq, event)) = next else {
                let message = "the event stream went on after its end";
                return Err(Failure::new(FailureKind::Decode, message).into());
            };
            match event {
                RunnerEvent::AttemptStarted(started) => {
                    self.check_model(&started)?;
                    model = (started.model.clone(), started.offline);
                    let begun = AttemptBegun {
                        generation: lease.generation(),
                        model: started.model,
                        offline: started.offline,
                    };
                    self.emit(RunEvent::AttemptStarted(begun)).await?;
                    self.tell_again(lease).await;
                }
                RunnerEvent::Completed(completed) => {
                    return Ok(AttemptEnd::Completed(Box::new(
                        self.accept_output(completed, model)?,
                    )));
                }
                RunnerEvent::Paused(paused) => {
                    return Ok(AttemptEnd::Asks(paused.requests));
                }
                RunnerEvent::Failed(failed) => {
                    self.spent(failed.usage.as_ref());
                    let tool = failed.error.tool.as_ref();
                    if let Some(call) = tool.and_then(|tool| tool.tool_call_id.as_ref()) {
                        self.call_counts(call, ToolOutcome::Failed);
                    }
                    return Err(AttemptError::Told(Box::new(failed.error)));
                }
                RunnerEvent::Cancelled(cancelled) => {
                    self.spent(cancelled.usage.as_ref());
                    let message = "the runner stopped in the middle of the attempt";
                    return Err(Failure::new(FailureKind::RunnerDied, message).into());
                }
                other @ (RunnerEvent::Model { .. }
                | RunnerEvent::PartialOutput(_)
                | RunnerEvent::ToolRequest(_)
                | RunnerEvent::ToolRequestCancelled { .. }
                | RunnerEvent::ToolStarted(_)
                | RunnerEvent::ToolFinished(_)
                | RunnerEvent::OutputCheck(_)
                | RunnerEvent::ModelRequested(_)
                | RunnerEvent::ModelAnswered(_)
                | RunnerEvent::Checkpoint(_)
                | RunnerEvent::Log(_)) => self.take(seq, other, lease).await?,
            }
        }
    }

    /// Waits for the next event, and hands on what others tell the run meanwhile.
    async fn next_event(
        &mut self,
        stream: &mut AttemptStream,
        lease: &Lease,
    ) -> Result<Option<(u64, RunnerEvent)>, AttemptError> {
        loop {
            let steer = tokio::select! {
                biased;
                event = stream.next() => {
                    return event.map_err(|error| StreamError::into_failure(error).into());
                }
                Some(steer) = next_steer(&mut self.steered) => steer,
                news = self.calls_here.next() => {
                    self.news(news, lease).await?;
                    continue;
                }
                () = self.journal.is_due() => {
                    self.write_what_is_due().await?;
                    continue;
                }
            };
            self.steer(steer, lease).await?;
        }
    }

    /// Records what nothing depends on yet, so that others who look at the store see it.
    async fn write_what_is_due(&mut self) -> Result<(), Stuck> {
        Ok(self.journal.write(With::default(), Some(&self.clock)).await?)
    }

    /// Refuses a model that only plays one where that was not allowed: a run can name its own.
    fn check_model(&self, started: &AttemptStarted) -> Result<(), AttemptError> {
        if !started.offline || self.launcher.allow_offline {
            return Ok(());
        }
        let message = format!("`{}` is an offline model, which only plays one", started.model);
        Err(AttemptError::Told(Box::new(Failure::new(FailureKind::Config, message))))
    }

    fn attempt_request(&self) -> Result<AttemptRequest, Failure> {
        if self.remaining().is_zero() {
            return Err(self.too_late());
        }
        let resumes = self.transcript.resumable;
        let limits = &self.request.usage_limits;
        let deferred = DeferredResults::of(&self.requests, &self.resolutions);
        let deferred = (!deferred.is_empty()).then(|| RawJson::encode(&deferred)).transpose();
        let unreadable = |error| Failure::new(FailureKind::Internal, format!("{error}"));
        Ok(AttemptRequest {
            run_id: self.log().run_id().clone(),
            attempt: self.attempt,
            conversation_id: self.request.conversation.clone(),
            prompt: (!resumes).then(|| self.request.prompt.clone()),
            stream: self.request.stream,
            spec: self.wire_spec()?,
            instructions: self.request.instructions.clone(),
            deps: self.request.whole_deps().cloned(),
            message_history: self.transcript.messages.clone(),
            recorded: self.results.clone(),
            deferred_tool_results: deferred.map_err(unreadable)?,
            usage: self.transcript.usage.clone(),
            usage_limits: (!limits.is_empty()).then(|| Value::Object(limits.clone()).into()),
            model_settings: self.request.model_settings.clone(),
            timeout: Some(self.remaining().as_secs_f64()),
            metadata: self.request.metadata.clone(),
            state: self.carried(),
            secrets: self.request.deps.secrets(),
        })
    }

    /// Returns the state that the run carries, if it carries any.
    fn carried(&self) -> Option<RawJson> {
        let state = self.live.state.now();
        (!state.is_empty()).then(|| Value::Object(state).into())
    }

    fn wire_spec(&self) -> Result<RawJson, Failure> {
        let wire = &self.launcher.wire;
        let Some(model) = &self.request.model else { return Ok(wire.clone()) };
        let mut spec: serde_json::Map<String, Value> = wire
            .decode()
            .map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))?;
        spec.insert("model".to_owned(), model.as_str().into());
        if self.launcher.spec.provider_of(model).is_none() {
            spec.remove("provider");
        }
        Ok(Value::Object(spec).into())
    }

    async fn take(
        &mut self,
        seq: u64,
        event: RunnerEvent,
        lease: &Lease,
    ) -> Result<(), AttemptError> {
        match event {
            RunnerEvent::Model { kind, data } => self.take_model_event(kind, data).await,
            RunnerEvent::PartialOutput(partial) => {
                let output = self.launcher.spec.output.as_ref();
                let Some(value) = output.map_or(Some(Cow::Borrowed(&partial.value)), |output| {
                    output.unwrap_partial(&partial.value)
                }) else {
                    return Ok(());
                };
                self.shown = true;
                let value = PartialValue { value: value.into_owned() };
                Ok(self.emit(RunEvent::PartialOutput(value)).await?)
            }
            RunnerEvent::ToolStarted(started) => self.tool_started(seq, started, lease).await,
            RunnerEvent::ToolFinished(finished) => self.tool_finished(finished).await,
            RunnerEvent::ToolRequest(request) => self.tool_requested(request, lease).await,
            RunnerEvent::OutputCheck(check) => {
                self.request_answered();
                self.check_answer(check);
                Ok(())
            }
            RunnerEvent::ModelRequested(requested) => {
                self.observed.model_requested(requested);
                Ok(())
            }
            RunnerEvent::ModelAnswered(answered) => {
                self.observed.model_answered(answered);
                Ok(())
            }
            RunnerEvent::Checkpoint(checkpoint) => self.checkpoint(seq, checkpoint, lease).await,
            RunnerEvent::Log(record) => {
                let record = self.request.deps.redact_record(record);
                lease.tenancy.log(self.agent.name(), self.log().run_id(), &record);
                let line =
                    LogLine { level: record.level, logger: record.logger, message: record.message };
                Ok(self.emit(RunEvent::Log(line)).await?)
            }
            RunnerEvent::ToolRequestCancelled { tool_call_id } => {
                self.call_off(&tool_call_id);
                Ok(())
            }
            RunnerEvent::AttemptStarted(_)
            | RunnerEvent::Completed(_)
            | RunnerEvent::Paused(_)
            | RunnerEvent::Failed(_)
            | RunnerEvent::Cancelled(_) => Ok(()),
        }
    }

    async fn take_model_event(&mut self, kind: String, data: RawJson) -> Result<(), AttemptError> {
        let event = match model_event::read(&kind, &data) {
            Meaning::Text(text) => RunEvent::TextDelta(TextDelta { text }),
            Meaning::Thinking(text) => RunEvent::ThinkingDelta(TextDelta { text }),
            Meaning::Other => RunEvent::Model(ModelEvent { kind, data }),
        };
        self.shown |= matches!(event, RunEvent::TextDelta(_) | RunEvent::ThinkingDelta(_));
        Ok(self.emit(event).await?)
    }

    async fn tool_started(
        &mut self,
        seq: u64,
        started: ToolStarted,
        lease: &Lease,
    ) -> Result<(), AttemptError> {
        if !self.results.contains_key(&started.tool_call_id) {
            let what = (&started.tool_call_id, &*started.name);
            self.observed.tool_called(what, Host::Python, (started.span_id.as_deref(), None));
            self.observed.tool_given(&started.tool_call_id, &started.args, &self.request.deps);
        }
        let called = ToolCalled {
            tool_call_id: started.tool_call_id,
            name: started.name,
            args: started.args,
            effect: started.effect,
            step: started.step,
        };
        let call = called.tool_call_id.clone();
        self.called(called).await?;
        if started.permit && !self.permit(seq, lease).await? {
            // The call was never made.
            self.doubts.remove(&call);
        }
        Ok(())
    }

    async fn tool_finished(&mut self, finished: ToolFinished) -> Result<(), AttemptError> {
        if let Some(patch) = &finished.state {
            self.state_here.apply(patch);
        }
        let patches = finished.state.into_iter().collect();
        let outcome = match finished.outcome.as_str() {
            "retry" => ToolOutcome::Retry,
            "failed" => ToolOutcome::Failed,
            "deferred" => ToolOutcome::Deferred,
            _ => ToolOutcome::Ok,
        };
        let returned = ToolReturned {
            tool_call_id: finished.tool_call_id,
            name: finished.name,
            outcome,
            result: finished.result,
        };
        Ok(self.has_returned(returned, (patches, Vec::new())).await?)
    }

    async fn checkpoint(
        &mut self,
        seq: u64,
        checkpointed: Checkpointed,
        lease: &Lease,
    ) -> Result<(), AttemptError> {
        let Checkpointed { base, messages, usage, before, delivered } = checkpointed;
        if base > self.transcript.messages.len() {
            let message = format!(
                "a checkpoint at message {base}, while {} are recorded",
                self.transcript.messages.len()
            );
            return Err(Failure::new(FailureKind::Decode, message).into());
        }
        // One that has answered all the same, waits for a person or still has calls to make, goes on.
        let hands_on = self.handoffs.next.is_some() && matches!(before, Before::Model);
        let checkpoint = Checkpoint { base, messages, usage, delivered, hands_on };
        self.transcript.apply(&checkpoint);
        // What finished is in the messages now. Kept longer, a result could answer the call of a
        // later step that has the same id.
        self.results.clear();
        self.requests.clear();
        self.resolutions.clear();
        self.doubts.clear();
        self.calls.clear();
        if !matches!(before, Before::End) {
            // The model is told of every call: a run below that goes on answers none. At the end the
            // run may pause, and wait for those.
            self.cancel_delegated().await;
        }
        self.messages.delivered(&checkpoint.delivered);
        self.charge(&checkpoint.usage);
        self.model_answered();
        // Nobody waits for a permit at the end: it is recorded with how the attempt ends.
        let with = With { may_wait: matches!(before, Before::End), ..With::default() };
        self.record(RunEvent::Checkpoint(checkpoint), with).await?;
        self.shown = false;
        let told = |failure| AttemptError::Told(Box::new(failure));
        if hands_on {
            return Err(AttemptError::HandedOn);
        }
        match before {
            Before::End => return Ok(()),
            Before::Tools => self.before_tools().map_err(told)?,
            Before::Model => {
                self.approvals.got_further();
                let model = self.model_key(lease).model;
                self.before_request(&model).await.map_err(told)?;
            }
        }
        self.permit(seq, lease).await?;
        Ok(())
    }

    /// Lets the runner go on, and returns whether it does. That the attempt is over is no failure:
    /// the stream says so itself.
    async fn permit(&self, seq: u64, lease: &Lease) -> Result<bool, Failure> {
        let permit = PermitRequest { attempt: self.attempt, seq };
        match lease.client().permit(self.log().run_id(), permit).await {
            Ok(()) => Ok(true),
            Err(error @ RequestError::Refused { .. }) => {
                tracing::debug!(run = %self.log().run_id(), %error, "a permit came too late");
                Ok(false)
            }
            Err(error) => Err(error.into_failure()),
        }
    }

    /// Validates the output once more: what Python let through is not believed.
    fn accept_output(
        &mut self,
        completed: AttemptCompleted,
        (model, offline): (String, bool),
    ) -> Result<Completed, Failure> {
        Ok(Completed {
            output: self.check_output(completed.output)?,
            usage: completed.usage,
            model: completed.model.unwrap_or(model),
            offline,
            attempts: self.attempt.0,
            duration_ms: millis(self.age()),
        })
    }

    /// Returns the output as the agent's author defined it.
    fn check_output(&self, said: RawJson) -> Result<RawJson, Failure> {
        let Some(spec) = &self.launcher.spec.output else { return Ok(said) };
        let invalid = |problem: String| {
            let message = format!("{problem}; the output was {}", excerpt(said.get(), 200));
            Failure::new(FailureKind::OutputInvalid, message)
        };
        let output = spec.unwrap(&said).map_err(|error| invalid(error.to_string()))?.into_owned();
        let value: Value = output.decode().map_err(|error| invalid(error.to_string()))?;
        let Some(schema) = &spec.schema else {
            let is_text = value.is_string();
            return is_text.then_some(output).ok_or_else(|| invalid("not plain text".to_owned()));
        };
        schema.validate(&value).map_err(|violations| {
            let found: Vec<String> = violations.iter().map(ToString::to_string).collect();
            invalid(format!("the output breaks its schema: {}", found.join("; ")))
        })?;
        Ok(output)
    }
}

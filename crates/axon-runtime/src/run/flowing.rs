//! A run of a router or a pipeline: its calls are runs of others, and what it does next follows
//! from what is recorded of those.

use std::collections::{BTreeMap, BTreeSet};

use axon_kernel::breaker::{Answer, BreakerSettings};
use axon_kernel::event::{
    Completed, Continues, Failed, Resolution, RunEvent, StatePatch, ToolCalled, ToolOutcome,
    ToolReturned, millis,
};
use axon_kernel::failure::{Failure, FailureKind, Row};
use axon_kernel::flow::{Call, Flow, FlowKind, Message, Progress, Settled, Target};
use axon_kernel::ids::ToolCallId;
use axon_kernel::json::RawJson;
use axon_kernel::spec::{AgentName, Effect};
use axon_kernel::wire::{DeferredKind, DeferredRequest};
use futures_util::FutureExt;
use serde_json::{Value, json};

use super::Given;
use super::calls::{Called, Ended, News};
use super::delegation::{Before, Handed, Work, fitting};
use super::driver::{Driver, Origin, Stuck};
use super::handle::Steer;
use super::journal::With;
use super::spent::{Bill, spent};
use super::steering::next_steer;
use super::transcript;
use crate::agent::AgentHandle;
use crate::edges::Edge;

/// The name under which a person is asked.
const HUMAN: &str = "human";

/// What a run of a flow has come to.
#[derive(Debug, Default)]
struct Course {
    /// The calls that were begun here, and those that wait for a person.
    begun: BTreeSet<ToolCallId>,
    settled: Vec<(ToolCallId, Settled)>,
    waiting: BTreeMap<ToolCallId, DeferredRequest>,
    breakers: BTreeMap<ToolCallId, (Edge, BreakerSettings)>,
    bill: Bill,
}

/// What becomes of a call that is to be made.
enum Start {
    /// It is under way, or waits for a person.
    Begun,
    /// It has ended already.
    Settled(Box<Settled>),
}

impl Driver {
    /// Follows the flow to its end, or to where it waits for a person.
    pub(super) async fn flow_through(&mut self, flow: &Flow) -> Result<RunEvent, Stuck> {
        if self.origin == Origin::Here {
            self.attempt = self.attempt.next();
        }
        self.log().belongs_to(self.attempt);
        let message = self.flow_message();
        let mut course = self.course_so_far().await?;
        loop {
            let functions = self.launcher.code.functions(&self.agent.services.code);
            let progress = flow.advance(&message, &course.begun, &course.settled, &functions);
            let (wanted, begin) = match progress {
                Progress::Done(output) => return Ok(self.flowed(output, course.bill)),
                Progress::Failed(failure) => return Ok(self.broke_off(failure)),
                Progress::Waits { wanted, begin } => (wanted, begin),
            };
            self.drop_unwanted(&mut course, &wanted).await;
            if !begin.is_empty() {
                // What follows depends on what is settled: whoever goes on later sees the same.
                self.journal.write(With::default(), Some(&self.clock)).await?;
            }
            if self.begin_calls(flow, begin, &mut course).await? {
                continue;
            }
            if self.calls_here.is_empty() {
                let requests: Vec<&DeferredRequest> = course.waiting.values().collect();
                let requests = RawJson::from(json!(requests));
                if let Some(pause) = self.ask_about(requests).await? {
                    return Ok(pause);
                }
                for call in std::mem::take(&mut course.waiting).into_keys() {
                    course.begun.remove(&call);
                }
                continue;
            }
            self.wait_for_news(&mut course).await?;
        }
    }

    /// Returns what the flow is asked. Secrets are for tools, and no part of it.
    fn flow_message(&self) -> Message {
        let decode = |raw: &RawJson| raw.decode().unwrap_or_default();
        let deps = self.request.deps.masked().map(decode).unwrap_or_default();
        Message { prompt: decode(&self.request.prompt), deps }
    }

    /// Reads what is on record of the calls.
    async fn course_so_far(&mut self) -> Result<Course, Stuck> {
        let mut course = Course::default();
        if self.calls.is_empty() {
            return Ok(course);
        }
        self.journal.write(With::default(), Some(&self.clock)).await?;
        let run = self.log().run_id().clone();
        for record in self.store().records(&run, 0).await? {
            let RunEvent::ToolReturned(returned) = record.event else { continue };
            let call = returned.tool_call_id.clone();
            if let Some(settled) = settled_by(&returned) {
                self.delegated.remove(&call);
                if let Some(called) = self.calls.get(&call) {
                    let Handed { run, .. } = Handed::by(&run, called);
                    let spent = spent(self.services(), &run).await;
                    // Out of the budget that begins anew with this process.
                    self.spend_again(spent.as_ref());
                    course.bill.add(spent.as_ref());
                }
                course.settled.push((call, settled));
            }
        }
        Ok(course)
    }

    async fn drop_unwanted(&mut self, course: &mut Course, wanted: &BTreeSet<ToolCallId>) {
        let settled: BTreeSet<&ToolCallId> = course.settled.iter().map(|(id, _)| id).collect();
        let unwanted = |id: &&ToolCallId| !wanted.contains(*id) && !settled.contains(*id);
        // Also those that an earlier process has begun.
        let begun = course.begun.iter().chain(self.delegated.keys());
        let unwanted: BTreeSet<ToolCallId> = begun.filter(unwanted).cloned().collect();
        for call in unwanted {
            course.waiting.remove(&call);
            self.call_off_delegated(&call).await;
        }
    }

    /// Begins calls, and returns whether one of them has ended at once.
    async fn begin_calls(
        &mut self,
        flow: &Flow,
        calls: Vec<Call>,
        course: &mut Course,
    ) -> Result<bool, Stuck> {
        let mut any = false;
        for call in calls {
            let id = call.id.clone();
            course.begun.insert(id.clone());
            if let Start::Settled(settled) = self.begin_flow_call(flow, call, course).await? {
                course.settled.push((id, *settled));
                any = true;
            }
        }
        Ok(any)
    }

    async fn begin_flow_call(
        &mut self,
        flow: &Flow,
        call: Call,
        course: &mut Course,
    ) -> Result<Start, Stuck> {
        let Some(name) = self.whom(&call) else {
            return self.ask_person(flow.kind, call, course).await;
        };
        let is_new = !self.calls.contains_key(&call.id);
        self.intend_flow_call(&call.id, name.as_str(), &call.prompt).await?;
        let (other, deps) = match self.way_to(&name, &call, course) {
            Ok(way) => way,
            Err(failure) => {
                // On record, too: whoever goes on later must not find the way open.
                let settled = Settled::Failed(failure);
                self.flow_returned((call.id, name.to_string()), (&settled, None)).await?;
                return Ok(Start::Settled(Box::new(settled)));
            }
        };
        if is_new && flow.kind == FlowKind::Router && !flow.is_chooser(&name) {
            self.agent.agent.meters.routed(name.as_str());
        }
        // Messages of a conversation are handed on with what was said before.
        let before = match flow.kind {
            FlowKind::Router => self.said_before(),
            FlowKind::Pipeline => Before::Nothing,
        };
        let Call { id, prompt, timeout, .. } = call;
        let work = Work { agent: other, call: id, step: 0, prompt, deps, timeout, before };
        let delegation = self.hand_to(work);
        self.begin_delegated(name.to_string(), delegation);
        Ok(Start::Begun)
    }

    /// Returns what was said before this run: where it is kept, rather than once more.
    fn said_before(&self) -> Before {
        if self.transcript.messages.is_empty() {
            return Before::Nothing;
        }
        let own = self.request.conversation.clone();
        let messages = self.transcript.held;
        let own = own.map(|conversation_id| Continues { conversation_id, messages });
        match own.or_else(|| self.request.continues.clone()) {
            Some(continues) => Before::Conversation(continues),
            None => Before::Messages(self.transcript.messages.clone()),
        }
    }

    /// Returns who answers a call and what that one gets, if the way there is open.
    fn way_to(
        &self,
        name: &AgentName,
        call: &Call,
        course: &mut Course,
    ) -> Result<(AgentHandle, Given), Failure> {
        if let Some(Resolution::Deny { message } | Resolution::Fail { message }) =
            self.resolutions.get(&call.id)
        {
            let why = message.clone().unwrap_or_else(|| "a person refused".to_owned());
            return Err(Failure::new(FailureKind::Tool, why));
        }
        let config = |why: String| Failure::new(FailureKind::Config, why);
        let other = self.other(name).map_err(config)?;
        let deps = match &call.deps {
            Some(deps) => Given::of_json(RawJson::from(deps)),
            None => fitting(&other, self.request.deps.clone()).map_err(config)?,
        };
        if let Some(settings) = call.breaker {
            let edge = Edge { from: self.agent.name().clone(), to: name.clone() };
            self.services().edges.admit(&edge, settings)?;
            course.breakers.insert(call.id.clone(), (edge, settings));
        }
        Ok((other, deps))
    }

    /// Returns who is asked; nobody where it is a person. One that was chosen before is asked again.
    fn whom(&self, call: &Call) -> Option<AgentName> {
        let (by, of) = match &call.target {
            Target::Human => return None,
            Target::Agent(name) => return Some(name.clone()),
            Target::Balanced { by, of } => (*by, of),
        };
        let before = self.calls.get(&call.id).map(|called| called.name.as_str());
        let chosen = of.iter().find(|name| Some(name.as_str()) == before);
        chosen.cloned().or_else(|| {
            let services = self.services();
            let conversation = self.envelope.conversation_id.as_ref();
            let key = conversation.map_or(self.log().run_id().as_str(), |id| id.as_str());
            services.edges.choose((self.agent.name(), by), of, (&services.registry, key))
        })
    }

    /// Asks a person, or takes the answer that one has given.
    async fn ask_person(
        &mut self,
        flow: FlowKind,
        call: Call,
        course: &mut Course,
    ) -> Result<Start, Stuck> {
        let answer = match self.resolutions.get(&call.id).cloned() {
            Some(Resolution::Answer { result }) => Ok(result),
            Some(Resolution::Deny { message } | Resolution::Fail { message }) => {
                let why = message.unwrap_or_else(|| "a person refused".to_owned());
                Err(Failure::new(FailureKind::Tool, why))
            }
            _ => {
                if flow == FlowKind::Router {
                    self.agent.agent.meters.routed(HUMAN);
                }
                let kind = DeferredKind::Question;
                let args = RawJson::from(json!({ "question": call.prompt }));
                let (tool_call_id, name) = (call.id.clone(), HUMAN.to_owned());
                let (metadata, parameters) = (None, None);
                let request =
                    DeferredRequest { tool_call_id, name, args, kind, metadata, parameters };
                course.waiting.insert(call.id, request);
                return Ok(Start::Begun);
            }
        };
        self.intend_flow_call(&call.id, HUMAN, &call.prompt).await?;
        let settled = answer.map(|answer| answer.decode().unwrap_or_default());
        let settled = settled.map_or_else(Settled::Failed, Settled::Done);
        self.flow_returned((call.id, HUMAN.to_owned()), (&settled, None)).await?;
        Ok(Start::Settled(Box::new(settled)))
    }

    async fn intend_flow_call(
        &mut self,
        call: &ToolCallId,
        name: &str,
        prompt: &Value,
    ) -> Result<(), Stuck> {
        let args = RawJson::from(json!({ "prompt": prompt }));
        // Its run is begun once, whatever that does: so the call may be made again.
        let (tool_call_id, name, effect) = (call.clone(), name.to_owned(), Effect::Idempotent);
        self.called(ToolCalled { tool_call_id, name, args, effect, step: 0 }).await
    }

    async fn wait_for_news(&mut self, course: &mut Course) -> Result<(), Stuck> {
        loop {
            tokio::select! {
                biased;
                news = self.calls_here.next() => match news {
                    News::Told(event) => self.emit(*event).await?,
                    News::Ended(called) => {
                        self.flow_call_ended(*called, course).await?;
                        return self.take_what_is_there(course).await;
                    }
                },
                Some(steer) = next_steer(&mut self.steered) => self.pass_on(steer),
                () = self.journal.is_due() => {
                    self.journal.write(With::default(), Some(&self.clock)).await?;
                }
            }
        }
    }

    /// Takes in what else has ended by now, before it is asked what comes next.
    async fn take_what_is_there(&mut self, course: &mut Course) -> Result<(), Stuck> {
        while let Some(news) = self.calls_here.next().now_or_never() {
            match news {
                News::Told(event) => self.emit(*event).await?,
                News::Ended(called) => self.flow_call_ended(*called, course).await?,
            }
        }
        Ok(())
    }

    /// Hands a message on to the one that is at work, if it is one.
    fn pass_on(&self, Steer { message_id, content, mut taken }: Steer) {
        let mut under_way = self.delegated.values();
        let (Some(handed), None) = (under_way.next(), under_way.next()) else {
            // Whoever asked may have gone.
            let _gone = taken.send(false);
            return;
        };
        let (run, runs) = (handed.run.clone(), self.services().runs.clone());
        // That one may be busy for long, and this run has others to listen to.
        tokio::spawn(async move {
            let telling = async {
                match runs.find(&run).await {
                    Some(live) => live.steer(message_id, content).await.is_ok(),
                    None => false,
                }
            };
            let told = tokio::select! {
                told = telling => told,
                () = taken.closed() => return,
            };
            let _gone = taken.send(told);
        });
    }

    async fn flow_call_ended(&mut self, called: Called, course: &mut Course) -> Result<(), Stuck> {
        let Called { call, name, end, spent, .. } = called;
        course.bill.add(spent.as_ref());
        let changed = spent.and_then(|spent| spent.changed);
        let settled = match end {
            Ok(value) => Settled::Done(value),
            Err(Ended::Waits(handed)) => {
                return self.flow_call_waits((call, name), handed, course).await;
            }
            Err(Ended::Other { agent, failure }) => {
                Settled::Failed(self.of_other(&agent, *failure))
            }
            Err(Ended::Tool(error)) => {
                Settled::Failed(Failure::new(FailureKind::Tool, error.chain()))
            }
        };
        self.delegated.remove(&call);
        if let Some((edge, settings)) = course.breakers.remove(&call) {
            self.services().edges.note(&edge, settings, &settled);
        }
        self.flow_returned((call.clone(), name), (&settled, changed)).await?;
        course.settled.push((call, settled));
        Ok(())
    }

    fn of_other(&self, agent: &AgentName, failure: Failure) -> Failure {
        let message = format!("agent `{agent}` gave no answer: {}", failure.message);
        let message = self.request.deps.redact(&message);
        Failure { message, ..failure }
    }

    /// Notes that the run of another agent waits for a person: so does this one, behind everything
    /// else that it can do.
    async fn flow_call_waits(
        &mut self,
        (call, name): (ToolCallId, String),
        handed: Value,
        course: &mut Course,
    ) -> Result<(), Stuck> {
        let args = self.calls.get(&call).map_or_else(RawJson::null, |called| called.args.clone());
        let request = DeferredRequest {
            tool_call_id: call.clone(),
            name: name.clone(),
            args,
            kind: DeferredKind::Approval,
            metadata: Some(RawJson::from(&handed)),
            parameters: None,
        };
        let returned = ToolReturned {
            tool_call_id: call.clone(),
            name,
            outcome: ToolOutcome::Deferred,
            result: RawJson::from(&handed),
        };
        self.has_returned(returned, (Vec::new(), Vec::new())).await?;
        course.waiting.insert(call, request);
        Ok(())
    }

    async fn flow_returned(
        &mut self,
        (tool_call_id, name): (ToolCallId, String),
        (settled, changed): (&Settled, Option<StatePatch>),
    ) -> Result<(), Stuck> {
        let (outcome, result) = match settled {
            Settled::Done(value) => (ToolOutcome::Ok, RawJson::from(value)),
            Settled::Failed(failure) => (ToolOutcome::Failed, RawJson::from(json!(failure))),
        };
        let returned = ToolReturned { tool_call_id, name, outcome, result };
        self.has_returned(returned, (changed.into_iter().collect(), Vec::new())).await
    }

    /// Returns the end of a flow that has an output, if that is one.
    fn flowed(&mut self, output: Value, bill: Bill) -> RunEvent {
        let schema = self.launcher.spec.output.as_ref().and_then(|output| output.schema.as_ref());
        if let Some(Err(violations)) = schema.map(|schema| schema.validate(&output)) {
            let found: Vec<String> = violations.iter().map(ToString::to_string).collect();
            let message = format!("the output breaks its schema: {}", found.join("; "));
            return self.broke_off(Failure::new(FailureKind::OutputInvalid, message));
        }
        let said = transcript::exchange(&self.request.prompt, &output);
        self.transcript.messages.extend(said);
        RunEvent::Completed(Completed {
            output: RawJson::from(&output),
            usage: Value::Object(bill.usage).into(),
            model: bill.models.into_iter().collect::<Vec<_>>().join(", "),
            offline: bill.offline,
            attempts: self.attempt.0,
            duration_ms: millis(self.age()),
        })
    }

    /// Returns the end of a flow that has none: whoever asked gets the failure, with its causes.
    fn broke_off(&self, failure: Failure) -> RunEvent {
        let causes = failure.cause.iter().map(|cause| format!("before that: {}", cause.message));
        let history = causes.collect();
        RunEvent::Failed(Failed { failure, history, escalated: true })
    }
}

/// Returns what a record says became of a call, if that has ended.
fn settled_by(returned: &ToolReturned) -> Option<Settled> {
    match returned.outcome {
        ToolOutcome::Ok => Some(Settled::Done(returned.result.decode().unwrap_or_default())),
        ToolOutcome::Failed => {
            let told = || {
                let message = returned.result.get().to_owned();
                Failure::new(FailureKind::Tool, message)
            };
            Some(Settled::Failed(returned.result.decode().unwrap_or_else(|_| told())))
        }
        ToolOutcome::Retry | ToolOutcome::Deferred => None,
    }
}

impl crate::edges::Edges {
    /// Takes in what became of a call.
    fn note(&self, edge: &Edge, settings: BreakerSettings, settled: &Settled) {
        match settled {
            Settled::Done(_) => self.record(edge, settings, Answer::Success),
            Settled::Failed(failure) if !speaks_against(failure.kind) => {}
            Settled::Failed(failure) => {
                let down = Failure::new(FailureKind::ModelUnavailable, failure.message.clone());
                self.record(edge, settings, Answer::Failure(&down));
            }
        }
    }
}

/// Returns whether a failure says something about whoever was asked: not about what the caller gave,
/// nor about what a person has said.
fn speaks_against(kind: FailureKind) -> bool {
    match kind.row().row {
        Row::Transient | Row::Behavior | Row::Process | Row::Unmapped | Row::Tool => true,
        Row::Stopped => kind == FailureKind::RunTimeout,
        Row::Deterministic | Row::Credentials | Row::Configuration => false,
    }
}

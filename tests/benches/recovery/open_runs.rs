//! The runs that a process has left open.

use std::sync::Arc;

use axon_kernel::event::{
    Accepted, AttemptBegun, Cancelled, Checkpoint, RunEvent, RunTerms, Sequenced, Started,
    ToolCalled,
};
use axon_kernel::ids::{Attempt, Generation, RunId, ToolCallId};
use axon_kernel::json::RawJson;
use axon_kernel::spec::{AgentSpec, Effect};
use axon_kernel::store::{Append, Store};
use axon_kernel::time::Timestamp;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

/// How many runs are written at the same time.
const AT_ONCE: usize = 256;

/// How long every run may take, in milliseconds: longer than the bench.
const TIMEOUT_MS: u64 = 24 * 60 * 60 * 1000;

/// Where a process has left a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Accepted, and not begun.
    Queued,
    /// Behind a checkpoint, waiting for its model.
    Halfway,
    /// In a call with effect `once`: a person has to decide.
    InDoubt,
    /// Halfway, for an agent that was defined otherwise: a person has to agree.
    Changed,
}

impl Left {
    /// The mix: of ten, four, four, one and one.
    fn of(number: usize) -> Self {
        match number % 10 {
            0..4 => Self::Queued,
            4..8 => Self::Halfway,
            8 => Self::InDoubt,
            _ => Self::Changed,
        }
    }

    fn waits_for_a_person(self) -> bool {
        matches!(self, Self::InDoubt | Self::Changed)
    }
}

/// What was left open.
#[derive(Clone, Debug)]
pub(crate) struct OpenRuns {
    /// How many go on by themselves.
    pub(crate) go_on: usize,
    /// How many a person has to decide about.
    pub(crate) wait: usize,
    /// A run behind the last one, which has ended: what comes after it in the store's order is
    /// what was left open.
    pub(crate) boundary: RunId,
}

/// Writes `count` open runs of the agent `spec` into `store`, whose process then goes.
pub(crate) async fn leave(
    store: &Arc<dyn Store>,
    spec: &AgentSpec,
    (count, now): (usize, Timestamp),
) -> anyhow::Result<OpenRuns> {
    let accepted = |number: usize| Timestamp(now.0 - (count - number) as u64);
    let writes = (0..count).map(|number| {
        let left = Left::of(number);
        let run = RunId::new(format!("open-{number:07}"));
        write(store, run, (accepted(number), happened(spec, left)))
    });
    stream::iter(writes).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let boundary = RunId::new("open-end");
    let cancelled = RunEvent::Cancelled(Cancelled { reason: "bench".to_owned() });
    let events = vec![accept(spec, spec.digest()), cancelled];
    write(store, boundary.clone(), (accepted(count), events)).await?;
    let wait = (0..count).filter(|number| Left::of(*number).waits_for_a_person()).count();
    Ok(OpenRuns { go_on: count - wait, wait, boundary })
}

/// Appends as a process does that was killed later: what it accepted first, then the rest.
async fn write(
    store: &Arc<dyn Store>,
    run: RunId,
    (at, events): (Timestamp, Vec<RunEvent>),
) -> anyhow::Result<()> {
    let place = |(index, event): (usize, RunEvent)| Sequenced {
        run_id: run.clone(),
        seq: index as u64 + 1,
        attempt: Attempt(u32::from(index > 1)),
        at,
        event,
    };
    let events: Vec<Sequenced> = events.into_iter().enumerate().map(place).collect();
    let (first, rest) = events.split_at(1);
    let mut expected = 0;
    for events in [first, rest] {
        if !events.is_empty() {
            let append = Append { run: &run, expected, events, turn: None, writes: &[] };
            expected = store.append(append).await?.recorded;
        }
    }
    Ok(())
}

fn accept(spec: &AgentSpec, definition: String) -> RunEvent {
    RunEvent::Accepted(Accepted {
        agent: spec.name.clone(),
        conversation_id: None,
        prompt: Value::from("What is my balance?").into(),
        deps: None,
        terms: RunTerms {
            timeout_ms: TIMEOUT_MS,
            definition,
            model: spec.model.clone(),
            ..RunTerms::default()
        },
    })
}

/// Returns what is recorded of a run that was left like this.
fn happened(spec: &AgentSpec, left: Left) -> Vec<RunEvent> {
    let definition = match left {
        Left::Changed => "another".to_owned(),
        Left::Queued | Left::Halfway | Left::InDoubt => spec.digest(),
    };
    let mut events = vec![accept(spec, definition)];
    if left == Left::Queued {
        return events;
    }
    let model = spec.model.as_ref().map(ToString::to_string).unwrap_or_default();
    let begun = AttemptBegun { generation: Generation(1), model, offline: true };
    events.push(RunEvent::Started(Started { queued_ms: 1 }));
    events.push(RunEvent::AttemptStarted(begun));
    events.push(RunEvent::Checkpoint(Checkpoint {
        base: 0,
        messages: vec![message("What is my balance?"), message(&"x".repeat(1000))],
        usage: json!({"requests": 1, "input_tokens": 100, "output_tokens": 10}).into(),
        delivered: Vec::new(),
        hands_on: false,
    }));
    if left == Left::InDoubt {
        events.push(RunEvent::ToolCalled(ToolCalled {
            tool_call_id: ToolCallId::new("call_1"),
            name: "pay".to_owned(),
            args: json!({"amount": 100}).into(),
            effect: Effect::Once,
            step: 1,
        }));
    }
    events
}

fn message(content: &str) -> RawJson {
    let part = json!({"part_kind": "user-prompt", "content": content});
    json!({"kind": "request", "parts": [part]}).into()
}

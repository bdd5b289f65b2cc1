//! What an attempt says: numbered events into its stream, and what they add to the transcript.

use std::sync::Arc;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::MessageId;
use axon_kernel::json::RawJson;
use axon_kernel::wire::{
    AttemptCancelled, AttemptCompleted, AttemptFailed, AttemptPaused, AttemptRequest,
    AttemptStarted, Before, Checkpointed,
};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};

use super::app::App;
use super::attempt::LiveAttempt;
use super::fill::prompt_of;
use super::message;
use super::step::{CheckpointStep, UnfinishedStep};
use super::stream::Piece;
use super::unfinished::Left;

/// Where an attempt is played.
#[derive(Debug)]
pub(super) struct Stage {
    app: Arc<App>,
    attempt: Arc<LiveAttempt>,
    request: AttemptRequest,
    pieces: mpsc::Sender<Piece>,
    model: String,
    seq: u64,
    /// How many messages are recorded.
    recorded: usize,
    /// The messages that the attempt has added.
    added: Vec<RawJson>,
    /// Whether the prompt is still in no checkpoint.
    prompt_due: bool,
    text_open: bool,
}

/// `attempt_completed` with the model that answered.
#[derive(Serialize)]
struct Completed {
    #[serde(flatten)]
    completed: AttemptCompleted,
    model: String,
}

impl Stage {
    pub(super) fn new(
        app: Arc<App>,
        attempt: Arc<LiveAttempt>,
        request: AttemptRequest,
        pieces: mpsc::Sender<Piece>,
    ) -> Self {
        Self {
            app,
            attempt,
            pieces,
            model: String::new(),
            seq: 0,
            recorded: request.message_history.len(),
            added: Vec::new(),
            prompt_due: request.prompt.is_some(),
            text_open: false,
            request,
        }
    }

    pub(super) fn attempt(&self) -> &Arc<LiveAttempt> {
        &self.attempt
    }

    pub(super) fn request(&self) -> &AttemptRequest {
        &self.request
    }

    /// Says first of all who is going to answer.
    pub(super) async fn started(&mut self, model: String) {
        self.model = model;
        let started = AttemptStarted {
            attempt: self.attempt.number,
            generation: self.app.launch().generation,
            model: self.model.clone(),
            provider: None,
            offline: self.app.life().offline,
        };
        self.emit("attempt_started", &started).await;
    }

    /// Sends an event and returns its number.
    pub(super) async fn emit<T: Serialize>(&mut self, kind: &str, data: &T) -> u64 {
        let frame = self.frame(kind, data);
        self.write(frame).await
    }

    /// Writes bytes of one event, whatever they are.
    pub(super) async fn write_raw(&self, bytes: Vec<u8>) {
        let _nobody_listens = self.pieces.send(Piece::Bytes(bytes.into())).await;
    }

    pub(super) async fn break_stream(&self) {
        let _nobody_listens = self.pieces.send(Piece::Break).await;
    }

    /// Waits until everything is written, or nobody listens.
    pub(super) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.pieces.send(Piece::Flushed(done)).await.is_ok() {
            let _nobody_listens = flushed.await;
        }
    }

    /// Has a tool run on when the attempt is over.
    pub(super) fn leave(&self, step: UnfinishedStep) {
        self.app.leave(Left::new(self.request.run_id.clone(), self.attempt.clone(), step));
    }

    pub(super) async fn text(&mut self, text: String) {
        if !self.request.stream {
            return;
        }
        let event = if std::mem::replace(&mut self.text_open, true) {
            let delta = json!({"content_delta": text, "part_delta_kind": "text"});
            ("part_delta", json!({"index": 0, "delta": delta, "event_kind": "part_delta"}))
        } else {
            let part = json!({"content": text, "part_kind": "text"});
            ("part_start", json!({"index": 0, "part": part, "event_kind": "part_start"}))
        };
        self.emit(event.0, &event.1).await;
    }

    /// Has messages recorded and waits for the permit to go on, unless nothing comes after it.
    pub(super) async fn checkpoint(&mut self, step: CheckpointStep) {
        let prompt_due = std::mem::take(&mut self.prompt_due);
        let mut messages = step.messages.unwrap_or_else(|| match prompt_due {
            true => vec![message::user(&prompt_of(&self.request)).into()],
            false => Vec::new(),
        });
        let mut delivered = Vec::new();
        if step.before == Before::Model {
            for steered in self.attempt.deliver() {
                messages.push(message::user_content(&steered.content).into());
                delivered.push(steered.message_id);
            }
        }
        let base = step.base.unwrap_or(self.recorded);
        let given = self.request.message_history.len();
        self.added.truncate(base.saturating_sub(given));
        self.added.extend(messages.iter().cloned());
        self.recorded = base + messages.len();
        self.text_open = false;
        let before = step.before;
        let usage = self.usage(step.usage);
        let checkpointed = Checkpointed { base, messages, usage, before, delivered };
        let seq = self.emit("checkpoint", &checkpointed).await;
        if before != Before::End {
            self.attempt.permitted(seq).await;
        }
    }

    /// The last checkpoint; without messages of its own it records the prompt and `output`.
    async fn last_checkpoint(&mut self, messages: Option<Vec<RawJson>>, output: Option<&RawJson>) {
        let answer = output.map(|output| match output.decode() {
            Ok(Value::String(text)) => message::text(&text).into(),
            _ => message::text(output.get()).into(),
        });
        let prompt_due = self.prompt_due;
        let prompt = prompt_due.then(|| message::user(&prompt_of(&self.request)).into());
        let messages = messages.unwrap_or_else(|| prompt.into_iter().chain(answer).collect());
        let messages = Some(messages);
        self.checkpoint(CheckpointStep { before: Before::End, messages, base: None, usage: None })
            .await;
    }

    pub(super) async fn complete(
        &mut self,
        output: RawJson,
        messages: Option<Vec<RawJson>>,
        usage: Option<RawJson>,
    ) {
        self.last_checkpoint(messages, Some(&output)).await;
        let usage = self.usage(usage);
        let new_messages = self.added.clone();
        let model = self.model.clone();
        let end = |undelivered| {
            let completed =
                AttemptCompleted { output, usage, model: None, new_messages, undelivered };
            Completed { completed, model }
        };
        self.terminal("attempt_completed", end).await;
    }

    pub(super) async fn pause(&mut self, requests: RawJson) {
        self.last_checkpoint(None, None).await;
        let (usage, new_messages) = (self.usage(None), self.added.clone());
        let end = |undelivered| AttemptPaused { requests, usage, new_messages, undelivered };
        self.terminal("attempt_paused", end).await;
    }

    pub(super) async fn fail(&mut self, error: Failure) {
        let (usage, new_messages) = (Some(self.usage(None)), self.added.clone());
        let end = |undelivered| AttemptFailed { error, usage, new_messages, undelivered };
        self.terminal("attempt_failed", end).await;
    }

    pub(super) async fn time_out(&mut self, seconds: f64) {
        let message = format!("the attempt took longer than {seconds} seconds");
        self.fail(Failure::new(FailureKind::RunTimeout, message)).await;
    }

    /// Withdraws the calls that still wait, and says that the attempt is cancelled.
    pub(super) async fn cancelled(&mut self) {
        for tool_call_id in self.attempt.withdraw() {
            self.emit("tool_request_cancelled", &json!({"tool_call_id": tool_call_id})).await;
        }
        let (usage, new_messages) = (Some(self.usage(None)), self.added.clone());
        let end = |undelivered| AttemptCancelled { usage, new_messages, undelivered };
        self.terminal("attempt_cancelled", end).await;
    }

    /// Sends the terminal event, which `end` makes of the messages that are in no checkpoint. The
    /// attempt is over before anybody can have read it, and takes no message in between.
    async fn terminal<T: Serialize>(&mut self, kind: &str, end: impl FnOnce(Vec<MessageId>) -> T) {
        let room = self.pieces.clone().reserve_owned().await;
        self.app.runs().end(&self.attempt);
        let undelivered = self.attempt.deliver().into_iter().map(|message| message.message_id);
        let frame = self.frame(kind, &end(undelivered.collect()));
        self.seq += 1;
        if let Ok(room) = room {
            room.send(Piece::Bytes(numbered(&frame, self.seq)));
        }
    }

    fn usage(&self, given: Option<RawJson>) -> RawJson {
        given
            .or_else(|| self.request.usage.clone())
            .unwrap_or_else(|| Value::Object(Map::new()).into())
    }

    fn frame<T: Serialize>(&self, kind: &str, data: &T) -> Frame {
        let data = serde_json::to_string(data).expect("every event of a script has a JSON form");
        Frame { kind: kind.to_owned(), data }
    }

    /// Numbers and sends a frame at once when there is room for it, so that an attempt that is
    /// cancelled while it waits leaves no gap.
    async fn write(&mut self, frame: Frame) -> u64 {
        let room = self.pieces.reserve().await;
        self.seq += 1;
        self.attempt.sent(self.seq);
        if let Ok(room) = room {
            room.send(Piece::Bytes(numbered(&frame, self.seq)));
        }
        self.seq
    }
}

struct Frame {
    kind: String,
    data: String,
}

fn numbered(Frame { kind, data }: &Frame, seq: u64) -> Bytes {
    format!("event: {kind}\nid: {seq}\ndata: {data}\n\n").into()
}

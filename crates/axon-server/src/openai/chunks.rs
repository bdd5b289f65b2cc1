//! An answer in pieces, as OpenAI's clients read it.
//!
//! What was sent cannot be taken back there. So the text of an attempt that was lost is followed by
//! the rest of the new one where that begins in the same way, and by an error where it does not.

use std::collections::VecDeque;

use axon_kernel::event::RunEvent;
use axon_kernel::ids::RunId;
use axon_kernel::json::RawJson;
use axon_runtime::RunUpdate;
use axum::response::sse::Event;
use serde::Serialize;
use serde_json::{Value, json};

use super::error::ChatError;
use super::reply::{ChatExtra, ChatUsage, id_of, seconds, text_of};
use super::request::ChatRequest;
use crate::answer::{Answer, OutcomeName};
use crate::ask::Caller;
use crate::follow::Following;
use crate::stream::Source;

/// What stands between the texts of two steps of one answer.
const BETWEEN: &str = "\n\n";

/// An answer in pieces.
pub(super) struct Chunks {
    following: Following,
    caller: Caller,
    head: Head,
    wants_usage: bool,
    text: Text,
    /// What the run waited for when it was last seen to wait: it may have gone on since.
    waits: Option<Answer>,
    /// Made, and not sent yet: at most the few pieces that one event gives.
    ready: VecDeque<Event>,
    ended: bool,
}

/// What all pieces have in common.
#[derive(Serialize)]
struct Head {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    #[serde(skip)]
    run: RunId,
}

impl Chunks {
    pub(super) fn new(
        (following, caller): (Following, Caller),
        request: &ChatRequest,
        is_text: bool,
    ) -> Self {
        let run = following.run().clone();
        let (id, model) = (id_of(&run), request.model().to_owned());
        let object = "chat.completion.chunk";
        let head = Head { id, object, created: seconds(), model, run };
        let mut chunks = Self {
            following,
            caller,
            head,
            wants_usage: request.wants_usage(),
            text: Text { shows: is_text, ..Text::default() },
            waits: None,
            ready: VecDeque::new(),
            ended: false,
        };
        chunks.send(json!({ "role": "assistant", "content": "" }), None);
        chunks
    }

    fn send(&mut self, delta: Value, finish_reason: Option<&str>) {
        let chunk = self.chunk(delta, finish_reason);
        self.push(&chunk);
    }

    fn chunk(&self, delta: Value, finish_reason: Option<&str>) -> Value {
        let mut chunk = serde_json::to_value(&self.head).unwrap_or_default();
        chunk["choices"] = json!([{
            "index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": null,
        }]);
        if self.wants_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn push(&mut self, chunk: &Value) {
        self.ready.push_back(Event::default().data(chunk.to_string()));
    }

    fn say(&mut self, text: &str) {
        if !text.is_empty() {
            self.send(json!({ "content": text }), None);
        }
    }

    fn fail(&mut self, error: ChatError) {
        self.tell(error);
        self.end();
    }

    fn tell(&mut self, error: ChatError) {
        let body = serde_json::to_string(&error.body()).unwrap_or_default();
        self.ready.push_back(Event::default().data(body));
    }

    fn end(&mut self) {
        self.caller.was_answered();
        self.ended = true;
    }

    /// Takes in what happened.
    fn take(&mut self, update: &RunUpdate) {
        let event = match update {
            RunUpdate::Event(event) => &event.event,
            // What is missing comes with the whole output.
            RunUpdate::Lagged { .. } => return self.text.shows = false,
        };
        self.waits = None;
        if let RunEvent::TextDelta(delta) = event {
            match self.text.grow(&delta.text) {
                Some(more) => self.say(&more),
                None => self.retracted(),
            }
        } else if let RunEvent::Retracted(_) = event {
            self.text.retract();
        } else if matches!(event, RunEvent::ToolCalled(_) | RunEvent::Checkpoint(_)) {
            self.text.step_over = true;
        } else if let Some(answer) = Answer::of(&self.head.run, event) {
            if answer.outcome == OutcomeName::Paused {
                self.waits = Some(answer);
            } else {
                self.finish(answer);
            }
        }
    }

    fn finish(&mut self, answer: Answer) {
        if let Some(error) = ChatError::of_run(&answer) {
            return self.fail(error);
        }
        match self.text.rest_of(&answer.output) {
            Some(rest) => self.say(&rest),
            None => return self.retracted(),
        }
        let mut last = self.chunk(json!({}), Some("stop"));
        let usage = ChatUsage::of(&answer.usage);
        last["axon"] = serde_json::to_value(ChatExtra::of(answer)).unwrap_or_default();
        self.push(&last);
        if self.wants_usage {
            last["choices"] = json!([]);
            last["usage"] = serde_json::to_value(usage).unwrap_or_default();
            self.push(&last);
        }
        self.ready.push_back(Event::default().data("[DONE]"));
        self.end();
    }

    /// Ends with an error while the run goes on, whose caller it is then that goes.
    fn retracted(&mut self) {
        self.tell(ChatError::retracted(&self.head.run));
        self.ended = true;
    }
}

impl Source for Chunks {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            match self.following.next().await {
                // The run waits, and nobody reads on.
                None => match self.waits.take() {
                    Some(answer) => self.finish(answer),
                    None => return None,
                },
                Some(Ok(update)) => self.take(&update),
                Some(Err(error)) => {
                    tracing::warn!(%error, "the events of a run cannot be read any more");
                    self.fail(ChatError::unreadable(error, &self.head.run));
                }
            }
        }
    }
}

/// The text that was sent, and what of it holds.
#[derive(Debug, Default)]
struct Text {
    /// Whether text is sent as it comes.
    shows: bool,
    /// What was sent of this step's text.
    sent: String,
    /// How much of it the step has said again, in bytes, if it had to begin anew: all, if not.
    said: usize,
    /// Whether the step has ended that the text is of: further text is of the next one.
    step_over: bool,
}

impl Text {
    /// Takes in more of the text, and returns what is to be sent of it; nothing if what was sent is
    /// wrong by now.
    fn grow(&mut self, piece: &str) -> Option<String> {
        if !self.shows || piece.is_empty() {
            return Some(String::new());
        }
        let begins = self.step_over && !self.sent.is_empty();
        if self.step_over {
            *self = Self { shows: true, ..Self::default() };
        }
        let due = self.sent.get(self.said..)?;
        if due.starts_with(piece) {
            // It only catches up with what was sent.
            self.said += piece.len();
            return Some(String::new());
        }
        let more = piece.strip_prefix(due)?.to_owned();
        self.sent.push_str(&more);
        self.said = self.sent.len();
        Some(if begins { format!("{BETWEEN}{more}") } else { more })
    }

    fn retract(&mut self) {
        self.said = 0;
        self.step_over = false;
    }

    /// Returns what is missing of the whole output; nothing if what was sent is something else.
    fn rest_of(&self, output: &RawJson) -> Option<String> {
        let text = text_of(output);
        match text.strip_prefix(self.sent.as_str()) {
            Some(rest) => Some(rest.to_owned()),
            None if self.is_json_of(output) => Some(String::new()),
            // It was the text beside a call, or another one than the output that was made of it.
            None if self.step_over => Some(format!("{BETWEEN}{text}")),
            None => None,
        }
    }

    /// Returns whether the model has written the output as JSON, with other spaces than ours.
    fn is_json_of(&self, output: &RawJson) -> bool {
        let written = serde_json::from_str::<Value>(&self.sent).ok();
        written.is_some_and(|written| output.decode().is_ok_and(|output: Value| output == written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Text {
        Text { shows: true, ..Text::default() }
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn the_pieces_are_the_output() {
        let mut text = text();
        assert_eq!(text.grow("Well, "), some("Well, "));
        assert_eq!(text.grow("yes"), some("yes"));
        text.step_over = true;
        assert_eq!(text.rest_of(&json!("Well, yes.").into()), some("."));
    }

    #[test]
    fn a_new_attempt_goes_on_where_the_lost_one_was() {
        let mut text = text();
        assert_eq!(text.grow("Well, y"), some("Well, y"));
        text.retract();
        assert_eq!(text.grow("Well"), some(""));
        assert_eq!(text.grow(", yes"), some("es"));
        assert_eq!(text.rest_of(&json!("Well, yes").into()), some(""));
    }

    #[test]
    fn a_new_attempt_that_begins_otherwise_is_an_error() {
        let mut text = text();
        assert_eq!(text.grow("Well"), some("Well"));
        text.retract();
        assert_eq!(text.grow("No"), None);
    }

    #[test]
    fn the_texts_of_two_steps_stand_apart() {
        let mut text = text();
        assert_eq!(text.grow("Let me see."), some("Let me see."));
        text.step_over = true;
        assert_eq!(text.grow("Yes"), some("\n\nYes"));
        assert_eq!(text.rest_of(&json!("Yes!").into()), some("!"));
    }

    #[test]
    fn what_was_not_shown_comes_at_the_end() {
        let mut text = Text::default();
        assert_eq!(text.grow("{"), some(""));
        assert_eq!(text.rest_of(&json!({}).into()), some("{}"));
    }

    #[test]
    fn output_that_the_model_has_written_as_json_is_not_said_twice() {
        let mut text = text();
        assert_eq!(text.grow("{ \"a\": 1 }"), some("{ \"a\": 1 }"));
        text.step_over = true;
        assert_eq!(text.rest_of(&json!({ "a": 1 }).into()), some(""));
        assert_eq!(text.rest_of(&json!({ "a": 2 }).into()), some("\n\n{\"a\":2}"));
    }
}

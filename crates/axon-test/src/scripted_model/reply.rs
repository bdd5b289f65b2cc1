//! What the model says to one request.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::connection::Cut;

/// Into how many deltas a streamed reply is cut unless it says otherwise.
const DEFAULT_CHUNKS: usize = 8;

/// The answer to one chat request: what is said, how fast, and where it breaks.
///
/// A reply is streamed or sent whole as the request's `stream` flag asks.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use axon_test::scripted_model::Reply;
/// use serde_json::json;
///
/// let slow = Reply::text("a long story").chunks(20).delay(Duration::from_millis(5));
/// let call = Reply::tool_calls([("customer_balance", json!({}))]);
/// let broken = Reply::text("a story without an end").reset_after(3);
/// # let _ = (slow, call, broken);
/// ```
#[derive(Debug, Clone)]
pub struct Reply {
    pub(super) answer: Answer,
    pub(super) chunks: usize,
    pub(super) delay: Duration,
    pub(super) usage: Usage,
    pub(super) finish_reason: Option<FinishReason>,
    pub(super) retry_after: Option<Duration>,
    pub(super) fault: Option<Fault>,
}

/// What a reply consists of.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// An assistant message.
    Message(Message),
    /// The structured output, said in the way that the request offers for it.
    FinalResult(Value),
    /// An HTTP status with a JSON body.
    Status(u16, Value),
    /// Status 200 and a body that no API would send.
    Garbage,
}

/// An assistant message; without content and calls it is an empty one.
#[derive(Debug, Clone, Default)]
pub(super) struct Message {
    pub(super) content: Option<String>,
    pub(super) tool_calls: Vec<ToolCall>,
}

/// One call that the model asks for; `arguments` is sent as it is, JSON or not.
#[derive(Debug, Clone)]
pub(super) struct ToolCall {
    pub(super) name: String,
    pub(super) arguments: String,
}

/// Where a reply stops being a good one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// Instead of the response's head.
    BeforeHead(Breakage),
    /// After the head and this many content deltas.
    AfterChunks(usize, Breakage),
    /// An error object is the stream's last event, after this many content deltas.
    ErrorEventAfter(usize),
}

/// What happens instead of the rest of a reply.
#[derive(Debug, Clone, Copy)]
pub(super) enum Breakage {
    /// The connection ends.
    Cut(Cut),
    /// Nothing more comes until the client disconnects.
    Hang,
}

/// The tokens that a reply says it cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the request.
    pub input_tokens: u64,
    /// Tokens of the reply.
    pub output_tokens: u64,
}

/// Why the model stopped, in OpenAI's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The message is complete.
    Stop,
    /// The model waits for the tools that it called.
    ToolCalls,
    /// The token limit cut the message.
    Length,
    /// A content filter cut the message.
    ContentFilter,
}

impl Reply {
    /// Says `text`.
    pub fn text(text: impl Into<String>) -> Self {
        Self::message(Message { content: Some(text.into()), ..Message::default() })
    }

    /// Calls tools, each by its name and arguments; every call gets an id that no other has.
    pub fn tool_calls<N: Into<String>>(calls: impl IntoIterator<Item = (N, Value)>) -> Self {
        let call = |(name, arguments): (N, Value)| ToolCall {
            name: name.into(),
            arguments: arguments.to_string(),
        };
        let tool_calls = calls.into_iter().map(call).collect();
        Self::message(Message { content: None, tool_calls })
    }

    /// Gives the structured output: calls the tool `final_result` if the request offers it, else
    /// says the JSON as text.
    pub fn final_result(output: Value) -> Self {
        Self::new(Answer::FinalResult(output))
    }

    /// Calls `tool` with arguments that are no JSON.
    pub fn bad_tool_json(tool: impl Into<String>) -> Self {
        let call = ToolCall { name: tool.into(), arguments: "{\"broken\": ".to_owned() };
        Self::message(Message { content: None, tool_calls: vec![call] })
    }

    /// Says nothing: a message without content and calls.
    pub fn empty() -> Self {
        Self::message(Message::default())
    }

    /// Says part of a message, which the content filter then stops.
    pub fn content_filter(partial: impl Into<String>) -> Self {
        Self::text(partial).finish_reason(FinishReason::ContentFilter)
    }

    /// Says part of a message, which the token limit then stops.
    pub fn length(partial: impl Into<String>) -> Self {
        Self::text(partial).finish_reason(FinishReason::Length)
    }

    /// Answers with an HTTP status and a JSON body.
    pub fn status(status: u16, body: Value) -> Self {
        Self::new(Answer::Status(status, body))
    }

    /// Answers with an HTTP status and an error object with OpenAI's `code`.
    pub fn error(status: u16, code: &str) -> Self {
        Self::status(status, error_body(code))
    }

    /// Answers 429 because of too many requests; see [`Reply::retry_after`].
    pub fn rate_limited() -> Self {
        Self::error(429, "rate_limit_exceeded")
    }

    /// Answers 429 because the account has no quota left.
    pub fn quota_exceeded() -> Self {
        Self::error(429, "insufficient_quota")
    }

    /// Answers 400 because the conversation is longer than the model's context.
    pub fn context_length_exceeded() -> Self {
        Self::error(400, "context_length_exceeded")
    }

    /// Answers 200 with the HTML page of some proxy.
    pub fn garbage() -> Self {
        Self::new(Answer::Garbage)
    }

    /// Never answers: holds the request, without a response head, until the client disconnects.
    pub fn hang() -> Self {
        Self::empty().fault(Fault::BeforeHead(Breakage::Hang))
    }

    /// Closes the connection instead of answering.
    pub fn disconnect() -> Self {
        Self::empty().fault(Fault::BeforeHead(Breakage::Cut(Cut::Close)))
    }

    /// Cuts the message, or each tool call's arguments, into this many deltas (at least one, and at
    /// most one per character); 8 unless set.
    #[must_use]
    pub fn chunks(mut self, chunks: usize) -> Self {
        self.chunks = chunks.max(1);
        self
    }

    /// Waits this long before each delta of a stream; an answer that is sent whole comes after as
    /// many waits as it has chunks, and one that is no message after a single wait.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Reports this usage instead of 100 tokens in and 20 out.
    #[must_use]
    pub fn usage(mut self, usage: Usage) -> Self {
        self.usage = usage;
        self
    }

    /// Gives this finish reason instead of the message's natural one.
    #[must_use]
    pub fn finish_reason(mut self, reason: FinishReason) -> Self {
        self.finish_reason = Some(reason);
        self
    }

    /// Sends `Retry-After` (whole seconds, rounded up) and `retry-after-ms`.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Closes the connection after this many deltas, without the end of the message.
    ///
    /// Of an answer that is sent whole, 0 gives only the head and anything else half of the body;
    /// this holds for [`Reply::reset_after`] and [`Reply::hang_after`] as well. A reply
    /// that is no message (a status, garbage) has no middle and comes as it is.
    #[must_use]
    pub fn cut_after(self, chunks: usize) -> Self {
        self.fault(Fault::AfterChunks(chunks, Breakage::Cut(Cut::Close)))
    }

    /// Resets the connection after this many deltas.
    #[must_use]
    pub fn reset_after(self, chunks: usize) -> Self {
        self.fault(Fault::AfterChunks(chunks, Breakage::Cut(Cut::Reset)))
    }

    /// Goes silent after this many deltas, until the client disconnects.
    #[must_use]
    pub fn hang_after(self, chunks: usize) -> Self {
        self.fault(Fault::AfterChunks(chunks, Breakage::Hang))
    }

    /// Ends the stream with an error event after this many deltas; an answer that is sent whole
    /// becomes status 500.
    #[must_use]
    pub fn error_after(self, chunks: usize) -> Self {
        self.fault(Fault::ErrorEventAfter(chunks))
    }

    fn message(message: Message) -> Self {
        Self::new(Answer::Message(message))
    }

    fn new(answer: Answer) -> Self {
        Self {
            answer,
            chunks: DEFAULT_CHUNKS,
            delay: Duration::ZERO,
            usage: Usage { input_tokens: 100, output_tokens: 20 },
            finish_reason: None,
            retry_after: None,
            fault: None,
        }
    }

    fn fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }
}

impl Message {
    /// Why a model that said all of this has stopped.
    pub(super) fn finish_reason(&self) -> FinishReason {
        if self.tool_calls.is_empty() { FinishReason::Stop } else { FinishReason::ToolCalls }
    }
}

/// An error object as OpenAI sends it.
pub(super) fn error_body(code: &str) -> Value {
    let message = format!("the scripted model says {code}");
    json!({"error": {"message": message, "type": code, "param": null, "code": code}})
}

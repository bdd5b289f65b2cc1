//! A message as bytes: one chat completion, or the events of a stream of chunks.

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::chat_request::ChatRequest;
use super::reply::{Answer, FinishReason, Message, Reply, ToolCall, Usage};

/// The tool that pydantic-ai offers for structured output.
const OUTPUT_TOOL: &str = "final_result";
/// A fixed time, in Unix seconds, since no client looks at it.
const CREATED: u64 = 1_700_000_000;

/// A body in one piece of memory, and where it may be taken apart.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) bytes: Bytes,
    /// Where the opening ends, then where each content delta ends; the rest is the closing.
    marks: Vec<usize>,
}

impl Completion {
    /// Encodes `reply` as `request` asks, or gives nothing if the reply is no message.
    pub(super) fn encode(reply: &Reply, request: ChatRequest<'_>) -> Option<Self> {
        let resolved;
        let message = match &reply.answer {
            Answer::Message(message) => message,
            Answer::FinalResult(output) => {
                resolved = final_result(output, request);
                &resolved
            }
            Answer::Status(..) | Answer::Garbage => return None,
        };
        let finish_reason = reply.finish_reason.unwrap_or_else(|| message.finish_reason());
        let id = unique("chatcmpl");
        let said = Said { id: &id, message, finish_reason, reply, request };
        Some(if request.streamed() { said.streamed() } else { said.whole() })
    }

    /// How many content deltas there are.
    pub(super) fn deltas(&self) -> usize {
        self.marks.len() - 1
    }

    /// The opening, each delta and the closing.
    pub(super) fn frames(&self) -> Vec<Bytes> {
        let mut from = 0;
        let ends = self.marks.iter().copied().chain([self.bytes.len()]);
        ends.map(|to| self.bytes.slice(std::mem::replace(&mut from, to)..to)).collect()
    }
}

/// The structured output in the way that the request offers for it.
fn final_result(output: &Value, request: ChatRequest<'_>) -> Message {
    let json = output.to_string();
    if request.tool_parameters(OUTPUT_TOOL).is_none() {
        return Message { content: Some(json), ..Message::default() };
    }
    let call = ToolCall { name: OUTPUT_TOOL.to_owned(), arguments: json };
    Message { content: None, tool_calls: vec![call] }
}

/// A message with all that its encoding needs.
struct Said<'a> {
    id: &'a str,
    message: &'a Message,
    finish_reason: FinishReason,
    reply: &'a Reply,
    request: ChatRequest<'a>,
}

impl Said<'_> {
    fn whole(&self) -> Completion {
        let calls = self.message.tool_calls.iter().map(CallPart::whole).collect();
        let message = Part {
            role: Some("assistant"),
            content: Some(self.message.content.as_deref()),
            tool_calls: calls,
        };
        let mut bytes = Vec::with_capacity(512);
        let body = self.body("chat.completion", Body::Message(message), Some(self.finish_reason));
        write_json(&mut bytes, &WithUsage { body, usage: UsagePart::of(self.reply.usage) });
        let marks = vec![0, bytes.len() / 2];
        Completion { bytes: bytes.into(), marks }
    }

    fn streamed(&self) -> Completion {
        let mut bytes = Vec::with_capacity(512 * (self.reply.chunks + 4));
        let calls = !self.message.tool_calls.is_empty();
        let content = if calls { None } else { Some("") };
        self.event(
            &mut bytes,
            Part { role: Some("assistant"), content: Some(content), ..Part::default() },
        );
        let mut marks = vec![bytes.len()];
        for text in pieces(self.message.content.as_deref().unwrap_or(""), self.reply.chunks) {
            self.event(&mut bytes, Part { content: Some(Some(text)), ..Part::default() });
            marks.push(bytes.len());
        }
        for (index, call) in self.message.tool_calls.iter().enumerate() {
            let announced = CallPart { index: Some(index), ..CallPart::announced(call) };
            self.event(&mut bytes, Part { tool_calls: vec![announced], ..Part::default() });
            for arguments in pieces(&call.arguments, self.reply.chunks) {
                let part = CallPart::arguments(index, arguments);
                self.event(&mut bytes, Part { tool_calls: vec![part], ..Part::default() });
                marks.push(bytes.len());
            }
        }
        self.closing(&mut bytes);
        Completion { bytes: bytes.into(), marks }
    }

    fn closing(&self, bytes: &mut Vec<u8>) {
        let last = self.chunk(Body::Delta(Part::default()), Some(self.finish_reason));
        write_event(bytes, &last);
        if self.request.includes_usage() {
            let body = ChunkBody { choices: Vec::new(), ..last };
            write_event(bytes, &WithUsage { body, usage: UsagePart::of(self.reply.usage) });
        }
        bytes.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn event(&self, bytes: &mut Vec<u8>, delta: Part<'_>) {
        write_event(bytes, &self.chunk(Body::Delta(delta), None));
    }

    fn chunk<'b>(&'b self, body: Body<'b>, finish_reason: Option<FinishReason>) -> ChunkBody<'b> {
        self.body("chat.completion.chunk", body, finish_reason)
    }

    fn body<'b>(
        &'b self,
        object: &'static str,
        body: Body<'b>,
        finish_reason: Option<FinishReason>,
    ) -> ChunkBody<'b> {
        ChunkBody {
            id: self.id,
            object,
            created: CREATED,
            model: self.request.model(),
            choices: vec![Choice { index: 0, body, logprobs: (), finish_reason }],
        }
    }
}

#[derive(Serialize)]
struct ChunkBody<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice<'a>>,
}

#[derive(Serialize)]
struct WithUsage<'a> {
    #[serde(flatten)]
    body: ChunkBody<'a>,
    usage: UsagePart,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: usize,
    #[serde(flatten)]
    body: Body<'a>,
    logprobs: (),
    finish_reason: Option<FinishReason>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Body<'a> {
    Message(Part<'a>),
    Delta(Part<'a>),
}

/// A message or a delta of one; the content may be left out, null or text.
#[derive(Serialize, Default)]
struct Part<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallPart<'a>>,
}

#[derive(Serialize)]
struct CallPart<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "type")]
    kind: Option<&'static str>,
    function: FunctionPart<'a>,
}

#[derive(Serialize)]
struct FunctionPart<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

impl<'a> CallPart<'a> {
    fn whole(call: &'a ToolCall) -> Self {
        let function = FunctionPart { name: Some(&call.name), arguments: &call.arguments };
        Self { index: None, id: Some(unique("call")), kind: Some("function"), function }
    }

    fn announced(call: &'a ToolCall) -> Self {
        Self {
            function: FunctionPart { name: Some(&call.name), arguments: "" },
            ..Self::whole(call)
        }
    }

    fn arguments(index: usize, arguments: &'a str) -> Self {
        let function = FunctionPart { name: None, arguments };
        Self { index: Some(index), id: None, kind: None, function }
    }
}

#[derive(Serialize)]
struct UsagePart {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

impl UsagePart {
    fn of(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.input_tokens,
            completion_tokens: usage.output_tokens,
            total_tokens: usage.input_tokens + usage.output_tokens,
        }
    }
}

fn unique(prefix: &str) -> String {
    format!("{prefix}_{}", Uuid::new_v4().simple())
}

fn write_event(bytes: &mut Vec<u8>, event: &impl Serialize) {
    bytes.extend_from_slice(b"data: ");
    write_json(bytes, event);
    bytes.extend_from_slice(b"\n\n");
}

fn write_json(bytes: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(bytes, value).expect("string keys and a Vec leave nothing to fail");
}

/// Cuts `text` into `count` pieces of about the same length, between characters; none is empty.
fn pieces(text: &str, count: usize) -> impl Iterator<Item = &str> {
    let mut from = 0;
    (1..=count).filter_map(move |piece| {
        let to = text.ceil_char_boundary(text.len() * piece / count);
        let piece = &text[from..to];
        from = to;
        (!piece.is_empty()).then_some(piece)
    })
}

//! Reading a chat-completions request.

use serde_json::Value;

/// A request body, read by the questions that a script asks.
///
/// # Examples
///
/// ```
/// use axon_test::scripted_model::ChatRequest;
/// use serde_json::json;
///
/// let body = json!({"messages": [{"role": "user", "content": "What is my balance?"}]});
/// assert_eq!(ChatRequest::new(&body).user_prompt(), "What is my balance?");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ChatRequest<'a>(&'a Value);

impl<'a> ChatRequest<'a> {
    /// Reads `body`, which need not be a good request: what is missing counts as empty.
    pub fn new(body: &'a Value) -> Self {
        Self(body)
    }

    /// The model that is asked for.
    pub fn model(self) -> &'a str {
        self.0["model"].as_str().unwrap_or("scripted")
    }

    /// Whether the answer is to be streamed.
    pub fn streamed(self) -> bool {
        self.0["stream"] == true
    }

    /// Whether the stream is to end with the usage.
    pub fn includes_usage(self) -> bool {
        self.0["stream_options"]["include_usage"] == true
    }

    /// The messages in order.
    pub fn messages(self) -> &'a [Value] {
        self.0["messages"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The text of the last user message.
    pub fn user_prompt(self) -> String {
        let last = self.messages().iter().rfind(|message| message["role"] == "user");
        last.map_or_else(String::new, |message| text_of(&message["content"]))
    }

    /// What `tool` returned last, if it returned since the last user message.
    pub fn tool_return(self, tool: &str) -> Option<String> {
        let messages = self.messages();
        let turn = messages.iter().rposition(|message| message["role"] == "user").unwrap_or(0);
        let returned = messages[turn..].iter().rfind(|message| {
            message["role"] == "tool"
                && self.called_tool(&message["tool_call_id"]).is_some_and(|name| name == tool)
        })?;
        Some(text_of(&returned["content"]))
    }

    /// The first tool call that the messages right after it do not answer: providers refuse such
    /// a request.
    ///
    /// # Examples
    ///
    /// ```
    /// use axon_test::scripted_model::ChatRequest;
    /// use serde_json::json;
    ///
    /// let calls = json!({"role": "assistant", "tool_calls": [{"id": "a"}, {"id": "b"}]});
    /// let answer = |id| json!({"role": "tool", "tool_call_id": id});
    /// let open = json!({"messages": [calls, answer("a"), {"role": "user"}, answer("b")]});
    /// assert_eq!(ChatRequest::new(&open).unanswered_call(), Some("b"));
    /// let closed = json!({"messages": [calls, answer("b"), answer("a"), {"role": "user"}]});
    /// assert_eq!(ChatRequest::new(&closed).unanswered_call(), None);
    /// ```
    pub fn unanswered_call(self) -> Option<&'a str> {
        let mut open: Vec<&Value> = Vec::new();
        for message in self.messages() {
            if message["role"] == "tool" {
                open.retain(|id| **id != message["tool_call_id"]);
                continue;
            }
            if !open.is_empty() {
                break;
            }
            let calls = message["tool_calls"].as_array().map_or(&[][..], Vec::as_slice);
            open = calls.iter().map(|call| &call["id"]).collect();
        }
        open.first().map(|id| id.as_str().unwrap_or_default())
    }

    /// The JSON Schema of the arguments of `tool`, if the request offers it.
    pub fn tool_parameters(self, tool: &str) -> Option<&'a Value> {
        let tools = self.0["tools"].as_array()?;
        let offered = tools.iter().find(|offered| offered["function"]["name"] == tool)?;
        Some(&offered["function"]["parameters"])
    }

    fn called_tool(self, id: &Value) -> Option<&'a str> {
        let calls = self.messages().iter().filter_map(|message| message["tool_calls"].as_array());
        let call = calls.flatten().find(|call| call["id"] == *id)?;
        call["function"]["name"].as_str()
    }
}

/// The text of a message's content, which is a string or a list of parts.
fn text_of(content: &Value) -> String {
    match content.as_array() {
        Some(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        None => content.as_str().unwrap_or_default().to_owned(),
    }
}

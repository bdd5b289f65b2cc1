//! The scripted model as an HTTP client sees it.

use std::collections::HashSet;
use std::error::Error;
use std::io;
use std::time::Duration;

use axon_test::scripted_model::{
    ChatRequest, FinishReason, Reply, Script, ScriptedModel, Usage, bank_support_script, serve,
};
use futures_util::StreamExt;
use futures_util::future::join_all;
use reqwest::{Client, Response};
use serde_json::{Value, json};

fn user(prompt: &str) -> Value {
    json!({"model": "any", "messages": [{"role": "user", "content": prompt}]})
}

fn streamed(prompt: &str) -> Value {
    with(user(prompt), "stream", json!(true))
}

fn with(mut body: Value, key: &str, value: Value) -> Value {
    body[key] = value;
    body
}

fn offering(body: Value, tool: &str, parameters: Value) -> Value {
    let tool = json!({"type": "function", "function": {"name": tool, "parameters": parameters}});
    let mut tools = body["tools"].as_array().cloned().unwrap_or_default();
    tools.push(tool);
    with(body, "tools", json!(tools))
}

async fn post(model: &ScriptedModel, body: &Value) -> reqwest::Result<Response> {
    let url = format!("{}/chat/completions", model.base_url());
    Client::new().post(url).bearer_auth("key-1").json(body).send().await
}

async fn completion(model: &ScriptedModel, body: &Value) -> Value {
    let response = post(model, body).await.expect("the model answers");
    response.json().await.expect("a completion is JSON")
}

async fn message(model: &ScriptedModel, body: &Value) -> Value {
    completion(model, body).await["choices"][0]["message"].clone()
}

/// What came of a stream: its events, whether `[DONE]` was the last one, and the error that ended it.
struct Streamed {
    events: Vec<Value>,
    done: bool,
    error: Option<reqwest::Error>,
}

impl Streamed {
    fn deltas(&self) -> impl Iterator<Item = &Value> {
        self.events.iter().map(|event| &event["choices"][0]["delta"])
    }

    fn texts(&self) -> Vec<&str> {
        self.deltas()
            .filter_map(|delta| delta["content"].as_str())
            .filter(|text| !text.is_empty())
            .collect()
    }

    fn finish_reason(&self) -> Option<&str> {
        self.events.iter().find_map(|event| event["choices"][0]["finish_reason"].as_str())
    }
}

async fn stream(model: &ScriptedModel, body: &Value) -> Streamed {
    let mut bytes = post(model, body).await.expect("the model answers").bytes_stream();
    let (mut text, mut error) = (Vec::new(), None);
    while let Some(piece) = bytes.next().await {
        match piece {
            Ok(piece) => text.extend_from_slice(&piece),
            Err(cause) => error = Some(cause),
        }
    }
    let text = String::from_utf8(text).expect("events are UTF-8");
    let data: Vec<_> = text.split_terminator("\n\n").map(|e| &e["data: ".len()..]).collect();
    let done = data.last() == Some(&"[DONE]");
    let events = &data[..data.len() - usize::from(done)];
    let parse = |event: &&str| serde_json::from_str(event).expect("an event is JSON");
    let events = events.iter().map(parse).collect();
    Streamed { events, done, error }
}

fn io_error(error: &reqwest::Error) -> Option<io::ErrorKind> {
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        source = error.source();
    }
    None
}

#[tokio::test]
async fn a_text_comes_whole_unless_the_request_asks_for_a_stream() {
    let usage = Usage { input_tokens: 7, output_tokens: 3 };
    let model = ScriptedModel::start(Reply::text("häagen dazs").chunks(4).usage(usage)).await;

    let whole = completion(&model, &user("hi")).await;
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["model"], "any");
    assert_eq!(whole["choices"][0]["message"]["content"], "häagen dazs");
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    assert_eq!(whole["usage"]["total_tokens"], 10);

    let stream = stream(&model, &streamed("hi")).await;
    assert_eq!(stream.texts().len(), 4);
    assert_eq!(stream.texts().concat(), "häagen dazs");
    assert_eq!(stream.finish_reason(), Some("stop"));
    assert!(stream.done && stream.error.is_none());
    assert!(stream.events.iter().all(|event| event["usage"].is_null()));
}

#[tokio::test]
async fn a_stream_ends_with_the_usage_only_when_asked() {
    let model = ScriptedModel::start(Reply::text("hi")).await;
    let body = with(streamed("hi"), "stream_options", json!({"include_usage": true}));
    let stream = stream(&model, &body).await;
    let last = stream.events.last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(
        last["usage"],
        json!({"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120})
    );
}

#[tokio::test]
async fn tool_calls_have_ids_of_their_own_and_arguments_in_pieces() {
    let calls = [("weather", json!({"city": "Zürich"})), ("time", json!({}))];
    let model = ScriptedModel::start(Reply::tool_calls(calls).chunks(3)).await;

    let whole = message(&model, &user("hi")).await;
    let stream = stream(&model, &streamed("hi")).await;
    assert_eq!(stream.finish_reason(), Some("tool_calls"));
    let (mut arguments, mut names) = (vec![String::new(); 2], Vec::new());
    let mut ids: HashSet<_> =
        whole["tool_calls"].as_array().unwrap().iter().map(|call| call["id"].as_str()).collect();
    for call in stream.deltas().filter_map(|delta| delta["tool_calls"].as_array()).flatten() {
        let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
        arguments[index].push_str(call["function"]["arguments"].as_str().unwrap());
        names.extend(call["function"]["name"].as_str());
        ids.extend(call["id"].as_str().map(Some));
    }
    assert_eq!(names, ["weather", "time"]);
    assert_eq!(arguments, [r#"{"city":"Zürich"}"#, "{}"]);
    assert_eq!(whole["tool_calls"][0]["function"]["arguments"], arguments[0].as_str());
    assert_eq!(ids.len(), 4);
}

#[tokio::test]
async fn the_final_result_calls_the_output_tool_when_there_is_one() {
    let model = ScriptedModel::start(Reply::final_result(json!({"risk": 1}))).await;
    let offered = offering(user("hi"), "final_result", json!({"type": "object"}));
    let call = &message(&model, &offered).await["tool_calls"][0]["function"];
    assert_eq!(*call, json!({"name": "final_result", "arguments": r#"{"risk":1}"#}));
    assert_eq!(message(&model, &user("hi")).await["content"], r#"{"risk":1}"#);
}

#[tokio::test]
async fn replies_are_used_in_order_and_the_last_one_stays() {
    let model = ScriptedModel::start([Reply::text("one"), Reply::text("two")]).await;
    for expected in ["one", "two", "two"] {
        assert_eq!(message(&model, &user("hi")).await["content"], expected);
    }
    let echo = |body: &Value| Reply::text(ChatRequest::new(body).user_prompt());
    let model = ScriptedModel::start(Script::from(Reply::text("one")).then(echo)).await;
    for expected in ["one", "echo"] {
        assert_eq!(message(&model, &user("echo")).await["content"], expected);
    }
}

#[tokio::test]
async fn two_hundred_concurrent_requests_each_get_their_own_answer() {
    let echo = |body: &Value| {
        Reply::text(ChatRequest::new(body).user_prompt()).delay(Duration::from_millis(2))
    };
    let model = ScriptedModel::start(Script::function(echo)).await;
    let answers = join_all((0..200).map(async |customer: u32| {
        let prompt = format!("customer {customer}");
        (stream(&model, &streamed(&prompt)).await.texts().concat(), prompt)
    }));
    for (answer, prompt) in answers.await {
        assert_eq!(answer, prompt);
    }
    assert_eq!(model.requests().len(), 200);
    assert_eq!((model.open_streams(), model.disconnects()), (0, 0));
}

#[tokio::test]
async fn failures_have_their_status_code_and_wait() {
    let model = ScriptedModel::start([
        Reply::rate_limited().retry_after(Duration::from_millis(1500)),
        Reply::quota_exceeded(),
        Reply::context_length_exceeded(),
        Reply::error(529, "overloaded"),
        Reply::status(401, json!({"detail": "no"})),
        Reply::status(7, json!({})),
    ])
    .await;
    let limited = post(&model, &streamed("hi")).await.unwrap();
    assert_eq!(limited.status(), 429);
    assert_eq!(limited.headers()["retry-after"], "2");
    assert_eq!(limited.headers()["retry-after-ms"], "1500");
    for (status, code) in
        [(429, "insufficient_quota"), (400, "context_length_exceeded"), (529, "overloaded")]
    {
        let failed = post(&model, &user("hi")).await.unwrap();
        assert_eq!(failed.status(), status);
        assert_eq!(failed.json::<Value>().await.unwrap()["error"]["code"], code);
    }
    let refused = post(&model, &user("hi")).await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.json::<Value>().await.unwrap(), json!({"detail": "no"}));
    assert_eq!(post(&model, &user("hi")).await.unwrap().status(), 500);
    assert_eq!((model.open_streams(), model.disconnects()), (0, 0));
}

#[tokio::test]
async fn messages_can_be_bad_in_every_way_that_models_are() {
    let model = ScriptedModel::start([
        Reply::content_filter("I would"),
        Reply::length("Once upon"),
        Reply::bad_tool_json("final_result").finish_reason(FinishReason::Length),
        Reply::empty(),
    ])
    .await;
    let choice = async || completion(&model, &user("hi")).await["choices"][0].clone();
    let filtered = choice().await;
    assert_eq!(filtered["finish_reason"], "content_filter");
    assert_eq!(filtered["message"]["content"], "I would");
    assert_eq!(choice().await["finish_reason"], "length");
    let cut = choice().await;
    assert_eq!(cut["finish_reason"], "length");
    let arguments = cut["message"]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(arguments).is_err());
    assert_eq!(choice().await["message"], json!({"role": "assistant", "content": null}));
}

#[tokio::test]
async fn garbage_is_a_success_without_json() {
    let model = ScriptedModel::start(Reply::garbage()).await;
    let response = post(&model, &user("hi")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.json::<Value>().await.is_err());
}

#[tokio::test]
async fn a_cut_stream_gives_its_deltas_and_then_breaks() {
    let model = ScriptedModel::start([
        Reply::text("abcdef").chunks(6).cut_after(2),
        Reply::text("abcdef").chunks(6).reset_after(3),
        Reply::text("abcdef").chunks(6).delay(Duration::from_millis(1)).cut_after(99),
    ])
    .await;
    let cut = stream(&model, &streamed("hi")).await;
    assert_eq!(cut.texts(), ["a", "b"]);
    assert_ne!(io_error(cut.error.as_ref().unwrap()), Some(io::ErrorKind::ConnectionReset));

    let reset = stream(&model, &streamed("hi")).await;
    assert_eq!(reset.texts(), ["a", "b", "c"]);
    assert_eq!(io_error(reset.error.as_ref().unwrap()), Some(io::ErrorKind::ConnectionReset));

    let late = stream(&model, &streamed("hi")).await;
    assert_eq!(late.texts().concat(), "abcdef");
    assert!(late.finish_reason().is_none() && late.error.is_some());
    model.wait_until(|traffic| traffic.open_streams() == 0).await;
    assert_eq!(model.disconnects(), 0, "the server left, not the client");
}

#[tokio::test]
async fn a_whole_answer_breaks_before_its_head_or_in_its_middle() {
    let model = ScriptedModel::start([Reply::disconnect(), Reply::text("hi").cut_after(1)]).await;
    assert!(post(&model, &user("hi")).await.is_err());
    let response = post(&model, &user("hi")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.text().await.is_err());
}

#[tokio::test]
async fn an_error_event_ends_a_stream() {
    let model = ScriptedModel::start(Reply::text("abcd").chunks(4).error_after(1)).await;
    let stream = stream(&model, &streamed("hi")).await;
    assert_eq!(stream.texts(), ["a"]);
    assert_eq!(stream.events.last().unwrap()["error"]["code"], "server_error");
    assert!(stream.error.is_none());
    assert_eq!(post(&model, &user("hi")).await.unwrap().status(), 500);
}

#[tokio::test]
async fn a_hang_lasts_until_the_client_disconnects() {
    let model = ScriptedModel::start([Reply::hang(), Reply::text("abcd").hang_after(2)]).await;
    let body = user("hi");
    tokio::select! {
        _ = post(&model, &body) => panic!("a hang has no answer"),
        () = model.wait_until(|traffic| traffic.open_streams() == 1) => {}
    }
    model.wait_until(|traffic| traffic.disconnects() == 1).await;

    let mut bytes = post(&model, &streamed("hi")).await.unwrap().bytes_stream();
    assert!(bytes.next().await.unwrap().is_ok());
    assert_eq!(model.open_streams(), 1);
    drop(bytes);
    model.wait_until(|traffic| traffic.disconnects() == 2 && traffic.open_streams() == 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_a_slow_stream_is_a_disconnect() {
    let slow = Reply::text("abcdefgh").delay(Duration::from_secs(60));
    let model = ScriptedModel::start(slow).await;
    drop(post(&model, &streamed("hi")).await.unwrap());
    model.wait_until(|traffic| traffic.disconnects() == 1).await;
    assert_eq!(model.open_streams(), 0);
}

#[tokio::test]
async fn requests_are_recorded_with_their_headers() {
    let model = ScriptedModel::start(Reply::text("hi")).await;
    message(&model, &user("What is my balance?")).await;
    let [request] = &model.requests()[..] else { panic!("one request was made") };
    assert_eq!(request.body, user("What is my balance?"));
    assert_eq!(request.header("Authorization"), Some("Bearer key-1"));
    assert!(!format!("{request:?}").contains("key-1"));
}

/// Has the conversation that an agent would have, and returns the tool's arguments and the output.
async fn bank_support(model: &ScriptedModel, prompt: Value, parameters: Value) -> (Value, Value) {
    let messages = json!([{"role": "system", "content": "support"},
        {"role": "user", "content": "an old question"},
        {"role": "assistant", "tool_calls": [{"id": "old", "type": "function",
            "function": {"name": "customer_balance", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "old", "content": "$1.00"},
        {"role": "user", "content": prompt}]);
    let body = with(user(""), "messages", messages);
    let body = offering(body, "customer_balance", parameters);
    let mut body = offering(body, "final_result", json!({"type": "object"}));
    let asked = message(model, &body).await;
    let call = asked["tool_calls"][0].clone();
    assert_eq!(call["function"]["name"], "customer_balance");
    let returned = json!({"role": "tool", "tool_call_id": call["id"], "content": "$123.45"});
    body["messages"].as_array_mut().expect("messages are a list").extend([asked, returned]);
    let output = message(model, &body).await["tool_calls"][0]["function"]["arguments"].clone();
    let parse = |json: &Value| {
        serde_json::from_str(json.as_str().expect("arguments are text")).expect("and in it is JSON")
    };
    (parse(&call["function"]["arguments"]), parse(&output))
}

#[tokio::test]
async fn bank_support_asks_for_the_balance_and_tells_it() {
    let model = ScriptedModel::start(bank_support_script()).await;
    let plain = json!({"type": "object", "properties": {}});
    let (arguments, output) = bank_support(&model, json!("What is my balance?"), plain).await;
    assert_eq!(arguments, json!({}));
    assert!(output["support_advice"].as_str().unwrap().contains("$123.45"));
    assert_eq!((&output["block_card"], &output["risk"]), (&json!(false), &json!(1)));

    let pending = json!({"type": "object", "required": ["include_pending"],
        "properties": {"include_pending": {"type": "boolean"}}});
    let lost = json!([{"type": "text", "text": "I just lost my card!"}]);
    let (arguments, output) = bank_support(&model, lost, pending).await;
    assert_eq!(arguments, json!({"include_pending": true}));
    assert_eq!((&output["block_card"], &output["risk"]), (&json!(true), &json!(8)));
}

#[tokio::test]
async fn models_are_listed_and_other_paths_are_not_found() {
    let model = ScriptedModel::start(Reply::text("hi")).await;
    let listed = reqwest::get(format!("{}/models", model.base_url())).await.unwrap();
    assert_eq!(listed.json::<Value>().await.unwrap()["data"][0]["object"], "model");
    let other = reqwest::get(format!("{}/responses", model.base_url())).await.unwrap();
    assert_eq!(other.status(), 404);
    assert_eq!(model.requests().len(), 0);
}

#[tokio::test]
async fn dropping_the_model_ends_its_streams_and_frees_its_port() {
    let model = ScriptedModel::start(Reply::text("abcd").hang_after(1)).await;
    let url = format!("{}/models", model.base_url());
    let mut bytes = post(&model, &streamed("hi")).await.unwrap().bytes_stream();
    assert!(bytes.next().await.unwrap().is_ok());
    drop(model);
    let ends = bytes.collect::<Vec<_>>().await;
    assert!(ends.last().unwrap().is_err(), "the stream broke: {ends:?}");
    assert!(reqwest::get(url).await.unwrap_err().is_connect());
}

#[tokio::test]
async fn a_listener_of_the_caller_is_served_until_the_future_is_dropped() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/chat/completions", listener.local_addr().unwrap());
    let answer = async {
        let response = Client::new().post(url).json(&user("hi")).send().await.unwrap();
        response.json::<Value>().await.unwrap()
    };
    tokio::select! {
        _ = serve(listener, Reply::text("hello")) => panic!("serving has no end"),
        answer = answer => assert_eq!(answer["choices"][0]["message"]["content"], "hello"),
    }
}

//! The model's side of the bank-support conversation.

use serde_json::{Map, Value, json};

use super::chat_request::ChatRequest;
use super::reply::Reply;
use super::script::Script;

const BALANCE_TOOL: &str = "customer_balance";

/// Answers the bank-support agent like a model would, for any number of concurrent runs; see
/// [`bank_support_reply`].
pub fn bank_support_script() -> Script {
    Script::function(bank_support_reply)
}

/// What the model says to one request of the bank-support agent, for scripts that pace it.
///
/// It first calls `customer_balance` with the arguments that the tool's schema requires, then gives
/// a final result with what the tool returned: no risk to speak of (1), unless the prompt is about
/// a lost card, which is blocked (8). Without that tool it gives the final result at once.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use axon_test::scripted_model::{Script, bank_support_reply};
///
/// let slow = |body: &_| bank_support_reply(body).chunks(16).delay(Duration::from_millis(10));
/// let script = Script::function(slow);
/// # let _ = script;
/// ```
pub fn bank_support_reply(body: &Value) -> Reply {
    let request = ChatRequest::new(body);
    let balance = request.tool_return(BALANCE_TOOL);
    match (balance, request.tool_parameters(BALANCE_TOOL)) {
        (None, Some(schema)) => Reply::tool_calls([(BALANCE_TOOL, required_arguments(schema))]),
        (balance, _) => advice(&request.user_prompt(), balance.as_deref()),
    }
}

fn advice(prompt: &str, balance: Option<&str>) -> Reply {
    let prompt = prompt.to_lowercase();
    let card_lost = prompt.contains("lost") && prompt.contains("card");
    let mut advice = Vec::new();
    if card_lost {
        advice.push("I am sorry about your card, it is blocked from now on.".to_owned());
    }
    match balance {
        Some(balance) => advice.push(format!("Your current balance is {balance}.")),
        None => advice.push("I cannot see your balance.".to_owned()),
    }
    Reply::final_result(json!({
        "support_advice": advice.join(" "),
        "block_card": card_lost,
        "risk": if card_lost { 8 } else { 1 },
    }))
}

/// The least arguments that a schema asks for, by the type of each required property.
fn required_arguments(schema: &Value) -> Value {
    let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
    let argument = |name: &str| match schema["properties"][name]["type"].as_str() {
        Some("boolean") => json!(true),
        Some("integer" | "number") => json!(1),
        Some("string") => json!("any"),
        Some("array") => json!([]),
        Some("object") => json!({}),
        _ => Value::Null,
    };
    let names = required.iter().filter_map(Value::as_str);
    Value::Object(names.map(|name| (name.to_owned(), argument(name))).collect::<Map<_, _>>())
}

//! Checks of functions that say what became of a tool call.

use serde_json::{Value, json};

use super::Subject;
use crate::conformance::link::Reply;
use crate::conformance::report::{Disagreement, Verdict, same};

checks! {
    reconcile_function_gives_one_of_three_verdicts
    reconcile_function_that_raises_says_so
    reconcile_function_that_is_not_registered_is_not_found
    reconcile_request_without_what_it_needs_is_refused
}

fn question() -> Value {
    json!({
        "key": "run-1:1:call-1", "run_id": "run-1", "step": 1, "tool_call_id": "call-1",
        "name": "transfer", "args": {"amount": 7},
    })
}

async fn ask(
    subject: &Subject<'_>,
    function: &str,
    question: &Value,
) -> Result<Reply, Disagreement> {
    let path = format!("/v1/tools/conformance_agent:{function}/reconcile");
    subject.link().post(&path, question).await
}

async fn reconcile_function_gives_one_of_three_verdicts(subject: &Subject<'_>) -> Verdict {
    for (function, verdict) in [
        ("was_made", json!({"outcome": "done", "result": "transferred 7"})),
        ("was_not_made", json!({"outcome": "not_done"})),
        ("cannot_tell", json!({"outcome": "unknown"})),
    ] {
        let answer = ask(subject, function, &question()).await?.ok()?;
        same(function, answer, verdict)?;
    }
    Ok(())
}

async fn reconcile_function_that_raises_says_so(subject: &Subject<'_>) -> Verdict {
    let reply = ask(subject, "cannot_be_asked", &question()).await?;
    reply.refuses(422, "tool")?;
    same("class", &reply.body["error"]["class"], &json!("ValueError"))?;
    same("message", &reply.body["error"]["message"], &json!("the bank is closed"))
}

async fn reconcile_function_that_is_not_registered_is_not_found(subject: &Subject<'_>) -> Verdict {
    // A tool is none, and the other way round.
    ask(subject, "transfer", &question()).await?.refuses(404, "config")?;
    let path = "/v1/tools/conformance_agent:was_made/call";
    subject.link().post(path, &json!({"args": {}})).await?.refuses(404, "config")
}

async fn reconcile_request_without_what_it_needs_is_refused(subject: &Subject<'_>) -> Verdict {
    for missing in ["key", "run_id", "step", "tool_call_id", "name"] {
        let mut question = question();
        if let Value::Object(fields) = &mut question {
            fields.remove(missing);
        }
        ask(subject, "was_made", &question).await?.refuses(400, "config")?;
    }
    Ok(())
}

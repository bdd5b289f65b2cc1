//! Checks of requests that start nothing: tokens, routes, malformed bodies, the agent's definition.

use reqwest::Method;
use serde_json::{Value, json};

use super::Subject;
use crate::conformance::agent::{request, spec};
use crate::conformance::launched::LIMITS;
use crate::conformance::report::{Verdict, expected, holds, same};

checks! {
    request_without_the_token_is_not_executed
    health_says_who_it_is
    schema_has_its_four_parts
    unknown_route_is_not_found
    malformed_json_is_refused_with_an_excerpt
    json_that_the_other_end_could_not_read_is_refused
    too_deep_json_is_refused
    request_without_what_it_needs_is_refused
    too_large_body_is_refused
    valid_spec_is_resolved_to_its_model
    spec_with_an_unknown_key_is_refused
    spec_that_names_what_is_not_registered_is_refused
    called_tool_gives_its_result
    called_tool_with_wrong_arguments_is_refused
    called_tool_that_raises_says_so
    called_tool_that_is_not_registered_is_not_found
}

async fn request_without_the_token_is_not_executed(subject: &Subject<'_>) -> Verdict {
    let link = subject.link();
    let token = link.token();
    let wrong = [
        None,
        Some(String::new()),
        Some(token.to_owned()),
        Some(format!("Basic {token}")),
        Some("Bearer wrong".to_owned()),
        Some(format!("Bearer {token}0")),
        Some(format!("Bearer {}", &token[1..])),
    ];
    let body = request("hang").to_string();
    for authorization in wrong {
        for (method, path) in
            [(Method::GET, "/healthz"), (Method::POST, "/v1/runs"), (Method::GET, "/nowhere")]
        {
            let body = if method == Method::POST { body.clone().into() } else { Vec::new() };
            let reply = link.call_as(authorization.as_deref(), method, path, body).await?;
            reply.refuses(401, "config")?;
        }
    }
    same("attempts under way", link.attempts().await?, 0)
}

async fn health_says_who_it_is(subject: &Subject<'_>) -> Verdict {
    let health = subject.link().get("/healthz").await?.ok()?;
    same("ok", &health["ok"], &json!(true))?;
    same("pid", &health["pid"], &json!(subject.shared.pid()))?;
    same("attempts", &health["attempts"], &json!(0))?;
    same("protocol", &health["protocol"], &json!(subject.ready.protocol))?;
    same("generation", &health["generation"], &json!(subject.ready.generation))
}

async fn schema_has_its_four_parts(subject: &Subject<'_>) -> Verdict {
    let schema = subject.link().get("/v1/schema").await?.ok()?;
    let parts = schema.as_object().ok_or_else(|| expected("an object", &schema))?;
    for part in ["spec", "events", "messages"] {
        let schema = parts.get(part).unwrap_or(&Value::Null);
        holds(schema.is_object() || schema.is_boolean(), &format!("a schema of {part}"), schema)?;
    }
    // The agent is defined in Rust, so the runner has nothing to tell of it.
    same("agent", parts.get("agent"), Some(&Value::Null))
}

async fn unknown_route_is_not_found(subject: &Subject<'_>) -> Verdict {
    let unknown = [
        (Method::GET, "/"),
        (Method::GET, "/v1/runs"),
        (Method::PUT, "/v1/runs"),
        (Method::POST, "/healthz"),
        (Method::POST, "/v1/runs/x/unknown"),
        (Method::POST, "/v2/runs"),
    ];
    for (method, path) in unknown {
        subject.link().call(method, path, b"{}".to_vec()).await?.refuses(404, "config")?;
    }
    Ok(())
}

async fn malformed_json_is_refused_with_an_excerpt(subject: &Subject<'_>) -> Verdict {
    let body = format!("{{\"prompt\": oops{}", "x".repeat(1000));
    for path in ["/v1/runs", "/v1/agents/validate"] {
        let reply = subject.link().call(Method::POST, path, body.clone().into()).await?;
        reply.refuses(400, "decode")?;
        let message = reply.body["error"]["message"].as_str().unwrap_or_default();
        holds(message.contains("{\"prompt\": oops"), "an excerpt of the body", message)?;
        holds(message.len() < 600, "an excerpt and not the whole body", message)?;
    }
    Ok(())
}

async fn json_that_the_other_end_could_not_read_is_refused(subject: &Subject<'_>) -> Verdict {
    let bodies: [&[u8]; 7] = [
        b"",
        br#"{"spec": {"tool_timeout": NaN}}"#,
        br#"{"spec": {"tool_timeout": Infinity}}"#,
        br#"{"spec": {"tool_timeout": 1e999}}"#,
        br#"{"spec": {"name": "\ud800"}}"#,
        b"{\"spec\": {\"name\": \"\xFF\"}}",
        br#"{"spec": {}} {}"#,
    ];
    for body in bodies {
        let reply = subject.link().call(Method::POST, "/v1/agents/validate", body.to_vec()).await?;
        reply.refuses(400, "decode")?;
    }
    Ok(())
}

async fn too_deep_json_is_refused(subject: &Subject<'_>) -> Verdict {
    // The body, its spec and the metadata are three levels more.
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth - 3), "]".repeat(depth - 3));
    let body = |depth: usize| {
        let spec = spec().to_string();
        let metadata = format!("\"metadata\": {{\"deep\": {}}}}}", nested(depth));
        let spec = spec.strip_suffix('}').unwrap_or_default().to_owned() + ", " + &metadata;
        format!("{{\"spec\": {spec}}}").into_bytes()
    };
    let validate = async |depth: usize| {
        subject.link().call(Method::POST, "/v1/agents/validate", body(depth)).await
    };
    validate(LIMITS.json_depth).await?.says(200)?;
    validate(LIMITS.json_depth + 1).await?.refuses(400, "decode")?;
    validate(5000).await?.refuses(400, "decode")
}

async fn request_without_what_it_needs_is_refused(subject: &Subject<'_>) -> Verdict {
    for missing in ["run_id", "attempt", "spec"] {
        let mut request = request("hello");
        if let Value::Object(fields) = &mut request {
            fields.remove(missing);
        }
        subject.link().refuses(&request, 400, "config").await?;
    }
    for (field, wrong) in [("attempt", json!(0)), ("attempt", json!([])), ("stream", json!(7.5))] {
        let mut request = request("hello");
        request[field] = wrong;
        subject.link().refuses(&request, 400, "config").await?;
    }
    Ok(())
}

async fn too_large_body_is_refused(subject: &Subject<'_>) -> Verdict {
    let mut request = request("");
    let rest = LIMITS.body_bytes - request.to_string().len();
    request["prompt"] = json!("x".repeat(rest + 1));
    let status = subject.link().post_by_hand("/v1/runs", request.to_string().as_bytes()).await;
    let status = status.map_err(|error| expected("an answer", error))?;
    holds(status.starts_with("HTTP/1.1 413"), "status 413", status)?;
    request["prompt"] = json!("x".repeat(rest));
    subject.link().open(&request).await?.end("attempt_completed").await.map(drop)
}

async fn valid_spec_is_resolved_to_its_model(subject: &Subject<'_>) -> Verdict {
    let body = json!({"spec": spec()});
    let validated = subject.link().post("/v1/agents/validate", &body).await?.ok()?;
    let named = validated["model"].as_str().is_some_and(|model| !model.is_empty());
    holds(named, "the name of the model", &validated)?;
    same("offline", &validated["offline"], &json!(true))
}

async fn spec_with_an_unknown_key_is_refused(subject: &Subject<'_>) -> Verdict {
    let mut spec = spec();
    spec["instructoins"] = json!("Be kind.");
    refuses_spec(subject, spec).await
}

async fn spec_that_names_what_is_not_registered_is_refused(subject: &Subject<'_>) -> Verdict {
    let stranger = "conformance_agent:stream";
    let tool = json!([{"name": "add", "target": format!("python:{stranger}")}]);
    for (key, value) in [
        ("model", json!(format!("python:{stranger}"))),
        ("tools", tool),
        ("deps_factory", json!(stranger)),
        ("dynamic_instructions", json!([stranger])),
        ("module", json!(stranger)),
    ] {
        let mut spec = spec();
        spec[key] = value;
        refuses_spec(subject, spec).await?;
    }
    Ok(())
}

async fn refuses_spec(subject: &Subject<'_>, spec: Value) -> Verdict {
    let body = json!({"spec": spec});
    subject.link().post("/v1/agents/validate", &body).await?.refuses(400, "config")?;
    let mut request = request("hello");
    request["spec"] = spec;
    subject.link().refuses(&request, 400, "config").await
}

const ADD: &str = "/v1/tools/conformance_agent:add/call";

async fn called_tool_gives_its_result(subject: &Subject<'_>) -> Verdict {
    let body = json!({"args": {"left": 2, "right": 3}, "tool_call_id": "call-9"});
    let answer = subject.link().post(ADD, &body).await?.ok()?;
    same("result", &answer["result"], &json!(5))
}

async fn called_tool_with_wrong_arguments_is_refused(subject: &Subject<'_>) -> Verdict {
    for args in [json!({}), json!({"left": "two", "right": 3})] {
        let reply = subject.link().post(ADD, &json!({"args": args})).await?;
        reply.refuses(400, "tool")?;
        same("phase", &reply.body["error"]["phase"], &json!("arguments"))?;
    }
    Ok(())
}

async fn called_tool_that_raises_says_so(subject: &Subject<'_>) -> Verdict {
    let path = "/v1/tools/conformance_agent:broken/call";
    let reply = subject.link().post(path, &json!({"args": {}})).await?;
    reply.refuses(422, "tool")?;
    same("class", &reply.body["error"]["class"], &json!("ValueError"))?;
    same("message", &reply.body["error"]["message"], &json!("the tool is broken"))
}

async fn called_tool_that_is_not_registered_is_not_found(subject: &Subject<'_>) -> Verdict {
    let path = "/v1/tools/conformance_agent:stream/call";
    subject.link().post(path, &json!({"args": {}})).await?.refuses(404, "config")
}

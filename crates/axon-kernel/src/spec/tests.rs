//! What a user sees of `agent.toml`: what is read, what is refused and how, what is printed.

mod approvals;
mod doubt;
mod handoff;
mod ladder;
mod output;
mod process;
mod prompts;

use std::error::Error;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn variables(name: &str) -> Option<String> {
    match name {
        "MODEL" => Some("openai:gpt-5".to_owned()),
        "TOKEN" => Some("s3cret-${TOKEN}".to_owned()),
        _ => None,
    }
}

fn read(file: &str) -> Result<String, Box<dyn Error + Send + Sync>> {
    match file {
        "answer.json" => Ok(r#"{"type": "object", "properties": {"b": {}, "a": {}}}"#.to_owned()),
        "list.json" => Ok(r#"{"type": "array"}"#.to_owned()),
        "broken.json" => Ok("{".to_owned()),
        "remote.json" => Ok(r#"{"type": "object", "$ref": "https://x.org/y"}"#.to_owned()),
        _ => Err("no such file".into()),
    }
}

fn load(text: &str) -> Result<AgentSpec, SpecError> {
    let name = AgentName::try_from("bank").unwrap();
    AgentSpec::from_toml(name, FileText { path: "agent.toml", text }, &variables, &read)
}

fn problems(text: &str) -> Vec<String> {
    load(text).unwrap_err().to_string().lines().map(str::to_owned).collect()
}

const FULL: &str = r#"
description = "First-line support"
model = "${MODEL}"
instructions = "The customer's name is {{ deps.name }}."
dynamic_instructions = ["bank.prompts:customer_name"]
retries = { tools = 2, output = 3 }
end_strategy = "graceful"
tool_timeout = "1m 30s"
capabilities = ["WebSearch", { Thinking = { effort = "high" } }]
[model_settings]
temperature = 0.2
extra_headers = { Authorization = "Bearer ${TOKEN}" }
[provider]
base_url = "https://proxy.example/v1"
api_key_env = "PROXY_KEY"
[runner]
replicas = 2
launcher = "cold"
pass_env = ["DATABASE_URL"]
env = { TZ = "UTC", TOKEN = "${TOKEN}" }
lifespan = "bank.deps:lifespan"
start_timeout = "5s"
heartbeat = "100ms"
cancel_grace = "3s"
recycle = { age = "24h", requests = 10_000, memory = "1GiB" }
limits = { memory = "2GiB", cpu_time = "1h", open_files = 1024 }
[deps]
schema = { type = "object", properties = { name = { type = "string" } }, required = ["name"] }
factory = "bank.deps:make"
[output]
schema = "answer.json"
mode = "native"
name = "advice"
strict = true
[[tools]]
name = "customer_balance"
python = "bank.tools:customer_balance"
effect = "pure"
timeout = "5s"
[[tools]]
name = "pay_out"
python = "bank.tools:pay_out"
on_ambiguous = "fail"
reconcile = "bank.tools:was_paid_out"
[[tools]]
name = "block_card"
rust = "block_card"
parameters = { type = "object" }
requires_approval = true
sequential = true
max_retries = 1
[[tools]]
name = "ask_fraud"
agent = "fraud"
description = "Asks the fraud team"
[limits]
concurrency = 4
queue = 8
timeout = "10s"
requests = 10
total_tokens = 50_000
cost = 0.5
[approvals]
timeout = "1d"
on_timeout = "fail"
[conversation]
when_busy = "steer"
[fallback]
model = "openai:gpt-5-mini"
agent = "simple_support"
[supervision]
intensity = { max_restarts = 5, within = "10s" }
backoff = { min = "100ms", max = "3s" }
on_exhausted = "escalate"
[policy]
model_rate_limited = { retry = 5, backoff = { min = "1s" } }
tool = { then = "escalate" }
model_auth = { then = "fallback" }
[metadata]
team = "support"
"#;

#[test]
fn a_full_file_is_read() {
    let spec = load(FULL).unwrap();
    assert_eq!(spec.model.as_ref().unwrap().as_str(), "openai:gpt-5");
    assert_eq!(spec.tool_timeout, Some(Duration::from_secs(90)));
    assert_eq!(spec.runner.env[&EnvName::try_from("TOKEN").unwrap()], "s3cret-${TOKEN}");
    assert_eq!(spec.tools[1].effect, Effect::Once);
    assert_eq!(spec.tools[1].on_ambiguous, OnAmbiguous::Fail);
    let reconcile = spec.tools[1].reconcile.as_ref();
    assert_eq!(reconcile.map(PythonTarget::as_str), Some("bank.tools:was_paid_out"));
    assert_eq!(spec.tools[2].on_ambiguous, OnAmbiguous::Ask);
    assert_eq!(spec.limits.cost, Some(Usd::from_micros(500_000)));
    assert_eq!(spec.supervision.on_exhausted, OnExhausted::Escalate);
    let rule = spec.policy[&FailureKind::ModelRateLimited];
    assert_eq!(rule.backoff.unwrap().max, Duration::from_secs(30));
    assert_eq!(spec.policy[&FailureKind::Tool].then, Some(Then::Escalate));
}

#[test]
fn the_order_of_a_schemas_properties_is_kept() {
    let spec = load(FULL).unwrap();
    let raw = spec.output.unwrap().schema.unwrap().raw().to_string();
    assert!(raw.find("\"b\"") < raw.find("\"a\""), "{raw}");
    let text = "model = 'test'\n[deps]\nschema = { properties = { z = {}, a = {} } }";
    let raw = load(text).unwrap().deps.schema.unwrap().raw().to_string();
    assert_eq!(raw, r#"{"properties":{"z":{},"a":{}}}"#);
}

#[test]
fn the_example_agent_is_read() {
    let text = include_str!("../../../../agents/bank_support/agent.toml");
    let schema = include_str!("../../../../agents/bank_support/output.schema.json");
    let name = AgentName::try_from("bank_support").unwrap();
    let file = FileText { path: "agents/bank_support/agent.toml", text };
    let spec = AgentSpec::from_toml(name, file, &|_| None, &|_| Ok(schema.to_owned()));
    let spec = spec.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(spec.model.unwrap().as_str(), "python:bank_support.offline:model");
}

#[test]
fn the_wire_form_leaves_out_what_is_not_set() {
    let spec = load(FULL).unwrap();
    let wire = serde_json::Value::Object(spec.to_wire());
    assert_eq!(
        wire,
        json!({
            "name": "bank", "description": "First-line support", "model": "openai:gpt-5",
            "model_settings": {
                "temperature": 0.2,
                "extra_headers": { "Authorization": "Bearer s3cret-${TOKEN}" },
            },
            "retries": { "tools": 2, "output": 3 }, "end_strategy": "graceful",
            "tool_timeout": 90.0,
            "capabilities": ["WebSearch", { "Thinking": { "effort": "high" } }],
            "metadata": { "team": "support" },
            "provider": { "base_url": "https://proxy.example/v1", "api_key_env": "PROXY_KEY" },
            "tools": [
                { "name": "customer_balance", "target": "python:bank.tools:customer_balance",
                  "effect": "pure", "timeout": 5.0 },
                { "name": "pay_out", "target": "python:bank.tools:pay_out", "effect": "once" },
                { "name": "block_card", "target": "rust", "effect": "once",
                  "parameters": { "type": "object" }, "sequential": true, "max_retries": 1,
                  "requires_approval": true },
                { "name": "ask_fraud", "description": "Asks the fraud team", "target": "agent",
                  "effect": "once", "parameters": {
                    "type": "object",
                    "properties": { "prompt": {
                        "type": "string",
                        "description": "What to ask, with everything that has to be known for it",
                    } },
                    "required": ["prompt"],
                    "additionalProperties": false,
                } },
            ],
            "output": {
                "mode": "native", "name": "advice", "strict": true,
                "schema": { "type": "object", "properties": { "b": {}, "a": {} } },
            },
            "deps_factory": "bank.deps:make",
            "dynamic_instructions": ["bank.prompts:customer_name"],
        })
    );
    let name = AgentName::try_from("mine").unwrap();
    let module = AgentSpec::for_module(name, PythonTarget::try_from("pkg.mod:agent").unwrap());
    let wire = serde_json::Value::Object(module.to_wire());
    assert_eq!(wire, json!({ "module": "pkg.mod:agent" }));
}

#[test]
fn everything_a_runner_may_call_is_listed_once() {
    let mut spec = load(FULL).unwrap();
    spec.model = Some(ModelName::try_from("python:bank.offline:model").unwrap());
    let mut twin = spec.tools[0].clone();
    twin.name = ToolName::try_from("twin").unwrap();
    twin.effect = Effect::Once;
    spec.tools.push(twin);
    let callables = serde_json::to_value(spec.callables()).unwrap();
    assert_eq!(
        callables,
        json!([
            { "target": "bank.tools:customer_balance", "role": "tool", "effect": "once" },
            { "target": "bank.tools:pay_out", "role": "tool", "effect": "once" },
            { "target": "bank.deps:make", "role": "deps_factory" },
            { "target": "bank.offline:model", "role": "model" },
            { "target": "bank.deps:lifespan", "role": "lifespan" },
            { "target": "bank.prompts:customer_name", "role": "instructions" },
            { "target": "bank.tools:was_paid_out", "role": "reconcile" },
        ])
    );
}

#[test]
fn a_printed_agent_comes_back_and_shows_no_secret() {
    let spec = load(FULL).unwrap();
    let printed = spec.to_toml().unwrap();
    assert_eq!(load(&printed).unwrap(), spec, "{printed}");
    assert!(!printed.contains("s3cret"), "{printed}");
    assert!(printed.contains("Bearer ${TOKEN}"), "{printed}");
    assert!(!format!("{spec:?}").contains("s3cret"));
    // What changed since is printed as it is now.
    let mut changed = spec;
    changed.model = Some(ModelName::try_from("test").unwrap());
    assert!(changed.to_toml().unwrap().contains("model = \"test\""));
}

#[test]
fn what_toml_cannot_hold_is_named() {
    let mut spec = AgentSpec::new(AgentName::try_from("a").unwrap());
    spec.metadata.insert("x".to_owned(), json!([1, null]));
    let error = spec.to_toml().unwrap_err();
    assert_eq!(error.to_string(), "/metadata/x/1 is null, which TOML cannot hold");
    // A schema may hold it, as JSON text.
    spec.metadata.clear();
    spec.model = Some(ModelName::try_from("test").unwrap());
    spec.deps.schema = Some(Schema::new(json!({ "enum": [null, "${X}"] })).unwrap());
    assert_eq!(load(&spec.to_toml().unwrap()).unwrap().deps, spec.deps);
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_valid_one() {
    let text = "modell = 'x'\nmodel = 'test'\n[limits]\nconcurency = 3\nzzz = 1\n[[tools]]\n\
        name = 'a'\nrust = 'a'\ntimout = '5s'\n[policy]\nmodel_rate_limit = { retry = 1 }\n\
        tool = { retrys = 1 }\n[runner.envs]\nA = 'b'";
    assert_eq!(
        problems(text),
        [
            "agent.toml:1:1: unknown key `modell`; did you mean `model`?",
            "agent.toml:4:1: limits: unknown key `concurency`; did you mean `concurrency`?",
            "agent.toml:5:1: limits: unknown key `zzz`; valid there: concurrency, queue, timeout, \
             requests, parallel_tools, tool_calls, input_tokens, output_tokens, total_tokens, cost",
            "agent.toml:9:1: tools[0]: unknown key `timout`; did you mean `timeout`?",
            "agent.toml:11:1: policy: unknown key `model_rate_limit`; did you mean \
             `model_rate_limited`?",
            "agent.toml:12:10: policy.tool: unknown key `retrys`; did you mean `retry`?",
            "agent.toml:13:9: runner: unknown key `envs`; did you mean `env`?",
        ]
    );
}

#[test]
fn values_that_do_not_fit_are_all_told_with_their_place() {
    let text = "model = 'gpt-5'\nretries = -1\ntool_timeout = 5\n[runner]\nlifespan = 'a.b:c.d'\n\
        pass_env = ['A-B']\nreplicas = 0\n[limits]\ntimeout = 'soon'\ncost = 'much'\n[[tools]]\n\
        rust = 'a'\n[[tools]]\nname = 'Bad'\nrust = 'a'\n[output]\nmode = 'magic'\nschema = 3";
    let problems = problems(text);
    let starts = [
        "agent.toml:1:9: model: `gpt-5` is not a model: write `provider:model`",
        "agent.toml:2:11: retries: invalid value: integer `-1`, expected a number of retries",
        "agent.toml:3:16: tool_timeout: invalid type: integer `5`, expected a duration",
        "agent.toml:5:12: runner.lifespan: `a.b:c.d` is not a Python object: write",
        "agent.toml:6:12: runner.pass_env: `A-B` is not a variable's name",
        "agent.toml:7:12: runner.replicas: invalid value: integer `0`, expected a nonzero u32",
        "agent.toml:9:11: limits.timeout: invalid value: string \"soon\", expected a duration",
        "agent.toml:10:8: limits.cost: `much` is not an amount in US dollars",
        "agent.toml:11:1: tools[0]: missing field `name`",
        "agent.toml:14:8: tools[1].name: `Bad` is not a tool's name",
        "agent.toml:17:8: output.mode: unknown variant `magic`, expected one of `auto`, `tool`",
        "agent.toml:18:10: output.schema: invalid type: integer `3`, expected a JSON Schema",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}\n{start}");
    }
}

#[test]
fn broken_rules_are_all_told_with_their_place() {
    let text = "[runner]\nurl = 'ftp://x'\ncommand = []\n[[tools]]\nname = 'a'\n[[tools]]\n\
        name = 'b'\nrust = 'b'\nagent = 'b'\n[[tools]]\nname = 'c'\nrust = 'c'\n[[tools]]\n\
        name = 'c'\nrust = 'c'\nparameters = 'list.json'\n[supervision.backoff]\nmin = '1m'\n\
        [policy]\nbusy = { retry = 101 }";
    assert_eq!(
        problems(text),
        [
            "agent.toml:1:1: runner: `command` and `url` exclude each other: give at most one",
            "agent.toml:1:1: model: the agent has no model: write model = \"provider:model\" (or \
             runner.module for an agent that Python code defines)",
            "agent.toml:3:11: runner.command: a command needs at least the program's name",
            "agent.toml:4:1: tools[0]: the tool `a` has nothing to call: give exactly one of \
             `python`, `rust` or `agent`",
            "agent.toml:6:1: tools[1]: the tool `b` has `rust` and `agent`: give exactly one of \
             `python`, `rust` or `agent`",
            "agent.toml:14:8: tools[3].name: a second tool is called `c`: names of tools must \
             differ",
            "agent.toml:16:14: tools[3].parameters: the arguments of a tool are an object, so the \
             top level must say \"type\": \"object\" (found \"array\"): give {\"type\": \
             \"object\", \"properties\": {\"value\": …}, \"required\": [\"value\"]}",
            "agent.toml:17:1: supervision.backoff: backoff.min must not be longer than backoff.max",
            "agent.toml:20:18: policy.busy.retry: 101 is out of range: give a number from 0 to 100",
        ]
    );
}

#[test]
fn schemas_that_cannot_be_used_are_named() {
    let of = |source: &str| {
        let mut found = problems(&format!("model = 'test'\n[output]\nschema = {source}"));
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0).replace("agent.toml:3:10: output.schema: ", "")
    };
    assert_eq!(
        of("'gone.json'"),
        "cannot read the schema `gone.json` in the agent's folder: no such file"
    );
    assert!(of("'broken.json'").starts_with("the schema `broken.json` is not valid JSON: EOF"));
    assert!(of("'../up.json'").contains("outside the agent's folder"));
    assert!(of("'/etc/x.json'").contains("outside the agent's folder"));
    assert!(of("'remote.json'").contains("points outside the schema, and nothing is fetched"));
    assert!(of("{ type = 'objekt' }").starts_with("not a valid JSON Schema at /type"));
    assert!(of("'{'").starts_with("the schema is not valid JSON"));
}

#[test]
fn variables_templates_and_odd_values_are_told_with_their_place() {
    let text = "model = '${GONE}'\ninstructions = 'Hi {{ deps.name'\n[metadata]\nwhen = 2026-01-01\n\
        size = inf\nname = '${1}'";
    assert_eq!(
        problems(text),
        [
            "agent.toml:1:9: model: the variable GONE is not set: set it, or write \
             ${GONE:-default}",
            "agent.toml:4:8: metadata.when: a date or time cannot be used here: write it as text",
            "agent.toml:5:8: metadata.size: a number that is not finite cannot be used here: write \
             it as text",
            "agent.toml:6:8: metadata.name: `${1}` names no variable: write ${NAME}, \
             ${NAME:-default}, or $${ for a plain ${",
        ]
    );
    let found = problems("model = 'test'\ninstructions = 'Hi {{ deps.name'");
    assert!(found[0].starts_with("agent.toml:2:16: instructions: line 1 of the template: syntax"));
    assert_eq!(
        problems("model = 'opnai:gpt-5'"),
        ["agent.toml:1:9: model: no provider is called `opnai`; did you mean `openai`?"]
    );
    assert!(problems("model = \nx = 'a").len() > 1);
}

#[test]
fn an_error_shows_the_variable_and_not_its_value() {
    let found = problems("model = 'test'\ntool_timeout = '${TOKEN}'");
    assert!(found[0].contains("invalid value: string \"${TOKEN}\""), "{found:?}");
}

#[test]
fn a_module_agent_needs_no_model_and_may_add_to_it() {
    let spec = load("instructions = 'Be brief.'\n[runner]\nmodule = 'pkg.mod:agent'").unwrap();
    assert_eq!(spec.runner.module.unwrap().as_str(), "pkg.mod:agent");
}

#[test]
fn the_files_schema_accepts_a_full_file_and_refuses_junk() {
    let schema = Schema::new(AgentFile::schema()).unwrap();
    let full: serde_json::Value = toml::from_str(FULL).unwrap();
    assert_eq!(schema.validate(&full), Ok(()));
    for junk in [
        json!({ "modell": "x" }),
        json!({ "limits": { "x": 1 } }),
        json!({ "policy": { "x": {} } }),
        json!({ "tools": [{ "name": "a", "rust": "a", "effect": "twice" }] }),
        json!({ "model": "gpt 5" }),
    ] {
        assert!(schema.validate(&junk).is_err(), "{junk}");
    }
}

fn name_text() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9_]{0,8}"
}

fn target() -> impl Strategy<Value = PythonTarget> {
    "[a-z_][a-z0-9]{0,5}(\\.[a-z]{1,4}){0,2}:[A-Z_a-z]{1,5}"
        .prop_map(|text| PythonTarget::try_from(text).unwrap())
}

fn span() -> impl Strategy<Value = Duration> {
    (1..10_000_000_u64).prop_map(Duration::from_millis)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(Value::from),
        r#"[ -~${}"'\\\n\té☃]{0,12}"#.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[ -~é]{0,6}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map("[ -~é]{0,6}", value(), 0..4)
        .prop_map(|members| members.into_iter().collect())
}

fn tool(index: usize) -> impl Strategy<Value = ToolSpec> {
    let called = prop_oneof![
        target().prop_map(ToolTarget::Python),
        name_text().prop_map(|name| ToolTarget::Rust(ToolName::try_from(name).unwrap())),
        name_text().prop_map(|name| ToolTarget::Agent(AgentName::try_from(name).unwrap())),
    ];
    let effect = prop_oneof![Just(Effect::Pure), Just(Effect::Idempotent), Just(Effect::Once)];
    let rest = (any::<Option<bool>>(), any::<bool>(), prop::option::of(span()), any::<bool>());
    let doubt = (on_ambiguous(), prop::option::of(target()));
    (called, (effect, doubt), prop::option::of("\\PC{0,20}"), rest, object()).prop_map(
        move |(called, (effect, doubt), description, rest, examples)| {
            let name = ToolName::try_from(format!("tool_{index}")).unwrap();
            let mut tool = ToolSpec::new(name, called);
            (tool.strict, tool.sequential, tool.timeout, tool.requires_approval) = rest;
            (tool.effect, tool.description) = (effect, description);
            if effect == Effect::Once && !matches!(tool.target, ToolTarget::Agent(_)) {
                (tool.on_ambiguous, tool.reconcile) = doubt;
            }
            let schema = json!({ "type": "object", "default": examples, "examples": [null] });
            tool.parameters = tool.sequential.then(|| Schema::new(schema).unwrap());
            tool
        },
    )
}

fn on_ambiguous() -> impl Strategy<Value = OnAmbiguous> {
    use OnAmbiguous::{Ask, Fail, Retry, Skip};
    prop_oneof![Just(Ask), Just(Retry), Just(Skip), Just(Fail)]
}

fn fallback() -> impl Strategy<Value = Fallback> {
    (prop::option::of(target()), prop::option::of("other_[a-z]{0,8}")).prop_map(|(model, agent)| {
        Fallback {
            model: model.map(|model| ModelName::try_from(format!("python:{model}")).unwrap()),
            agent: agent.map(|agent| AgentName::try_from(agent).unwrap()),
        }
    })
}

fn when_busy() -> impl Strategy<Value = WhenBusy> {
    prop_oneof![Just(WhenBusy::Queue), Just(WhenBusy::Reject), Just(WhenBusy::Steer)]
}

prop_compose! {
    fn spec()(
        (name, model, instructions) in (name_text(), target(), prompts::instructions()),
        (model_settings, metadata, capabilities) in
            (object(), object(), prop::collection::vec(value(), 0..3)),
        tools in (tool(0), tool(1), tool(2)).prop_map(|(a, b, c)| vec![a, b, c]),
        (dynamic, lifespan) in (prop::collection::vec(target(), 0..3), prop::option::of(target())),
        env in prop::collection::btree_map("[A-Z_][A-Z0-9_]{0,6}", "[ -~${}é]{0,12}", 0..4),
        (timeout, start, within) in (span(), span(), span()),
        (command, tokens, cost) in
            (any::<bool>(), any::<Option<u32>>(), prop::option::of(any::<u32>())),
        retry in prop::option::of(0..=100_u32),
        (heartbeat, grace) in (100..10_000_000_u64, span()),
        (answers, busy, approvals) in (fallback(), when_busy(), approvals::settings()),
        (recycle, limits) in process::settings(),
    ) -> AgentSpec {
        let mut spec = AgentSpec::new(AgentName::try_from(name).unwrap());
        spec.model = Some(ModelName::try_from(format!("python:{model}")).unwrap());
        spec.instructions = instructions;
        (spec.model_settings, spec.metadata) = (model_settings, metadata);
        (spec.capabilities, spec.tools) = (capabilities, tools);
        (spec.dynamic_instructions, spec.runner.lifespan) = (dynamic, lifespan);
        spec.runner.env =
            env.into_iter().map(|(key, value)| (EnvName::try_from(key).unwrap(), value)).collect();
        (spec.limits.timeout, spec.runner.start_timeout) = (timeout, start);
        spec.supervision.intensity.within = within;
        spec.runner.heartbeat = Duration::from_millis(heartbeat);
        spec.runner.cancel_grace = grace;
        (spec.runner.recycle, spec.runner.limits) = (recycle, limits);
        (spec.fallback, spec.conversation.when_busy) = (answers, busy);
        spec.approvals = approvals;
        if command {
            spec.runner.program = RunnerProgram::Command(vec!["run ${it}".to_owned()]);
        }
        spec.limits.total_tokens = tokens.map(u64::from);
        spec.limits.cost = cost.map(|micros| Usd::from_micros(micros.into()));
        spec.retries.tools = retry;
        let then = (!spec.fallback.is_empty()).then_some(Then::Fallback);
        let rule = PolicyRule { retry, then, ..PolicyRule::default() };
        spec.policy = [(FailureKind::Busy, rule)].into();
        spec
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_spec_that_keeps_the_rules_is_printed_and_comes_back(spec in spec()) {
        prop_assert_eq!(spec.check(), Ok(()));
        let text = spec.to_toml().unwrap();
        let file = FileText { path: "agent.toml", text: &text };
        let back = AgentSpec::from_toml(spec.name.clone(), file, &|_| None, &read);
        let back = back.map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        prop_assert_eq!(back.to_toml(), spec.to_toml());
        prop_assert!(back == spec, "{}", text);
    }

    #[test]
    fn any_text_is_read_or_refused_with_a_place(text in "(\\PC|\n){0,200}") {
        if let Err(error) = load(&text) {
            prop_assert!(!error.problems.is_empty());
        }
    }

    #[test]
    fn any_piece_of_a_file_is_read_or_refused(start in 0..FULL.len(), len in 0..400_usize) {
        let piece = FULL.get(start..(start + len).min(FULL.len())).unwrap_or_default();
        if let Err(error) = load(piece) {
            prop_assert!(!error.problems.is_empty() && !error.to_string().is_empty());
        }
    }

    #[test]
    fn a_misspelt_key_gets_the_key_it_was(at in 0..5_usize, cut in 1..4_usize) {
        let key = ["description", "instructions", "model_settings", "supervision", "end_strategy"][at];
        let misspelt = format!("{}{}", &key[..cut + 2], &key[cut + 3..]);
        let found = problems(&format!("model = 'test'\n{misspelt} = 'x'"));
        prop_assert_eq!(
            &found,
            &[format!("agent.toml:2:1: unknown key `{misspelt}`; did you mean `{key}`?")]
        );
    }
}

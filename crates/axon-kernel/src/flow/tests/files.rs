//! What is read of `router.toml` and `pipeline.toml`.

use std::error::Error;
use std::time::Duration;

use super::*;
use crate::breaker::BreakerSettings;
use crate::schema::Schema;
use crate::spec::{AgentSpec, FileText, Kind, Position, SpecError, WhenBusy};

pub(super) fn variables(name: &str) -> Option<String> {
    match name {
        "WHO" => Some("searcher".to_owned()),
        "TOKEN" => Some("s3cret".to_owned()),
        _ => None,
    }
}

fn read(file: &str) -> Result<String, Box<dyn Error + Send + Sync>> {
    match file {
        "report.json" => Ok(r#"{"type": "object"}"#.to_owned()),
        _ => Err("no such file".into()),
    }
}

pub(super) fn pipeline_of(text: &str) -> Result<AgentSpec, SpecError> {
    let name = AgentName::try_from("research").unwrap();
    let file = FileText { path: "pipeline.toml", text };
    AgentSpec::pipeline_from_toml(name, file, &variables, &read)
}

pub(super) fn router_of(text: &str) -> Result<AgentSpec, SpecError> {
    let name = AgentName::try_from("desk").unwrap();
    let file = FileText { path: "router.toml", text };
    AgentSpec::router_from_toml(name, file, &variables, &read)
}

pub(super) fn flow_of(read: Result<AgentSpec, SpecError>) -> Flow {
    read.unwrap_or_else(|error| panic!("{error}")).flow.unwrap()
}

pub(super) const PIPELINE: &str = r#"
description = "Finds things out"
tags = ["research"]
on_failure = ["helper", "human"]
[input]
schema = { type = "object", properties = { question = { type = "string" } } }
[deps]
schema = { type = "object" }
[output]
schema = "report.json"
[limits]
timeout = "10m"
[approvals]
timeout = "1d"
[conversation]
when_busy = "reject"
[metadata]
team = "desk"
[[steps]]
name = "plan"
agent = "planner"
prompt = "{{ input.question }}"
deps = { docs = "{{ deps.docs }}", say = "hi {{ input.question }}", n = 3, all = ["{{ deps }}"] }
timeout = "30s"
retry = 2
breaker = { failures = 5, open = "10s" }
[[steps]]
name = "search"
agent = "${WHO}"
map = "plan.queries"
max_concurrency = 4
need = 2
on_failure = "skip"
[[steps]]
name = "check"
human = "Is this right? {{ search }}"
when = "search | length > 3"
on_failure = "fail"
[[steps]]
name = "both"
after = ["plan", "check"]
join = 2
on_failure = "helper"
parallel = [
    { name = "one", agent = "x" },
    { name = "two", rust = "count", when = { rust = "is_big" } },
    { name = "three", balance = { by = "least_in_flight", of = ["y", "z"] }, prompt = { rust = "ask" } },
]
[[steps]]
name = "decide"
choose = [
    { when = { pointer = "/question", matches = "(?i)why" }, agent = "x", retry = 1 },
    { when = { equals = { a = 1 } }, steps = [{ name = "then", agent = "y" }] },
    { when = { schema = { type = "array" } }, human = "{{ input }}" },
    { agent = "human" },
]
[[steps]]
name = "polish"
repeat = { until = "last.good", at_most = 3 }
steps = [{ name = "write", agent = "writer" }, { name = "judge", agent = "critic" }]
"#;

#[test]
fn a_full_pipeline_is_read() {
    let spec = pipeline_of(PIPELINE).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(spec.kind(), Kind::Pipeline);
    assert_eq!(spec.description.as_deref(), Some("Finds things out"));
    assert_eq!(spec.limits.timeout, Duration::from_secs(600));
    assert_eq!(spec.conversation.when_busy, WhenBusy::Reject);
    assert!(spec.model.is_none() && spec.deps.schema.is_some() && spec.output.is_some());
    let names: Vec<String> = spec.delegates().map(ToString::to_string).collect();
    assert_eq!(names.join(" "), "helper planner searcher helper x y z x y writer critic");
    let flow = spec.flow.unwrap();
    let functions: Vec<String> = flow.functions().iter().map(ToString::to_string).collect();
    assert_eq!(functions, ["is_big", "count", "ask"]);
    assert!(flow.input.is_some());
    assert_eq!(flow.on_failure, others(&["helper", "human"]));
    let names: Vec<String> = flow.steps.iter().map(|step| step.name.to_string()).collect();
    assert_eq!(names, ["plan", "search", "check", "both", "decide", "polish"]);
    let after: Vec<Vec<StepName>> = flow.steps.iter().map(|step| step.after.clone()).collect();
    assert_eq!(after[1], [name("plan")]);
    assert_eq!(after[3], [name("plan"), name("check")]);
    assert!(after[0].is_empty());
}

#[test]
fn questions_are_asked_as_the_file_says() {
    let flow = flow_of(pipeline_of(PIPELINE));
    let breaker = BreakerSettings {
        failures: 5.try_into().unwrap(),
        open: Duration::from_secs(10),
        ..BreakerSettings::default()
    };
    let edge = Edge {
        timeout: Some(Duration::from_secs(30)),
        retry: 2,
        breaker: Some(breaker),
        on_failure: OnFailure::Fail,
    };
    let deps = json!({
        "docs": "{{ deps.docs }}", "say": "hi {{ input.question }}", "n": 3, "all": ["{{ deps }}"],
    });
    let ask = Ask {
        prompt: Some(template("{{ input.question }}")),
        deps: Some(Given::new(deps).unwrap()),
        edge,
        ..ask("planner")
    };
    assert_eq!(flow.steps[0], step("plan", Does::Ask(ask)));
    let skips = Edge { on_failure: OnFailure::Skip, ..Edge::default() };
    let search = step("search", Does::Ask(Ask { edge: skips, ..super::ask("searcher") }));
    assert_eq!(flow.steps[1], after(over(search, "plan.queries", (4, 2)), &["plan"]));
    let check = Does::Ask(Ask {
        prompt: Some(template("Is this right? {{ search }}")),
        ..Ask::of(Target::Human)
    });
    let when = Some(condition("search | length > 3"));
    assert_eq!(flow.steps[2], after(Step { when, ..step("check", check) }, &["search"]));
}

#[test]
fn steps_inside_steps_are_read() {
    let flow = flow_of(pipeline_of(PIPELINE));
    let code = |text| PromptName::try_from(text).unwrap();
    let is_big = Some(Condition::Holds(Expression::Code(code("is_big"))));
    let of = ["y", "z"].map(|text| AgentName::try_from(text).unwrap()).to_vec();
    let three = Ask {
        prompt: Some(TextTemplate::Code(code("ask"))),
        ..Ask::of(Target::Balanced { by: Balance::LeastInFlight, of })
    };
    let both = Step {
        on_failure: others(&["helper"]),
        ..step(
            "both",
            Does::Parallel {
                branches: vec![
                    step("one", asks("x")),
                    Step { when: is_big, ..step("two", Does::Code(code("count"))) },
                    step("three", Does::Ask(three)),
                ],
                join: Join::Quorum(2.try_into().unwrap()),
            },
        )
    };
    assert_eq!(flow.steps[3], after(both, &["plan", "check"]));
    let message =
        |pointer: &str, test| Some(Condition::Message { pointer: pointer.to_owned(), test });
    let why = Test::Matches(regex::Regex::new("(?i)why").unwrap());
    let array = Test::Fits(Schema::new(json!({ "type": "array" })).unwrap());
    let again = Edge { retry: 1, ..Edge::default() };
    let human = Ask { prompt: Some(template("{{ input }}")), ..Ask::of(Target::Human) };
    let arms = vec![
        Arm { when: message("/question", why), does: Does::Ask(Ask { edge: again, ..ask("x") }) },
        Arm {
            when: message("", Test::Equals(json!({ "a": 1 }))),
            does: Does::Steps(vec![step("then", asks("y"))]),
        },
        Arm { when: message("", array), does: Does::Ask(human) },
        Arm { when: None, does: asks("human") },
    ];
    assert_eq!(flow.steps[4], after(step("decide", Does::Choose(arms)), &["both"]));
    let inner =
        vec![step("write", asks("writer")), after(step("judge", asks("critic")), &["write"])];
    let polish = repeat(step("polish", Does::Steps(inner)), "last.good", 3);
    assert_eq!(flow.steps[5], after(polish, &["decide"]));
}

#[test]
fn steps_are_put_in_order_and_found_in_the_file_all_the_same() {
    let text = r#"
        [[steps]]
        name = "c"
        agent = "x"
        after = ["b"]
        [[steps]]
        name = "a"
        agent = "${WHO}"
        after = []
        [[steps]]
        name = "b"
        steps = [
            { name = "z", agent = "${WHO}", after = ["y"] },
            { name = "y", agent = "q", after = [] },
        ]
    "#;
    let spec = pipeline_of(text).unwrap();
    let steps = &spec.flow.as_ref().unwrap().steps;
    let names = |steps: &[Step]| steps.iter().map(|step| step.name.to_string()).collect::<String>();
    assert_eq!(names(steps), "abc");
    let Does::Steps(inner) = &steps[1].does else { panic!() };
    assert_eq!(names(inner), "yz");
    let at = |pointer: &str| spec.position(pointer).map(|at| (at.line, at.column));
    assert_eq!(at("/steps/0/agent"), Some((8, 17)));
    assert_eq!(at("/steps/2/agent"), Some((4, 17)));
    assert_eq!(at("/steps/1/steps/0/agent"), Some((14, 35)));
    assert_eq!(at("/steps/1/steps/1/after/0"), Some((13, 54)));
    assert_eq!(at("/nothing/there"), Some((1, 1)));
    // Variables are printed where they were written.
    assert_eq!(spec.to_toml().unwrap().matches("${WHO}").count(), 2);
    let made = AgentSpec::new(AgentName::try_from("made").unwrap());
    assert_eq!(made.position("/model"), None::<Position>);
}

pub(super) const ROUTER: &str = r#"
description = "The front desk of the bank"
tags = ["bank"]
by = "triage"
to = ["bank_support", "fraud", "human"]
fallback = "bank_support"
on_escalate = "human"
timeout = "30s"
retry = 1
breaker = { failures = 5, open = "10s" }
[edges.fraud]
timeout = "60s"
fallback = "detective"
"#;

#[test]
fn a_router_by_an_agent_is_read() {
    let flow = flow_of(router_of(ROUTER));
    let breaker = BreakerSettings {
        failures: 5.try_into().unwrap(),
        open: Duration::from_secs(10),
        ..BreakerSettings::default()
    };
    let edge = |seconds, on_failure| Edge {
        timeout: Some(Duration::from_secs(seconds)),
        retry: 1,
        breaker: Some(breaker),
        on_failure,
    };
    let asked = |target, edge| Ask { edge, ..ask(target) };
    let route = Route {
        by: asked("triage", edge(30, OnFailure::Fail)),
        to: vec![
            asked("bank_support", edge(30, others(&["human"]))),
            asked("fraud", edge(60, others(&["detective", "bank_support", "human"]))),
            asked("human", edge(30, others(&["bank_support"]))),
        ],
    };
    let expected = Flow {
        kind: FlowKind::Router,
        on_failure: others(&["bank_support", "human"]),
        ..pipeline(vec![step("route", Does::Route(route))])
    };
    assert_eq!(flow, expected);
}

#[test]
fn rules_end_with_the_fallback_or_fail() {
    let rules = "\n[[rules]]\nto = 'fraud'\nwhen = { pointer = '/kind', equals = 'stolen' }\n\
        [[rules]]\nto = 'boss'\nwhen = 'input.amount > 1000'";
    let flow = flow_of(router_of(&format!("fallback = 'bank'\non_escalate = 'human'{rules}")));
    let Does::Choose(arms) = &flow.steps[0].does else { panic!() };
    let edge = Edge { on_failure: others(&["bank", "human"]), ..Edge::default() };
    assert_eq!(arms[1].when, Some(condition("input.amount > 1000")));
    assert_eq!(arms[1].does, Does::Ask(Ask { edge, ..ask("boss") }));
    let edge = Edge { on_failure: others(&["human"]), ..Edge::default() };
    assert_eq!(arms[2], Arm { when: None, does: Does::Ask(Ask { edge, ..ask("bank") }) });
    let mut run = driver::Run::new(&flow, r#"{"kind": "stolen", "amount": 1}"#);
    run.wants();
    assert_eq!(run.failed("choose", FailureKind::Tool).wants(), "choose!bank");
    assert_eq!(run.failed("choose!bank", FailureKind::Tool).wants(), "choose!human");
    let failure = run.failed("choose!human", FailureKind::RunTimeout).failure();
    assert_eq!(failure, "run_timeout: instead of it `human`: no choose!human");
    // No rule holds of what is not there.
    assert_eq!(driver::Run::new(&flow, "hi").wants(), "choose");
    assert_eq!(driver::Run::new(&flow, r#"{"amount": 2000}"#).wants(), "choose");

    let flow = flow_of(router_of(rules));
    let failure = driver::Run::new(&flow, r#"{"amount": 3}"#).failure();
    assert_eq!(
        failure,
        "config: step `choose`: no rule of the router holds, and it has no fallback"
    );
    let flow = flow_of(router_of(&format!("on_escalate = 'human'{rules}")));
    assert_eq!(driver::Run::new(&flow, r#"{"amount": 3}"#).wants(), "!human");
}

#[test]
fn messages_are_spread_or_go_to_all() {
    let flow =
        flow_of(router_of("balance = 'conversation'\nto = ['a', 'b']\nretry = 2\nfallback = 'c'"));
    let of = ["a", "b"].map(|text| AgentName::try_from(text).unwrap()).to_vec();
    let edge = Edge { retry: 2, on_failure: others(&["c"]), ..Edge::default() };
    let target = Target::Balanced { by: Balance::Conversation, of };
    assert_eq!(flow.steps, [step("answer", Does::Ask(Ask { edge, ..Ask::of(target) }))]);

    let branch = |target, names: &[&str]| {
        let on_failure = if names.is_empty() { OnFailure::Fail } else { others(names) };
        let edge = Edge { on_failure, ..Edge::default() };
        step(target, Does::Ask(Ask { edge, ..ask(target) }))
    };
    let text = "to = ['a', 'input']\nfallback = 'c'\n[edges.a]\nfallback = 'd'";
    let flow = flow_of(router_of(&format!("broadcast = 'all'\n{text}")));
    let branches = vec![branch("a", &["d", "c"]), branch("input", &["c"])];
    assert_eq!(flow.steps, [step("broadcast", Does::Parallel { branches, join: Join::All })]);
    // In a race nobody stands in for one as long as another one may win it.
    let flow = flow_of(router_of(&format!("broadcast = 1\n{text}")));
    let (branches, join) =
        (vec![branch("a", &["d"]), branch("input", &[])], Join::Quorum(1.try_into().unwrap()));
    assert_eq!(flow.steps, [step("broadcast", Does::Parallel { branches, join })]);
    assert_eq!(flow.on_failure, others(&["c"]));
}

#[test]
fn the_files_schemas_accept_full_files_and_refuse_junk() {
    let schema = Schema::new(PipelineFile::schema()).unwrap();
    let full: Value = toml::from_str(PIPELINE).unwrap();
    assert_eq!(schema.validate(&full), Ok(()));
    for junk in [
        json!({ "step": [] }),
        json!({ "steps": [{ "agent": "x" }] }),
        json!({ "steps": [{ "name": "x", "join": 0 }] }),
        json!({ "steps": [{ "name": "x", "when": { "matchs": "x" } }] }),
        json!({ "steps": [{ "name": "x", "choose": [{ "name": "y" }] }] }),
    ] {
        assert!(schema.validate(&junk).is_err(), "{junk}");
    }
    let schema = Schema::new(RouterFile::schema()).unwrap();
    let full: Value = toml::from_str(ROUTER).unwrap();
    assert_eq!(schema.validate(&full), Ok(()));
    for junk in
        [json!({ "by": "X" }), json!({ "broadcast": "some" }), json!({ "edges": { "a": 1 } })]
    {
        assert!(schema.validate(&junk).is_err(), "{junk}");
    }
}

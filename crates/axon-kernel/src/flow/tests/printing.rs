//! Routers and pipelines printed as the files that give them again.

use std::time::Duration;

use proptest::prelude::*;

use super::files::{PIPELINE, ROUTER, pipeline_of, router_of, variables};
use super::*;
use crate::breaker::BreakerSettings;
use crate::schema::Schema;
use crate::spec::{AgentSpec, FileText, OutputSpec, SpecError};

fn of(flow: Flow) -> AgentSpec {
    let mut spec = AgentSpec::new(AgentName::try_from("made").unwrap());
    spec.flow = Some(flow);
    spec
}

fn load(spec: &AgentSpec, text: &str) -> Result<AgentSpec, SpecError> {
    let file = FileText { path: "file", text };
    let read = &|_: &str| Err("nothing is read".into());
    let none = &|_: &str| None;
    match spec.flow.as_ref().unwrap().kind {
        FlowKind::Router => AgentSpec::router_from_toml(spec.name.clone(), file, none, read),
        FlowKind::Pipeline => AgentSpec::pipeline_from_toml(spec.name.clone(), file, none, read),
    }
}

#[test]
fn what_is_printed_comes_back() {
    for (text, read) in [
        (PIPELINE, pipeline_of as fn(&str) -> Result<AgentSpec, SpecError>),
        (ROUTER, router_of),
        ("balance = 'least_in_flight'\nto = ['a', 'b']\nretry = 2\nfallback = 'human'", router_of),
        ("broadcast = 'all'\nto = ['a', 'human']\n[edges.a]\ntimeout = '1s'", router_of),
        ("broadcast = 'first'\nto = ['a', 'b']\nfallback = 'c'\non_escalate = 'd'", router_of),
        (
            "broadcast = 2\nto = ['a', 'b', 'c']\non_escalate = 'd'\n[edges.b]\nfallback = 'd'",
            router_of,
        ),
        ("on_escalate = 'b'\n[[rules]]\nto = 'a'\nwhen = 'input'", router_of),
        ("fallback = 'a'\n[[rules]]\nto = 'a'\nwhen = 'input'", router_of),
        (
            "fallback = 'human'\non_escalate = 'b'\nretry = 3\n[[rules]]\nto = 'a'\nwhen = 'input'\n\
          [[rules]]\nto = 'a'\nwhen = { equals = 3 }\n[edges.a]\nretry = 0\nfallback = 'q'",
            router_of,
        ),
    ] {
        let spec = read(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let printed = spec.to_toml().unwrap_or_else(|error| panic!("{error}\n{text}"));
        let back = read(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
        assert!(back == spec, "{printed}\n{:#?}\n{:#?}", back.flow, spec.flow);
        assert_eq!(back.digest(), spec.digest());
        assert_eq!(back.to_toml().unwrap(), printed);
    }
}

#[test]
fn variables_are_printed_as_they_were_written() {
    assert_eq!(variables("TOKEN").as_deref(), Some("s3cret"));
    let text = "[[steps]]\nname = 'b'\nagent = 'x'\nafter = ['a']\nprompt = 'now ${TOKEN}'\n\
        [[steps]]\nname = 'a'\nagent = 'x'\nafter = []\nprompt = 'first ${TOKEN} $${ok}'";
    let printed = pipeline_of(text).unwrap().to_toml().unwrap();
    assert!(printed.contains("first ${TOKEN} $${ok}"), "{printed}");
    assert!(printed.contains("now ${TOKEN}") && !printed.contains("s3cret"), "{printed}");
    let printed = router_of("by = 'a'\nto = ['b']\non_escalate = '${WHO}'").unwrap().to_toml();
    assert!(printed.as_ref().unwrap().contains("fallback = \"${WHO}\""), "{printed:?}");
}

#[test]
fn a_sequence_is_printed_as_one_writes_it() {
    let flow = pipeline(vec![
        plain("plan"),
        after(plain("write"), &["plan"]),
        Step { after: Vec::new(), ..plain("beside") },
    ]);
    assert_eq!(
        of(flow).to_toml().unwrap(),
        "[[steps]]\nname = \"plan\"\nagent = \"plan\"\n\n[[steps]]\nname = \"write\"\n\
         agent = \"write\"\n\n[[steps]]\nname = \"beside\"\nagent = \"beside\"\nafter = []\n"
    );
}

/// Returns why `flow` cannot be printed.
fn refused(flow: Flow) -> String {
    of(flow).to_toml().unwrap_err().to_string()
}

#[test]
fn what_no_file_can_say_is_told() {
    let made = |does| pipeline(vec![step("s", does)]);
    let cases = [
        (made(Does::Fail("no".to_owned())), "/steps/0 is a failure on purpose"),
        (
            made(Does::Route(Route { by: ask("a"), to: vec![ask("b")] })),
            "/steps/0 is a choice that an agent makes in a pipeline",
        ),
        (
            pipeline(vec![Step { on_failure: OnFailure::Skip, ..plain("a") }]),
            "/steps/0 is a step that asks somebody, and fails in a way of its own",
        ),
        (
            pipeline(vec![after(plain("a"), &["b"]), plain("b")]),
            "/steps/0 is a step that waits for none of those before it",
        ),
        (
            made(Does::Ask(Ask::of(Target::Agent(AgentName::try_from("human").unwrap())))),
            "/steps/0 is one of several, or an agent called `human`",
        ),
        (
            made(Does::Ask(Ask {
                deps: Some(Given::Text(TextTemplate::Code(PromptName::try_from("f").unwrap()))),
                ..ask("a")
            })),
            "/steps/0/deps is a value with a Rust function in it",
        ),
    ];
    for (flow, why) in cases {
        assert_eq!(refused(flow), format!("{why}, which no file can say"));
    }
    let router = |does| Flow { kind: FlowKind::Router, ..pipeline(vec![Step::of_router(does)]) };
    let route = Route { by: ask("a"), to: vec![ask("b")] };
    let mut own = route.clone();
    own.to[0].prompt = Some(template("{{ route.why }}"));
    for (flow, why) in [
        (router(Does::Route(own)), "/edges is somebody who is asked in a way of his own"),
        (router(Does::Fail("no".to_owned())), "/steps is a router that hands nothing on"),
        (router(asks("a")), "/to is a router that has nothing to choose"),
        (
            Flow { kind: FlowKind::Router, ..pipeline(vec![step("x", Does::Route(route))]) },
            "/steps is a router of other steps than its one",
        ),
    ] {
        assert_eq!(refused(flow), format!("{why}, which no file can say"));
    }
    let mut spec = of(pipeline(vec![plain("a")]));
    spec.model = Some(crate::spec::ModelName::try_from("test").unwrap());
    let expected = "this is a flow with something that only agents have, which no file can say";
    assert_eq!(spec.to_toml().unwrap_err().to_string(), expected);
    assert_eq!(
        spec.check().unwrap_err()[0].to_string(),
        "/model: a pipeline has no `model`: leave it out"
    );
}

#[test]
fn a_digest_is_of_what_a_flow_does() {
    let spec = of(pipeline(vec![plain("a")]));
    let mut other = spec.clone();
    other.description = Some("another".to_owned());
    other.tags.insert(crate::spec::Tag::try_from("new").unwrap());
    other.limits.timeout = Duration::from_secs(5);
    assert_eq!(other.digest(), spec.digest());
    assert_ne!(of(pipeline(vec![plain("b")])).digest(), spec.digest());
    other.deps.schema = Some(Schema::new(json!({ "type": "object" })).unwrap());
    assert_ne!(other.digest(), spec.digest());
    // What has no file has a digest all the same.
    let fails = |why: &str| of(pipeline(vec![step("s", Does::Fail(why.to_owned()))])).digest();
    assert_eq!(fails("x"), fails("x"));
    assert_ne!(fails("x"), fails("y"));
}

fn agent_name() -> impl Strategy<Value = AgentName> {
    "[a-z][a-z0-9_]{0,5}".prop_map(|text| AgentName::try_from(text).unwrap())
}

fn text() -> impl Strategy<Value = String> {
    r#"[ -z~${"'\\\n\té☃]{0,12}"#
        .prop_map(|text| text.replace("{{", "").replace("{%", "").replace("{#", ""))
}

fn distinct(names: std::collections::BTreeSet<AgentName>) -> OnFailure {
    OnFailure::Ask(names.into_iter().map(Target::named).collect())
}

fn on_failure() -> impl Strategy<Value = OnFailure> {
    prop_oneof![
        2 => Just(OnFailure::Fail),
        1 => Just(OnFailure::Skip),
        // Those who are asked are others than those who fail.
        2 => prop::collection::btree_set(agent_name().prop_map(|name| {
            AgentName::try_from(format!("other_{name}")).unwrap()
        }), 1..3).prop_map(distinct),
        1 => Just(OnFailure::Ask(vec![Target::Human])),
    ]
}

fn breaker() -> impl Strategy<Value = BreakerSettings> {
    (1..1000_u32, 1..100_u64).prop_map(|(failures, open)| BreakerSettings {
        failures: failures.try_into().unwrap(),
        open: Duration::from_secs(open),
        ..BreakerSettings::default()
    })
}

fn edge(on_failure: impl Strategy<Value = OnFailure>) -> impl Strategy<Value = Edge> {
    let timeout = prop::option::of((1..1_000_000_u64).prop_map(Duration::from_millis));
    (timeout, 0..=10_u32, prop::option::of(breaker()), on_failure).prop_map(
        |(timeout, retry, breaker, on_failure)| Edge { timeout, retry, breaker, on_failure },
    )
}

fn target() -> impl Strategy<Value = Target> {
    let balance = prop::sample::select(vec![
        Balance::RoundRobin,
        Balance::LeastInFlight,
        Balance::Conversation,
    ]);
    let of = prop::collection::btree_set(agent_name(), 1..4);
    prop_oneof![
        3 => agent_name().prop_map(Target::named),
        1 => Just(Target::Human),
        1 => (balance, of).prop_map(|(by, of)| Target::Balanced { by, of: of.into_iter().collect() }),
    ]
}

fn code() -> impl Strategy<Value = PromptName> {
    "[a-z]{1,5}".prop_map(|text| PromptName::try_from(text).unwrap())
}

fn given() -> impl Strategy<Value = Given> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
        Just(json!("{{ deps.docs }}")),
        Just(json!("so: {{ previous }}{{ input }}")),
    ];
    let value = leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[ -~é]{0,6}", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    value.prop_map(|value| Given::new(value).unwrap())
}

fn question() -> impl Strategy<Value = Ask> {
    let prompt = prop_oneof![
        text().prop_map(|text| Some(template(&text))),
        Just(Some(template("{{ input.a }}\n{{ failures }}"))),
        code().prop_map(|name| Some(TextTemplate::Code(name))),
        Just(None),
    ];
    (target(), prompt, prop::option::of(given()), edge(on_failure())).prop_map(
        |(target, prompt, mut deps, mut edge)| {
            if target == Target::Human {
                // How else a person is asked, no file says.
                edge = Edge { on_failure: edge.on_failure, ..Edge::default() };
                deps = None;
            }
            if edge.on_failure == OnFailure::Ask(vec![target.clone()]) {
                edge.on_failure = OnFailure::Fail;
            }
            Ask { target, prompt, deps, edge }
        },
    )
}

fn test() -> impl Strategy<Value = Condition> {
    let value = prop_oneof![any::<bool>().prop_map(Value::from), text().prop_map(Value::from)];
    let schema = prop::sample::select(vec![json!(true), json!({ "type": ["array", "null"] })]);
    let test = prop_oneof![
        "[a-z(]{0,3}[a-z)]{0,3}".prop_filter_map("a pattern", |text| {
            regex::Regex::new(&text).ok().map(Test::Matches)
        }),
        value.prop_map(Test::Equals),
        schema.prop_map(|schema| Test::Fits(Schema::new(schema).unwrap())),
    ];
    prop_oneof![
        prop::sample::select(vec!["input", "deps.x > 3", "previous == \"${x}\""])
            .prop_map(condition),
        code().prop_map(|name| Condition::Holds(Expression::Code(name))),
        (prop::sample::select(vec!["", "/a/b", "/"]), test).prop_map(|(pointer, test)| {
            Condition::Message { pointer: pointer.to_owned(), test }
        }),
    ]
}

fn list() -> impl Strategy<Value = Expression> {
    prop_oneof![Just(expression("input.all")), code().prop_map(Expression::Code)]
}

/// How often a step is made.
fn rounds() -> impl Strategy<Value = (Option<Over>, Option<Repeat>)> {
    let over = (list(), 1..=100_u32).prop_map(|(list, at_once)| {
        let max_concurrency = at_once.try_into().unwrap();
        (Some(Over { list, max_concurrency, need: 1 }), None)
    });
    let again = (test(), 1..=100_u32).prop_map(|(until, at_most)| {
        (None, Some(Repeat { until, at_most: at_most.try_into().unwrap() }))
    });
    prop_oneof![3 => Just((None, None)), 1 => over, 1 => again]
}

fn a_step(does: impl Strategy<Value = Does>) -> impl Strategy<Value = Step> {
    (does, prop::option::of(test()), rounds(), on_failure(), 0..4_u32).prop_map(
        |(does, when, (mut over, repeat), on_failure, need)| {
            let asks = matches!(does, Does::Ask(_));
            let skips = matches!(&does, Does::Ask(ask) if ask.edge.on_failure == OnFailure::Skip);
            if let Some(over) = over.as_mut().filter(|_| skips) {
                over.need = need;
            }
            let on_failure = if asks { OnFailure::Fail } else { on_failure };
            let (name, after) = (name("unnamed"), Vec::new());
            Step { name, after, when, over, repeat, does, on_failure }
        },
    )
}

/// Names steps so that none is called like one around it.
fn named(mut steps: Vec<Step>, depth: usize) -> Vec<Step> {
    for (index, step) in steps.iter_mut().enumerate() {
        step.name = name(&format!("s{depth}_{index}"));
        rename(&mut step.does, depth + 1);
    }
    steps
}

fn rename(does: &mut Does, depth: usize) {
    match does {
        Does::Choose(arms) => arms.iter_mut().for_each(|arm| rename(&mut arm.does, depth)),
        Does::Parallel { branches: steps, .. } | Does::Steps(steps) => {
            let after: Vec<Vec<usize>> =
                steps.iter().map(|step| step.after.iter().map(number).collect()).collect();
            *steps = named(std::mem::take(steps), depth);
            let names: Vec<StepName> = steps.iter().map(|step| step.name.clone()).collect();
            for (step, after) in steps.iter_mut().zip(after) {
                step.after = after.into_iter().map(|index| names[index].clone()).collect();
            }
        }
        Does::Ask(_) | Does::Route(_) | Does::Code(_) | Does::Fail(_) => {}
    }
}

fn number(name: &StepName) -> usize {
    name.as_str().rsplit('_').next().unwrap().parse().unwrap()
}

fn steps(does: impl Strategy<Value = Does>) -> impl Strategy<Value = Vec<Step>> {
    let waits = prop::collection::vec(any::<u8>(), 4);
    (prop::collection::vec(a_step(does), 1..4), waits).prop_map(|(steps, waits)| {
        let mut steps = named(steps, 0);
        let names: Vec<StepName> = steps.iter().map(|step| step.name.clone()).collect();
        for (index, (step, wait)) in steps.iter_mut().zip(waits).enumerate() {
            let before = names[..index].iter().enumerate();
            let before = before.filter(|(bit, _)| wait & (1 << bit) != 0);
            step.after = before.map(|(_, name)| name.clone()).collect();
        }
        steps
    })
}

fn does() -> impl Strategy<Value = Does> {
    let leaf = prop_oneof![4 => question().prop_map(Does::Ask), 1 => code().prop_map(Does::Code)];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let arm = |when: BoxedStrategy<Option<Condition>>| {
            // An arm that asks nobody has no failure of its own.
            (when, inner.clone()).prop_map(|(when, does)| Arm { when, does })
        };
        let arms = (
            prop::collection::vec(arm(test().prop_map(Some).boxed()), 1..3),
            prop::option::of(arm(Just(None).boxed())),
        );
        let branches = prop::collection::vec(a_step(inner.clone()), 2..4);
        let joins = vec![Join::All, Join::First, Join::Quorum(2.try_into().unwrap())];
        prop_oneof![
            arms.prop_map(|(arms, last)| Does::Choose(arms.into_iter().chain(last).collect())),
            (branches, prop::sample::select(joins))
                .prop_map(|(branches, join)| Does::Parallel { branches, join }),
            steps(inner.clone()).prop_map(Does::Steps),
        ]
    })
}

fn any_pipeline() -> impl Strategy<Value = Flow> {
    let on_failure = on_failure().prop_map(|own| match own {
        OnFailure::Skip => OnFailure::Fail,
        other @ (OnFailure::Fail | OnFailure::Ask(_)) => other,
    });
    (steps(does()), on_failure).prop_map(|(steps, on_failure)| {
        let mut whole = Does::Steps(steps);
        rename(&mut whole, 0);
        let Does::Steps(steps) = whole else { panic!() };
        Flow { kind: FlowKind::Pipeline, input: None, steps, on_failure }
    })
}

fn someone() -> impl Strategy<Value = AgentName> {
    prop::sample::select(vec!["a", "b", "c", "d", "human"])
        .prop_map(|text| AgentName::try_from(text).unwrap())
}

fn edge_file() -> impl Strategy<Value = EdgeFile> {
    let timeout = prop::option::of((1..4_u64).prop_map(Duration::from_secs));
    (timeout, prop::option::of(0..3_u32), prop::option::of(someone()))
        .prop_map(|(timeout, retry, fallback)| EdgeFile { timeout, retry, fallback, breaker: None })
}

fn rule_file() -> impl Strategy<Value = RuleFile> {
    let when = prop::sample::select(vec!["input.x", "deps.y > 3"]);
    (someone(), when)
        .prop_map(|(to, when)| RuleFile { to, when: ConditionFile::Text(when.to_owned()) })
}

prop_compose! {
    /// Returns any file of a router, most of which keep the rules.
    fn router_file()(
        kind in 0..4_u8,
        (by, to) in (someone(), prop::collection::btree_set(someone(), 1..4)),
        rules in prop::collection::vec(rule_file(), 1..4),
        join in prop::sample::select(vec![Join::All, Join::First, Join::Quorum(1.try_into().unwrap())]),
        (fallback, on_escalate) in (prop::option::of(someone()), prop::option::of(someone())),
        every in edge_file(),
        breaker in prop::option::of(breaker()),
        edges in prop::collection::btree_map(someone(), edge_file(), 0..3),
    ) -> RouterFile {
        let is_named = |name: &AgentName| match kind {
            1 => rules.iter().any(|rule| rule.to == *name) || fallback.as_ref() == Some(name),
            2 => false,
            _ => to.contains(name),
        };
        RouterFile {
            by: (kind == 0).then_some(by),
            balance: (kind == 2).then_some(Balance::RoundRobin),
            broadcast: (kind == 3).then_some(join),
            edges: edges.into_iter().filter(|(name, _)| is_named(name)).collect(),
            to: if kind == 1 { Vec::new() } else { to.into_iter().collect() },
            rules: if kind == 1 { rules } else { Vec::new() },
            retry: every.retry.unwrap_or_default(),
            timeout: every.timeout,
            breaker,
            fallback,
            on_escalate,
            ..RouterFile::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_router_is_printed_and_comes_back(file in router_file()) {
        let text = toml::to_string(&file).unwrap();
        // Some fall back to themselves, or spread over people.
        if let Ok(spec) = router_of(&text) {
            let printed = spec.to_toml();
            let printed = printed.map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            let back = router_of(&printed);
            let back = back.map_err(|error| TestCaseError::fail(format!("{error}\n{printed}")))?;
            prop_assert_eq!(&back.flow, &spec.flow, "{}\n{}", text, printed);
        }
    }

    #[test]
    fn any_pipeline_that_keeps_the_rules_is_printed_and_comes_back(
        flow in any_pipeline(),
        description in prop::option::of("\\PC{0,20}"),
    ) {
        let mut spec = of(flow);
        spec.description = description;
        spec.output = Some(OutputSpec::new(Schema::new(json!({ "enum": [null, 1] })).unwrap()));
        prop_assert_eq!(spec.check(), Ok(()));
        let text = spec.to_toml().unwrap();
        let back = load(&spec, &text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        prop_assert_eq!(&back.flow, &spec.flow, "{}", text);
        prop_assert!(back == spec);
        prop_assert_eq!(back.digest(), spec.digest());
    }

    #[test]
    fn any_piece_of_a_file_is_read_or_refused(start in 0..PIPELINE.len(), len in 0..600_usize) {
        let piece = PIPELINE.get(start..(start + len).min(PIPELINE.len())).unwrap_or_default();
        for read in [pipeline_of(piece), router_of(piece)] {
            if let Err(error) = read {
                prop_assert!(!error.problems.is_empty() && !error.to_string().is_empty());
            }
        }
    }
}

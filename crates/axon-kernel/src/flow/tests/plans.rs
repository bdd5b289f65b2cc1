//! Any flow at all.

use proptest::prelude::*;

use super::*;

/// Returns the names of a list's steps, which say how many items of theirs are made at once.
fn named(steps: Vec<Step>) -> Vec<Step> {
    let called = |(index, mut step): (usize, Step)| {
        let at_once = step.over.as_ref().map_or(0, |over| over.max_concurrency.get());
        step.name = name(&format!("m{at_once}_{index}"));
        step
    };
    steps.into_iter().enumerate().map(called).collect()
}

fn target() -> impl Strategy<Value = Target> {
    let balanced = Target::Balanced {
        by: Balance::RoundRobin,
        of: ["x", "y"].map(|text| AgentName::try_from(text).unwrap()).into(),
    };
    prop_oneof![
        4 => prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(agent),
        1 => Just(Target::Human),
        1 => Just(balanced),
    ]
}

fn on_failure() -> impl Strategy<Value = OnFailure> {
    prop_oneof![
        3 => Just(OnFailure::Fail),
        2 => Just(OnFailure::Skip),
        2 => prop::collection::vec(target(), 1..3).prop_map(OnFailure::Ask),
    ]
}

fn question() -> impl Strategy<Value = Ask> {
    let prompt = prop_oneof![
        4 => Just(None),
        2 => Just(Some("{{ previous }} {{ failures }}")),
        1 => Just(Some("{{ previous.gone.further }}")),
        1 => Just(Some("{{ item }}")),
    ];
    (target(), prompt, 0..3_u32, on_failure()).prop_map(|(target, prompt, retry, on_failure)| {
        let edge = Edge { retry, on_failure, ..Edge::default() };
        Ask { target, prompt: prompt.map(template), deps: None, edge }
    })
}

fn test() -> impl Strategy<Value = Condition> {
    prop::sample::select(vec![
        "true",
        "false",
        "previous is string",
        "failures",
        "failures | length == 0",
        "index is defined and index > 1",
        "previous > 1",
        "m0_0 is defined",
        "m0_1 is defined and m0_1",
    ])
    .prop_map(condition)
}

fn list() -> impl Strategy<Value = Over> {
    let lists = vec!["[]", "[1, 2]", "range(4)", "['a', 'b', 'c']", "previous", "[failures]"];
    (prop::sample::select(lists), 1..4_u32, 0..3_u32).prop_map(|(list, at_once, need)| Over {
        list: expression(list),
        max_concurrency: at_once.try_into().unwrap(),
        need,
    })
}

fn again() -> impl Strategy<Value = Repeat> {
    let until = vec!["last", "iteration >= 2", "false", "last.gone.further", "failures"];
    (prop::sample::select(until), 1..4_u32).prop_map(|(until, at_most)| Repeat {
        until: condition(until),
        at_most: at_most.try_into().unwrap(),
    })
}

fn join() -> impl Strategy<Value = Join> {
    prop_oneof![Just(Join::All), Just(Join::First), Just(Join::Quorum(2.try_into().unwrap())),]
}

fn leaf() -> impl Strategy<Value = Does> {
    let code = prop::sample::select(vec!["shout", "is_text", "three", "gone"]);
    prop_oneof![
        6 => question().prop_map(Does::Ask),
        1 => (question(), prop::collection::vec(question(), 1..3))
            .prop_map(|(by, to)| Does::Route(Route { by, to })),
        1 => code.prop_map(|name| Does::Code(PromptName::try_from(name).unwrap())),
        1 => Just(Does::Fail("on purpose".to_owned())),
    ]
}

fn a_step(does: impl Strategy<Value = Does>) -> impl Strategy<Value = Step> {
    (
        does,
        prop::option::weighted(0.2, test()),
        prop::option::weighted(0.2, list()),
        prop::option::weighted(0.2, again()),
        on_failure(),
    )
        .prop_map(|(does, when, over, repeat, on_failure)| Step {
            name: name("unnamed"),
            after: Vec::new(),
            when,
            over,
            repeat,
            does,
            on_failure,
        })
}

/// Returns lists of steps, each of which waits for any of those before it.
fn steps(does: impl Strategy<Value = Does>) -> impl Strategy<Value = Vec<Step>> {
    let waits = prop::collection::vec(any::<u8>(), 4);
    (prop::collection::vec(a_step(does), 1..4), waits).prop_map(|(steps, waits)| {
        let mut steps = named(steps);
        let names: Vec<StepName> = steps.iter().map(|step| step.name.clone()).collect();
        for (index, (step, wait)) in steps.iter_mut().zip(waits).enumerate() {
            let before = names[..index].iter().enumerate();
            step.after = before
                .filter(|(bit, _)| wait & (1 << bit) != 0)
                .map(|(_, name)| name.clone())
                .collect();
        }
        steps
    })
}

fn does() -> impl Strategy<Value = Does> {
    leaf().prop_recursive(3, 12, 3, |inner| {
        let arm = (prop::option::weighted(0.7, test()), inner.clone())
            .prop_map(|(when, does)| Arm { when, does });
        let branches = prop::collection::vec(a_step(inner.clone()), 2..4).prop_map(named);
        prop_oneof![
            prop::collection::vec(arm, 1..3).prop_map(Does::Choose),
            (branches, join()).prop_map(|(branches, join)| Does::Parallel { branches, join }),
            steps(inner).prop_map(Does::Steps),
        ]
    })
}

/// Returns any flow.
pub(super) fn flow() -> impl Strategy<Value = Flow> {
    let on_failure = prop_oneof![
        2 => Just(OnFailure::Fail),
        1 => prop::collection::vec(target(), 1..3).prop_map(OnFailure::Ask),
    ];
    (steps(does()), on_failure).prop_map(|(steps, on_failure)| Flow {
        kind: FlowKind::Pipeline,
        input: None,
        steps,
        on_failure,
    })
}

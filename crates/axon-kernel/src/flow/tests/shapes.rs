//! Steps: one after the other, at the same time, for each item, again, or not at all.

use super::driver::Run;
use super::*;

#[test]
fn a_sequence_hands_each_output_on() {
    let second = Step { after: vec![name("plan")], ..plain("write") };
    let flow = pipeline(vec![plain("plan"), second]);
    let mut run = Run::new(&flow, "Rust?");
    assert_eq!(run.wants(), "plan");
    assert_eq!(run.asked("plan"), "Rust?");
    assert_eq!(run.done("plan", json!({ "queries": ["a"] })).wants(), "write");
    assert_eq!(run.asked("write"), r#"{"queries":["a"]}"#);
    assert_eq!(run.done("write", "Yes.").output(), "Yes.");
}

#[test]
fn steps_wait_for_those_that_they_name_and_see_no_others() {
    let prompt = |text| Some(template(text));
    let both = Does::Ask(Ask { prompt: prompt("{{ a }} {{ b }} {{ previous }}"), ..ask("both") });
    let late =
        Does::Ask(Ask { prompt: prompt("{{ b is defined }} {{ a is defined }}"), ..ask("late") });
    let flow = pipeline(vec![
        plain("a"),
        plain("b"),
        after(step("late", late), &["a"]),
        after(step("both", both), &["b", "a", "late"]),
    ]);
    let mut run = Run::new(&flow, "?");
    assert_eq!(run.wants(), "a b");
    assert_eq!(run.done("b", 2).wants(), "a");
    // However fast `b` was, `late` does not see it: it might have been slow.
    assert_eq!(run.done("a", 1).wants(), "late");
    assert_eq!(run.asked("late"), "False True");
    assert_eq!(run.done("late", "l").wants(), "both");
    assert_eq!(run.asked("both"), r#"1 2 {"b":2,"a":1,"late":"l"}"#);
    assert_eq!(run.done("both", json!([3])).output(), json!([3]));
}

#[test]
fn a_failed_step_ends_the_others() {
    let flow = pipeline(vec![plain("a"), plain("b"), plain("c")]);
    let mut run = Run::new(&flow, "?");
    assert_eq!(run.wants(), "a b c");
    run.failed("c", FailureKind::ModelAuth);
    assert_eq!(run.failure(), "model_auth: step `c`: no c");
    // What failed later is not why, although it stands before.
    run.failed("a", FailureKind::Cancelled).failed("b", FailureKind::Cancelled);
    assert_eq!(run.failure(), "model_auth: step `c`: no c");
}

#[test]
fn a_step_whose_condition_does_not_hold_is_left_out() {
    let sometimes = Step { when: Some(condition("input == 'go'")), ..plain("a") };
    let always = after(plain("b"), &["a"]);
    let flow = pipeline(vec![sometimes, always]);
    let mut run = Run::new(&flow, "go");
    assert_eq!(run.wants(), "a");
    let mut run = Run::new(&flow, "stay");
    assert_eq!(run.wants(), "b");
    assert_eq!(run.asked("b"), "null");
    let gone = Step { when: Some(condition("input.x > 1")), ..plain("a") };
    // Nothing holds of what is not there.
    assert_eq!(Run::new(&pipeline(vec![gone]), "?").output(), Value::Null);
    let wrong = Step { when: Some(condition("input + 1")), ..plain("a") };
    let rescued = Step { on_failure: others(&["c"]), ..wrong.clone() };
    assert!(Run::new(&pipeline(vec![wrong]), "?").failure().starts_with("config: "));
    assert_eq!(Run::new(&pipeline(vec![rescued]), "?").wants(), "a!c");
}

#[test]
fn messages_are_tested_by_their_parts() {
    let when = |pointer: &str, test| {
        let pointer = pointer.to_owned();
        Some(Condition::Message { pointer, test })
    };
    let matches = Test::Matches(regex::Regex::new("(?i)stolen").unwrap());
    let list = Test::Fits(crate::schema::Schema::new(json!({ "type": "array" })).unwrap());
    let arms = [
        ("text", when("", matches.clone())),
        ("kind", when("/kind", matches)),
        ("five", when("/n", Test::Equals(json!(5)))),
        ("list", when("", list)),
    ];
    let arms = arms.into_iter().map(|(target, when)| Arm { when, does: asks(target) });
    let flow = pipeline(vec![step("s", Does::Choose(arms.collect()))]);
    for (prompt, target) in [
        ("My card was Stolen", "text"),
        (r#"{"kind": "STOLEN", "n": 5}"#, "text"),
        (r#"{"kind": "lost", "n": 5}"#, "five"),
        ("[1]", "list"),
    ] {
        let mut run = Run::new(&flow, prompt);
        run.wants();
        assert_eq!(run.calls.values().next().unwrap().target, agent(target), "{prompt}");
    }
    assert_eq!(Run::new(&flow, "hello").output(), Value::Null);
}

#[test]
fn the_first_arm_that_holds_is_gone() {
    let arm = |when: Option<&str>, does| Arm { when: when.map(condition), does };
    let arms = vec![
        arm(Some("input.amount > 1000"), asks("boss")),
        arm(Some("input.amount > 100"), Does::Code(PromptName::try_from("is_text").unwrap())),
        arm(None, Does::Fail("the amount is too small".to_owned())),
    ];
    let flow = pipeline(vec![step("s", Does::Choose(arms))]);
    assert_eq!(Run::new(&flow, r#"{"amount": 2000}"#).wants(), "s");
    assert_eq!(Run::new(&flow, r#"{"amount": 200}"#).output(), true);
    let failure = Run::new(&flow, r#"{"amount": 2}"#).failure();
    assert_eq!(failure, "config: step `s`: the amount is too small");
}

#[test]
fn items_are_taken_in_order_and_so_many_at_once() {
    let flow = pipeline(vec![over(plain("s"), "input", (2, 0))]);
    let mut run = Run::new(&flow, json!(["a", "b", "c", { "x": 1 }]));
    assert_eq!(run.wants(), "s.0 s.1");
    assert_eq!(run.done("s.1", "B").wants(), "s.0 s.2");
    assert_eq!(run.done("s.2", "C").wants(), "s.0 s.3");
    assert_eq!(run.done("s.0", "A").wants(), "s.3");
    assert_eq!(run.asked("s.3"), r#"{"x":1}"#);
    assert_eq!(run.done("s.3", "D").output(), json!(["A", "B", "C", "D"]));
    assert_eq!(Run::new(&flow, "[]").output(), json!([]));
    assert_eq!(Run::new(&flow, "a").failure(), "config: step `s`: `input` is no list: \"a\"");
    let many = Value::from(vec![0; MAX_ITEMS + 1]);
    let failure = Run::new(&flow, many).failure();
    assert_eq!(failure, "config: step `s`: there are 1001 items, and at most 1000 can be");
}

#[test]
fn an_item_is_known_to_what_is_made_of_it() {
    let prompt = "{{ index }}: {{ item }}, {{ input[index] }}";
    let inner = Does::Ask(Ask { prompt: Some(template(prompt)), ..ask("x") });
    let flow =
        pipeline(vec![over(step("s", Does::Steps(vec![step("t", inner)])), "input", (8, 0))]);
    let mut run = Run::new(&flow, r#"["a", "b"]"#);
    assert_eq!(run.wants(), "s.0.t s.1.t");
    assert_eq!(run.asked("s.1.t"), "1: b, b");
}

#[test]
fn items_that_fail_are_left_out_as_long_as_enough_succeed() {
    let edge = Edge { on_failure: OnFailure::Skip, ..Edge::default() };
    let ask = Does::Ask(Ask { edge, ..ask("x") });
    let told = Does::Ask(Ask { prompt: Some(template("{{ failures }}")), ..super::ask("y") });
    let flow =
        pipeline(vec![over(step("s", ask), "input", (8, 2)), after(step("t", told), &["s"])]);
    let mut run = Run::new(&flow, r#"["a", "b", "c"]"#);
    run.wants();
    run.done("s.2", "C").failed("s.1", FailureKind::Tool).done("s.0", "A");
    assert_eq!(run.wants(), "t");
    assert_eq!(run.asked("t"), r#"[{"step":"s.1","kind":"tool","error":"step `s.1`: no s.1"}]"#);
    let mut run = Run::new(&flow, r#"["a", "b", "c"]"#);
    run.wants();
    assert_eq!(run.failed("s.1", FailureKind::Tool).wants(), "s.0 s.2");
    let failed = "busy: step `s`: 2 of 3 failed, and 2 are needed: step `s.2`: no s.2";
    assert_eq!(run.failed("s.2", FailureKind::Busy).failure(), failed);
    assert_eq!(run.failed("s.0", FailureKind::Cancelled).failure(), failed);
}

#[test]
fn the_first_failure_stays_the_reason_whatever_comes_later() {
    let arms = vec![
        Arm { when: Some(condition("item == 3")), does: Does::Fail("three".to_owned()) },
        Arm { when: None, does: asks("x") },
    ];
    let flow = pipeline(vec![over(step("s", Does::Choose(arms)), "range(4)", (2, 0))]);
    let mut run = Run::new(&flow, "?");
    assert_eq!(run.wants(), "s.0 s.1");
    assert_eq!(run.failed("s.0", FailureKind::Tool).failure(), "tool: step `s.0`: no s.0");
    // Had the first one not failed, it would now be found out that the last one does.
    assert_eq!(run.done("s.1", 1).failure(), "tool: step `s.0`: no s.0");
    let mut run = Run::new(&flow, "?");
    run.wants();
    run.done("s.0", 0).wants();
    assert_eq!(run.done("s.1", 1).failure(), "config: step `s.3`: three");
}

#[test]
fn a_step_is_made_again_until_it_is_good_and_not_for_ever() {
    let prompt = "{{ iteration }} {{ last }} {{ previous }}";
    let does = Does::Ask(Ask { prompt: Some(template(prompt)), ..ask("x") });
    let flow = pipeline(vec![repeat(step("s", does), "last.ok", 3)]);
    let mut run = Run::new(&flow, "in");
    assert_eq!(run.wants(), "s@1");
    assert_eq!(run.asked("s@1"), "1 None in");
    assert_eq!(run.done("s@1", json!({ "ok": false })).wants(), "s@2");
    assert_eq!(run.asked("s@2"), r#"2 {"ok":false} {"ok":false}"#);
    let mut good = Run { flow: &flow, message: message("in"), ..Run::new(&flow, "in") };
    (good.calls, good.settled) = (run.calls.clone(), run.settled.clone());
    assert_eq!(good.done("s@2", json!({ "ok": true })).output(), json!({ "ok": true }));
    assert_eq!(run.done("s@2", json!({ "ok": 0 })).wants(), "s@3");
    assert_eq!(run.done("s@3", json!({ "no": 3 })).output(), json!({ "no": 3 }));
}

fn parallel(join: Join) -> Flow {
    let branches = vec![plain("a"), plain("b"), plain("c")];
    pipeline(vec![step("p", Does::Parallel { branches, join })])
}

#[test]
fn all_branches_give_an_object_in_their_own_order() {
    let flow = parallel(Join::All);
    let mut run = Run::new(&flow, "?");
    assert_eq!(run.wants(), "p.a p.b p.c");
    run.done("p.c", 3).done("p.a", 1);
    assert_eq!(run.wants(), "p.b");
    assert_eq!(run.done("p.b", 2).output().to_string(), r#"{"a":1,"b":2,"c":3}"#);
}

#[test]
fn a_race_is_won_by_whoever_settled_first_whatever_comes_later() {
    let flow = parallel(Join::First);
    let mut run = Run::new(&flow, "?");
    run.wants();
    assert_eq!(run.failed("p.a", FailureKind::Tool).wants(), "p.b p.c");
    assert_eq!(run.done("p.c", "C").output(), "C");
    assert_eq!(run.done("p.b", "B").output(), "C");
    let mut run = Run::new(&flow, "?");
    run.wants();
    run.failed("p.b", FailureKind::Tool).failed("p.a", FailureKind::Busy);
    assert_eq!(run.wants(), "p.c");
    run.failed("p.c", FailureKind::ModelAuth);
    assert_eq!(
        run.failure(),
        "model_auth: step `p.b`: no p.b; step `p.a`: no p.a; step `p.c`: no p.c"
    );
}

#[test]
fn a_quorum_is_those_that_settled_first() {
    let flow = parallel(Join::Quorum(2.try_into().unwrap()));
    let mut run = Run::new(&flow, "?");
    run.wants();
    assert_eq!(run.done("p.c", 3).wants(), "p.a p.b");
    assert_eq!(run.done("p.b", 2).output().to_string(), r#"{"b":2,"c":3}"#);
    assert_eq!(run.done("p.a", 1).output().to_string(), r#"{"b":2,"c":3}"#);
    let mut run = Run::new(&flow, "?");
    run.wants();
    run.failed("p.c", FailureKind::Tool);
    run.failed("p.a", FailureKind::Busy);
    let failed = "busy: step `p.c`: no p.c; step `p.a`: no p.a";
    assert_eq!(run.failure(), failed);
    assert_eq!(run.failed("p.b", FailureKind::Cancelled).failure(), failed);
}

#[test]
fn what_is_left_out_wins_no_race() {
    let skipped = Does::Ask(Ask {
        edge: Edge { on_failure: OnFailure::Skip, ..Edge::default() },
        ..ask("a")
    });
    let never = Step { when: Some(condition("false")), ..plain("b") };
    let branches = vec![step("a", skipped), never, plain("c")];
    let of = |join| pipeline(vec![step("p", Does::Parallel { branches: branches.clone(), join })]);
    let flow = of(Join::First);
    let mut run = Run::new(&flow, "?");
    assert_eq!(run.wants(), "p.a p.c");
    assert_eq!(run.failed("p.a", FailureKind::Tool).wants(), "p.c");
    assert_eq!(run.failed("p.c", FailureKind::Tool).failure(), "tool: step `p.c`: no p.c");
    let flow = of(Join::All);
    let mut run = Run::new(&flow, "?");
    run.wants();
    run.failed("p.a", FailureKind::Tool).done("p.c", 3);
    assert_eq!(run.output(), json!({ "a": null, "b": null, "c": 3 }));
    let branches = vec![Step { when: Some(condition("false")), ..plain("b") }];
    let none = step("p", Does::Parallel { branches, join: Join::First });
    let failure = Run::new(&pipeline(vec![none]), "?").failure();
    assert_eq!(failure, "tool: step `p`: too few of its branches were made");
}

#[test]
fn functions_of_the_service_work_things_out() {
    let code = |text| PromptName::try_from(text).unwrap();
    let three = Over {
        list: Expression::Code(code("three")),
        max_concurrency: 9.try_into().unwrap(),
        need: 0,
    };
    let shouted = Does::Ask(Ask { prompt: Some(TextTemplate::Code(code("shout"))), ..ask("x") });
    let flow = pipeline(vec![
        step("loud", Does::Code(code("shout"))),
        after(Step { over: Some(three), ..step("s", shouted) }, &["loud"]),
        after(step("gone", Does::Code(code("gone"))), &["s"]),
    ]);
    let mut run = Run::new(&flow, "hi");
    assert_eq!(run.wants(), "s.0 s.1 s.2");
    assert_eq!(run.asked("s.0"), "?");
    run.done("s.0", 0).done("s.1", 1).done("s.2", 2);
    assert_eq!(run.failure(), "tool: step `gone`: `gone` gives nothing in `rust gone`");
}

#[test]
fn steps_that_wait_for_what_never_comes_fail() {
    let flow = pipeline(vec![after(plain("a"), &["b"]), after(plain("b"), &["a"])]);
    let failure = Run::new(&flow, "?").failure();
    assert_eq!(failure, "config: its steps wait for something that never comes");
    assert_eq!(Run::new(&pipeline(Vec::new()), "?").output(), Value::Null);
}

#[test]
fn a_flow_makes_no_more_calls_than_it_may() {
    let inner = over(plain("t"), "range(200)", (200, 0));
    let flow = pipeline(vec![over(step("s", Does::Steps(vec![inner])), "range(100)", (100, 0))]);
    let failure = Run::new(&flow, "?").failure();
    assert_eq!(failure, "usage_limit: a flow makes at most 10000 calls in one run");
}

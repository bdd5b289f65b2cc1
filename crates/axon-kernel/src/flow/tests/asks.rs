//! Questions: retries, those who are asked instead, and choices that agents make.

use std::time::Duration;

use super::driver::Run;
use super::*;
use crate::breaker::BreakerSettings;

fn edged(target: &str, edge: Edge) -> Does {
    Does::Ask(Ask { edge, ..ask(target) })
}

#[test]
fn a_question_says_how_it_is_asked() {
    let deps = Given::new(json!({ "id": "{{ deps.customer }}", "say": "{{ input }}!" })).unwrap();
    let edge = Edge {
        timeout: Some(Duration::from_secs(3)),
        breaker: Some(BreakerSettings::default()),
        ..Edge::default()
    };
    let flow = pipeline(vec![step("s", Does::Ask(Ask { deps: Some(deps), edge, ..ask("x") }))]);
    let mut run = Run::new(&flow, "hi");
    run.wants();
    let call = &run.calls.values().next().unwrap();
    assert_eq!(call.deps, Some(json!({ "id": 7, "say": "hi!" })));
    assert_eq!(call.timeout, Some(Duration::from_secs(3)));
    assert_eq!(call.breaker, Some(BreakerSettings::default()));
    assert_eq!(call.target, agent("x"));
}

#[test]
fn a_list_of_content_parts_stays_one() {
    let flow = pipeline(vec![plain("s")]);
    let parts = json!(["look:", { "kind": "image-url", "url": "https://x.example/a.png" }]);
    let mut run = Run::new(&flow, parts.clone());
    run.wants();
    assert_eq!(run.asked("s"), &parts);
}

#[test]
fn a_question_is_asked_again_where_that_may_help() {
    let flow = pipeline(vec![step("s", edged("x", Edge { retry: 2, ..Edge::default() }))]);
    let mut run = Run::new(&flow, "?");
    assert_eq!(run.wants(), "s");
    assert_eq!(run.failed("s", FailureKind::Busy).wants(), "s#2");
    assert_eq!(run.failed("s#2", FailureKind::RunTimeout).wants(), "s#3");
    let failure = run.failed("s#3", FailureKind::Busy).failure();
    assert_eq!(failure, "busy: step `s`: no s#3");
    for kind in [
        FailureKind::ModelAuth,
        FailureKind::Config,
        FailureKind::Cancelled,
        FailureKind::UsageLimit,
    ] {
        let mut run = Run::new(&flow, "?");
        run.wants();
        assert_eq!(run.failed("s", kind).failure(), format!("{kind}: step `s`: no s"));
    }
}

#[test]
fn others_are_asked_one_after_the_other_and_a_person_is_told_why() {
    let edge = Edge { retry: 1, on_failure: others(&["y", "human"]), ..Edge::default() };
    let flow = pipeline(vec![step("s", edged("x", edge))]);
    let mut run = Run::new(&flow, "Help");
    assert_eq!(run.wants(), "s");
    assert_eq!(run.failed("s", FailureKind::Busy).wants(), "s#2");
    assert_eq!(run.failed("s#2", FailureKind::Busy).wants(), "s!y");
    assert_eq!(run.asked("s!y"), "Help");
    assert_eq!(run.failed("s!y", FailureKind::ModelAuth).wants(), "s!human");
    assert_eq!(
        run.asked("s!human"),
        "Help\n\n(A person is asked because nobody else could answer: instead of it `y`: no s!y)"
    );
    let mut gone = Run::new(&flow, "Help");
    (gone.calls, gone.settled) = (run.calls.clone(), run.settled.clone());
    let failure = gone.failed("s!human", FailureKind::RunTimeout).failure();
    assert_eq!(failure, "run_timeout: instead of it `human`: no s!human");
    assert_eq!(run.done("s!human", "Here.").output(), "Here.");
}

#[test]
fn those_who_are_asked_instead_get_the_same() {
    let edge = Edge { on_failure: others(&["y"]), ..Edge::default() };
    let deps = Some(Given::new(json!({ "id": "{{ deps.customer }}" })).unwrap());
    let mut flow = pipeline(vec![step("s", Does::Ask(Ask { deps, edge, ..ask("x") }))]);
    flow.on_failure = others(&["z"]);
    let mut run = Run::new(&flow, "Help");
    run.wants();
    assert_eq!(run.failed("s", FailureKind::Tool).wants(), "s!y");
    let deps = |run: &Run<'_>, id: &str| run.calls[&crate::ids::ToolCallId::new(id)].deps.clone();
    assert_eq!(deps(&run, "s!y"), Some(json!({ "id": 7 })));
    // Whoever answers instead of the whole flow gets what that got.
    assert_eq!(run.failed("s!y", FailureKind::Tool).wants(), "!z");
    assert_eq!(deps(&run, "!z"), None);
}

#[test]
fn nobody_is_asked_twice_for_want_of_an_answer() {
    let edge = Edge { on_failure: others(&["y"]), ..Edge::default() };
    let mut flow = pipeline(vec![step("s", edged("x", edge))]);
    flow.on_failure = others(&["x", "y", "z"]);
    let mut run = Run::new(&flow, "?");
    run.wants();
    assert_eq!(run.failed("s", FailureKind::Tool).wants(), "s!y");
    assert_eq!(run.failed("s!y", FailureKind::Tool).wants(), "!z");
    assert_eq!(run.done("!z", "Z").output(), "Z");
    flow.on_failure = others(&["x", "y"]);
    let mut run = Run::new(&flow, "?");
    run.wants();
    run.failed("s", FailureKind::Tool).wants();
    let failure = run.failed("s!y", FailureKind::Busy).failure();
    assert_eq!(failure, "busy: instead of it `y`: no s!y");
}

#[test]
fn a_question_that_cannot_be_put_has_failed_like_any_other() {
    let broken = |on_failure| {
        let edge = Edge { on_failure, ..Edge::default() };
        let prompt = Some(template("{{ input.name }}"));
        pipeline(vec![step("s", Does::Ask(Ask { prompt, edge, ..ask("x") }))])
    };
    let failure = Run::new(&broken(OnFailure::Fail), "hi").failure();
    assert!(failure.starts_with("config: step `s`: undefined value"), "{failure}");
    assert_eq!(Run::new(&broken(OnFailure::Skip), "hi").output(), Value::Null);
    let flow = broken(others(&["y"]));
    let mut run = Run::new(&flow, "hi");
    assert_eq!(run.wants(), "s!y");
    assert_eq!(run.asked("s!y"), "hi");
}

fn router() -> Flow {
    let route = Route { by: ask("triage"), to: vec![ask("bank"), ask("human")] };
    Flow { kind: FlowKind::Router, ..pipeline(vec![step("route", Does::Route(route))]) }
}

#[test]
fn an_agent_chooses_who_is_asked() {
    let flow = router();
    for (said, target) in
        [(json!({ "to": "bank", "why": "money" }), "bank"), (json!("human"), "human")]
    {
        let mut run = Run::new(&flow, "My card!");
        assert_eq!(run.wants(), "route?");
        run.done("route?", said);
        assert_eq!(run.wants(), format!("route.{target}"));
        assert_eq!(run.asked(&format!("route.{target}")), "My card!");
        assert_eq!(run.done(&format!("route.{target}"), "ok").output(), "ok");
    }
}

#[test]
fn an_agent_that_chooses_nobody_is_told_so_and_asked_again() {
    let flow = router();
    let mut run = Run::new(&flow, "My card!");
    run.wants();
    assert_eq!(run.done("route?", json!({ "to": "police" })).wants(), "route?@2");
    assert_eq!(
        run.asked("route?@2"),
        "My card!\n\n(`police` cannot be chosen: choose one of bank, human)"
    );
    assert_eq!(run.done("route?@2", json!({ "for": 1 })).wants(), "route?@3");
    assert_eq!(
        run.asked("route?@3"),
        "My card!\n\n(`{\"for\":1}` cannot be chosen: choose one of bank, human)"
    );
    let failure = run.done("route?@3", "nobody").failure();
    let expected = "model_behavior: step `route`: `triage` chose none of those that it can choose";
    assert_eq!(failure, expected);
}

#[test]
fn a_note_stands_beside_a_question_of_any_form() {
    let mut flow = router();
    let parts = json!(["see", { "kind": "image-url" }]);
    let mut run = Run::new(&flow, parts);
    run.wants();
    run.done("route?", "x").wants();
    assert_eq!(
        run.asked("route?@2"),
        &json!(["see", { "kind": "image-url" }, "(`x` cannot be chosen: choose one of bank, human)"])
    );
    let Does::Route(route) = &mut flow.steps[0].does else { panic!() };
    route.by.prompt = Some(template("Who for: {{ input }}"));
    route.to[0].prompt = Some(template("{{ route.why }}: {{ previous }}"));
    let mut run = Run::new(&flow, "hi");
    run.wants();
    run.done("route?", "x").wants();
    let noted = "Who for: hi\n\n(`x` cannot be chosen: choose one of bank, human)";
    assert_eq!(run.asked("route?@2"), noted);
    run.done("route?@2", json!({ "to": "bank", "why": "money" })).wants();
    assert_eq!(run.asked("route.bank"), "money: hi");
}

#[test]
fn a_router_whose_agent_fails_asks_others() {
    let flow = Flow { on_failure: others(&["bank", "human"]), ..router() };
    let mut run = Run::new(&flow, "hi");
    run.wants();
    assert_eq!(run.failed("route?", FailureKind::ModelAuth).wants(), "!bank");
    // Whoever was chosen and failed is not asked once more.
    let mut run = Run::new(&flow, "hi");
    run.wants();
    run.done("route?", "bank").wants();
    assert_eq!(run.failed("route.bank", FailureKind::Tool).wants(), "!human");
}

#[test]
fn whoever_chose_instead_of_another_is_asked_the_message_anew() {
    let mut flow = router();
    let Does::Route(route) = &mut flow.steps[0].does else { panic!() };
    route.by.edge.on_failure = others(&["boss"]);
    flow.steps[0].on_failure = others(&["boss"]);
    let mut run = Run::new(&flow, "hi");
    for round in ["route?", "route?@2", "route?@3"] {
        assert_eq!(run.wants(), round);
        let instead = format!("{round}!boss");
        assert_eq!(run.failed(round, FailureKind::ModelAuth).wants(), instead);
        run.done(&instead, "nobody");
    }
    assert_eq!(run.wants(), "route!boss");
    assert_eq!(run.done("route!boss", "I see to it").output(), "I see to it");
}

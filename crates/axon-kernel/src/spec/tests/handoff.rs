//! Agents that hand their runs on.

use super::*;

#[test]
fn a_hand_off_is_read_and_printed() {
    let text = "model = 'test'\n[handoff]\nto = ['fraud', 'human']\ndescription = 'Who knows'";
    let spec = load(text).unwrap();
    let names: Vec<&str> = spec.successors().map(AgentName::as_str).collect();
    assert_eq!(names, ["fraud"]);
    let printed = spec.to_toml().unwrap();
    assert_eq!(load(&printed).unwrap(), spec, "{printed}");
    let mut odd = spec.clone();
    let of = vec![AgentName::try_from("fraud").unwrap()];
    let by = crate::flow::Balance::RoundRobin;
    odd.tools = vec![ToolSpec::hand_off(vec![Target::Balanced { by, of }])];
    let error = odd.to_toml().unwrap_err().to_string();
    assert_eq!(error, "/handoff/to is one of several, which no file can say");
}

#[test]
fn a_run_is_handed_on_to_others_and_to_each_once() {
    assert_eq!(
        problems("model = 'test'\nhandoff = { to = ['bank', 'a', 'human', 'a'] }"),
        [
            "agent.toml:2:19: handoff.to[0]: the agent cannot hand a run on to itself: name \
             another",
            "agent.toml:2:41: handoff.to[3]: `a` is named twice",
        ]
    );
    assert_eq!(
        problems("model = 'test'\nhandoff = { to = [] }"),
        ["agent.toml:2:18: handoff.to: `to` is empty: give at least one"]
    );
}

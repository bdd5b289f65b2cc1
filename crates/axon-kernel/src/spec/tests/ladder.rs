//! What a user sees of fallbacks, busy conversations, heartbeats and the rules about failures.

use super::*;

const MINIMAL: &str = "model = 'test'\n";

fn with(rest: &str) -> String {
    format!("{MINIMAL}{rest}")
}

#[test]
fn every_part_of_the_ladder_is_read() {
    let spec = load(FULL).unwrap();
    assert_eq!(spec.fallback.model.as_ref().unwrap().as_str(), "openai:gpt-5-mini");
    assert_eq!(spec.fallback.agent.as_ref().unwrap().as_str(), "simple_support");
    assert_eq!(spec.conversation.when_busy, WhenBusy::Steer);
    assert_eq!(spec.runner.heartbeat, Duration::from_millis(100));
    assert_eq!(spec.runner.cancel_grace, Duration::from_secs(3));
    assert_eq!(spec.policy[&FailureKind::ModelAuth].then, Some(Then::Fallback));
}

#[test]
fn an_agent_that_says_nothing_queues_turns_and_falls_back_to_nobody() {
    let spec = load(MINIMAL).unwrap();
    assert_eq!(spec.conversation.when_busy, WhenBusy::Queue);
    assert!(spec.fallback.is_empty());
    assert_eq!(spec.runner.heartbeat, Duration::from_secs(60));
    assert_eq!(spec.runner.cancel_grace, Duration::from_secs(1));
    assert_eq!(spec.to_toml().unwrap(), "model = \"test\"\n");
}

#[test]
fn an_agent_of_python_code_has_a_ladder_too() {
    let text = "[runner]\nmodule = 'pkg.mod:agent'\n[fallback]\nagent = 'other'\n[policy]\n\
        output_invalid = { then = 'fallback' }";
    let spec = load(text).unwrap();
    assert_eq!(spec.fallback.agent.unwrap().as_str(), "other");
    let name = AgentName::try_from("mine").unwrap();
    let spec = AgentSpec::for_module(name, PythonTarget::try_from("pkg.mod:agent").unwrap());
    assert!(spec.fallback.is_empty());
}

#[test]
fn falling_back_to_nobody_or_to_oneself_is_refused() {
    assert_eq!(
        problems(&with("[fallback]\nagent = 'bank'")),
        ["agent.toml:3:9: fallback.agent: the agent cannot fall back to itself: name another \
             agent"]
    );
    assert_eq!(
        problems(&with("[policy]\ntool = { then = 'fallback' }")),
        [
            "agent.toml:3:17: policy.tool.then: there is nothing to fall back to: add [fallback] with \
          a model or an agent, or write then = \"fail\""
        ]
    );
    let sick = "[fallback]\nmodel = 'test'\n[policy]\nrunner_died = { then = 'fallback' }\n\
        cancelled = { then = 'fallback' }";
    assert_eq!(
        problems(&with(sick)),
        [
            "agent.toml:5:24: policy.runner_died.then: another model does not help where the \
             runner is at fault: name an agent in [fallback]",
            "agent.toml:6:22: policy.cancelled.then: `cancelled` ends a run for good: nothing can \
             answer in its place",
        ]
    );
}

#[test]
fn what_does_not_fit_the_ladder_is_told_with_its_place() {
    let text = "[fallback]\nmodel = 'opnai:gpt-5'\nagnet = 'x'\n[conversation]\n\
        when_bussy = 'queue'\n[runner]\nheartbeat = '99ms'\nheart_beat = '1s'";
    assert_eq!(
        problems(&with(text)),
        [
            "agent.toml:3:9: fallback.model: no provider is called `opnai`; did you mean `openai`?",
            "agent.toml:4:1: fallback: unknown key `agnet`; did you mean `agent`?",
            "agent.toml:6:1: conversation: unknown key `when_bussy`; did you mean `when_busy`?",
            "agent.toml:8:13: runner.heartbeat: 99ms is too short: give at least 100ms",
            "agent.toml:9:1: runner: unknown key `heart_beat`; did you mean `heartbeat`?",
        ]
    );
    let problem = &problems(&with("[conversation]\nwhen_busy = 'wait'"))[0];
    assert!(
        problem.starts_with("agent.toml:3:13: conversation.when_busy: unknown variant `wait`"),
        "{problem}"
    );
}

#[test]
fn a_fallback_model_of_the_agents_own_package_may_be_called() {
    let spec = load(&with("[fallback]\nmodel = 'python:bank.offline:model'")).unwrap();
    assert_eq!(
        serde_json::to_value(spec.callables()).unwrap(),
        json!([{ "target": "bank.offline:model", "role": "model" }])
    );
}

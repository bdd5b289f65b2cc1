//! What a user sees of `axon.toml`: what is read, and what is refused and how.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::schema::Schema;
use crate::spec::{Backoff, FileText, Intensity, OnExhausted, SpecError, Usd};

fn load(text: &str) -> Result<Config, SpecError> {
    let variables = |name: &str| (name == "OPEN").then(|| "20s".to_owned());
    Config::from_toml(FileText { path: "axon.toml", text }, &variables)
}

fn problems(text: &str) -> Vec<String> {
    load(text).unwrap_err().to_string().lines().map(str::to_owned).collect()
}

fn model(name: &str) -> ModelName {
    ModelName::try_from(name).unwrap()
}

const FULL: &str = r#"
[breaker]
failures = 3
open = "${OPEN}"
max_open = "1m"
[rate_limits."openai:gpt-5"]
requests = 500
tokens = 100_000
within = "10s"
[rate_limits.openai]
requests = 1000
[starts]
at_once = 2
[groups.desk]
agents = ["triage", "fraud"]
strategy = "one_for_all"
intensity = { max_restarts = 2 }
backoff = { min = "1s" }
on_exhausted = "escalate"
[groups.other]
agents = ["cards"]
[budget]
requests = 10_000
cost = "12.50"
[serve]
listen = "0.0.0.0:8700"
metrics_listen = "[::1]:9100"
token_file = "token"
allowed_hosts = ["axon.example.com"]
drain = "1m"
"#;

#[test]
fn a_full_file_is_read() {
    let config = load(FULL).unwrap();
    assert_eq!(config.breaker.failures.get(), 3);
    assert_eq!(config.breaker.open, Duration::from_secs(20));
    assert_eq!(config.starts.at_once.get(), 2);
    assert_eq!(config.budget.cost, Some(Usd::from_micros(12_500_000)));
    let serve = &config.serve;
    assert_eq!(serve.listen.unwrap().to_string(), "0.0.0.0:8700");
    assert_eq!(
        (serve.drain, serve.token_file.as_deref()),
        (Some(Duration::from_secs(60)), Some("token"))
    );
    let (name, group) = config.group_of(&AgentName::try_from("fraud").unwrap()).unwrap();
    assert_eq!((name.as_str(), group.strategy), ("desk", GroupStrategy::OneForAll));
    assert_eq!(group.on_exhausted, OnExhausted::Escalate);
    assert_eq!(group.backoff.max, Backoff::default().max);
    assert_eq!(config.group_of(&AgentName::try_from("alone").unwrap()), None);
}

#[test]
fn a_group_has_the_defaults_of_a_supervisor() {
    let config = load(FULL).unwrap();
    let intensity = |group: &str| config.groups[group].intensity;
    let within = Duration::from_secs(5);
    assert_eq!(intensity("desk"), Intensity { max_restarts: 2, within });
    assert_eq!(intensity("other"), Intensity { max_restarts: 1, within });
    assert_eq!(config.groups["other"].strategy, GroupStrategy::OneForOne);
    assert_eq!(config.groups["other"].on_exhausted, OnExhausted::Park);
}

#[test]
fn an_empty_file_is_no_file() {
    assert_eq!(load("").unwrap(), Config::default());
    let config = Config::default();
    assert_eq!(config.starts.at_once.get(), 4);
    assert_eq!(config.breaker.max_open, Duration::from_secs(120));
    assert_eq!(config.check(), Ok(()));
    assert_eq!(config.check_agents([]), Ok(()));
}

#[test]
fn a_request_counts_against_its_model_and_its_provider() {
    let config = load(FULL).unwrap();
    let keys = |name: &str| -> Vec<String> {
        config.rate_limits_of(&model(name)).map(|(key, _)| key.to_string()).collect()
    };
    assert_eq!(keys("openai:gpt-5"), ["openai:gpt-5", "openai"]);
    assert_eq!(keys("openai-responses:gpt-5"), ["openai:gpt-5", "openai"]);
    assert_eq!(keys("openai:gpt-5-mini"), ["openai"]);
    assert!(keys("anthropic:claude").is_empty() && keys("test").is_empty());
    let own = load("[rate_limits.'python:bank.offline:model']\nrequests = 1").unwrap();
    assert_eq!(own.rate_limits_of(&model("python:bank.offline:model")).count(), 1);
    assert_eq!(own.rate_limits_of(&model("python:bank.other:model")).count(), 0);
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_valid_one() {
    let text = "[breakers]\nfailures = 1\n[breaker]\nfailure = 1\n[rate_limits.openai]\n\
        requests = 1\nwithn = '1s'\n[groups.desk]\nagents = ['a']\nstrategie = 'x'\n\
        intensity = { restarts = 1 }\n[budget]\nrequest = 1\n[serve]\nlisten_at = 'x'";
    assert_eq!(
        problems(text),
        [
            "axon.toml:1:2: unknown key `breakers`; did you mean `breaker`?",
            "axon.toml:4:1: breaker: unknown key `failure`; did you mean `failures`?",
            "axon.toml:7:1: rate_limits.openai: unknown key `withn`; did you mean `within`?",
            "axon.toml:10:1: groups.desk: unknown key `strategie`; did you mean `strategy`?",
            "axon.toml:11:15: groups.desk.intensity: unknown key `restarts`; did you mean \
             `max_restarts`?",
            "axon.toml:13:1: budget: unknown key `request`; did you mean `requests`?",
            "axon.toml:15:1: serve: unknown key `listen_at`; did you mean `listen`?",
        ]
    );
}

#[test]
fn values_that_do_not_fit_are_told_with_their_place() {
    let text = "[breaker]\nfailures = 0\nopen = '${GONE}'\n[groups.desk]\nagents = ['A']\n\
        strategy = 'all'\n[groups.empty]\nstrategy = 'one_for_one'\n[starts]\nat_once = -1\n\
        [serve]\nlisten = 'here'\ndrain = 5";
    let problems = problems(text);
    let starts = [
        "axon.toml:2:12: breaker.failures: invalid value: integer `0`, expected a nonzero u32",
        "axon.toml:3:8: breaker.open: the variable GONE is not set: set it, or write",
        "axon.toml:5:10: groups.desk.agents: `A` is not an agent's name: write a lower-case",
        "axon.toml:6:12: groups.desk.strategy: unknown variant `all`, expected one of \
         `one_for_one`, `one_for_all`, `rest_for_one`",
        "axon.toml:7:1: groups.empty: missing field `agents`",
        "axon.toml:10:11: starts.at_once: invalid value: integer `-1`, expected a nonzero u32",
        "axon.toml:12:10: serve.listen: ",
        "axon.toml:13:9: serve.drain: ",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}\n{start}");
    }
}

#[test]
fn a_rate_limit_of_nobody_is_refused() {
    for (key, message) in [
        ("opnai", "no provider is called `opnai`; did you mean `openai`?"),
        ("'opnai:gpt-5'", "no provider is called `opnai`; did you mean `openai`?"),
        ("'gpt 5'", "`gpt 5:model` is not a model"),
    ] {
        let found = problems(&format!("[starts]\nat_once = 1\n[rate_limits.{key}]\nrequests = 1"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("axon.toml:3:"), "{found:?}");
        assert!(found[0].contains(message), "{found:?}");
    }
}

#[test]
fn broken_rules_are_all_told_with_their_place() {
    let text = "[breaker]\nopen = '3m'\n[rate_limits.'openai:gpt-5']\nwithin = '1s'\n\
        [starts]\nat_once = 1001\n[groups.a]\nagents = ['triage', 'triage']\n[groups.b]\n\
        agents = []\n[groups.c]\nagents = ['triage']\nbackoff = { min = '1h' }";
    assert_eq!(
        problems(text),
        [
            "axon.toml:2:8: breaker.open: open must not be longer than max_open",
            "axon.toml:3:1: rate_limits.openai:gpt-5: a rate limit needs a number of `requests`, \
             of `tokens`, or both",
            "axon.toml:6:11: starts.at_once: 1001 is out of range: give a number from 1 to 1000",
            "axon.toml:8:21: groups.a.agents[1]: the agent `triage` is in the group `a` already: \
             it can be in one, once",
            "axon.toml:10:10: groups.b.agents: a group needs at least one agent",
            "axon.toml:12:11: groups.c.agents[0]: the agent `triage` is in the group `a` already: \
             it can be in one, once",
            "axon.toml:13:11: groups.c.backoff: backoff.min must not be longer than backoff.max",
        ]
    );
}

#[test]
fn agents_that_do_not_exist_are_told_where_they_are_named() {
    let config = load(FULL).unwrap();
    assert_eq!(config.check_agents(["triage", "fraud", "cards", "x"]), Ok(()));
    assert_eq!(
        config.check_agents(["triage", "card"]).unwrap_err().to_string(),
        "axon.toml:15:21: groups.desk.agents[1]: there is no agent `fraud`\n\
         axon.toml:21:11: groups.other.agents[0]: there is no agent `cards`; did you mean `card`?"
    );
}

#[test]
fn the_schema_accepts_a_full_file_and_refuses_junk() {
    let schema = Schema::new(Config::schema()).unwrap();
    let full: serde_json::Value = toml::from_str(FULL).unwrap();
    assert_eq!(schema.validate(&full), Ok(()));
    for junk in [
        json!({ "breakers": {} }),
        json!({ "starts": { "at_once": 0 } }),
        json!({ "groups": { "desk": { "agents": [] } } }),
        json!({ "groups": { "desk": { "agents": ["a"], "strategy": "all" } } }),
        json!({ "rate_limits": { "openai": { "request": 1 } } }),
    ] {
        assert!(schema.validate(&junk).is_err(), "{junk}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_piece_of_a_file_is_read_or_refused(start in 0..FULL.len(), len in 0..400_usize) {
        let piece = FULL.get(start..(start + len).min(FULL.len())).unwrap_or_default();
        if let Err(error) = load(piece) {
            prop_assert!(!error.problems.is_empty() && !error.to_string().is_empty());
        }
    }
}

#[test]
fn a_group_is_called_like_no_agent_and_no_part_of_the_tree() {
    for name in ["triage", "agents", "root"] {
        let text = format!("[groups.{name}]\nagents = ['triage']");
        let file = FileText { path: "axon.toml", text: &text };
        let config = Config::from_toml(file, &|_| None).unwrap();
        let error = config.check_agents(["triage"]).unwrap_err().to_string();
        assert!(error.contains(&format!("cannot be called `{name}`")), "{error}");
    }
}

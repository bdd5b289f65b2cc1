//! What a user sees of `router.toml` and `pipeline.toml`: what is read.
use super::*;
use crate::spec::{AgentSpec, FileText, SpecError};
fn read(file: &str) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    match file {
        "plan.json" => Ok(r#"{"type": "object"}"#.to_owned()),
        _ => Err("no such file".into()),
    }
}
pub(super) fn pipeline_of(text: &str) -> Result<AgentSpec, SpecError> {
    let name = AgentName::try_from("research").unwrap();
    AgentSpec::pipeline_from_toml(name, FileText { path: "p", text }, &|_| None, &read)
}
pub(super) fn router_of(text: &str) -> Result<AgentSpec, SpecError> {
    let name = AgentName::try_from("desk").unwrap();
    AgentSpec::router_from_toml(name, FileText { path: "r", text }, &|_| None, &read)
}
#[test]
fn scratch() {
    for text in [
        "",
        "[[steps]]\nname = 'a'",
        "[[steps]]\nname = 'a'\nagent = 'x'\nrust = 'y'",
        "[[steps]]\nname = 'input'\nagent = 'x'\n[[steps]]\nname = 'b'\nagent = 'x'\n[[steps]]\nname = 'b'\nagent = 'x'",
        "[[steps]]\nname = 'a'\nagent = 'x'\nafter = ['bb']\n[[steps]]\nname = 'b'\nagent = 'x'",
        "[[steps]]\nname = 'a'\nagent = 'x'\nafter = ['b']\n[[steps]]\nname = 'b'\nagent = 'x'",
        "[[steps]]\nname = 'a'\nagent = 'x'\nafter = ['a']",
        "[[steps]]\nname = 'a'\nagent = 'x'\nprompt = '{{ plam }} {{ inptu.x }} {{ deps.y }}'\n",
        "[[steps]]\nname = 'a'\nagent = 'x'\nprompt = '{{ b }} {{ a }}'\n[[steps]]\nname = 'b'\nagent = 'x'\n[[steps]]\nname = 'c'\nagent = 'x'\nafter = []\nprompt = '{{ b }}'",
        "[[steps]]\nname = 'a'\nagent = 'x'\nwhen = '1 > 2'\n[[steps]]\nname = 'b'\nagent = 'x'\n[[steps]]\nname = 'c'\nchoose = [{ agent = 'x' }, { when = 'input', agent = 'y' }, { agent = 'z' }]",
        "[[steps]]\nname = 'c'\nchoose = [{ when = 'false', agent = 'x' }, { rust = 'y', on_failure = 'skip' }]",
        "[[steps]]\nname = 'a'\nrust = 'x'\ntimeout = '3s'\nretry = 2\nprompt = 'x'\nneed = 2\njoin = 'all'\nbreaker = {}\ndeps = 3",
        "[[steps]]\nname = 'a'\nagent = 'x'\nmap = 'input'\nrepeat = { until = 'last', at_most = 101 }\nmax_concurrency = 200\nneed = 3\nretry = 11\n",
        "[[steps]]\nname = 'a'\nparallel = [{ name = 'x', agent = 'x', after = ['y'] }, { name = 'y', agent = 'x' }]\njoin = 3",
        "[[steps]]\nname = 'a'\nparallel = []\n[[steps]]\nname = 'b'\nchoose = []\n[[steps]]\nname = 'c'\nsteps = []\n[[steps]]\nname = 'd'\nbalance = { by = 'round_robin', of = [] }",
        "[[steps]]\nname = 'a'\nagent = 'x'\nprompt = '{{ a b }}'\nwhen = 'x >'\nmap = \"a\\n b\"\ndeps = { x = ['{{ %', 1], y = '{{ a. }}' }",
        "[[steps]]\nname = 'a'\nhuman = 'Really?'\nprompt = 'x'\nwhen = { pointer = 'x', matches = '(' }\n[[steps]]\nname = 'b'\nagent = 'x'\nwhen = { equals = 1, matches = 'x' }\n[[steps]]\nname = 'c'\nagent = 'x'\nwhen = { pointer = '/x', rust = 'y' }\n[[steps]]\nname = 'd'\nagent = 'x'\nwhen = { schema = 'gone.json' }",
        "on_failure = 'skip'\n[[steps]]\nname = 'a'\nagent = 'x'\non_failure = ['y', 'y', 'x']",
        "on_failure = []\n[[steps]]\nname = 'a'\nbalance = { by = 'conversation', of = ['human', 'x', 'x'] }\n",
        "[[steps]]\nname = 'a'\nsteps = [{ name = 'b', agent = 'x' }, { name = 'a', agent = 'x', prompt = '{{ c }}{{ b }}{{ d }}' }]\n[[steps]]\nname = 'c'\nagent = 'x'\nprompt = '{{ b }}'\n[[steps]]\nname = 'd'\nagent = 'x'\nafter = []",
        "modle = 'x'\n[[step]]\nname = 'a'\n[[steps]]\nname = 'b'\nagnet = 'x'\nparallel = [{ nam = 'x' }]\nrepeat = { untill = 3 }",
        "[[steps]]\nname = 'b'\nagent = 'X'\njoin = 0\non_failure = 3\nwhen = 3\nprompt = 3\nafter = 'x'\nretry = -1\ntimeout = 3",
    ] {
        println!("-----\n{text}\n>>");
        match pipeline_of(text) {
            Ok(spec) => println!("OK {}", spec.to_toml().unwrap_or_else(|e| e.to_string())),
            Err(e) => println!("{e}"),
        }
    }
    for text in [
        "",
        "by = 'triage'",
        "by = 'triage'\nto = ['a', 'a']\nbalance = 'round_robin'",
        "by = 'triage'\nto = ['a', 'a']\nfallback = 'b'\non_escalate = 'human'\nretry = 12\n[edges.c]\ntimeout = '1s'\n[edges.a]\nfallback = 'a'\nretry = 11\n",
        "to = ['a']\n[[rules]]\nto = 'b'\nwhen = 'inptu'\n[[rules]]\nto = 'c'",
        "[[rules]]\nto = 'b'\nwhen = 'true'\n[[rules]]\nto = 'c'\nwhen = 'input.x'",
        "balance = 'least'\nto = ['human']",
        "balance = 'least_in_flight'\nto = ['human', 'a', 'a']\n[edges.a]\nretry = 3",
        "broadcast = 3\nto = ['input', 'a']\nbreaker = { failures = 5000, open = '1h' }",
        "by = 'triage'\nto = ['a', 'b']\nfallback = 'b'\non_escalate = 'human'\ntimeout = '30s'\nretry = 1\n[edges.a]\ntimeout = '60s'\nfallback = 'c'\n",
        "fallback = 'bank'\n[[rules]]\nto = 'fraud'\nwhen = { pointer = '/kind', matches = '(?i)stolen' }\n[[rules]]\nto = 'boss'\nwhen = { rust = 'is_boss' }\n",
        "by = 'triage'\nto = ['a', 'b']\non_escalate = 'c'\n",
    ] {
        println!("-----\n{text}\n>>");
        match router_of(text) {
            Ok(spec) => println!("OK {}", spec.to_toml().unwrap_or_else(|e| e.to_string())),
            Err(e) => println!("{e}"),
        }
    }
}

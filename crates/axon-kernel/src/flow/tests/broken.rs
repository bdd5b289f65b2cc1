//! Files that are refused, each with its place and the reason.

use super::files::{pipeline_of, router_of};
use super::*;
use crate::spec::AgentSpec;

/// Returns what is wrong with a pipeline of these steps, the first of which stands in line 1.
fn steps(text: &str) -> String {
    let text = text.replace("- ", "[[steps]]\nname = ");
    pipeline_of(&text).unwrap_err().to_string().replace("pipeline.toml:", "")
}

fn router(text: &str) -> String {
    router_of(text).unwrap_err().to_string().replace("router.toml:", "")
}

#[test]
fn steps_do_exactly_one_thing() {
    assert_eq!(
        steps("- 'a'\n- 'b'\nagent = 'x'\nrust = 'y'"),
        "1:1: steps[0]: it does nothing: give exactly one of `agent`, `human`, `rust`, `balance`, \
         `choose`, `parallel` or `steps`\n\
         3:1: steps[1]: it has `agent` and `rust`: give exactly one of `agent`, `human`, `rust`, \
         `balance`, `choose`, `parallel` or `steps`"
    );
    assert_eq!(steps(""), "1:1: steps: `steps` is empty: give at least one");
    assert_eq!(
        steps(
            "- 'a'\nparallel = []\n- 'b'\nchoose = []\n- 'c'\nsteps = []\n- 'd'\n\
             balance = { by = 'round_robin', of = [] }"
        ),
        "3:12: steps[0].parallel: `parallel` is empty: give at least one\n\
         6:10: steps[1].choose: `choose` is empty: give at least one\n\
         9:9: steps[2].steps: `steps` is empty: give at least one\n\
         12:38: steps[3].balance.of: `of` is empty: give at least one"
    );
}

#[test]
fn what_has_nothing_to_say_where_it_stands_is_refused() {
    assert_eq!(
        steps("- 'a'\nrust = 'x'\ntimeout = '3s'\nretry = 2\nprompt = 'x'\nneed = 2\nbreaker = {}"),
        "4:11: steps[0].timeout: `timeout` is about somebody who is asked, and here nobody is: \
         leave it out\n\
         5:9: steps[0].retry: `retry` is about somebody who is asked, and here nobody is: leave it \
         out\n\
         6:10: steps[0].prompt: `prompt` is about somebody who is asked, and here nobody is: leave \
         it out\n\
         7:8: steps[0].need: `need` is about the items of a `map`: leave it out\n\
         8:11: steps[0].breaker: `breaker` is about somebody who is asked, and here nobody is: \
         leave it out"
    );
    assert_eq!(
        steps(
            "- 'a'\nagent = 'x'\njoin = 'all'\nmax_concurrency = 2\n- 'b'\nhuman = 'x'\n\
             prompt = 'y'\n- 'c'\nchoose = [{ rust = 'x', on_failure = 'skip', deps = 3 }]"
        ),
        "4:8: steps[0].join: `join` is about the branches of `parallel`: leave it out\n\
         5:19: steps[0].max_concurrency: `max_concurrency` is about the items of a `map`: leave it \
         out\n\
         9:10: steps[1].prompt: `prompt` is what `human` says already: leave it out\n\
         12:38: steps[2].choose[0].on_failure: `on_failure` is about somebody who is asked, or the \
         whole step: leave it out\n\
         12:53: steps[2].choose[0].deps: `deps` is about somebody who is asked, and here nobody is: \
         leave it out"
    );
    assert_eq!(
        steps(
            "- 'a'\nagent = 'x'\nmap = 'input'\nneed = 1\n- 'b'\nagent = 'x'\nmap = 'input'\nrepeat = { until = 'last', at_most = 2 }"
        ),
        "5:8: steps[0].need: `need` counts only where somebody is asked with on_failure = \
         \"skip\": leave it out\n\
         10:10: steps[1].repeat: `map` and `repeat` exclude each other: put one of them into a step \
         inside the other"
    );
}

#[test]
fn names_of_steps_differ_and_are_words_of_nothing_else() {
    assert_eq!(
        steps("- 'input'\nagent = 'x'\n- 'b'\nagent = 'x'\n- 'b'\nagent = 'x'"),
        "2:8: steps[0].name: `input` means something else in expressions: call the step \
         differently\n\
         8:8: steps[2].name: a second step is called `b`: names of steps that can see each other \
         must differ"
    );
    let inner = "- 'a'\nagent = 'x'\n- 'b'\nsteps = [{ name = 'a', agent = 'x' }]";
    assert!(steps(inner).starts_with("6:19: steps[1].steps[0].name: a second step is called `a`"));
    assert!(
        pipeline_of(
            &inner.replace("- 'a'", "[[steps]]\nname = 'c'").replace("- ", "[[steps]]\nname = ")
        )
        .is_ok()
    );
}

#[test]
fn steps_wait_for_steps_of_their_list_and_not_for_each_other() {
    assert_eq!(
        steps("- 'a'\nagent = 'x'\nafter = ['bb']\n- 'b'\nagent = 'x'\nafter = ['q']"),
        "4:10: steps[0].after[0]: there is no step `bb` in this list; did you mean `b`?\n\
         8:10: steps[1].after[0]: there is no step `q` in this list; steps there: a, b"
    );
    assert_eq!(
        steps(
            "- 'a'\nagent = 'x'\nafter = ['b']\n- 'b'\nagent = 'x'\n- 'c'\nagent = 'x'\nafter = ['c']"
        ),
        "4:10: steps[0].after[0]: these steps wait for each other: a -> b -> a\n\
         11:10: steps[2].after[0]: these steps wait for each other: c -> c"
    );
    assert_eq!(
        steps(
            "- 'a'\nagent = 'x'\nafter = ['c', 'd']\n- 'b'\nagent = 'x'\n- 'c'\nagent = 'x'\n- 'd'\nagent = 'x'\nafter = []"
        ),
        "4:10: steps[0].after[0]: these steps wait for each other: a -> c -> b -> a"
    );
    assert_eq!(
        steps(
            "- 'a'\nparallel = [{ name = 'x', agent = 'x', after = ['y'] }, { name = 'y', agent = 'x' }]"
        ),
        "3:48: steps[0].parallel[0].after: branches of `parallel` begin at the same time: leave \
         `after` out"
    );
}

#[test]
fn expressions_speak_of_what_is_known_there() {
    assert_eq!(
        steps(
            "- 'a'\nagent = 'x'\nprompt = '{{ plam }} {{ inptu.x }} {{ deps.y }}'\nwhen = 'item'\nmap = 'index'"
        ),
        "4:10: steps[0].prompt: nothing is called `inptu` here; did you mean `input`?\n\
         4:10: steps[0].prompt: nothing is called `plam` here; known here: input, prompt, deps, \
         previous, failures, item, index\n\
         5:8: steps[0].when: nothing is called `item` here; known here: input, prompt, deps, \
         previous, failures\n\
         6:7: steps[0].map: nothing is called `index` here; known here: input, prompt, deps, \
         previous, failures"
    );
    assert_eq!(
        steps(
            "- 'a'\nagent = 'x'\ndeps = { d = '{{ b }}', e = '{{ last }}' }\n- 'b'\nagent = 'x'\n- 'c'\nagent = 'x'\nafter = []\nprompt = '{{ b }}'"
        ),
        "4:8: steps[0].deps: `b` comes after this, and cannot come before it, too: a -> b -> a\n\
         4:8: steps[0].deps: nothing is called `last` here; known here: input, prompt, deps, \
         previous, failures\n\
         12:10: steps[2].prompt: `b` is not certain to be done before this: name it in `after`; \
         known here: input, prompt, deps, previous, failures"
    );
    assert_eq!(
        steps(
            "- 'a'\nsteps = [{ name = 'b', agent = 'x' }, { name = 'e', agent = 'x', prompt = '{{ c }}{{ b }}{{ d }}{{ e }}' }]\n- 'c'\nagent = 'x'\nprompt = '{{ b }}'\n- 'd'\nagent = 'x'\nafter = []"
        ),
        "3:75: steps[0].steps[1].prompt: `c` comes after this, and cannot come before it, too: a -> \
         c -> a\n\
         3:75: steps[0].steps[1].prompt: `d` is not certain to be done before this: name it in \
         `after`; known here: input, prompt, deps, previous, failures, b\n\
         3:75: steps[0].steps[1].prompt: `e` comes after this, and cannot come before it, too: e -> \
         e\n\
         7:10: steps[1].prompt: nothing is called `b` here; known here: input, prompt, deps, \
         previous, failures, a"
    );
    let branches = "- 'a'\nparallel = [{ name = 'x', agent = 'x' }, { name = 'y', agent = 'x', prompt = '{{ x }}' }]";
    assert!(
        steps(branches)
            .starts_with("3:78: steps[0].parallel[1].prompt: `x` is not certain to be done")
    );
}

#[test]
fn templates_know_what_they_set_and_loops_what_they_count() {
    let text = "[[steps]]\nname = 'a'\nrepeat = { until = 'iteration > 1 and last', at_most = 2 }\n\
        agent = 'x'\nprompt = '''{% if last %}{% set s = last %}{% else %}{% set s = 'b' %}{% endif %}\
        {{ s }}{% for x in range(3) %}{{ loop.index }}{{ x }}{% endfor %}{{ dict(a=1) }}'''";
    assert!(pipeline_of(text).is_ok(), "{:?}", pipeline_of(text));
}

#[test]
fn expressions_that_do_not_parse_are_told_with_their_line() {
    assert_eq!(
        steps(
            "- 'a'\nagent = 'x'\nprompt = '{{ a b }}'\nwhen = 'x >'\nmap = \"a\\n b\"\ndeps = { x = ['{{ %', 1], y = '{{ a. }}' }"
        ),
        "4:10: steps[0].prompt: syntax error: unexpected identifier, expected end of variable block \
         in `{{ a b }}`\n\
         5:8: steps[0].when: syntax error: unexpected end of input, expected expression in `x >`\n\
         6:7: steps[0].map: line 2: syntax error: unexpected input after expression in `a b`\n\
         7:15: steps[0].deps.x[0]: syntax error: unexpected `%` in `{{ %`\n\
         7:31: steps[0].deps.y: syntax error: unexpected end of input, expected identifier or \
         integer in `a.`"
    );
    let secret = steps("- 'a'\nagent = 'x'\nprompt = '{{ a ${TOKEN} }}'");
    assert!(secret.contains("`{{ a ${TOKEN} }}`") && !secret.contains("s3cret"), "{secret}");
}

#[test]
fn conditions_test_exactly_one_thing() {
    assert_eq!(
        steps(
            "- 'a'\nagent = 'x'\nwhen = { pointer = 'x', matches = '(' }\n\
             - 'b'\nagent = 'x'\nwhen = { equals = 1, matches = 'x' }\n\
             - 'c'\nagent = 'x'\nwhen = { pointer = '/x', rust = 'y' }\n\
             - 'd'\nagent = 'x'\nwhen = { schema = 'gone.json' }\n\
             - 'e'\nagent = 'x'\nwhen = {}\n\
             - 'f'\nagent = 'x'\nwhen = { pointer = 'x', equals = 1 }"
        ),
        "4:35: steps[0].when.matches: not a regular expression: unclosed group\n\
         8:8: steps[1].when: it has `matches` and `equals`: give exactly one of `matches`, `equals`, \
         `schema` or `rust`\n\
         12:20: steps[2].when.pointer: `pointer` is about a test, and a Rust function sees what \
         came before: leave it out\n\
         16:19: steps[3].when.schema: cannot read the schema `gone.json` in the agent's folder: no \
         such file\n\
         20:8: steps[4].when: it tests nothing: give exactly one of `matches`, `equals`, `schema` or \
         `rust`\n\
         24:20: steps[5].when.pointer: `x` is not a JSON pointer: write it like /customer/id"
    );
}

#[test]
fn what_is_never_made_is_told() {
    assert_eq!(
        steps(
            "- 'a'\nagent = 'x'\nwhen = '1 > 2'\n- 'b'\nagent = 'x'\n- 'c'\nafter = ['a', 'b']\n\
             choose = [{ agent = 'x' }, { when = 'input', agent = 'y' }]\n- 'd'\nagent = 'x'\n\
             after = []\n- 'e'\nafter = ['a', 'd']\nchoose = [{ when = 'false', agent = 'x' }, \
             { when = 'true', agent = 'x' }, { agent = 'x' }]\n- 'f'\nparallel = \
             [{ name = 'x', agent = 'x', when = { schema = 'false' } }]"
        ),
        "4:8: steps[0].when: this is never made: its condition never holds\n\
         5:1: steps[1].after: this is never made: it comes only after `a`, which is never made\n\
         10:9: steps[2].after: this is never made: it comes only after `a` and `b`, which are never \
         made\n\
         11:28: steps[2].choose[1]: this is never made: the way before it is always gone\n\
         19:20: steps[4].choose[0].when: this is never made: its condition never holds\n\
         19:76: steps[4].choose[2]: this is never made: the way before it is always gone\n\
         22:47: steps[5].parallel[0].when: this is never made: its condition never holds"
    );
}

#[test]
fn numbers_keep_their_bounds() {
    assert_eq!(
        steps(
            "- 'a'\nagent = 'x'\nmap = 'input'\non_failure = 'skip'\nmax_concurrency = 101\n\
             need = 1001\nretry = 11\nbreaker = { failures = 1001, max_open = '1s' }\n\
             - 'b'\nagent = 'x'\nrepeat = { until = 'last', at_most = 101 }\n- 'c'\n\
             parallel = [{ name = 'x', agent = 'x' }]\njoin = 2"
        ),
        "6:19: steps[0].max_concurrency: 101 is out of range: give a number from 1 to 100\n\
         7:8: steps[0].need: 1001 is out of range: give a number from 0 to 1000\n\
         8:9: steps[0].retry: 11 is out of range: give a number from 0 to 10\n\
         9:11: steps[0].breaker.open: open must not be longer than max_open\n\
         9:24: steps[0].breaker.failures: 1001 is out of range: give a number from 1 to 1000\n\
         13:38: steps[1].repeat.at_most: 101 is out of range: give a number from 1 to 100\n\
         17:8: steps[2].join: 2 are waited for, and there are only 1"
    );
    let many: String = (0..201).map(|n| format!("- 's{n}'\nagent = 'x'\n")).collect();
    assert_eq!(
        steps(&many),
        "1:1: steps: it has 201 steps, those inside steps counted, and at most 200 can be"
    );
    let deep = |levels: usize| {
        (0..levels).fold("agent = 'x'".to_owned(), |inner, level| {
            format!("steps = [{{ name = 's{level}', {inner} }}]")
        })
    };
    let text = |levels| format!("[[steps]]\nname = 'a'\n{}", deep(levels));
    assert!(pipeline_of(&text(7)).is_ok());
    assert_eq!(
        pipeline_of(&text(8)).unwrap_err().to_string(),
        "pipeline.toml:1:1: steps: steps stand inside steps more than 8 deep"
    );
    assert!(pipeline_of(&text(30)).is_err());
}

#[test]
fn others_who_are_asked_are_others_and_once() {
    let text = "on_failure = 'skip'\n[[steps]]\nname = 'a'\nagent = 'x'\n\
        on_failure = ['y', 'y', 'x']\n[[steps]]\nname = 'b'\n\
        balance = { by = 'conversation', of = ['human', 'x', 'x'] }\non_failure = []";
    assert_eq!(
        steps(text),
        "1:14: on_failure: only a step can be skipped: write \"fail\", or whom to ask instead\n\
         5:20: steps[0].on_failure[1]: `y` is named twice\n\
         5:25: steps[0].on_failure[2]: `x` is the one who has failed: name another\n\
         8:40: steps[1].balance.of[0]: messages are spread over agents, routers and pipelines: \
         `human` cannot be one of them\n\
         8:54: steps[1].balance.of[2]: `x` is named twice\n\
         9:14: steps[1].on_failure: `on_failure` is empty: give at least one"
    );
}

#[test]
fn keys_and_values_that_do_not_fit_are_told() {
    assert_eq!(
        steps(
            "modle = 'x'\n[[step]]\nname = 'a'\n- 'b'\nagnet = 'x'\nparallel = [{ nam = 'x' }]\nrepeat = { untill = 3 }"
        ),
        "1:1: unknown key `modle`; valid there: description, tags, on_failure, input, deps, output, \
         steps, limits, approvals, conversation, metadata\n\
         2:3: unknown key `step`; did you mean `steps`?\n\
         6:1: steps[0]: unknown key `agnet`; did you mean `agent`?\n\
         7:13: steps[0].parallel[0]: missing field `name`\n\
         7:15: steps[0].parallel[0]: unknown key `nam`; did you mean `name`?\n\
         8:10: steps[0].repeat: missing field `until`\n\
         8:12: steps[0].repeat: unknown key `untill`; did you mean `until`?"
    );
    assert_eq!(
        steps("- 'b'\nagent = 'X'\njoin = 0\non_failure = 3\nwhen = 3\nprompt = 3"),
        "3:9: steps[0].agent: `X` is not an agent's name: write a lower-case letter, then up to 63 \
         of a-z, 0-9 and _\n\
         4:8: steps[0].join: invalid value: integer `0`, expected \"all\", \"first\", or how many \
         are waited for, from 1\n\
         5:14: steps[0].on_failure: invalid type: integer `3`, expected \"fail\", \"skip\", a name, \
         or a list of names\n\
         6:8: steps[0].when: invalid type: integer `3`, expected an expression, or a table like { \
         pointer = \"/kind\", equals = 1 }\n\
         7:10: steps[0].prompt: invalid type: integer `3`, expected a text, or { rust = \"function\" \
         }"
    );
}

#[test]
fn routers_say_in_one_way_to_whom_messages_go() {
    assert_eq!(
        router(""),
        "1:1: it does not say to whom messages go: give exactly one of `by`, `rules`, `balance` or \
         `broadcast`"
    );
    assert_eq!(
        router("by = 'triage'\nto = ['a']\nbalance = 'round_robin'"),
        "1:1: it has `by` and `balance`: give exactly one of `by`, `rules`, `balance` or \
         `broadcast`"
    );
    assert_eq!(router("by = 'triage'"), "1:1: to: `to` is empty: give at least one");
    assert_eq!(router("broadcast = 'all'"), "1:1: to: `to` is empty: give at least one");
    assert_eq!(router("balance = 'round_robin'"), "1:1: to: `to` is empty: give at least one");
    assert_eq!(
        router("to = ['a']\n[[rules]]\nto = 'b'\nwhen = 'inptu'"),
        "1:6: to: `to` is what the rules say: leave it out\n\
         4:8: rules[0].when: nothing is called `inptu` here; did you mean `input`?"
    );
    assert_eq!(
        router("[[rules]]\nto = 'b'\nwhen = 'true'\n[[rules]]\nto = 'c'\nwhen = { equals = 1 }"),
        "5:6: rules[1].to: this is never made: the way before it is always gone"
    );
    assert_eq!(
        router("broadcast = 3\nto = ['a', 'b', 'a']\n[edges.b]\nretry = 1"),
        "2:17: to[2]: `a` is named twice"
    );
    assert_eq!(
        router("broadcast = 3\nto = ['a', 'b']"),
        "1:13: broadcast: 3 are waited for, and there are only 2"
    );
}

#[test]
fn edges_are_of_those_whom_messages_go_to() {
    assert_eq!(
        router(
            "by = 'triage'\nto = ['fraud', 'bank']\nfallback = 'b'\non_escalate = 'human'\n\
             retry = 12\nbreaker = { failures = 2000 }\n[edges.frauds]\ntimeout = '1s'\n[edges.bank]\n\
             fallback = 'bank'\nretry = 11\n[edges.q]"
        ),
        "5:9: retry: 12 is out of range: give a number from 0 to 10\n\
         6:24: breaker.failures: 2000 is out of range: give a number from 1 to 1000\n\
         7:1: edges.frauds: messages do not go to `frauds`; did you mean `fraud`?\n\
         10:12: edges.bank.fallback: the agent cannot fall back to itself: name another agent\n\
         11:9: edges.bank.retry: 11 is out of range: give a number from 0 to 10\n\
         12:1: edges.q: messages do not go to `q`; they go to: bank, fraud"
    );
    assert_eq!(
        router("balance = 'round_robin'\nto = ['a', 'human']\n[edges.a]\nretry = 1"),
        "2:12: to[1]: messages are spread over agents, routers and pipelines: `human` cannot be one \
         of them\n\
         3:2: edges: `edges` does not go with `balance`: all are asked in the same way: leave it out"
    );
}

/// Returns what is wrong with a flow that Rust code has made.
fn made(flow: Flow) -> Vec<String> {
    let mut spec = AgentSpec::new(AgentName::try_from("made").unwrap());
    spec.flow = Some(flow);
    spec.check().unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn flows_that_rust_code_has_made_keep_the_same_rules() {
    let late = after(plain("a"), &["b"]);
    let steps = vec![late, plain("b"), over(plain("c"), "input", (8, 3))];
    assert_eq!(
        made(pipeline(steps)),
        [
            "/steps/0/after/0: `b` stands behind this step: put the steps in an order in which they \
             can be made",
            "/steps/2/need: `need` counts only where somebody is asked with on_failure = \"skip\": \
             leave it out",
        ]
    );
    let by = Ask { prompt: Some(template("{{ who }}")), ..ask("triage") };
    let edge = Edge { retry: 11, on_failure: others(&["c", "x"]), ..Edge::default() };
    let to = Ask { prompt: Some(template("{{ route.why }} {{ item }}")), edge, ..ask("x") };
    let route = Does::Route(Route { by, to: vec![ask("y"), to] });
    let flow = Flow {
        kind: FlowKind::Router,
        on_failure: others(&["c"]),
        ..pipeline(vec![Step::of_router(route)])
    };
    let known = "known here: input, prompt, deps, previous, failures";
    assert_eq!(
        made(flow),
        [
            format!("/by: nothing is called `who` here; {known}"),
            format!("/to/1: nothing is called `item` here; {known}, route"),
            "/edges/x/retry: 11 is out of range: give a number from 0 to 10".to_owned(),
            "/edges/x/fallback: `x` is the one who has failed: name another".to_owned(),
        ]
    );
}

//! What is wrong between definitions.

use super::files::{pipeline_of, router_of};
use super::*;
use crate::schema::Schema;
use crate::spec::{
    AgentSpec, FileText, OutputSpec, PythonTarget, SpecError, ToolName, ToolSpec, ToolTarget,
};

/// Makes an agent that answers text.
pub(super) fn text_agent(name: &str) -> AgentSpec {
    AgentSpec::new(AgentName::try_from(name).unwrap())
}

/// Makes an agent that answers values of `output`.
fn answers(name: &str, output: Value) -> AgentSpec {
    let mut spec = text_agent(name);
    spec.output = Some(OutputSpec::new(Schema::new(output).unwrap()));
    spec
}

fn takes_deps(mut spec: AgentSpec, deps: Value) -> AgentSpec {
    spec.deps.schema = Some(Schema::new(deps).unwrap());
    spec
}

pub(super) fn named(name: &str, mut spec: AgentSpec) -> AgentSpec {
    spec.name = AgentName::try_from(name).unwrap();
    spec
}

/// Returns a pipeline called `name` of these steps, the first of which stands in line 1.
fn steps(name: &str, text: &str) -> AgentSpec {
    let text = text.replace("- ", "[[steps]]\nname = ");
    named(name, pipeline_of(&text).unwrap_or_else(|error| panic!("{error}")))
}

pub(super) fn router(text: &str) -> AgentSpec {
    router_of(text).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns what is wrong between definitions, with its place.
fn problems(specs: &[AgentSpec]) -> Vec<String> {
    let told = |problem: GraphProblem| {
        let path = problem.agent.to_string();
        SpecError { path, problems: vec![problem.in_file()] }.to_string()
    };
    System::new(specs).check().into_iter().map(told).collect()
}

/// Returns the schema of an object with these properties and no others.
fn closed(properties: Value) -> Value {
    let names: Vec<String> = properties.as_object().unwrap().keys().cloned().collect();
    json!({
        "type": "object", "properties": properties, "required": names,
        "additionalProperties": false,
    })
}

fn planner() -> AgentSpec {
    let queries = json!({ "type": "array", "items": { "$ref": "#/$defs/Query" } });
    let mut output = closed(json!({ "queries": queries, "count": { "type": "integer" } }));
    output["$defs"] = json!({ "Query": closed(json!({ "text": { "type": "string" } })) });
    answers("planner", output)
}

#[test]
fn all_exist_who_are_named() {
    let mut bank = text_agent("bank");
    let tool = ToolName::try_from("ask").unwrap();
    let who = |text: &str| AgentName::try_from(text).unwrap();
    bank.tools = vec![
        ToolSpec::new(tool, ToolTarget::Agent(who("frauds"))),
        ToolSpec::hand_off(vec![agent("fraud"), agent("human"), agent("nobody")]),
    ];
    bank.fallback.agent = Some(who("bnak"));
    let desk = router(
        "by = 'triage'\nto = ['bank', 'fruad', 'human']\non_escalate = 'boss'\n[edges.bank]\n\
         fallback = 'bank_2'",
    );
    let research = steps(
        "research",
        "- 'b'\nafter = ['a']\nbalance = { by = 'round_robin', of = ['bank', 'x_y'] }\n\
         on_failure = ['z_z']\n- 'a'\nafter = []\nchoose = [{ when = 'input', agent = 'q_q' }, \
         { agent = 'bank' }]",
    );
    assert_eq!(
        problems(&[desk, bank, research, text_agent("fraud")]),
        [
            "bank: tools[0].agent: there is no agent, router or pipeline `frauds`; did you mean \
             `fraud`?",
            "bank: handoff.to[2]: there is no agent, router or pipeline `nobody`",
            "bank: fallback.agent: there is no agent, router or pipeline `bnak`; did you mean \
             `bank`?",
            "desk:1:6: by: there is no agent, router or pipeline `triage`",
            "desk:2:15: to[1]: there is no agent, router or pipeline `fruad`; did you mean `fraud`?",
            "desk:3:15: fallback: there is no agent, router or pipeline `boss`",
            "desk:5:12: edges.bank.fallback: there is no agent, router or pipeline `bank_2`; did \
             you mean `bank`?",
            "research:4:47: steps[1].balance.of[1]: there is no agent, router or pipeline `x_y`",
            "research:5:15: steps[1].on_failure[0]: there is no agent, router or pipeline `z_z`",
            "research:9:37: steps[0].choose[0].agent: there is no agent, router or pipeline `q_q`",
        ]
    );
}

#[test]
fn no_router_and_no_pipeline_asks_itself() {
    let who = |text: &str| AgentName::try_from(text).unwrap();
    let asks = |name: &str, other: &str| {
        let mut spec = text_agent(name);
        let tool = ToolName::try_from("ask").unwrap();
        spec.tools = vec![ToolSpec::new(tool, ToolTarget::Agent(who(other)))];
        spec
    };
    let research = steps("research", "- 'a'\nagent = 'helper'\n- 'b'\nagent = 'writer'");
    let desk = router("by = 'triage'\nto = ['research', 'desk']");
    assert_eq!(
        problems(&[
            desk,
            research,
            asks("helper", "writer"),
            asks("writer", "desk"),
            text_agent("triage"),
            // Agents may ask each other in a circle: how deep they go is bounded.
            asks("one", "two"),
            asks("two", "one"),
        ]),
        [
            "desk:2:19: to[1]: it asks itself: desk -> desk",
            "research:6:9: steps[1].agent: it asks itself: research -> writer -> desk -> research",
        ]
    );
    let mut falls = text_agent("falls");
    falls.fallback.agent = Some(who("p"));
    assert_eq!(
        problems(&[steps("p", "- 'a'\nagent = 'falls'"), falls]),
        ["p:3:9: steps[0].agent: it asks itself: p -> falls -> p"]
    );
}

#[test]
fn expressions_take_what_answers_can_have() {
    let research = steps(
        "research",
        "- 'plan'\nagent = 'planner'\n- 'search'\nagent = 'searcher'\nmap = 'plan.querys'\n\
         prompt = '{{ item }}'\n- 'look'\nagent = 'searcher'\nmap = 'plan.queries'\n\
         prompt = '{{ item.text.x }} {{ item.txt }} {{ index.x }} {{ search.x }}'\n- 'write'\n\
         agent = 'writer'\nwhen = 'plan.count.x > 1'\ndeps = { x = '{{ previous.q }}' }\n\
         - 'end'\nagent = 'planner'\nprompt = '{{ write.text }} {{ write | upper }} \
         {{ input.anything.at.all }} {{ deps.x }} {{ failures.x }}'",
    );
    assert_eq!(
        problems(&[research, planner(), text_agent("searcher"), text_agent("writer")]),
        [
            "research:7:7: steps[1].map: `plan` has no `querys`; did you mean `queries`?",
            "research:13:10: steps[2].prompt: `index` is an integer, and has no members",
            "research:13:10: steps[2].prompt: `item.text` is text, and has no members",
            "research:13:10: steps[2].prompt: `item` has no `txt`; did you mean `text`?",
            "research:13:10: steps[2].prompt: `search` is a list, and has no members",
            "research:17:8: steps[3].when: `plan.count` is an integer, and has no members",
            "research:18:8: steps[3].deps: `previous` is a list, and has no members",
            "research:22:10: steps[4].prompt: `failures` is a list, and has no members",
            // It may be `null`, which has no members either.
            "research:22:10: steps[4].prompt: `write` is text, and has no members",
        ]
    );
}

#[test]
fn what_is_not_known_may_be_anything() {
    let mut module = text_agent("module");
    module.runner.module = Some(PythonTarget::try_from("pkg.mod:agent").unwrap());
    let research = steps(
        "research",
        "- 'a'\nagent = 'module'\n- 'b'\nhuman = 'ok? {{ a.x.y }}'\n- 'c'\nrust = 'code'\n\
         - 'd'\nagent = 'text'\nmap = 'b.items_of'\nprompt = '{{ c.x }} {{ item.y }}'\n- 'e'\n\
         agent = 'planner'\non_failure = ['module']\n- 'f'\nagent = 'text'\nprompt = '{{ e.zzz }}'",
    );
    assert_eq!(problems(&[research, module, planner(), text_agent("text")]), [""; 0]);
}

#[test]
fn a_step_is_made_for_the_items_of_a_list() {
    let research = steps(
        "research",
        "- 'plan'\nagent = 'planner'\n- 'a'\nagent = 'text'\nmap = 'plan.count'\n- 'b'\n\
         agent = 'text'\nmap = 'plan'\n- 'c'\nagent = 'text'\nmap = 'a'\n- 'd'\nagent = 'text'\n\
         map = 'c | list'",
    );
    assert_eq!(
        problems(&[research, planner(), text_agent("text")]),
        [
            "research:7:7: steps[1].map: `plan.count` never is a list: it is an integer, and a list \
             is expected",
            "research:11:7: steps[2].map: `plan` never is a list: it is an object, and a list is \
             expected",
        ]
    );
}

#[test]
fn steps_inside_steps_are_looked_into() {
    let research = steps(
        "research",
        "- 'plan'\nagent = 'planner'\n- 'both'\nparallel = [{ name = 'x', agent = 'text' }, \
         { name = 'y', agent = 'planner' }]\n- 'first'\njoin = 'first'\nparallel = [{ name = 'x', \
         agent = 'text' }, { name = 'y', agent = 'text' }]\n- 'chosen'\nchoose = [{ when = 'both.y.z', \
         agent = 'text' }, { when = 'plan.count', agent = 'planner' }]\n- 'again'\nsteps = [{ name = \
         'in', agent = 'planner' }]\nrepeat = { until = 'last.counts > 2', at_most = 2 }\n- 'end'\n\
         agent = 'text'\nprompt = '{{ both.z }}{{ both.x.y }}{{ first.x }}{{ chosen.zzz }}\
         {{ again.queries[0].text }}{{ again.query }}'".replace("'in'", "'inner'").as_str(),
    );
    assert_eq!(
        problems(&[research, planner(), text_agent("text")]),
        [
            "research:13:20: steps[3].choose[0].when: `both.y` has no `z`; it has queries, count",
            "research:17:20: steps[4].repeat.until: `last` has no `counts`; did you mean \
             `count`?",
            "research:21:10: steps[5].prompt: `again` has no `query`; did you mean `queries`?",
            "research:21:10: steps[5].prompt: `both.x` is text, and has no members",
            "research:21:10: steps[5].prompt: `both` has no `z`; it has x, y",
            "research:21:10: steps[5].prompt: `chosen` has no `zzz`; it has queries, count",
            "research:21:10: steps[5].prompt: `first` is text, and has no members",
        ]
    );
}

#[test]
fn what_is_asked_fits_the_input() {
    let mut inner = steps("inner", "- 'a'\nagent = 'text'");
    let input = closed(json!({ "text": { "type": "string" } }));
    inner.flow.as_mut().unwrap().input = Some(Schema::new(input).unwrap());
    let research = steps(
        "research",
        "- 'plan'\nagent = 'planner'\n- 'a'\nagent = 'inner'\n- 'b'\nagent = 'inner'\nafter = \
         ['plan']\nmap = 'plan.queries'\n- 'c'\nagent = 'inner'\nprompt = '{{ plan.queries }}'\n\
         - 'd'\nagent = 'inner'\nprompt = 'so: {{ plan }}'\n- 'e'\nagent = 'inner'\nafter = ['a']\n\
         - 'f'\nagent = 'inner'\nafter = ['a']\nprompt = '{{ plan.count }}'",
    );
    assert_eq!(
        problems(&[research, inner, planner(), text_agent("text")]),
        [
            "research:6:9: steps[1].agent: what `inner` is asked never fits its input: it has no \
             `text`, which is required",
            "research:14:9: steps[3].agent: what `inner` is asked never fits its input: it is a \
             list, and an object is expected",
            "research:26:9: steps[6].agent: what `inner` is asked never fits its input: it is an \
             integer, and an object is expected",
        ]
    );
}

#[test]
fn the_last_step_gives_what_is_promised() {
    let text = "[output]\nschema = { type = 'object', properties = { n = { type = 'integer' } }, \
        required = ['n'] }\n";
    let of = |steps: &str| {
        let text = format!("{text}{}", steps.replace("- ", "[[steps]]\nname = "));
        pipeline_of(&text).unwrap_or_else(|error| panic!("{error}"))
    };
    assert_eq!(
        problems(&[of("- 'a'\nagent = 'text'"), text_agent("text")]),
        ["research:2:10: output.schema: the answer never fits this: it is text, and an object is \
          expected"]
    );
    assert_eq!(
        problems(&[of("- 'a'\nagent = 'planner'"), planner()]),
        ["research:2:10: output.schema: the answer never fits this: it has no `n`, which is \
          required"]
    );
    let good = answers("good", json!({ "type": "object" }));
    assert_eq!(problems(&[of("- 'a'\nagent = 'good'"), good]), [""; 0]);
    // What one pipeline answers is what another one goes on with.
    let inner = steps("inner", "- 'a'\nagent = 'text'\nmap = 'input'");
    let outer = of("- 'a'\nagent = 'inner'");
    assert_eq!(
        problems(&[outer, inner, text_agent("text")]),
        [
            "research:2:10: output.schema: the answer never fits this: it is a list, and an object is \
          expected"
        ]
    );
}

#[test]
fn deps_fit_whoever_gets_them() {
    let needs = json!({ "type": "object", "properties": { "id": { "type": "integer" } }, "required": ["id"] });
    let bank = takes_deps(text_agent("bank"), needs);
    let text = "[deps]\nschema = { type = 'object', properties = { docs = { type = 'string' } }, \
        additionalProperties = false }\n";
    let research = |steps: &str| {
        let text = format!("{text}{}", steps.replace("- ", "[[steps]]\nname = "));
        pipeline_of(&text).unwrap_or_else(|error| panic!("{error}"))
    };
    assert_eq!(
        problems(&[
            research(
                "- 'a'\nagent = 'bank'\n- 'b'\nagent = 'bank'\ndeps = { id = '{{ deps.docs }}' }\n\
                 - 'c'\nagent = 'bank'\ndeps = { id = '{{ previous }}!' }\n- 'd'\nagent = 'bank'\n\
                 deps = { id = 3 }\n- 'e'\nagent = 'text'\non_failure = 'bank'\n- 'f'\n\
                 agent = 'bank'\ndeps = { id = '{{ input.id }}' }\n- 'g'\nagent = 'bank'\n\
                 deps = ['{{ input }}']"
            ),
            bank.clone(),
            text_agent("text"),
        ]),
        [
            "research:5:9: steps[0].agent: the deps that `bank` gets never fit its own: it has no \
             `id`, which is required",
            "research:9:8: steps[1].deps: the deps that `bank` gets never fit its own: `/id` is \
             text, and an integer is expected",
            "research:13:8: steps[2].deps: the deps that `bank` gets never fit its own: `/id` is \
             text, and an integer is expected",
            "research:21:14: steps[4].on_failure[0]: the deps that `bank` gets never fit its own: \
             it has no `id`, which is required",
            "research:29:8: steps[6].deps: the deps that `bank` gets never fit its own: it is a \
             list, and an object is expected",
        ]
    );
    assert_eq!(problems(&[steps("p", "- 'a'\nagent = 'bank'"), bank]), [""; 0]);
}

#[test]
fn an_agent_that_chooses_can_choose_whom_messages_go_to() {
    let desk = || router("by = 'triage'\nto = ['bank', 'fraud']");
    let with = |triage| {
        let others = [text_agent("bank"), text_agent("fraud"), desk()];
        problems(&others.into_iter().chain([triage]).collect::<Vec<_>>())
    };
    let choice = |names: Value| closed(json!({ "to": { "enum": names } }));
    assert_eq!(with(answers("triage", choice(json!(["bank"])))), [""; 0]);
    assert_eq!(with(answers("triage", choice(json!(["bank", "fraud"])))), [""; 0]);
    assert_eq!(with(text_agent("triage")), [""; 0]);
    assert_eq!(with(answers("triage", json!({ "type": "object" }))), [""; 0]);
    assert_eq!(
        with(answers("triage", choice(json!(["bank", "frauds", "police"])))),
        ["desk:1:6: by: `triage` can choose frauds, police, to whom no messages go; they go to \
          bank, fraud"]
    );
    assert_eq!(
        with(answers("triage", json!({ "oneOf": [{ "const": "bank" }, { "const": "x" }] }))),
        ["desk:1:6: by: `triage` can choose x, to whom no messages go; they go to bank, fraud"]
    );
    assert_eq!(
        with(answers("triage", closed(json!({ "target": { "type": "string" } })))),
        ["desk:1:6: by: `triage` chooses nobody: its answer has no `to`; it has target"]
    );
    assert_eq!(
        with(answers("triage", closed(json!({ "to": { "type": "integer" } })))),
        ["desk:1:6: by: `triage` chooses nobody: its answer has an integer as `to`"]
    );
    assert_eq!(
        with(answers("triage", json!({ "type": "array" }))),
        ["desk:1:6: by: `triage` chooses nobody: its answer is a list, and has no members"]
    );
}

#[test]
fn runs_are_handed_on_to_agents_that_answer_the_same() {
    let text = "model = 'test'\n[handoff]\nto = ['fraud', 'boss', 'human', 'desk', 'p']\n";
    let bank = |more: &str| {
        let text = format!("{text}{more}");
        let file = FileText { path: "agent.toml", text: &text };
        let name = AgentName::try_from("bank").unwrap();
        AgentSpec::from_toml(name, file, &|_| None, &|_| Err("".into())).unwrap()
    };
    let others = [
        text_agent("fraud"),
        answers("boss", json!({ "type": "object" })),
        router("by = 'fraud'\nto = ['boss']"),
        steps("p", "- 'a'\nagent = 'fraud'"),
    ];
    let all = |bank| problems(&others.iter().cloned().chain([bank]).collect::<Vec<_>>());
    let flows = [
        "bank:3:33: handoff.to[3]: `desk` is a router, and a run can be handed on to agents and \
         people only",
        "bank:3:41: handoff.to[4]: `p` is a pipeline, and a run can be handed on to agents and \
         people only",
    ];
    assert_eq!(
        all(bank("")),
        [
            "bank:3:16: handoff.to[1]: what `boss` answers is not what this agent does: it is an \
             object, and text is expected",
            flows[0],
            flows[1],
        ]
    );
    assert_eq!(
        all(bank("[output]\nschema = { type = 'object' }")),
        [
            "bank:3:7: handoff.to[0]: what `fraud` answers is not what this agent does: it is text, \
             and an object is expected",
            flows[0],
            flows[1],
        ]
    );
}

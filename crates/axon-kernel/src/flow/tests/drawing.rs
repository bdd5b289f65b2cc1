//! What all definitions look like together.

use super::files::pipeline_of;
use super::graph::{named, router, text_agent};
use super::*;
use crate::spec::{AgentSpec, ToolName, ToolSpec, ToolTarget};

fn support() -> AgentSpec {
    let mut spec = text_agent("bank_support");
    spec.description = Some("First-line\n support \u{1b}[31m".to_owned());
    let who = |text: &str| AgentName::try_from(text).unwrap();
    let tool = ToolName::try_from("ask_fraud").unwrap();
    spec.tools = vec![
        ToolSpec::new(tool, ToolTarget::Agent(who("fraud"))),
        ToolSpec::hand_off(vec![agent("fraud"), agent("human")]),
    ];
    spec.fallback.agent = Some(who("gone"));
    spec
}

fn desk() -> AgentSpec {
    router(
        "by = 'triage'\nto = ['bank_support', 'fraud']\nfallback = 'bank_support'\n\
         on_escalate = 'human'\nretry = 1\n[edges.fraud]\ntimeout = '60s'\nfallback = 'triage'",
    )
}

fn rules() -> AgentSpec {
    let text = "fallback = 'fraud'\n[[rules]]\nto = 'research'\nwhen = { pointer = '/kind', matches = \
        '^[a\"]{2}|b' }\n[[rules]]\nto = 'human'\nwhen = 'input.amount > 1000'";
    named("by_rules", router(text))
}

fn research() -> AgentSpec {
    let text = r#"
        on_failure = "human"
        [[steps]]
        name = "plan"
        agent = "fraud"
        when = "input.long"
        [[steps]]
        name = "search"
        agent = "bank_support"
        map = "plan"
        on_failure = "skip"
        [[steps]]
        name = "both"
        after = []
        join = "first"
        parallel = [
            { name = "fraud", agent = "fraud", retry = 2 },
            { name = "code", rust = "look", when = "plan.x" },
        ]
        [[steps]]
        name = "decide"
        after = ["search", "both"]
        choose = [
            { when = "both", agent = "fraud" },
            { steps = [{ name = "ask", human = "Why?" }] },
        ]
        [[steps]]
        name = "polish"
        repeat = { until = "last.good", at_most = 3 }
        balance = { by = "round_robin", of = ["fraud", "triage"] }
    "#;
    let text = text.replace("when = \"plan.x\"", "when = \"input.x\"");
    pipeline_of(&text).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn all_definitions_are_drawn_as_a_tree() {
    let specs = [support(), desk(), rules(), research(), text_agent("fraud"), text_agent("triage")];
    let expected = "\
bank_support  agent: First-line support \u{fffd}[31m
├─ fraud     asked by the tool ask_fraud
├─ fraud     may go on with its runs
├─ a person  may go on with its runs
└─ gone      asked when it fails
by_rules  router
├─ (each message)  the first that holds
│  ├─ when /kind matches ^[a\"]{2}|b  research, else fraud
│  ├─ when input.amount > 1000       a person, else fraud
│  └─ else                           fraud
└─ (failure)       else fraud
desk  router
├─ (each message)  as triage chooses
│  ├─ (choice)      triage, 1 retry
│  ├─ bank_support  1 retry, else a person
│  └─ fraud         within 1m, 1 retry, else triage, then bank_support, then a person
└─ (failure)       else bank_support, then a person
fraud  agent
research  pipeline
├─ plan       fraud, when input.long
├─ search     bank_support, else left out, for each of plan, 8 at once
├─ both       the first of, at once
│  ├─ fraud  2 retries
│  └─ code   look (Rust), when input.x
├─ decide     the first that holds, after search, both
│  ├─ when both  fraud
│  └─ else       one after the other
│     └─ ask  a person
├─ polish     one of fraud, triage in turn, until last.good, 3 times at most
└─ (failure)  else a person
triage  agent
";
    assert_eq!(System::new(&specs).text(), expected);
    let backwards: Vec<AgentSpec> = specs.into_iter().rev().collect();
    assert_eq!(System::new(&backwards).text(), expected);
}

#[test]
fn all_definitions_are_drawn_as_a_chart() {
    let specs = [support(), desk(), rules(), research(), text_agent("fraud"), text_agent("triage")];
    let expected = r##"flowchart TD
    a_bank_support["bank_support"]
    a_by_rules{"by_rules"}
    a_desk{"desk"}
    a_fraud["fraud"]
    subgraph a_research["research"]
        s1(( ))
        s2["plan"]
        s1 ==>|"when input.long"| s2
        s3["search"]
        s2 ==>|"for each of plan, 8 at once"| s3
        subgraph s4["both: the first"]
            s5["fraud"]
            s6[["code: look #40;Rust#41;"]]
            s7(( ))
            s7 ==>|"when input.x"| s6
        end
        s1 ==> s4
        s8{"decide"}
        subgraph s9["one after the other"]
            s10(( ))
            s11["ask"]
            s10 ==> s11
        end
        s3 ==> s8
        s4 ==> s8
        s12["polish"]
        s8 ==>|"until last.good, 3 times at most"| s12
    end
    a_triage["triage"]
    a_gone[/"gone #40;missing#41;"/]
    human(["a person"])
    a_bank_support -->|"tool ask_fraud"| a_fraud
    a_bank_support -.->|"hands over"| a_fraud
    a_bank_support -.->|"hands over"| human
    a_bank_support -.->|"fallback"| a_gone
    a_by_rules -->|"/kind matches ^#91;a#34;#93;#123;2#125;#124;b"| a_research
    a_by_rules -->|"input.amount #62; 1000"| human
    a_by_rules -->|"else"| a_fraud
    a_by_rules -.->|"fallback"| a_fraud
    a_desk -->|"chosen by, 1 retry"| a_triage
    a_desk -->|"1 retry"| a_bank_support
    a_desk -->|"within 1m, 1 retry"| a_fraud
    a_desk -.->|"if fraud fails"| a_triage
    a_desk -.->|"fallback"| a_bank_support
    a_desk -.->|"fallback"| human
    s2 --> a_fraud
    s3 -->|"else left out"| a_bank_support
    s5 -->|"2 retries"| a_fraud
    s8 -->|"both"| a_fraud
    s11 --> human
    s8 -->|"else"| s9
    s12 -->|"in turn"| a_fraud
    s12 -->|"in turn"| a_triage
    a_research -.->|"fallback"| human
"##;
    assert_eq!(System::new(&specs).mermaid(), expected);
    let backwards: Vec<AgentSpec> = specs.into_iter().rev().collect();
    assert_eq!(System::new(&backwards).mermaid(), expected);
}

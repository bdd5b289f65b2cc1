//! Pipelines in files: what they do, and how they are refused before anything starts.

use axon_kernel::event::PauseReason;
use axon_kernel::spec::{AgentName, AgentSpec, FileText};
use axon_kernel::wire::DeferredRequest;
use axon_runtime::{Outcome, Pipeline, Runtime, ToolError, named};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{answering, ask};
use crate::command_line::axon;
use crate::support::{Project, output};

/// Starts the project's flows beside three that answer by a Rust function.
async fn start(project: &Project) -> Runtime {
    let picky = Pipeline::new("picky").try_apply(|text: String| match text.contains("bad") {
        true => Err(ToolError::Failed("nothing is found".to_owned())),
        false => Ok(text),
    });
    let split = Pipeline::new("split").apply(|text: String| {
        json!({ "words": text.split(' ').collect::<Vec<_>>(), "enough": text.len() > 5 })
    });
    let builder = project.runtime().agents_dir(project.path().join("agents"));
    let builder = builder.agent(picky.build().unwrap()).agent(split.build().unwrap());
    builder.agent(answering("echo", |text| text)).start().await.unwrap()
}

/// What `on_failure` is filled into.
const SEARCH: &str = r#"
[[steps]]
name = "plan"
agent = "split"
[[steps]]
name = "search"
agent = "picky"
map = "plan.words"
ON_FAILURE
[[steps]]
name = "write"
agent = "echo"
prompt = """
{% if failures %}{{ failures | length }} of {{ plan.words | length }} failed: {{ failures[0].error }}
{% endif %}{{ search }}"""
"#;

#[tokio::test]
async fn a_search_that_fails_makes_the_report_partial_or_fails_the_flow_as_configured() {
    let project = Project::new();
    let with = |name: &str, on_failure: &str| {
        let text = SEARCH.replace("ON_FAILURE", on_failure);
        project.write(&format!("agents/{name}/pipeline.toml"), &text);
    };
    with("partial", "on_failure = 'skip'");
    with("strict", "");
    with("none", "on_failure = 'skip'\nneed = 0");
    let runtime = start(&project).await;
    let report = ask(&runtime, "partial", "a bad c").await.unwrap();
    let report = report.as_str().unwrap();
    assert!(report.starts_with("1 of 3 failed: step `search.1`"), "{report}");
    assert!(report.ends_with(r#"["a","c"]"#), "{report}");
    let failure = ask(&runtime, "strict", "a bad c").await.unwrap_err();
    assert!(failure.message.contains("nothing is found"), "{failure}");
    let failure = ask(&runtime, "partial", "bad bad").await.unwrap_err();
    assert!(failure.message.contains("2 of 2 failed, and 1 are needed"), "{failure}");
    let report = ask(&runtime, "none", "bad bad").await.unwrap();
    assert!(report.as_str().unwrap().ends_with("[]"), "{report}");
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_pipeline_chooses_repeats_works_side_by_side_and_asks_people() {
    let project = Project::new();
    project.write(
        "agents/flow/pipeline.toml",
        r#"
[[steps]]
name = "plan"
agent = "split"
[[steps]]
name = "longer"
agent = "echo"
prompt = "{{ last or prompt }}!"
repeat = { until = "last | length > 8", at_most = 9 }
[[steps]]
name = "both"
parallel = [{ name = "a", agent = "echo" }, { name = "b", agent = "echo", prompt = "b" }]
[[steps]]
name = "choice"
choose = [{ when = "plan.enough", human = "Is {{ longer }} right?" }, { agent = "echo" }]
[[steps]]
name = "end"
agent = "echo"
prompt = "{{ both.a }} {{ both.b }} {{ choice }}"
"#,
    );
    let runtime = start(&project).await;
    let mut run = runtime.named("flow").unwrap().run("abcdef").start().await.unwrap();
    let Outcome::Paused(paused) = run.outcome().await.outcome else { panic!("it asks a person") };
    let PauseReason::Approval { requests } = &paused.reason else { panic!("{paused:?}") };
    let requests: Vec<DeferredRequest> = requests.decode().unwrap();
    assert_eq!(requests[0].question().unwrap(), "Is abcdef!!! right?");
    run.answer(&requests[0].tool_call_id, "yes").await.unwrap();
    assert_eq!(output(&run.outcome().await.outcome), json!("abcdef!!! b yes"));
    let short = ask(&runtime, "flow", "abc").await.unwrap();
    assert!(short.as_str().unwrap().starts_with("abc!!!!!! b "), "{short}");
    runtime.shutdown().await;
}

/// Each mistake, and what is said of it: where it stands, and why.
const BROKEN: [(&str, &str); 7] = [
    (
        "[[steps]]\nname = 'a'\nagent = 'nobody'",
        "pipeline.toml:3:9: steps[0].agent: there is no agent, router or pipeline `nobody`",
    ),
    (
        "[[steps]]\nname = 'a'\nagent = 'plain'\n[[steps]]\nname = 'b'\nagent = 'plain'\nmap = 'a'",
        "pipeline.toml:7:7: steps[1].map:",
    ),
    (
        "[[steps]]\nname = 'a'\nagent = 'rich'\n[[steps]]\nname = 'b'\nagent = 'plain'\n\
         prompt = '{{ a.titel }}'",
        "pipeline.toml:7:10: steps[1].prompt:",
    ),
    (
        "[[steps]]\nname = 'a'\nagent = 'plain'\nafter = ['b']\n[[steps]]\nname = 'b'\n\
         agent = 'plain'\nafter = ['a']",
        "these steps wait for each other: a -> b -> a",
    ),
    (
        "[[steps]]\nname = 'a'\nagent = 'plain'\nwhen = 'false'",
        "pipeline.toml:4:8: steps[0].when: this is never made",
    ),
    (
        "[[steps]]\nname = 'a'\nagent = 'broken'",
        "pipeline.toml:3:9: steps[0].agent: it asks itself: broken -> broken",
    ),
    (
        "[output]\nschema = { type = 'object' }\n[[steps]]\nname = 'a'\nagent = 'plain'",
        "pipeline.toml:",
    ),
];

#[tokio::test]
async fn each_mistake_is_refused_with_its_place_before_anything_starts() {
    for (text, said) in BROKEN {
        let project = Project::new();
        project.write("agents/plain/agent.toml", "model = 'test'");
        let rich = "model = 'test'\n[output]\nschema = { type = 'object', properties = { title = \
                    { type = 'string' } }, additionalProperties = false }";
        project.write("agents/rich/agent.toml", rich);
        project.write("agents/broken/pipeline.toml", text);
        let checked = axon(&project, &["validate"]).output().await.unwrap();
        let told = String::from_utf8_lossy(&checked.stderr);
        assert!(told.contains(said), "{text}\n{told}");
        assert_eq!(checked.status.code(), Some(3), "{told}");
        let run = axon(&project, &["run", "broken", "hi", "--store", "memory"]);
        let run = { run }.output().await.unwrap();
        let told = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(3), "{text}\n{told}");
        assert!(told.contains(said), "{text}\n{told}");
    }
}

#[tokio::test]
async fn the_whole_is_drawn_for_terminals_and_for_documents() {
    let project = Project::new();
    let text = axon(&project, &["graph"]).output().await.unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for name in ["front_desk", "triage", "fraud", "a person", "research", "research_searcher"] {
        assert!(text.contains(name), "{text}");
    }
    let mermaid = axon(&project, &["graph", "--mermaid"]).output().await.unwrap();
    assert!(String::from_utf8_lossy(&mermaid.stdout).starts_with("flowchart TD"));
    let listed = axon(&project, &["agents"]).output().await.unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("front_desk         router"));
    let schema = axon(&project, &["schema", "pipeline"]).output().await.unwrap();
    let schema: Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert_eq!(schema["title"], "pipeline.toml");
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Cards {
    cards: u32,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Loans {
    loans: u32,
}

#[tokio::test]
async fn what_comes_later_has_to_fit_those_that_are_there() {
    let told = |takes: &str| {
        let text = format!(
            "[[steps]]\nname = 'c'\nagent = 'count'\n[[steps]]\nname = 'say'\nagent = 'echo'\n\
             prompt = 'there are {{{{ {takes} }}}}'"
        );
        let file = FileText { path: "pipeline.toml", text: &text };
        let name = AgentName::try_from("told").unwrap();
        AgentSpec::pipeline_from_toml(name, file, &|_| None, &|_| Err("".into())).unwrap()
    };
    let cards = Pipeline::new("count").apply(|_: String| Cards { cards: 3 }).build().unwrap();
    let loans = Pipeline::new("count").apply(|_: String| Loans { loans: 3 }).build().unwrap();
    let builder = Runtime::builder().agent(&cards).agent(answering("echo", |text| text));
    let runtime = builder.start().await.unwrap();
    let refused = runtime.start_agent(told("c.crads")).await.unwrap_err();
    let why = "pipeline `told`:7:10: steps[1].prompt: `c` has no `crads`; did you mean `cards`?";
    assert_eq!(refused.to_string(), why);
    runtime.start_agent(told("c.cards")).await.unwrap();
    let refused = runtime.reload_agent(told("c.loans")).await.unwrap_err();
    assert!(refused.to_string().contains("`c` has no `loans`"), "{refused}");
    // One after the other they may become something else.
    runtime.reload_agent(&loans).await.unwrap();
    runtime.reload_agent(told("c.loans")).await.unwrap();
    assert_eq!(ask(&runtime, "told", "Well?").await.unwrap(), json!("there are 3"));
    runtime.shutdown().await;
}

#[tokio::test]
async fn what_does_not_fit_and_stands_in_no_file_is_told_by_its_name() {
    let report = Pipeline::new("report").map(|_: String| vec![1], &named::<String>("writer"));
    let report = report.then(&named::<String>("writer")).build().unwrap();
    let Err(refused) = Runtime::builder().agent(&report).start().await else { panic!("it starts") };
    let refused = refused.to_string();
    assert!(!refused.contains("1:1") && refused.contains("`writer`"), "{refused}");
}

//! Answers in the author's own types: from the type to its schema, through pydantic-ai and the real
//! client of a provider, and back to an equal value.

mod family;
mod types;

use axon_kernel::failure::FailureKind;
use axon_kernel::schema::Schema;
use axon_kernel::spec::{AgentSpec, OutputMode, OutputSpec, PolicyRule};
use axon_runtime::{Agent, Outcome, Partial, Runtime};
use axon_test::scripted_model::ChatRequest;
use axon_test::{Reply, Script, ScriptedModel};
use proptest::prelude::*;
use serde_json::{Value, json};

use self::family::Family;
use self::types::{Inner, Tree};
use crate::support::{Project, failure, follow, output, scripted_agent};

/// Says what the prompt says, as the output.
fn parrot() -> Script {
    Script::function(|body| {
        let said = ChatRequest::new(body).user_prompt();
        Reply::final_result(serde_json::from_str(&said).unwrap())
    })
}

/// Returns what a model has to say for `value` to be the output.
fn said(output: &OutputSpec, value: &Value) -> Value {
    if output.is_wrapped() { json!({ "value": value }) } else { value.clone() }
}

async fn start(agents: Vec<AgentSpec>, model: &ScriptedModel) -> (Project, Runtime) {
    let project = Project::with_model(model);
    let builder = agents.into_iter().fold(project.runtime(), axon_runtime::RuntimeBuilder::agent);
    let runtime = builder.start().await.unwrap();
    (project, runtime)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_value_of_any_type_comes_back_as_it_was_in_each_mode() {
    let model = ScriptedModel::start(parrot()).await;
    let family = Family::of_all_types();
    let (_project, runtime) = start(family.agents(), &model).await;
    let runs = family.run(&runtime).await;
    assert!(runs >= 200, "{runs}");
    runtime.shutdown().await;
}

#[tokio::test]
async fn an_answer_of_no_object_is_what_an_agent_file_asked_for() {
    let model = ScriptedModel::start([
        Reply::final_result(json!({"value": ["a", 1]})),
        Reply::final_result(json!({"value": ["a", "b"]})),
    ])
    .await;
    let project = Project::with_model(&model);
    project.write(
        "agents/lists/agent.toml",
        "model = 'openai-chat:scripted'\n[output]\nmode = 'tool'\n\
         schema = { type = 'array', items = { type = 'string' } }",
    );
    let runtime =
        project.runtime().agents_dir(project.path().join("agents")).start().await.unwrap();
    let mut run = runtime.named("lists").unwrap().run("list").start().await.unwrap();
    let seen = follow(&mut run).await;
    assert_eq!(output(&run.outcome().await.outcome), json!(["a", "b"]));
    let partials = seen.iter().filter_map(Partial::<Vec<String>>::of);
    assert!(partials.map(|partial| partial.value()).all(|value| value.is_array()));
    let requests = model.requests();
    assert_eq!(requests.len(), 2, "the first answer breaks the schema");
    let asked = ChatRequest::new(&requests[0].body).tool_parameters("final_result").unwrap();
    assert_eq!(asked["properties"]["value"]["items"]["type"], "string");
    runtime.shutdown().await;
}

#[tokio::test]
async fn an_agent_in_rust_answers_with_a_type_that_is_no_object_and_validates_it() {
    let model = ScriptedModel::start([
        Reply::final_result(json!({"value": [{"letter": "a", "maybe": 1.0}]})),
        Reply::final_result(json!({"value": [{"letter": "b", "maybe": 2.0}]})),
    ])
    .await;
    let lister = Agent::<(), Vec<Inner>>::builder("lister")
        .model("openai-chat:scripted")
        .validate(|list, _| match list.iter().all(|item| item.letter == 'b') {
            true => Ok(()),
            false => Err("begin with b".into()),
        })
        .build()
        .unwrap();
    let project = Project::with_model(&model);
    let runtime = project.runtime().agent(lister.clone()).start().await.unwrap();
    let answer = runtime.agent(&lister).run("list").await.unwrap();
    assert_eq!(answer.output, [Inner { letter: 'b', maybe: Some(2) }]);
    assert_eq!(model.requests().len(), 2, "the validator saw the list, and rejected the first");
    runtime.shutdown().await;

    let wide = Agent::<(), Vec<u128>>::builder("wide").model("test").build().unwrap_err();
    let told = wide.to_string();
    assert!(told.starts_with("the output cannot be described to a model: the type"), "{told}");
    assert!(told.contains("128 bits"), "{told}");
}

#[tokio::test]
async fn plain_text_is_asked_for_where_the_file_says_so() {
    let model = ScriptedModel::start(Reply::text("[1]")).await;
    let mut spec = scripted_agent("plain");
    spec.output = Some(OutputSpec::text());
    let (_project, runtime) = start(vec![spec], &model).await;
    let run = runtime.named("plain").unwrap().run("hello").wait().await.unwrap();
    assert_eq!(output(&run.outcome), json!("[1]"));
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_model_that_keeps_breaking_the_schema_ends_the_run_with_what_was_wrong() {
    let model = ScriptedModel::start(Reply::final_result(json!({"value": [{"a": 1}]}))).await;
    let mut agents = Vec::new();
    for (name, mode) in [("tool", OutputMode::Tool), ("native", OutputMode::Native)] {
        let mut spec = scripted_agent(name);
        spec.retries.output = Some(1);
        let output = OutputSpec::new(Schema::of_deserialized::<Vec<Inner>>().unwrap());
        spec.output = Some(output.with_mode(mode));
        let once = PolicyRule { retry: Some(0), ..PolicyRule::default() };
        spec.policy.insert(FailureKind::OutputInvalid, once);
        agents.push(spec);
    }
    let (_project, runtime) = start(agents, &model).await;
    for name in ["tool", "native"] {
        let run = runtime.named(name).unwrap().run("go").wait().await.unwrap();
        let failure = failure(&run.outcome);
        assert_eq!(failure.kind, FailureKind::OutputInvalid, "{failure:?}");
        let told = format!("{failure:?}");
        assert!(told.contains("letter"), "{told}");
    }
    assert_eq!(model.requests().len(), 4, "each was asked again once");
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_streamed_answer_grows_until_it_is_the_output() {
    let tree = Tree::balanced(4);
    let output = OutputSpec::new(Schema::of_deserialized::<Vec<Tree>>().unwrap());
    let reply = Reply::final_result(said(&output, &json!([tree])));
    let reply = reply.chunks(12).delay(std::time::Duration::from_millis(60));
    let model = ScriptedModel::start(reply).await;
    let mut spec = scripted_agent("grower");
    spec.output = Some(output);
    let (_project, runtime) = start(vec![spec], &model).await;
    let mut run = runtime.named("grower").unwrap().run("grow").start().await.unwrap();
    let seen = follow(&mut run).await;
    let partials: Vec<Partial<Vec<Tree>>> = seen.iter().filter_map(Partial::of).collect();
    let Outcome::Completed(completed) = run.outcome().await.outcome else { panic!() };
    let lengths: Vec<usize> = partials.iter().map(|partial| partial.raw().get().len()).collect();
    assert!(lengths.len() >= 4 && lengths.is_sorted(), "{lengths:?}");
    assert!(partials[1].value().is_array(), "{partials:?}");
    let last = partials.last().unwrap();
    assert_eq!(last.complete().unwrap(), vec![tree]);
    assert_eq!(last.value(), completed.output.decode::<Value>().unwrap());
    runtime.shutdown().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn what_fits_the_schema_of_a_type_can_be_read_as_it(
        value in family::json_value(),
        at in any::<prop::sample::Index>(),
    ) {
        // Without a model in between: the schema itself must promise no more than the type keeps.
        types::fits_only_what_can_be_read(&value, at);
    }
}

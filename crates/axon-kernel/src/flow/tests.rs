//! Flows, driven by hand: what they want next, and what they come to.

mod asks;
mod broken;
mod drawing;
mod driver;
mod files;
mod graph;
mod plans;
mod printing;
mod properties;
mod shapes;

use serde_json::{Value, json};

use super::*;
use crate::failure::{Failure, FailureKind};
use crate::spec::{AgentName, PromptName};

fn name(text: &str) -> StepName {
    StepName::try_from(text).unwrap()
}

fn agent(text: &str) -> Target {
    Target::named(AgentName::try_from(text).unwrap())
}

fn expression(text: &str) -> Expression {
    Expression::new(text).unwrap()
}

fn condition(text: &str) -> Condition {
    Condition::Holds(expression(text))
}

fn template(text: &str) -> TextTemplate {
    TextTemplate::new(text).unwrap()
}

fn ask(target: &str) -> Ask {
    Ask::of(agent(target))
}

fn asks(target: &str) -> Does {
    Does::Ask(ask(target))
}

fn step(called: &str, does: Does) -> Step {
    Step::new(name(called), does)
}

/// Makes a step that asks the agent of its own name.
fn plain(called: &str) -> Step {
    step(called, asks(called))
}

fn after(step: Step, names: &[&str]) -> Step {
    Step { after: names.iter().map(|text| name(text)).collect(), ..step }
}

fn over(step: Step, list: &str, (max_concurrency, need): (u32, u32)) -> Step {
    let max_concurrency = max_concurrency.try_into().unwrap();
    Step { over: Some(Over { list: expression(list), max_concurrency, need }), ..step }
}

fn repeat(step: Step, until: &str, at_most: u32) -> Step {
    let at_most = at_most.try_into().unwrap();
    Step { repeat: Some(Repeat { until: condition(until), at_most }), ..step }
}

fn pipeline(steps: Vec<Step>) -> Flow {
    Flow { kind: FlowKind::Pipeline, input: None, steps, on_failure: OnFailure::Fail }
}

fn others(names: &[&str]) -> OnFailure {
    OnFailure::Ask(names.iter().map(|text| agent(text)).collect())
}

fn message(prompt: impl Into<Value>) -> Message {
    Message { prompt: prompt.into(), deps: json!({ "customer": 7 }) }
}

/// The functions of the tests.
struct Service;

impl Functions for Service {
    fn call(&self, name: &PromptName, previous: &Value) -> Result<Value, String> {
        match name.as_str() {
            "shout" => Ok(previous.as_str().unwrap_or("?").to_uppercase().into()),
            "is_text" => Ok(previous.is_string().into()),
            "three" => Ok(json!([1, 2, 3])),
            other => Err(format!("`{other}` gives nothing")),
        }
    }
}

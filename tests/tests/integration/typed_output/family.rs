//! Every type with its agent, and the runs that carry its values.

use std::fmt::Debug;

use axon_kernel::schema::Schema;
use axon_kernel::spec::{AgentSpec, OutputMode, OutputSpec};
use axon_runtime::{Outcome, Runtime};
use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt, StreamExt, stream};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::said;
use crate::support::scripted_agent;

/// How many values of each type make the journey.
const VALUES: usize = 10;

const MODES: [OutputMode; 4] =
    [OutputMode::Tool, OutputMode::Native, OutputMode::Prompted, OutputMode::Auto];

type Check = Box<dyn Fn(Runtime) -> BoxFuture<'static, usize>>;

/// The types whose values are sent around.
#[derive(Default)]
pub(super) struct Family {
    agents: Vec<AgentSpec>,
    checks: Vec<Check>,
    runner: TestRunner,
}

impl Family {
    pub(super) fn agents(&self) -> Vec<AgentSpec> {
        self.agents.clone()
    }

    /// Adds a type, with values of it to send around.
    pub(super) fn with<T>(mut self, name: &str, values: impl Strategy<Value = T>) -> Self
    where
        T: JsonSchema
            + Serialize
            + DeserializeOwned
            + PartialEq
            + Debug
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let schema = Schema::of_deserialized::<T>().unwrap();
        let output = OutputSpec::new(schema).with_mode(MODES[self.agents.len() % MODES.len()]);
        let mut agent = scripted_agent(name);
        agent.output = Some(output.clone());
        self.agents.push(agent);
        let values: Vec<T> =
            (0..VALUES).map(|_| values.new_tree(&mut self.runner).unwrap().current()).collect();
        let name = name.to_owned();
        self.checks.push(Box::new(move |runtime| {
            send(runtime, name.clone(), output.clone(), values.clone()).boxed()
        }));
        self
    }

    /// Sends all values, those of two types at a time, and returns how many there were.
    pub(super) async fn run(&self, runtime: &Runtime) -> usize {
        let checks = self.checks.iter().map(|check| check(runtime.clone()));
        stream::iter(checks).buffer_unordered(2).fold(0, async |sum, sent| sum + sent).await
    }
}

async fn send<T>(runtime: Runtime, name: String, output: OutputSpec, values: Vec<T>) -> usize
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let (agent, name) = (runtime.named(&name).unwrap(), &name);
    let runs = values.into_iter().map(|value| {
        let tree = json!(value);
        let run = agent.run(said(&output, &tree).to_string());
        async move {
            let outcome = run.wait().await.unwrap().outcome;
            let Outcome::Completed(completed) = outcome else {
                panic!("{name}: {tree}: {outcome:?}")
            };
            let back: T = completed.output.read().unwrap();
            assert_eq!(back, value, "{tree} came back as {}", completed.output);
        }
    });
    join_all(runs).await.len()
}

/// Any JSON, as a model might say it.
pub(super) fn json_value() -> impl Strategy<Value = Value> {
    let key =
        prop::sample::select(vec!["a", "b", "kind", "t", "c", "value", "1", "-1", "Unit", "Text"]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop::sample::select(vec!["", "a", "Unit", "Text", "leaf", "xx"]).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-300..300_i64).prop_map(Value::from),
        (-300..300_i64).prop_map(|whole| json!(whole as f64)),
        any::<f64>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..4).prop_map(|members| {
                let members = members.into_iter().map(|(key, value)| (key.to_owned(), value));
                Value::Object(members.collect::<Map<_, _>>())
            }),
        ]
    })
}

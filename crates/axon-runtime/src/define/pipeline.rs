//! Pipelines that a service defines in Rust: the output of one step is the input of the next, and
//! the compiler holds them to that.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::time::Duration;

use axon_kernel::flow::{
    Ask, Does, Expression, Flow, FlowKind, Join, OnFailure, Over, Repeat, Step, StepName, Target,
    TextTemplate, is_reserved,
};
use axon_kernel::spec::{AgentName, AgentSpec, NameError, OutputSpec, PromptName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::functions::StepFunctions;
use super::{Agent, AgentCode, DefinitionError, Output, schemas};
use crate::agents_dir::AgentDefinition;
use crate::tools::{AnyDeps, ToolError};

/// How many items are worked on at the same time, unless said otherwise.
const AT_ONCE: NonZeroU32 = NonZeroU32::new(8).expect("it is more than nothing");

/// Anything that takes a message under a name, and what it answers with.
pub trait Addressable {
    /// What it answers with.
    type Output: DeserializeOwned + Serialize + 'static;

    /// Returns its name.
    ///
    /// # Errors
    ///
    /// [`NameError`] if that is none.
    fn address(&self) -> Result<AgentName, NameError>;
}

impl<D, O: DeserializeOwned + Serialize + 'static> Addressable for Agent<D, O> {
    type Output = O;

    fn address(&self) -> Result<AgentName, NameError> {
        Ok(self.name().clone())
    }
}

/// Any text is the name of one that answers with some JSON value.
impl Addressable for str {
    type Output = Value;

    fn address(&self) -> Result<AgentName, NameError> {
        AgentName::try_from(self)
    }
}

/// One that a folder defines, and that is known to answer with an `O`.
pub struct Named<O> {
    name: String,
    output: PhantomData<fn() -> O>,
}

/// Names one that a folder defines, and that answers with an `O`.
pub fn named<O>(name: impl Into<String>) -> Named<O> {
    Named { name: name.into(), output: PhantomData }
}

impl<O: DeserializeOwned + Serialize + 'static> Addressable for Named<O> {
    type Output = O;

    fn address(&self) -> Result<AgentName, NameError> {
        AgentName::try_from(self.name.as_str())
    }
}

impl<O> fmt::Debug for Named<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Named").field(&self.name).finish()
    }
}

/// A pipeline that is being defined: it takes an `I`, and what it has made of that so far is an `O`.
///
/// A function that is given to it is called again whenever it is asked what comes next, also after a
/// crash: it must return the same for the same, and do nothing else.
///
/// ```
/// use axon_runtime::{Pipeline, named};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Plan { queries: Vec<String> }
/// #[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
/// struct Report { title: String }
///
/// # fn example() -> Result<(), axon_runtime::DefinitionError> {
/// let research = Pipeline::new("research")
///     .then(&named::<Plan>("planner"))
///     .map(|plan: Plan| plan.queries, &named::<String>("searcher"))
///     .max_concurrency(4)
///     .then(&named::<Report>("writer"))
///     .build()?;
/// # Ok(())
/// # }
/// # example().unwrap();
/// ```
#[must_use = "a pipeline is made by `build`"]
pub struct Pipeline<I = String, O = I> {
    spec: AgentSpec,
    steps: Vec<Step>,
    code: StepFunctions,
    on_failure: OnFailure,
    wrong: Option<DefinitionError>,
    types: PhantomData<fn(I) -> O>,
}

impl Pipeline {
    /// Begins the pipeline called `name`, which takes text.
    pub fn new(name: &str) -> Self {
        Self::taking(name)
    }
}

impl<I: DeserializeOwned + 'static> Pipeline<I> {
    /// Begins the pipeline called `name`, which takes an `I`, as JSON.
    pub fn taking(name: &str) -> Self {
        let valid = AgentName::try_from(name);
        let wrong = valid.as_ref().err().cloned().map(DefinitionError::Name);
        let stand_in = || AgentName::try_from("pipeline").expect("it is a name");
        Self {
            spec: AgentSpec::new(valid.unwrap_or_else(|_told| stand_in())),
            steps: Vec::new(),
            code: StepFunctions::default(),
            on_failure: OnFailure::Fail,
            wrong,
            types: PhantomData,
        }
    }
}

impl<I, O: DeserializeOwned + 'static> Pipeline<I, O> {
    /// Has `next` answer what has come so far: a text as it is, anything else as JSON.
    pub fn then<N: Addressable + ?Sized>(mut self, next: &N) -> Pipeline<I, N::Output> {
        let does = self.ask(next);
        self.step(does)
    }

    /// Has `next` answer the prompt that `prompt` makes of the pipeline's message and of what has come
    /// so far.
    pub fn then_with<N, P>(
        mut self,
        prompt: impl Fn(I, O) -> P + Send + Sync + 'static,
        next: &N,
    ) -> Pipeline<I, N::Output>
    where
        I: DeserializeOwned,
        N: Addressable + ?Sized,
        P: Into<String>,
    {
        let name = self.new_function();
        self.code.add(
            name.clone(),
            move |message: &mut dyn FnMut() -> Result<I, ToolError>, so_far: O| {
                Ok(prompt(message()?, so_far).into())
            },
        );
        let mut does = self.ask(next);
        if let Does::Ask(ask) = &mut does {
            ask.prompt = Some(TextTemplate::Code(name));
        }
        self.step(does)
    }

    /// Has `next` answer each of the items that `items` takes from what has come so far, several at
    /// the same time. The answers are in the order of the items.
    pub fn map<N, T>(
        mut self,
        items: impl Fn(O) -> Vec<T> + Send + Sync + 'static,
        next: &N,
    ) -> Pipeline<I, Vec<N::Output>>
    where
        N: Addressable + ?Sized,
        T: Serialize + 'static,
    {
        let name = self.function(move |so_far: O| Ok(items(so_far)));
        let (list, max_concurrency, need) = (Expression::Code(name), AT_ONCE, 1);
        let does = self.ask(next);
        let mut step = self.next_step(does);
        step.over = Some(Over { list, max_concurrency, need });
        self.add(step)
    }

    /// Works the next value out in Rust.
    pub fn apply<T: Serialize + DeserializeOwned + 'static>(
        mut self,
        function: impl Fn(O) -> T + Send + Sync + 'static,
    ) -> Pipeline<I, T> {
        let name = self.function(move |so_far: O| Ok(function(so_far)));
        self.step(Does::Code(name))
    }

    /// Works the next value out in Rust; an error fails the pipeline.
    pub fn try_apply<T: Serialize + DeserializeOwned + 'static>(
        mut self,
        function: impl Fn(O) -> Result<T, ToolError> + Send + Sync + 'static,
    ) -> Pipeline<I, T> {
        let name = self.function(function);
        self.step(Does::Code(name))
    }

    /// Has two others answer what has come so far, at the same time.
    pub fn both<A, B>(mut self, one: &A, two: &B) -> Pipeline<I, (A::Output, B::Output)>
    where
        A: Addressable + ?Sized,
        B: Addressable + ?Sized,
    {
        let does = [self.ask(one), self.ask(two)];
        self.parallel(does.into(), Join::All).try_apply(Branches::read)
    }

    /// Has several others answer what has come so far, at the same time: the first answer counts, and
    /// the others are called off.
    pub fn race<T: DeserializeOwned + Serialize + 'static>(
        mut self,
        of: &[&dyn Addressable<Output = T>],
    ) -> Pipeline<I, T> {
        let does = of.iter().map(|one| self.ask(*one)).collect();
        self.parallel(does, Join::First)
    }

    /// Has several others answer what has come so far, at the same time: the first `need` answers
    /// count, in the order in which the others are named, and the rest are called off.
    pub fn quorum<T: DeserializeOwned + Serialize + 'static>(
        mut self,
        need: NonZeroU32,
        of: &[&dyn Addressable<Output = T>],
    ) -> Pipeline<I, Vec<T>> {
        let does = of.iter().map(|one| self.ask(*one)).collect();
        self.parallel(does, Join::Quorum(need)).try_apply(Branches::read)
    }

    /// Makes the last step again, with its own output, until `until` says that it will do, and
    /// `at_most` times: then what it has made last stands.
    pub fn repeat(
        mut self,
        at_most: NonZeroU32,
        until: impl Fn(&O) -> bool + Send + Sync + 'static,
    ) -> Self {
        let name = self.function(move |last: O| Ok(until(&last)));
        let until = axon_kernel::flow::Condition::Holds(Expression::Code(name));
        self.last(|step| step.repeat = Some(Repeat { until, at_most }))
    }

    /// Says how many items the last step works on at the same time.
    pub fn max_concurrency(self, count: u32) -> Self {
        let count = NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        self.last(|step| {
            if let Some(over) = &mut step.over {
                over.max_concurrency = count;
            }
        })
    }

    /// Leaves out items of the last step that have failed, as long as `need` of them succeed.
    pub fn skip_failed(self, need: u32) -> Self {
        self.last(|step| {
            if let Some(over) = &mut step.over {
                over.need = need;
            }
            on_failure_of(step, OnFailure::Skip);
        })
    }

    /// Asks again in the last step, so many times, where an answer fails.
    pub fn retry(self, count: u32) -> Self {
        self.last(|step| each_ask(&mut step.does, &mut |ask| ask.edge.retry = count))
    }

    /// Gives each answer of the last step this long.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.last(|step| each_ask(&mut step.does, &mut |ask| ask.edge.timeout = Some(timeout)))
    }

    /// Asks `other` where the last step has failed.
    pub fn fallback(self, other: impl Into<Target>) -> Self {
        let other = other.into();
        self.last(|step| on_failure_of(step, OnFailure::Ask(vec![other])))
    }

    /// Asks `other` where the pipeline has failed, whichever step it was.
    pub fn on_failure(mut self, other: impl Into<Target>) -> Self {
        self.on_failure = OnFailure::Ask(vec![other.into()]);
        self
    }

    /// Changes everything else that a `pipeline.toml` can say beside its steps.
    pub fn configure(mut self, change: impl FnOnce(&mut AgentSpec)) -> Self {
        change(&mut self.spec);
        self
    }

    /// Makes the pipeline, which is asked like an agent.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it: [`DefinitionError`].
    pub fn build(mut self) -> Result<Agent<AnyDeps, O>, DefinitionError>
    where
        O: Output,
    {
        if let Some(wrong) = self.wrong.take() {
            return Err(wrong);
        }
        if let Some(schema) = schemas::output::<O>()? {
            self.spec.output = Some(OutputSpec::new(schema));
        }
        let (kind, input) = (FlowKind::Pipeline, None);
        let (steps, on_failure) = (self.steps, self.on_failure);
        self.spec.flow = Some(Flow { kind, input, steps, on_failure });
        let agent = self.spec.name.to_string();
        self.spec.check().map_err(|broken| DefinitionError::Rules { agent, broken })?;
        let code = AgentCode { steps: self.code, ..AgentCode::default() };
        let (folder, path) = (None, Vec::new());
        Ok(Agent::new(AgentDefinition { spec: self.spec, folder, path, code }))
    }

    fn ask<N: Addressable + ?Sized>(&mut self, next: &N) -> Does {
        match next.address() {
            Ok(name) => Does::Ask(Ask::of(Target::named(name))),
            Err(error) => {
                self.wrong.get_or_insert(error.into());
                Does::Steps(Vec::new())
            }
        }
    }

    /// Takes a function in, under a name of its own.
    fn function<A, B>(
        &mut self,
        function: impl Fn(A) -> Result<B, ToolError> + Send + Sync + 'static,
    ) -> PromptName
    where
        A: DeserializeOwned,
        B: Serialize,
    {
        let name = self.new_function();
        self.code.add(
            name.clone(),
            move |_: &mut dyn FnMut() -> Result<Value, ToolError>, so_far: A| function(so_far),
        );
        name
    }

    fn new_function(&mut self) -> PromptName {
        let name = PromptName::try_from(format!("{}_{}", self.spec.name, self.code.len() + 1));
        let stand_in = || PromptName::try_from("function").expect("it is a name");
        // The longest names of pipelines leave no room for a number.
        name.unwrap_or_else(|error| {
            self.wrong.get_or_insert(error.into());
            stand_in()
        })
    }

    fn next_step(&self, does: Does) -> Step {
        let name = step_name(&does, &self.steps);
        let mut step = Step::new(name, does);
        step.after = self.steps.last().map(|last| last.name.clone()).into_iter().collect();
        step
    }

    fn parallel<T>(self, does: Vec<Does>, join: Join) -> Pipeline<I, T> {
        let branches = does.into_iter().enumerate();
        let branches =
            branches.map(|(index, does)| Step::new(numbered("branch", index), does)).collect();
        self.step(Does::Parallel { branches, join })
    }

    fn step<T>(self, does: Does) -> Pipeline<I, T> {
        let step = self.next_step(does);
        self.add(step)
    }

    fn add<T>(mut self, step: Step) -> Pipeline<I, T> {
        self.steps.push(step);
        let Self { spec, steps, code, on_failure, wrong, .. } = self;
        Pipeline { spec, steps, code, on_failure, wrong, types: PhantomData }
    }

    fn last(mut self, change: impl FnOnce(&mut Step)) -> Self {
        if let Some(step) = self.steps.last_mut() {
            change(step);
        }
        self
    }
}

/// The outputs of branches, in the order in which those are named.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Branches(BTreeMap<String, Value>);

impl Branches {
    /// Reads them as a list, or as a tuple.
    fn read<T: DeserializeOwned>(self) -> Result<T, ToolError> {
        Ok(T::deserialize(self.0.into_values().collect::<Value>())?)
    }
}

/// Returns the name of a step or branch by its number; such names sort as the numbers do.
fn numbered(what: &str, number: usize) -> StepName {
    StepName::try_from(format!("{what}{number:03}")).expect("letters and digits are a name")
}

/// Returns the name of a step: that of whom it asks, where no other one has it.
fn step_name(does: &Does, before: &[Step]) -> StepName {
    let number = numbered("step", before.len() + 1);
    let Does::Ask(ask) = does else { return number };
    let taken = |name: &StepName| before.iter().any(|step| step.name == *name);
    let name = StepName::try_from(ask.target.name()).ok();
    name.filter(|name| !taken(name) && !is_reserved(name.as_str())).unwrap_or(number)
}

fn on_failure_of(step: &mut Step, on_failure: OnFailure) {
    match &mut step.does {
        Does::Ask(ask) => ask.edge.on_failure = on_failure,
        Does::Route(_)
        | Does::Choose(_)
        | Does::Parallel { .. }
        | Does::Steps(_)
        | Does::Code(_)
        | Does::Fail(_) => step.on_failure = on_failure,
    }
}

fn each_ask(does: &mut Does, change: &mut dyn FnMut(&mut Ask)) {
    match does {
        Does::Ask(ask) => change(ask),
        Does::Route(route) => route.to.iter_mut().for_each(change),
        Does::Choose(arms) => arms.iter_mut().for_each(|arm| each_ask(&mut arm.does, change)),
        Does::Parallel { branches: steps, .. } | Does::Steps(steps) => {
            steps.iter_mut().for_each(|step| each_ask(&mut step.does, change));
        }
        Does::Code(_) | Does::Fail(_) => {}
    }
}

impl<I, O> fmt::Debug for Pipeline<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("name", &self.spec.name).finish_non_exhaustive()
    }
}

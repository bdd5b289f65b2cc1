//! Routers that a service defines in Rust: each hands its messages to others.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use axon_kernel::breaker::BreakerSettings;
use axon_kernel::flow::{
    Balance, ConditionFile, ConditionTable, Join, Message, RouterFile, RuleFile,
};
use axon_kernel::spec::{AgentName, AgentSpec, FileText, NameError, OutputSpec, PromptName};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::functions::StepFunctions;
use super::{Agent, AgentCode, DefinitionError, Output, schemas};
use crate::agents_dir::AgentDefinition;
use crate::tools::{AnyDeps, ToolError};

/// A router that is being defined. What it says is what a `router.toml` can say; whatever is wrong
/// with it is told by [`Router::build`].
///
/// ```
/// use axon_runtime::Router;
///
/// # fn example() -> Result<(), axon_runtime::DefinitionError> {
/// let desk = Router::new("desk")
///     .by_agent("triage")
///     .to(["support", "fraud"])
///     .fallback("support")
///     .on_escalate("human")
///     .build()?;
/// let by_rule = Router::new("by_rule")
///     .rule("input.amount > 1000", "desk")
///     .rule_fn(|message: serde_json::Value| message["vip"] == true, "desk")
///     .fallback("support")
///     .build()?;
/// # Ok(())
/// # }
/// # example().unwrap();
/// ```
#[must_use = "a router is made by `build`"]
pub struct Router<O = Value> {
    name: String,
    file: RouterFile,
    code: StepFunctions,
    changes: Vec<Change>,
    wrong: Option<DefinitionError>,
    output: PhantomData<fn() -> O>,
}

/// A change of what a router is.
type Change = Box<dyn FnOnce(&mut AgentSpec) + Send>;

impl Router {
    /// Begins the router called `name`.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            file: RouterFile::default(),
            code: StepFunctions::default(),
            changes: Vec::new(),
            wrong: None,
            output: PhantomData,
        }
    }
}

impl<O: Output> Router<O> {
    /// Says that all whom it asks answer with a `T`, which it is held to.
    pub fn answering<T: Output>(self) -> Router<T> {
        let Self { name, file, code, changes, wrong, .. } = self;
        Router { name, file, code, changes, wrong, output: PhantomData }
    }

    /// Says in a sentence what the router is for.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.file.description = Some(description.into());
        self
    }

    /// Has the agent called `name` choose: it answers an object whose `to` names one of those in
    /// [`Router::to`].
    pub fn by_agent(mut self, name: &str) -> Self {
        self.file.by = self.name_of(name);
        self
    }

    /// Says whom it can hand messages to; `human` is a person.
    pub fn to<'n>(mut self, names: impl IntoIterator<Item = &'n str>) -> Self {
        for name in names {
            let name = self.name_of(name);
            self.file.to.extend(name);
        }
        self
    }

    /// Hands messages to `to` of which `when` holds, an expression of minijinja over `input`, the
    /// message, and `deps`; the first rule that holds decides.
    pub fn rule(self, when: &str, to: &str) -> Self {
        let when = ConditionFile::Text(when.to_owned());
        self.ruled(when, to)
    }

    /// Hands messages to `to` in which the regular expression `pattern` matches the part at `pointer`,
    /// a JSON pointer; the whole message where that is empty.
    pub fn matches(self, pointer: &str, pattern: &str, to: &str) -> Self {
        let table = ConditionTable {
            pointer: Some(pointer.to_owned()),
            matches: Some(pattern.to_owned()),
            ..ConditionTable::default()
        };
        self.ruled(ConditionFile::Table(table), to)
    }

    /// Hands messages to `to` of which `when` says so; one that is no `M` is none. It must say the same of the same message, and do
    /// nothing else.
    pub fn rule_fn<M: DeserializeOwned>(
        mut self,
        when: impl Fn(M) -> bool + Send + Sync + 'static,
        to: &str,
    ) -> Self {
        let name = PromptName::try_from(format!("{}_{}", self.name, self.code.len() + 1));
        let name = match name {
            Ok(name) => name,
            Err(error) => {
                self.wrong.get_or_insert(error.into());
                return self;
            }
        };
        self.code.add(
            name.clone(),
            move |_: &mut dyn FnMut() -> Result<Value, ToolError>, message: Value| {
                // A message is JSON where its text is, unless the function takes text.
                let read =
                    M::deserialize(Message::input(&message)).or_else(|_| M::deserialize(message));
                Ok(read.is_ok_and(&when))
            },
        );
        let table = ConditionTable { rust: Some(name), ..ConditionTable::default() };
        self.ruled(ConditionFile::Table(table), to)
    }

    /// Spreads messages over those in [`Router::to`], who all do the same.
    pub fn balance(mut self, by: Balance) -> Self {
        self.file.balance = Some(by);
        self
    }

    /// Asks all of those in [`Router::to`] at the same time, and waits for as many as `join` says.
    pub fn broadcast(mut self, join: Join) -> Self {
        self.file.broadcast = Some(join);
        self
    }

    /// Asks `name` when the one that was chosen fails, or when no rule holds.
    pub fn fallback(mut self, name: &str) -> Self {
        self.file.fallback = self.name_of(name);
        self
    }

    /// Asks `name` when that fails, too; `human` is a person.
    pub fn on_escalate(mut self, name: &str) -> Self {
        self.file.on_escalate = self.name_of(name);
        self
    }

    /// Gives each of those that it asks this long.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.file.timeout = Some(timeout);
        self
    }

    /// Asks one that fails again, so many times.
    pub fn retry(mut self, count: u32) -> Self {
        self.file.retry = count;
        self
    }

    /// Leaves one that keeps failing alone for a while.
    pub fn breaker(mut self, settings: BreakerSettings) -> Self {
        self.file.breaker = Some(settings);
        self
    }

    /// Changes everything else that a `router.toml` can say.
    pub fn configure(mut self, change: impl FnOnce(&mut AgentSpec) + Send + 'static) -> Self {
        self.changes.push(Box::new(change));
        self
    }

    /// Makes the router, which is asked like an agent.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it: [`DefinitionError`].
    pub fn build(self) -> Result<Agent<AnyDeps, O>, DefinitionError> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        let name = AgentName::try_from(self.name.as_str())?;
        let text = toml::to_string(&self.file);
        // What a file would take for a variable is none here.
        let text = text.map_err(DefinitionError::unwritable)?.replace("${", "$${");
        let file = FileText { path: &format!("the router `{name}`"), text: &text };
        let no_file = |file: &str| Err(format!("there is no file `{file}`").into());
        let mut spec = AgentSpec::router_from_toml(name, file, &|_| None, &no_file)?;
        if let Some(schema) = schemas::output::<O>()? {
            spec.output = Some(OutputSpec::new(schema));
        }
        for change in self.changes {
            change(&mut spec);
        }
        let agent = spec.name.to_string();
        spec.check().map_err(|broken| DefinitionError::Rules { agent, broken })?;
        let code = AgentCode { steps: self.code, ..AgentCode::default() };
        Ok(Agent::new(AgentDefinition { spec, folder: None, path: Vec::new(), code }))
    }

    fn ruled(mut self, when: ConditionFile, to: &str) -> Self {
        if let Some(to) = self.name_of(to) {
            self.file.rules.push(RuleFile { to, when });
        }
        self
    }

    fn name_of(&mut self, name: &str) -> Option<AgentName> {
        let name: Result<AgentName, NameError> = AgentName::try_from(name);
        match name {
            Ok(name) => Some(name),
            Err(error) => {
                self.wrong.get_or_insert(error.into());
                None
            }
        }
    }
}

impl<O> fmt::Debug for Router<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("name", &self.name).finish_non_exhaustive()
    }
}

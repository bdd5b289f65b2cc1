//! A tool that Rust runs.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axon_kernel::schema::Schema;
use axon_kernel::spec::{Effect, ToolName, ToolSpec, ToolTarget};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::call::Call;
use super::{AnyDeps, FromDeps, ToolContext, ToolError};
use crate::define::DefinitionError;

pub(crate) type ToolFuture = Pin<Box<dyn Future<Output = Result<Value, ToolError>> + Send>>;

type Function = dyn Fn(Arc<Call>) -> ToolFuture + Send + Sync;

/// A tool that Rust runs: what the model sees of it, and the function. Cheap to clone.
///
/// Most are written with [`#[tool]`](macro@crate::tool); this is the same without the macro:
///
/// ```
/// use axon_runtime::{Tool, ToolContext, ToolError};
/// use axon_runtime::kernel::spec::Effect;
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Sum { a: i64, b: i64 }
///
/// # fn example() -> Result<(), axon_runtime::DefinitionError> {
/// let add = Tool::new("add", |_ctx: ToolContext, Sum { a, b }| async move {
///     Ok::<_, ToolError>(a + b)
/// })?
/// .described("Adds two numbers.")
/// .effect(Effect::Pure);
/// # Ok(())
/// # }
/// # example().unwrap();
/// ```
#[derive(Clone)]
pub struct Tool {
    spec: ToolSpec,
    /// Whether the author has said what a call does to the world.
    effect_is_said: bool,
    function: Arc<Function>,
}

/// What can be given to an agent as a tool: a [`Tool`], or a function with
/// [`#[tool]`](macro@crate::tool).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no tool",
    label = "this is no tool",
    note = "put `#[tool]` on the async fn, or make one with `Tool::new`"
)]
pub trait RustTool {
    /// The deps that it reads; an agent's own have to be the same.
    type Deps: FromDeps;

    /// Returns the tool.
    ///
    /// # Errors
    ///
    /// [`DefinitionError`] if its name is none, or its arguments have no schema.
    fn into_tool(self) -> Result<Tool, DefinitionError>;
}

/// What makes a tool is one: so is the name of a function with [`#[tool]`](macro@crate::tool).
#[diagnostic::do_not_recommend]
impl<F: FnOnce() -> T, T: RustTool> RustTool for F {
    type Deps = T::Deps;

    fn into_tool(self) -> Result<Tool, DefinitionError> {
        self().into_tool()
    }
}

impl RustTool for Tool {
    type Deps = AnyDeps;

    fn into_tool(self) -> Result<Self, DefinitionError> {
        Ok(self)
    }
}

impl Tool {
    /// Makes a tool called `name` of a function. Its effect is `once`, until
    /// [`Tool::effect`] says otherwise.
    ///
    /// The schema of the arguments is that of `A`. Where `A` is any JSON value, there is none:
    /// the agent's file or [`Tool::parameters`] gives it.
    ///
    /// # Errors
    ///
    /// [`DefinitionError`] if `name` is no name of a tool, or `A` has no schema that a model can be
    /// given.
    pub fn new<D, A, R, F, U>(name: &str, function: F) -> Result<Self, DefinitionError>
    where
        D: FromDeps,
        A: DeserializeOwned + JsonSchema + Send + 'static,
        R: Serialize,
        F: Fn(ToolContext<D>, A) -> U + Send + Sync + 'static,
        U: Future<Output = Result<R, ToolError>> + Send + 'static,
    {
        let name = ToolName::try_from(name)?;
        let parameters = crate::define::parameters_of::<A>(&name)?;
        let mut spec = ToolSpec::new(name.clone(), ToolTarget::Rust(name));
        spec.parameters = parameters;
        let function = Arc::new(function);
        let called = move |call: Arc<Call>| -> ToolFuture {
            let function = function.clone();
            Box::pin(async move {
                let args = call.args.read().map_err(|error| {
                    ToolError::Retry(format!("the arguments cannot be read: {error}"))
                })?;
                let returned = function(ToolContext::of(call)?, args).await?;
                Ok(serde_json::to_value(returned)?)
            })
        };
        Ok(Self { spec, effect_is_said: false, function: Arc::new(called) })
    }

    /// Tells the model what the tool does.
    #[must_use]
    pub fn described(mut self, description: impl Into<String>) -> Self {
        self.spec.description = Some(description.into());
        self
    }

    /// Says what a call may have done to the world, and so whether it may be repeated.
    #[must_use]
    pub fn effect(mut self, effect: Effect) -> Self {
        self.spec.effect = effect;
        self.effect_is_said = true;
        self
    }

    /// Gives each call this long; the model is told of one that takes longer.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.spec.timeout = Some(timeout);
        self
    }

    /// Has a person approve each call before it is made.
    #[must_use]
    pub fn requires_approval(mut self) -> Self {
        self.spec.requires_approval = true;
        self
    }

    /// Has every other call of the same model response wait for this one, and this one for those.
    #[must_use]
    pub fn sequential(mut self) -> Self {
        self.spec.sequential = true;
        self
    }

    /// Says how often the model may be asked to correct its calls.
    #[must_use]
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.spec.max_retries = Some(retries);
        self
    }

    /// Gives the schema of the arguments in place of the function's own.
    #[must_use]
    pub fn parameters(mut self, schema: Schema) -> Self {
        self.spec.parameters = Some(schema);
        self
    }

    /// Returns the tool's name.
    #[must_use]
    pub fn name(&self) -> &ToolName {
        &self.spec.name
    }

    /// Returns the tool as an agent's definition has it.
    #[must_use]
    pub fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    /// Returns what a call may have done to the world, if the author has said it.
    pub(crate) fn said_effect(&self) -> Option<Effect> {
        self.effect_is_said.then_some(self.spec.effect)
    }

    pub(crate) fn call(&self, call: Arc<Call>) -> ToolFuture {
        (self.function)(call)
    }
}

impl fmt::Debug for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tool").field(&self.spec.name).finish()
    }
}

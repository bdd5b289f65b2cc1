//! `#[tool]`: an async fn becomes a tool of an agent. Services use it as `axon_runtime::tool`.
//!
//! To start reading: `Options` is what the attribute says, `Function` the function that becomes a
//! tool; `expand` writes it.
//!
//! The invariant: whatever is written wrong is told at its own place, with what to write instead.

mod description;
mod expand;
mod function;
mod nearest;
mod options;

use proc_macro::TokenStream;
use syn::parse_macro_input;

use function::Function;
use options::Options;

/// Makes an async fn a tool, for `AgentBuilder::tool` and `RuntimeBuilder::tool`.
///
/// The model is told what stands in the code: the doc comment is the description of the tool, the
/// arguments are its parameters, and their doc comments the descriptions of those.
///
/// ```
/// use axon_runtime::{ToolContext, ToolError, tool};
/// # #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
/// # struct SupportDeps { customer_id: u32 }
///
/// /// Returns the customer's current account balance.
/// #[tool(effect = "pure", timeout = "5s")]
/// async fn customer_balance(
///     ctx: ToolContext<SupportDeps>,
///     /// Whether payments that are not settled yet count.
///     include_pending: bool,
/// ) -> Result<String, ToolError> {
///     let customer = ctx.deps().customer_id;
///     Ok(format!("customer {customer} has {}", if include_pending { "$123.45" } else { "$100" }))
/// }
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use axon_runtime::Agent;
///
/// let support = Agent::<SupportDeps>::builder("support")
///     .model("openai:gpt-5")
///     .tool(customer_balance)
///     .build()?;
///
/// // The function itself is still there, for a test of it.
/// let ctx = ToolContext::detached(SupportDeps { customer_id: 7 });
/// assert_eq!(customer_balance::call(ctx, true).await.unwrap(), "customer 7 has $123.45");
/// # Ok(())
/// # }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
/// ```
///
/// # What it says
///
/// - `effect = "pure"`, `"idempotent"` or `"once"` (the default): what a call may have done to the
///   world, and so whether it may be repeated.
/// - `timeout = "5s"`: how long a call has.
/// - `requires_approval`: a person approves each call before it is made. To ask only for some,
///   return `ToolError::NeedsApproval`.
/// - `sequential`: no other call of the same model response is made meanwhile.
/// - `max_retries = 3`: how often the model may be asked to correct its calls.
/// - `name = "…"`: what the model calls it; the function's name by default.
///
/// # The function
///
/// - A first argument `ToolContext<D>` is the call's context, and `D` the deps of the agent. With
///   `ToolContext`, or without a context, it can be a tool of any agent.
/// - Every other argument is owned and of a type that has `serde::Deserialize` and
///   `schemars::JsonSchema`. One that is an `Option` need not be given. `#[serde(…)]` and
///   `#[schemars(…)]` are for arguments what they are for fields: `#[serde(default)]`,
///   `#[schemars(range(min = 1))]`. Arguments that the function does not have are refused.
/// - It returns a `Result` of what the model gets, anything that serde can write, and an error that
///   is or can become a `ToolError`. By `?`, any error ends the run as a broken tool.
#[proc_macro_attribute]
pub fn tool(options: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item with function::item);
    let options = syn::parse::<Options>(options);
    let function = Function::new(item.clone());
    let wrong = match (options, function) {
        (Ok(options), Ok(function)) => return expand::tool(&options, &function).into(),
        (Err(mut wrong), Err(more)) => {
            wrong.combine(more);
            wrong
        }
        (Err(wrong), Ok(_)) | (Ok(_), Err(wrong)) => wrong,
    };
    expand::stand_in(&item, &wrong).into()
}

//! What `#[tool]` makes of a function.

use std::time::Duration;

use axon_runtime::kernel::spec::Effect;
use axon_runtime::{Agent, DefinitionError, RustTool, ToolContext, ToolError, tool};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
struct Customer {
    id: u32,
}

/// Returns the customer's current account balance.
///
/// In dollars:
///   with cents.
#[tool(effect = "pure", timeout = "1m 30s", max_retries = 3)]
async fn balance(
    ctx: ToolContext<Customer>,
    /// Whether payments that are not settled yet count.
    include_pending: bool,
    /// How many days back.
    #[schemars(range(min = 1, max = 31))]
    #[serde(default)]
    days: Option<u8>,
) -> Result<String, ToolError> {
    // The tool's own name is free for a variable.
    let balance = if include_pending { "$123.45" } else { "$100.00" };
    Ok(format!("{} has {balance} in {days:?}", ctx.deps().id))
}

/// Adds, for anybody.
#[tool(name = "sum", requires_approval, sequential)]
async fn add(mut a: i64, b: i64) -> Result<i64, std::num::ParseIntError> {
    a += b;
    Ok(a)
}

/// Searches.
#[tool]
async fn search(_ctx: ToolContext, search: String) -> Result<Vec<String>, ToolError> {
    let number: u32 = search.parse()?;
    Ok(vec![number.to_string()])
}

/// Does nothing.
#[tool(effect = "idempotent")]
async fn r#yield() -> Result<(), ToolError> {
    Ok(())
}

fn schema_of(tool: impl RustTool) -> Value {
    let tool = tool.into_tool().expect("it is a tool");
    tool.spec().parameters.as_ref().expect("it has arguments").raw().clone()
}

#[test]
fn the_doc_comment_is_what_the_model_is_told() {
    let tool = balance.into_tool().unwrap();
    let told = "Returns the customer's current account balance.\n\nIn dollars:\n  with cents.";
    assert_eq!(tool.spec().description.as_deref(), Some(told));
}

#[test]
fn what_the_attribute_says_holds() {
    let tool = balance.into_tool().unwrap().spec().clone();
    assert_eq!(tool.name.as_str(), "balance");
    assert_eq!(tool.effect, Effect::Pure);
    assert_eq!(tool.timeout, Some(Duration::from_secs(90)));
    assert_eq!(tool.max_retries, Some(3));
    assert!(!tool.requires_approval && !tool.sequential);

    let tool = add.into_tool().unwrap().spec().clone();
    assert_eq!(tool.name.as_str(), "sum");
    assert_eq!(tool.effect, Effect::Once);
    assert!(tool.requires_approval && tool.sequential);
    assert_eq!(r#yield.into_tool().unwrap().name().as_str(), "yield");
}

#[test]
fn arguments_are_the_parameters_with_their_own_comments() {
    let schema = schema_of(balance);
    assert_eq!(schema["type"], "object");
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["required"], json!(["include_pending"]));
    let pending = &schema["properties"]["include_pending"];
    assert_eq!(pending["description"], "Whether payments that are not settled yet count.");
    let days = &schema["properties"]["days"];
    assert_eq!((&days["minimum"], &days["maximum"]), (&json!(1), &json!(31)));
    assert_eq!(schema_of(r#yield)["properties"].as_object().map_or(0, |all| all.len()), 0);
}

#[tokio::test]
async fn the_function_can_be_called_as_it_stands() {
    let ctx = ToolContext::detached(Customer { id: 7 });
    assert_eq!(balance::call(ctx, true, None).await.unwrap(), "7 has $123.45 in None");
    assert_eq!(add::call(1, 2).await, Ok(3));
}

#[tokio::test]
async fn any_error_by_a_question_mark_is_a_broken_tool() {
    let called = search::call(ToolContext::detached(axon_runtime::AnyDeps::default()), "x".into());
    assert!(matches!(called.await, Err(ToolError::Broken(_))));
}

#[test]
fn a_tool_without_deps_fits_any_agent() {
    let with_deps = Agent::<Customer>::builder("a").model("test").tool(balance).tool(add);
    assert_eq!(with_deps.tool(search).build().unwrap().spec().tools.len(), 3);
    let without = Agent::<()>::builder("b").model("test").tool(add).tool(search).build();
    assert_eq!(without.unwrap().spec().tools.len(), 2);
}

#[test]
fn what_only_shows_when_it_is_made_is_told_by_build() {
    /// Is called what no tool is.
    #[tool(name = "No Name")]
    async fn odd() -> Result<(), ToolError> {
        Ok(())
    }
    let built = Agent::<()>::builder("a").model("test").tool(odd).build();
    assert!(matches!(built, Err(DefinitionError::Name(_))), "{built:?}");
}

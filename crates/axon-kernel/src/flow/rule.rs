//! The rules that flows keep, whether they come from a file or from Rust code.

use super::expression::ExpressionError;
use super::plan::FlowKind;

/// How many steps a flow can have, those inside steps counted.
pub const MAX_STEPS: usize = 200;

/// How deep steps can stand inside steps.
pub const MAX_NESTING: usize = 8;

/// Why a router fails that has no fallback, when none of its rules holds.
pub const NO_RULE: &str = "no rule of the router holds, and it has no fallback";

/// A rule that a flow breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowRule {
    /// A list has nothing in it.
    #[error("`{key}` is empty: give at least one")]
    Empty {
        /// The list.
        key: &'static str,
    },
    /// It has too many steps.
    #[error("it has {found} steps, those inside steps counted, and at most {MAX_STEPS} can be")]
    TooManySteps {
        /// How many.
        found: usize,
    },
    /// Steps stand too deep inside steps.
    #[error("steps stand inside steps more than {MAX_NESTING} deep")]
    TooDeep,
    /// Two steps have one name.
    #[error("a second step is called `{name}`: names of steps that can see each other must differ")]
    DuplicateStep {
        /// The name.
        name: String,
    },
    /// A step has a name that means something else.
    #[error("`{name}` means something else in expressions: call the step differently")]
    ReservedStep {
        /// The name.
        name: String,
    },
    /// A step waits for one that there is not.
    #[error(
        "there is no step `{name}` in this list{}",
        hint(.nearest.as_deref(), "steps there", .known)
    )]
    UnknownAfter {
        /// The name.
        name: String,
        /// The step whose name looks most like it.
        nearest: Option<String>,
        /// All steps of the list.
        known: Vec<String>,
    },
    /// Steps wait for each other.
    #[error("these steps wait for each other: {}", .steps.join(" -> "))]
    Circle {
        /// The steps, the first one again at the end.
        steps: Vec<String>,
    },
    /// A step waits for one behind it.
    #[error(
        "`{name}` stands behind this step: put the steps in an order in which they can be made"
    )]
    NotBefore {
        /// The step that it waits for.
        name: String,
    },
    /// A branch waits for something.
    #[error("branches of `parallel` begin at the same time: leave `after` out")]
    BranchAfter,
    /// An expression or a template does not parse.
    #[error(transparent)]
    Expression(#[from] ExpressionError),
    /// A regular expression does not parse.
    #[error("not a regular expression: {message}")]
    Regex {
        /// What the parser says.
        message: String,
    },
    /// A pointer is none.
    #[error("`{pointer}` is not a JSON pointer: write it like /customer/id")]
    Pointer {
        /// The text.
        pointer: String,
    },
    /// An expression or a template speaks of what is not there.
    #[error("nothing is called `{name}` here{}", hint(.nearest.as_deref(), "known here", .known))]
    UnknownName {
        /// The name.
        name: String,
        /// The name that looks most like it.
        nearest: Option<String>,
        /// All names that are known there.
        known: Vec<String>,
    },
    /// An expression or a template speaks of a step that may be made later.
    #[error(
        "`{name}` is not certain to be done before this: name it in `after`; known here: {}",
        .known.join(", ")
    )]
    NotCertain {
        /// The step.
        name: String,
        /// All names that are known there.
        known: Vec<String>,
    },
    /// An expression or a template speaks of a step that comes later for certain.
    #[error(
        "`{name}` comes after this, and cannot come before it, too: {}",
        .steps.join(" -> ")
    )]
    Forward {
        /// The step.
        name: String,
        /// The circle that it would be, the first step again at the end.
        steps: Vec<String>,
    },
    /// Something is never made.
    #[error("this is never made: {why}")]
    Unreachable {
        /// Why.
        why: Why,
    },
    /// More branches are waited for than there are.
    #[error("{need} are waited for, and there are only {branches}")]
    Quorum {
        /// How many are waited for.
        need: u32,
        /// How many there are.
        branches: usize,
    },
    /// It is said how many must succeed, and none can be left out.
    #[error("`need` counts only where somebody is asked with on_failure = \"skip\": leave it out")]
    NeedWithoutSkip,
    /// A step is made for items and made again.
    #[error("`map` and `repeat` exclude each other: put one of them into a step inside the other")]
    MapAndRepeat,
    /// A flow as a whole is to be left out.
    #[error("only a step can be skipped: write \"fail\", or whom to ask instead")]
    SkipAll,
    /// Somebody is named twice.
    #[error("`{name}` is named twice")]
    Doubled {
        /// The name.
        name: String,
    },
    /// Somebody is asked when he fails.
    #[error("`{name}` is the one who has failed: name another")]
    Itself {
        /// The name.
        name: String,
    },
    /// A person is one of several that do the same.
    #[error(
        "messages are spread over agents, routers and pipelines: `human` cannot be one of them"
    )]
    SpreadOverPeople,
    /// It is said how somebody is asked who is not asked.
    #[error("messages do not go to `{name}`{}", hint(.nearest.as_deref(), "they go to", .known))]
    NoTarget {
        /// The name.
        name: String,
        /// The name that looks most like it.
        nearest: Option<String>,
        /// All those to whom they go.
        known: Vec<String>,
    },
    /// A router or a pipeline has what only agents have.
    #[error("a {kind} has no `{key}`: leave it out")]
    NotOfFlow {
        /// Which it is.
        kind: FlowKind,
        /// What it has.
        key: &'static str,
    },
}

/// Why something is never made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Its condition never holds.
    #[error("its condition never holds")]
    Condition,
    /// Another way is always gone before it.
    #[error("the way before it is always gone")]
    Behind,
    /// It comes after what is never made.
    #[error(
        "it comes only after {}, which {} never made",
        .0.join(" and "),
        if .0.len() == 1 { "is" } else { "are" }
    )]
    After(Vec<String>),
}

fn hint(nearest: Option<&str>, what: &str, known: &[String]) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None if known.is_empty() => String::new(),
        None => format!("; {what}: {}", known.join(", ")),
    }
}

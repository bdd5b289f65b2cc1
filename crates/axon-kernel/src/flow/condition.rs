//! What is asked of a message, or of an output, before something is done with it.

use regex::Regex;
use serde_json::Value;

use super::expression::{Expression, ExpressionError};
use super::scope::Scope;
use crate::schema::Schema;
use crate::spec::PromptName;

/// Whether something is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// An expression holds, or a Rust function of the service returns true.
    Holds(Expression),
    /// A part of the message passes a test.
    Message {
        /// The part, as a JSON pointer; the whole where this is empty.
        pointer: String,
        /// The test. What is not there passes none.
        test: Test,
    },
}

/// What is asked of one value.
#[derive(Clone, Debug)]
pub enum Test {
    /// A regular expression matches somewhere in it. What is no text is matched as JSON.
    Matches(Regex),
    /// It is equal to this.
    Equals(Value),
    /// It fits a schema.
    Fits(Schema),
}

impl PartialEq for Test {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Matches(one), Self::Matches(two)) => one.as_str() == two.as_str(),
            (Self::Equals(one), Self::Equals(two)) => one == two,
            (Self::Fits(one), Self::Fits(two)) => one == two,
            (Self::Matches(_) | Self::Equals(_) | Self::Fits(_), _) => false,
        }
    }
}

impl Condition {
    /// Returns the Rust function that it is, if it is one.
    #[must_use]
    pub fn code(&self) -> Option<&PromptName> {
        if let Self::Holds(expression) = self { expression.code() } else { None }
    }

    /// Returns the names that it takes from its surroundings, as [`Expression::uses`] does.
    #[must_use]
    pub fn uses(&self) -> Vec<String> {
        if let Self::Holds(expression) = self { expression.uses() } else { Vec::new() }
    }

    /// Returns whether it holds, where that is the same whatever it is asked of.
    pub(super) fn constant(&self) -> Option<bool> {
        match self {
            Self::Holds(expression) => expression.constant(),
            Self::Message { test: Test::Fits(schema), .. } => {
                (*schema.raw() == Value::Bool(false)).then_some(false)
            }
            Self::Message { test: Test::Matches(_) | Test::Equals(_), .. } => None,
        }
    }

    pub(super) fn holds(&self, scope: &Scope<'_>) -> Result<bool, ExpressionError> {
        match self {
            Self::Holds(expression) => expression.holds(scope),
            Self::Message { pointer, test } => {
                Ok(scope.input().pointer(pointer).is_some_and(|value| test.passes(value)))
            }
        }
    }
}

impl Test {
    fn passes(&self, value: &Value) -> bool {
        match self {
            Self::Matches(regex) => match value.as_str() {
                Some(text) => regex.is_match(text),
                None => regex.is_match(&value.to_string()),
            },
            Self::Equals(expected) => value == expected,
            Self::Fits(schema) => schema.validate(value).is_ok(),
        }
    }
}

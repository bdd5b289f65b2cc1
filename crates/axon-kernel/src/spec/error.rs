//! What is wrong with a file of definitions or settings: every problem with its place and what to do about it.

use std::fmt;

use super::check::Rule;
use crate::flow::GraphError;

/// Why a file is refused: at least one problem, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SpecError {
    /// The file.
    pub path: String,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            let space = if problem.position.is_some() { "" } else { " " };
            write!(f, "{line_break}{}:{space}{problem}", self.path)?;
        }
        Ok(())
    }
}

/// One problem of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is, if it stands in a file.
    pub position: Option<Position>,
    /// The key that it is about, like `tools[0].timeout`; empty if it is about no key.
    pub key: String,
    /// What it is.
    pub what: What,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Position { line, column }) = self.position {
            write!(f, "{line}:{column}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        self.what.fmt(f)
    }
}

/// A place in a text, both parts from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character within the line.
    pub column: usize,
}

impl Position {
    /// Returns the place of the byte `offset` of `text`.
    #[must_use]
    pub fn of(text: &str, offset: usize) -> Self {
        let end = (0..=offset.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
        let before = &text[..end.unwrap_or(0)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// What is wrong at one place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum What {
    /// The text is not TOML.
    #[error("not valid TOML: {message}")]
    Syntax {
        /// What the parser says.
        message: String,
    },
    /// No such key exists.
    #[error("unknown key `{key}`{}", advice(.nearest.as_deref(), .valid))]
    UnknownKey {
        /// The key as it was written.
        key: String,
        /// The valid key that is most like it.
        nearest: Option<String>,
        /// Every key that is valid there.
        valid: Vec<String>,
    },
    /// The value does not fit its key.
    #[error("{message}")]
    Value {
        /// What was found and what was expected.
        message: String,
    },
    /// A variable has no value and no default.
    #[error("the variable {variable} is not set: set it, or write ${{{variable}:-default}}")]
    UnsetVariable {
        /// The variable.
        variable: String,
    },
    /// A `${` begins no variable.
    #[error(
        "`{text}` names no variable: write ${{NAME}}, ${{NAME:-default}}, or $${{ for a plain ${{"
    )]
    BadVariable {
        /// The text from the `${` on.
        text: String,
    },
    /// A value has no form in JSON.
    #[error("{found} cannot be used here: write it as text")]
    NotJson {
        /// What it is.
        found: &'static str,
    },
    /// The file of a schema cannot be read.
    #[error("cannot read the schema `{file}` in the agent's folder: {message}")]
    SchemaFile {
        /// The file as it was written.
        file: String,
        /// Why.
        message: String,
    },
    /// The name of a schema's file leaves the agent's folder.
    #[error("`{file}` is outside the agent's folder: give a path below it, without `..`")]
    SchemaPath {
        /// The file as it was written.
        file: String,
    },
    /// A schema's text is not JSON.
    #[error("the schema{} is not valid JSON: {message}", in_file(.file.as_deref()))]
    SchemaText {
        /// The file, if it is in one.
        file: Option<String>,
        /// What the parser says.
        message: String,
    },
    /// A tool calls nothing, or more than one thing.
    #[error(
        "the tool `{tool}` has {}: give exactly one of `python`, `rust` or `agent`",
        both(.given, "nothing to call")
    )]
    ToolTarget {
        /// The tool.
        tool: String,
        /// The keys that were given.
        given: Vec<&'static str>,
    },
    /// A runner is described in more than one way.
    #[error("{} exclude each other: give at most one", both(.given, ""))]
    Exclusive {
        /// The keys that were given.
        given: Vec<&'static str>,
    },
    /// Nothing is said where one thing has to be, or more than one.
    #[error("{}: give exactly one of {}", has(.given, .nothing), any(.valid))]
    OneOf {
        /// What it is if none was given.
        nothing: &'static str,
        /// The keys that were given.
        given: Vec<&'static str>,
        /// The keys of which there has to be one.
        valid: &'static [&'static str],
    },
    /// A key has nothing to say where it stands.
    #[error("`{key}` {why}: leave it out")]
    Needless {
        /// The key.
        key: &'static str,
        /// Why.
        why: &'static str,
    },
    /// A rule is broken.
    #[error(transparent)]
    Rule(#[from] Rule),
    /// Something cannot work with the other definitions.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

fn advice(nearest: Option<&str>, valid: &[String]) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None if valid.is_empty() => "; no key is valid there".to_owned(),
        None => format!("; valid there: {}", valid.join(", ")),
    }
}

fn in_file(file: Option<&str>) -> String {
    file.map(|file| format!(" `{file}`")).unwrap_or_default()
}

fn has(given: &[&str], nothing: &str) -> String {
    if given.is_empty() { nothing.to_owned() } else { format!("it has {}", both(given, "")) }
}

fn any(keys: &[&str]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    match keys.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        Some(_) | None => keys.join(", "),
    }
}

fn both(given: &[&str], nothing: &str) -> String {
    if given.is_empty() {
        return nothing.to_owned();
    }
    given.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" and ")
}

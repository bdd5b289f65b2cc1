//! What is worked out of the message and of the outputs so far: expressions and templates of
//! minijinja, or Rust functions of the service.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde_json::Value;

use super::scope::Scope;
use crate::json::excerpt;
use crate::spec::PromptName;

/// How many instructions of the template machine one evaluation may take.
const FUEL: u64 = 1_000_000;

/// The largest text that a template may give, in bytes (1 MiB).
const MAX_TEXT_BYTES: usize = 1024 * 1024;

/// The name that a template has while it is rendered.
const NAME: &str = "template";

/// Why something cannot be worked out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} in `{source_text}`")]
pub struct ExpressionError {
    /// What was to be worked out, shortened.
    pub source_text: String,
    /// What went wrong.
    pub message: String,
}

/// A text that was compiled once, and is worked out as often as it takes. It is the text as it was
/// written.
pub struct Compiled<T> {
    source: Arc<str>,
    program: Arc<T>,
}

impl<T> fmt::Debug for Compiled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.source, f)
    }
}

impl<T> Clone for Compiled<T> {
    fn clone(&self) -> Self {
        Self { source: self.source.clone(), program: self.program.clone() }
    }
}

impl<T> Deref for Compiled<T> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.source
    }
}

impl<T> PartialEq for Compiled<T> {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl<T> Eq for Compiled<T> {}

/// A value that is worked out.
#[derive(Clone, PartialEq, Eq)]
pub enum Expression {
    /// An expression of minijinja.
    Text(Compiled<minijinja::Expression<'static, 'static>>),
    /// A Rust function of the service, which gets what came before.
    Code(PromptName),
}

/// A text that is worked out.
#[derive(Clone, PartialEq, Eq)]
pub enum TextTemplate {
    /// A template of minijinja, the only one of its environment.
    Text(Compiled<Environment<'static>>),
    /// A Rust function of the service, which gets what came before.
    Code(PromptName),
}

/// A JSON value in which texts are templates; one that is nothing but one `{{ expression }}` stands
/// for that value, of whatever kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    /// A text, or what it is of.
    Text(TextTemplate),
    /// The value of an expression.
    Value(Expression),
    /// A list.
    List(Vec<Given>),
    /// An object.
    Object(BTreeMap<String, Given>),
    /// As it is.
    Plain(Value),
}

impl Expression {
    /// Parses an expression.
    ///
    /// # Errors
    ///
    /// [`ExpressionError`] if it does not parse.
    pub fn new(source: impl Into<Arc<str>>) -> Result<Self, ExpressionError> {
        let source = source.into();
        let compiled = environment().compile_expression_owned(source.to_string());
        let program = Arc::new(compiled.map_err(|error| failed(&source, &error))?);
        Ok(Self::Text(Compiled { source, program }))
    }

    /// Returns the Rust function that it is, if it is one.
    #[must_use]
    pub fn code(&self) -> Option<&PromptName> {
        if let Self::Code(name) = self { Some(name) } else { None }
    }

    /// Returns the names that it takes from its surroundings, with what it takes of them:
    /// `plan.queries`. None of a Rust function is known.
    #[must_use]
    pub fn uses(&self) -> Vec<String> {
        let Self::Text(text) = self else { return Vec::new() };
        sorted(text.program.undeclared_variables(true))
    }

    /// Returns whether it holds, where that is the same whatever it is asked of.
    pub(super) fn constant(&self) -> Option<bool> {
        let free = self.code().is_none() && self.uses().is_empty();
        free.then(|| self.holds(&Scope::empty()).ok())?
    }

    pub(super) fn value(&self, scope: &Scope<'_>) -> Result<Value, ExpressionError> {
        match self {
            Self::Code(name) => scope.call(name),
            Self::Text(source) => {
                let value = source.program.eval(scope.values());
                let value = value.map_err(|error| failed(source, &error))?;
                if value.is_undefined() {
                    let message = "what it takes is not there".to_owned();
                    return Err(ExpressionError { source_text: shown(source), message });
                }
                serde_json::to_value(value).map_err(|error| ExpressionError {
                    source_text: shown(source),
                    message: error.to_string(),
                })
            }
        }
    }

    pub(super) fn holds(&self, scope: &Scope<'_>) -> Result<bool, ExpressionError> {
        match self {
            Self::Code(name) => scope.call(name).map(|value| value == Value::Bool(true)),
            Self::Text(source) => match source.program.eval(scope.values()) {
                Ok(value) => Ok(value.is_true()),
                // Nothing holds of what is not there, whatever a message is like.
                Err(error) if error.kind() == ErrorKind::UndefinedError => Ok(false),
                Err(error) => Err(failed(source, &error)),
            },
        }
    }
}

impl TextTemplate {
    /// Parses a template.
    ///
    /// # Errors
    ///
    /// [`ExpressionError`] if it does not parse.
    pub fn new(source: impl Into<Arc<str>>) -> Result<Self, ExpressionError> {
        let source = source.into();
        let mut own = environment().clone();
        own.add_template_owned(NAME, source.to_string())
            .map_err(|error| failed(&source, &error))?;
        Ok(Self::Text(Compiled { source, program: Arc::new(own) }))
    }

    /// Returns the Rust function that it is, if it is one.
    #[must_use]
    pub fn code(&self) -> Option<&PromptName> {
        if let Self::Code(name) = self { Some(name) } else { None }
    }

    /// Returns the names that it takes from its surroundings, as [`Expression::uses`] does.
    #[must_use]
    pub fn uses(&self) -> Vec<String> {
        let Self::Text(source) = self else { return Vec::new() };
        let parsed = source.program.get_template(NAME);
        let names = parsed.map(|parsed| parsed.undeclared_variables(true)).unwrap_or_default();
        sorted(names.into_iter().filter(|name| !sets(source, name)).collect())
    }

    pub(super) fn text(&self, scope: &Scope<'_>) -> Result<String, ExpressionError> {
        let (source, text) = match self {
            Self::Code(name) => return scope.call(name).map(as_text),
            Self::Text(source) => (
                source,
                source
                    .program
                    .get_template(NAME)
                    .and_then(|template| template.render(scope.values())),
            ),
        };
        let text = text.map_err(|error| failed(source, &error))?;
        if text.len() > MAX_TEXT_BYTES {
            let message = format!("it gives more than {MAX_TEXT_BYTES} bytes");
            return Err(ExpressionError { source_text: shown(source), message });
        }
        Ok(text)
    }
}

impl Given {
    /// Reads a value whose texts are templates.
    ///
    /// # Errors
    ///
    /// [`ExpressionError`] if one of them does not parse.
    pub fn new(value: Value) -> Result<Self, ExpressionError> {
        match value {
            Value::String(text) => match whole(&text) {
                Some(expression) => Expression::new(expression).map(Self::Value),
                None => TextTemplate::new(text).map(Self::Text),
            },
            Value::Array(items) => {
                items.into_iter().map(Self::new).collect::<Result<_, _>>().map(Self::List)
            }
            Value::Object(members) => {
                let members = members.into_iter().map(|(key, value)| Ok((key, Self::new(value)?)));
                members.collect::<Result<_, _>>().map(Self::Object)
            }
            plain @ (Value::Null | Value::Bool(_) | Value::Number(_)) => Ok(Self::Plain(plain)),
        }
    }

    /// Returns the names that it takes from its surroundings, as [`Expression::uses`] does.
    #[must_use]
    pub fn uses(&self) -> Vec<String> {
        match self {
            Self::Text(template) => template.uses(),
            Self::Value(expression) => expression.uses(),
            Self::List(items) => items.iter().flat_map(Self::uses).collect(),
            Self::Object(members) => members.values().flat_map(Self::uses).collect(),
            Self::Plain(_) => Vec::new(),
        }
    }

    /// Returns the value as it was written.
    #[must_use]
    pub fn written(&self) -> Value {
        match self {
            Self::Text(TextTemplate::Text(source)) => source.deref().into(),
            Self::Value(Expression::Text(source)) => format!("{{{{ {} }}}}", &**source).into(),
            Self::Text(TextTemplate::Code(name)) | Self::Value(Expression::Code(name)) => {
                name.as_str().into()
            }
            Self::List(items) => items.iter().map(Self::written).collect(),
            Self::Object(members) => Value::Object(
                members.iter().map(|(key, value)| (key.clone(), value.written())).collect(),
            ),
            Self::Plain(value) => value.clone(),
        }
    }

    pub(super) fn value(&self, scope: &Scope<'_>) -> Result<Value, ExpressionError> {
        match self {
            Self::Text(template) => template.text(scope).map(Value::from),
            Self::Value(expression) => expression.value(scope),
            Self::List(items) => items.iter().map(|item| item.value(scope)).collect(),
            Self::Object(members) => {
                let members = members.iter();
                members.map(|(key, value)| Ok((key.clone(), value.value(scope)?))).collect()
            }
            Self::Plain(value) => Ok(value.clone()),
        }
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(source) => f.write_str(source),
            Self::Code(name) => write!(f, "rust {name}"),
        }
    }
}

impl fmt::Debug for TextTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(source) => fmt::Debug::fmt(source, f),
            Self::Code(name) => write!(f, "rust {name}"),
        }
    }
}

/// Returns what a model reads of a value: texts as they are, everything else as JSON.
pub(super) fn as_text(value: Value) -> String {
    if let Value::String(text) = value { text } else { value.to_string() }
}

/// Returns what is to be worked out in a line, shortened.
fn shown(source: &str) -> String {
    excerpt(&source.split_whitespace().collect::<Vec<_>>().join(" "), 80)
}

/// Returns the expression, where a text is nothing but one.
pub(super) fn whole(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let simple = !inner.contains("{{") && !inner.contains("}}");
    simple.then(|| inner.trim_matches('-').trim())
}

/// Returns names in order, without those that every template knows.
fn sorted(names: HashSet<String>) -> Vec<String> {
    let known = |name: &String| environment().globals().any(|(global, _)| global == name);
    let mut names: Vec<String> = names.into_iter().filter(|name| !known(name)).collect();
    names.sort_unstable();
    names
}

/// Returns whether a template sets `name` itself, if only inside a block: it is known after that.
fn sets(source: &str, name: &str) -> bool {
    let target = name.split('.').next().unwrap_or(name);
    let words = source.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.windows(2).any(|pair| pair == ["set", target])
}

/// The one environment of all flows: it holds no templates, so nothing in one reaches another.
fn environment() -> &'static Environment<'static> {
    static ENVIRONMENT: OnceLock<Environment<'static>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_debug(true);
        // Whoever reads a prompt reads JSON better than anybody's debug output.
        environment.set_formatter(|output, state, value| {
            if matches!(
                value.kind(),
                minijinja::value::ValueKind::Map | minijinja::value::ValueKind::Seq
            ) {
                let json = serde_json::to_string(value).map_err(|error| {
                    minijinja::Error::new(ErrorKind::BadSerialization, error.to_string())
                })?;
                return output.write_str(&json).map_err(minijinja::Error::from);
            }
            minijinja::escape_formatter(output, state, value)
        });
        environment
    })
}

fn failed(source: &str, error: &minijinja::Error) -> ExpressionError {
    let kind = error.kind().to_string();
    let message = match error.detail() {
        Some(detail) => excerpt(&format!("{kind}: {detail}"), 300),
        None => kind,
    };
    let line = error.line().filter(|_| source.contains('\n'));
    let message = line.map_or_else(|| message.clone(), |line| format!("line {line}: {message}"));
    ExpressionError { source_text: shown(source), message }
}

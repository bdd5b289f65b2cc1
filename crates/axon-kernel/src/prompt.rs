//! Instructions: minijinja templates, checked when the agent is loaded and rendered for each run.

use std::fmt;
use std::io;
use std::sync::Arc;

use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, context};
use serde_json::Value;

use crate::ids::{ConversationId, RunId};
use crate::json::excerpt;
use crate::spec::AgentName;

/// The largest rendered prompt, in bytes (256 KiB).
pub const MAX_RENDERED_BYTES: usize = 256 * 1024;

/// How many instructions of the template machine one rendering may take.
const FUEL: u64 = 1_000_000;

/// The name that the one template has in its environment.
const NAME: &str = "instructions";

/// A template that is known to parse.
#[derive(Clone)]
pub struct Template {
    source: Arc<str>,
    environment: Arc<Environment<'static>>,
}

/// What a template can use: `deps`, `run.id`, `run.conversation_id` and `agent`.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The agent's name.
    pub agent: &'a AgentName,
    /// The run.
    pub run_id: &'a RunId,
    /// The conversation, if the run is part of one.
    pub conversation_id: Option<&'a ConversationId>,
    /// What the caller gave.
    pub deps: &'a Value,
}

/// Why a template cannot be used or rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// It is not a template.
    #[error("line {line} of the template: {message}")]
    Syntax {
        /// The line of the template, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// It uses what it was not given.
    #[error(
        "line {line} of the template: `{expression}` is not defined (a template can use deps, \
         run.id, run.conversation_id and agent); give it, or write \
         {{{{ {expression} | default(\"…\") }}}}"
    )]
    Undefined {
        /// The line of the template, from 1.
        line: usize,
        /// What is missing.
        expression: String,
    },
    /// It takes too long.
    #[error("line {line} of the template: rendering takes more than {FUEL} steps")]
    TooLong {
        /// The line of the template, from 1.
        line: usize,
    },
    /// Its result is too large.
    #[error("the rendered template has more than {MAX_RENDERED_BYTES} bytes")]
    TooLarge,
    /// It failed otherwise.
    #[error("line {line} of the template: {message}")]
    Failed {
        /// The line of the template, from 1.
        line: usize,
        /// What went wrong.
        message: String,
    },
}

impl Template {
    /// Parses `source`.
    ///
    /// # Errors
    ///
    /// [`PromptError::Syntax`] with the line if it does not parse.
    pub fn new(source: impl Into<String>) -> Result<Self, PromptError> {
        let source = source.into();
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        // Errors then say which part of the template they mean.
        environment.set_debug(true);
        environment.add_template_owned(NAME, source.clone()).map_err(|error| {
            PromptError::Syntax { line: error.line().unwrap_or(1), message: message(&error) }
        })?;
        Ok(Self { source: source.into(), environment: Arc::new(environment) })
    }

    /// Returns the template as it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders the template.
    ///
    /// # Errors
    ///
    /// [`PromptError`] with the line if it uses what is not there, or takes too much.
    pub fn render(&self, context: Context<'_>) -> Result<String, PromptError> {
        let values = context! {
            agent => context.agent.as_str(),
            run => context! {
                id => context.run_id.as_str(),
                conversation_id => context.conversation_id.map(ConversationId::as_str),
            },
            deps => minijinja::Value::from(Serde(context.deps)),
        };
        let mut output = Bounded(Vec::new());
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render_captured_to(values, &mut output).map(drop))
            .map_err(|error| self.failure(&error))?;
        String::from_utf8(output.0)
            .map_err(|error| PromptError::Failed { line: 1, message: error.to_string() })
    }

    fn failure(&self, error: &minijinja::Error) -> PromptError {
        let line = error.line().unwrap_or(1);
        let part = error.range().and_then(|range| self.source.get(range));
        match (error.kind(), part) {
            (ErrorKind::UndefinedError, Some(part)) => {
                PromptError::Undefined { line, expression: excerpt(part.trim(), 80) }
            }
            (ErrorKind::OutOfFuel, _) => PromptError::TooLong { line },
            (ErrorKind::WriteFailure, _) => PromptError::TooLarge,
            _ => PromptError::Failed { line, message: message(error) },
        }
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.source).finish()
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Template {}

fn message(error: &minijinja::Error) -> String {
    let kind = error.kind().to_string();
    match error.detail() {
        Some(detail) => excerpt(&format!("{kind}: {detail}"), 300),
        None => kind,
    }
}

/// A buffer that refuses to grow beyond [`MAX_RENDERED_BYTES`].
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_RENDERED_BYTES {
            return Err(io::Error::other("too large"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(source: &str, deps: &Value) -> Result<String, PromptError> {
        let agent = AgentName::try_from("bank").unwrap();
        let run_id = RunId::new("r1");
        let context = Context { agent: &agent, run_id: &run_id, conversation_id: None, deps };
        Template::new(source)?.render(context)
    }

    #[test]
    fn a_template_uses_deps_run_and_agent() {
        let deps = json!({ "name": "Ada & \"Bob\"", "items": [1, 2], "none": null });
        let source = "{{ agent }}/{{ run.id }}/{{ run.conversation_id }}/{{ deps.name }}/\
            {% for item in deps['items'] %}{{ item }},{% endfor %}{{ deps.none }}";
        assert_eq!(render(source, &deps).unwrap(), "bank/r1/None/Ada & \"Bob\"/1,2,None");
    }

    #[test]
    fn what_is_not_given_is_named_with_its_line() {
        let deps = json!({ "a": 1 });
        let missing = |source| {
            let error = render(source, &deps).unwrap_err();
            let PromptError::Undefined { line, expression } = error else { panic!("{error}") };
            (line, expression)
        };
        assert_eq!(missing("x\n{{ deps.customer_name }}").0, 2);
        assert_eq!(missing("{{ nothing }}"), (1, "nothing".to_owned()));
        assert_eq!(missing("{{ deps.a.b.c }}").0, 1);
        assert_eq!(render("{{ deps.gone | default('you') }}", &deps).unwrap(), "you");
    }

    #[test]
    fn a_broken_template_is_refused_when_it_is_loaded() {
        for source in ["{{ deps.name", "a\n{% if %}", "{% endfor %}", "{{ a ~ }}"] {
            assert!(matches!(Template::new(source), Err(PromptError::Syntax { .. })), "{source}");
        }
        let error = Template::new("a\nb\n{{ x").unwrap_err();
        assert!(matches!(error, PromptError::Syntax { line: 3, .. }), "{error}");
    }

    #[test]
    fn time_and_size_are_bounded() {
        let error = render(
            "{% for i in range(9000) %}{% for j in range(9000) %}{% endfor %}{% endfor %}",
            &json!({}),
        );
        assert!(matches!(error, Err(PromptError::TooLong { .. })), "{error:?}");
        let deps = json!({ "text": "x".repeat(10_000) });
        let error = render("{% for i in range(100) %}{{ deps.text }}{% endfor %}", &deps);
        assert_eq!(error, Err(PromptError::TooLarge));
        let error = render("{% include 'other' %}", &deps);
        assert!(error.is_err(), "{error:?}");
    }
}

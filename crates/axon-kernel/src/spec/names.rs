//! The names that a definition gives: agents, tools, Python objects, models, variables.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest Python target or model name, in bytes.
const MAX_TEXT: usize = 255;

/// A text that is not the name it was given as.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not {what}: {rule}")]
pub struct NameError {
    /// What was expected, with its article.
    pub what: &'static str,
    /// The text, shortened.
    pub given: String,
    /// What such a name looks like.
    pub rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $pattern:literal, $valid:path, $what:literal, $rule:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(try_from = "String", into = "String")]
        #[schemars(extend("pattern" = $pattern))]
        pub struct $name(String);

        impl $name {
            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                if $valid(&text) {
                    return Ok(Self(text));
                }
                Err(NameError { what: $what, given: crate::json::excerpt(&text, 80), rule: $rule })
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;

            fn try_from(text: &str) -> Result<Self, NameError> {
                Self::try_from(text.to_owned())
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The name of an agent, a router or a pipeline.
    AgentName, "^[a-z][a-z0-9_]{0,63}$", is_plain_name, "an agent's name",
    "write a lower-case letter, then up to 63 of a-z, 0-9 and _"
}

name! {
    /// The name of a group of agents.
    GroupName, "^[a-z][a-z0-9_]{0,63}$", is_plain_name, "a group's name",
    "write a lower-case letter, then up to 63 of a-z, 0-9 and _"
}

name! {
    /// The name of a tool, as the model sees it.
    ToolName, "^[a-z][a-z0-9_]{0,63}$", is_plain_name, "a tool's name",
    "write a lower-case letter, then up to 63 of a-z, 0-9 and _"
}

name! {
    /// A word by which agents, routers and pipelines are found beside their names.
    Tag, "^[a-z][a-z0-9_]{0,63}$", is_plain_name, "a tag",
    "write a lower-case letter, then up to 63 of a-z, 0-9 and _"
}

name! {
    /// The name of a Rust function that gives instructions or is a step of a flow, as its service
    /// registered it.
    PromptName, "^[a-z][a-z0-9_]{0,63}$", is_plain_name, "a prompt function's name",
    "write a lower-case letter, then up to 63 of a-z, 0-9 and _"
}

name! {
    /// An object at the top level of a Python module: `package.module:attribute`.
    PythonTarget, r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$", is_python_target,
    "a Python object", "write `package.module:attribute`, absolute and without a dot after the colon"
}

name! {
    /// A model: a pydantic-ai model string (`openai:gpt-5`), `test`, or `python:module:attribute`
    /// for an object of the agent's own package.
    ModelName, r"^(test|[^\s:]+:\S+)$", is_model, "a model",
    "write `provider:model`, `python:package.module:attribute` or `test`"
}

name! {
    /// The name of an environment variable.
    EnvName, "^[A-Za-z_][A-Za-z0-9_]*$", is_env_name, "a variable's name",
    "write letters, digits and _, not beginning with a digit"
}

/// The agents from a top-level run down to one that answers for a part of it, written
/// `support/fraud`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[a-z][a-z0-9_]{0,63}(/[a-z][a-z0-9_]{0,63})*$"))]
pub struct AgentPath(String);

impl AgentPath {
    /// Begins with the agent of a top-level run.
    #[must_use]
    pub fn of(agent: &AgentName) -> Self {
        Self(agent.to_string())
    }

    /// Returns the path one agent further down.
    #[must_use]
    pub fn down_to(&self, agent: &AgentName) -> Self {
        Self(format!("{}/{agent}", self.0))
    }

    /// Returns the path with another agent in place of the last one.
    #[must_use]
    pub fn beside(&self, agent: &AgentName) -> Self {
        match self.0.rsplit_once('/') {
            Some((above, _)) => Self(format!("{above}/{agent}")),
            None => Self::of(agent),
        }
    }

    /// Returns how many agents are on it.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.0.split('/').count()
    }

    /// Returns the names of the agents on it, from the top-level run's on.
    pub fn agents(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// Returns the path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AgentPath {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.split('/').try_for_each(|name| AgentName::try_from(name).map(drop))?;
        Ok(Self(text))
    }
}

impl From<AgentPath> for String {
    fn from(path: AgentPath) -> Self {
        path.0
    }
}

impl fmt::Display for AgentPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a model comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelSource<'a> {
    /// pydantic-ai's own test model.
    Test,
    /// An object of the agent's own package, as `module:attribute`.
    Python(&'a str),
    /// A model of a provider.
    Provider {
        /// The prefix that selects the provider and its interface.
        provider: &'a str,
        /// The provider's name for the model.
        model: &'a str,
    },
}

impl ModelName {
    /// Returns where the model comes from.
    #[must_use]
    pub fn source(&self) -> ModelSource<'_> {
        match self.0.split_once(':') {
            None => ModelSource::Test,
            Some(("python", target)) => ModelSource::Python(target),
            Some((provider, model)) => ModelSource::Provider { provider, model },
        }
    }

    /// Returns the Python object that is the model, if it is one.
    #[must_use]
    pub fn python_target(&self) -> Option<PythonTarget> {
        match self.source() {
            ModelSource::Python(target) => Some(PythonTarget(target.to_owned())),
            ModelSource::Test | ModelSource::Provider { .. } => None,
        }
    }
}

impl PythonTarget {
    /// Returns the module's dotted name.
    #[must_use]
    pub fn module(&self) -> &str {
        self.0.split_once(':').map_or("", |(module, _)| module)
    }

    /// Returns the name of the object in its module.
    #[must_use]
    pub fn attribute(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, attribute)| attribute)
    }

    /// Returns the top-level package, or the module where it is in none.
    #[must_use]
    pub fn package(&self) -> &str {
        self.module().split('.').next().unwrap_or_default()
    }
}

fn is_plain_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

fn is_env_name(text: &str) -> bool {
    is_identifier(text)
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_python_target(text: &str) -> bool {
    text.len() <= MAX_TEXT
        && text.split_once(':').is_some_and(|(module, attribute)| {
            module.split('.').all(is_identifier) && is_identifier(attribute)
        })
}

fn is_model(text: &str) -> bool {
    if text.len() > MAX_TEXT || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return false;
    }
    match text.split_once(':') {
        None => text == "test",
        Some(("python", target)) => is_python_target(target),
        Some((provider, model)) => !provider.is_empty() && !model.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_the_pattern_are_refused_with_the_rule() {
        for good in ["a", "bank_support", "a1_"] {
            assert_eq!(AgentName::try_from(good).unwrap().as_str(), good);
        }
        for bad in ["", "A", "1a", "a-b", "_a", "é", &"a".repeat(65)] {
            assert!(AgentName::try_from(bad).is_err(), "{bad}");
        }
        let error = AgentName::try_from("Bank").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`Bank` is not an agent's name: write a lower-case letter, then up to 63 of a-z, 0-9 and _"
        );
    }

    #[test]
    fn python_targets_are_absolute_and_without_dotted_attributes() {
        let target = PythonTarget::try_from("pkg.sub:make").unwrap();
        assert_eq!(
            (target.module(), target.attribute(), target.package()),
            ("pkg.sub", "make", "pkg")
        );
        for bad in ["os", "os:", ":x", ".a:b", "a..b:c", "a:b.c", "a:b:c", "a b:c", "a:b\n", "à:b"]
        {
            assert!(PythonTarget::try_from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_model_says_where_it_comes_from() {
        let source = |text: &str| format!("{:?}", ModelName::try_from(text).unwrap().source());
        assert_eq!(source("test"), "Test");
        assert_eq!(source("python:a.b:c"), r#"Python("a.b:c")"#);
        assert_eq!(
            source("bedrock:eu.x:1"),
            r#"Provider { provider: "bedrock", model: "eu.x:1" }"#
        );
        for bad in ["gpt-5", "python:a.b", "openai:", ":x", "openai:a b", ""] {
            assert!(ModelName::try_from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn schemas_keep_the_pattern() {
        let schema = schemars::schema_for!(AgentName);
        assert_eq!(schema.get("pattern").unwrap(), "^[a-z][a-z0-9_]{0,63}$");
    }
}

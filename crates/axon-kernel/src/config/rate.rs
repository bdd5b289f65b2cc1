//! How much a model, or all models of a provider together, may be asked.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::provider::{self, ProviderError};
use crate::spec::{ModelName, ModelSource, NameError};

/// How much may be asked within a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimit {
    /// How many model requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<NonZeroU64>,
    /// How many tokens, in both directions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<NonZeroU64>,
    /// The time (1m).
    #[serde(with = "crate::spec::duration")]
    #[schemars(schema_with = "crate::spec::duration::schema")]
    pub within: Duration,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { requests: None, tokens: None, within: Duration::from_secs(60) }
    }
}

/// What a rate limit holds for: written `openai:gpt-5` or `openai`.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = r"^[^\s:]+(:\S+)?$"))]
pub enum RateLimitKey {
    /// One model.
    Model(ModelName),
    /// All models of a provider together, by any of the provider's prefixes.
    Provider(String),
}

/// A text that names neither a model nor a provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateLimitKeyError {
    /// It is no model.
    #[error(transparent)]
    Model(#[from] NameError),
    /// There is no such provider.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

impl RateLimitKey {
    /// Returns whether a request to `model` counts against the limit, through whichever of its
    /// provider's interfaces it is made.
    #[must_use]
    pub fn covers(&self, model: &ModelName) -> bool {
        let provider = |model: &ModelName| provider::of(model).ok().flatten();
        let Some(of_model) = provider(model) else {
            return matches!(self, Self::Model(name) if name == model);
        };
        match self {
            Self::Model(name) => {
                provider(name) == Some(of_model) && local_name(name) == local_name(model)
            }
            Self::Provider(prefix) => {
                some_model(prefix).is_ok_and(|any| provider(&any) == Some(of_model))
            }
        }
    }
}

impl TryFrom<String> for RateLimitKey {
    type Error = RateLimitKeyError;

    fn try_from(text: String) -> Result<Self, RateLimitKeyError> {
        if text.contains(':') || text == "test" {
            let model = ModelName::try_from(text)?;
            provider::of(&model)?;
            return Ok(Self::Model(model));
        }
        provider::of(&some_model(&text)?)?;
        Ok(Self::Provider(text))
    }
}

impl From<RateLimitKey> for String {
    fn from(key: RateLimitKey) -> Self {
        match key {
            RateLimitKey::Model(model) => model.into(),
            RateLimitKey::Provider(prefix) => prefix,
        }
    }
}

impl fmt::Display for RateLimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model(model) => model.fmt(f),
            Self::Provider(prefix) => f.write_str(prefix),
        }
    }
}

/// Returns a model of the provider with this prefix, to ask for the provider with.
fn some_model(prefix: &str) -> Result<ModelName, NameError> {
    ModelName::try_from(format!("{prefix}:model"))
}

/// Returns the provider's own name for a model.
fn local_name(model: &ModelName) -> &str {
    match model.source() {
        ModelSource::Provider { model, .. } => model,
        ModelSource::Test | ModelSource::Python(_) => model.as_str(),
    }
}

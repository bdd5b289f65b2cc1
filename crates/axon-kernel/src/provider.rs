//! Which environment variables pydantic-ai reads for which provider.
//!
//! So a key reaches only the agents whose model needs it, and a missing one is named before
//! anything is started. The table follows pydantic-ai 2.68 (`pydantic_ai/providers`).

use crate::spec::{ModelName, ModelSource, ProviderSpec};

/// One provider, under all prefixes that select it.
#[derive(Debug, PartialEq, Eq)]
pub struct Provider {
    /// The prefixes of a model string that select it.
    pub prefixes: &'static [&'static str],
    /// The variables that may hold the key; the first is the usual one.
    pub keys: &'static [&'static str],
    /// The variables that may hold the address.
    pub urls: &'static [&'static str],
    /// Whatever else it reads.
    pub others: &'static [&'static str],
    needs: Needs,
}

/// What must be there before a provider can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    Key,
    /// Without an address the service itself is asked, which wants a key.
    KeyOrUrl,
    Url,
    KeyAndUrl,
}

/// What a model needs and does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the model `{model}` needs {}: set {}", .part.label(), any_of(.variables))]
pub struct Missing {
    /// The model.
    pub model: ModelName,
    /// What is missing.
    pub part: Part,
    /// The variables, any one of which gives it; the first is the usual one.
    pub variables: Vec<String>,
}

/// A part of what a provider needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its key.
    Key,
    /// Its address.
    Url,
}

impl Part {
    fn label(self) -> &'static str {
        match self {
            Self::Key => "a key",
            Self::Url => "its provider's address",
        }
    }
}

/// A model whose provider is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no provider is called `{prefix}`{}",
    .nearest.map_or(String::new(), |nearest| format!("; did you mean `{nearest}`?"))
)]
pub struct ProviderError {
    /// The prefix as it was written.
    pub prefix: String,
    /// The known prefix that is most like it.
    pub nearest: Option<&'static str>,
}

/// Returns the provider of `model`, or `None` for a model of the agent's own.
///
/// # Errors
///
/// [`ProviderError`] with the nearest known prefix if there is no such provider.
pub fn of(model: &ModelName) -> Result<Option<&'static Provider>, ProviderError> {
    let prefix = match model.source() {
        ModelSource::Test | ModelSource::Python(_) => return Ok(None),
        ModelSource::Provider { provider, .. } => provider,
    };
    if prefix.starts_with("gateway/") {
        return Ok(Some(&GATEWAY));
    }
    let found = PROVIDERS.iter().find(|provider| provider.prefixes.contains(&prefix));
    found.map(Some).ok_or_else(|| ProviderError {
        prefix: crate::json::excerpt(prefix, 60),
        nearest: nearest(prefix),
    })
}

/// Returns the variables that a runner of `model` is to be given, where they are set.
///
/// With `spec` naming a key of its own, that one comes in place of the provider's usual keys.
#[must_use]
pub fn variables(model: &ModelName, spec: Option<&ProviderSpec>) -> Vec<String> {
    let own_key = spec.and_then(|spec| spec.api_key_env.as_ref());
    let Ok(Some(provider)) = of(model) else {
        return own_key.into_iter().map(ToString::to_string).collect();
    };
    let keys = match own_key {
        Some(key) => vec![key.to_string()],
        None => owned(provider.keys),
    };
    keys.into_iter().chain(owned(provider.urls)).chain(owned(provider.others)).collect()
}

/// Returns what `model` needs and `lookup` does not have.
#[must_use]
pub fn missing_key(
    model: &ModelName,
    spec: Option<&ProviderSpec>,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Option<Missing> {
    let has = |variables: &[String]| {
        variables.iter().any(|name| lookup(name).is_some_and(|value| !value.is_empty()))
    };
    let missing = |part, variables| Some(Missing { model: model.clone(), part, variables });
    let provider = of(model).ok()??;
    let own_key = spec.and_then(|spec| spec.api_key_env.as_ref());
    let keys = own_key.map_or_else(|| owned(provider.keys), |key| vec![key.to_string()]);
    let urls = owned(provider.urls);
    let has_url = spec.is_some_and(|spec| spec.base_url.is_some()) || has(&urls);
    let needs_key = match provider.needs {
        Needs::Key | Needs::KeyAndUrl => true,
        Needs::KeyOrUrl => !has_url,
        Needs::Nothing | Needs::Url => false,
    };
    // A key that the agent names itself is wanted, whatever the provider could do without.
    if (needs_key || own_key.is_some()) && !has(&keys) {
        return missing(Part::Key, keys);
    }
    match provider.needs {
        Needs::Url | Needs::KeyAndUrl if !has_url => missing(Part::Url, urls),
        Needs::Nothing | Needs::Key | Needs::KeyOrUrl | Needs::Url | Needs::KeyAndUrl => None,
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn any_of(variables: &[String]) -> String {
    variables.join(" or ")
}

fn nearest(prefix: &str) -> Option<&'static str> {
    // Names of older releases.
    match prefix {
        "google-gla" | "gemini" => return Some("google"),
        "google-vertex" | "vertexai" => return Some("google-cloud"),
        _ => {}
    }
    PROVIDERS
        .iter()
        .flat_map(|provider| provider.prefixes.iter().copied())
        .map(|known| (strsim::jaro_winkler(prefix, known), known))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

const fn provider(
    prefixes: &'static [&'static str],
    needs: Needs,
    keys: &'static [&'static str],
    urls: &'static [&'static str],
) -> Provider {
    Provider { prefixes, keys, urls, others: &[], needs }
}

const fn reads(provider: Provider, others: &'static [&'static str]) -> Provider {
    Provider { others, ..provider }
}

const GATEWAY: Provider = provider(
    &["gateway"],
    Needs::Key,
    &["PYDANTIC_AI_GATEWAY_API_KEY", "PAIG_API_KEY"],
    &["PYDANTIC_AI_GATEWAY_BASE_URL", "PAIG_BASE_URL"],
);

const AWS: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_READ_TIMEOUT",
    "AWS_CONNECT_TIMEOUT",
];

/// Every provider that can serve an agent's model.
pub const PROVIDERS: &[Provider] = &[
    reads(
        provider(
            &["openai", "openai-chat", "openai-responses", "openai-decisions"],
            Needs::KeyOrUrl,
            &["OPENAI_API_KEY"],
            &["OPENAI_BASE_URL"],
        ),
        &["OPENAI_ORG_ID", "OPENAI_PROJECT_ID"],
    ),
    reads(provider(&["openai-codex"], Needs::Nothing, &[], &[]), &["CODEX_HOME"]),
    provider(&["openai-chatgpt"], Needs::Nothing, &[], &[]),
    reads(
        provider(&["anthropic"], Needs::Key, &["ANTHROPIC_API_KEY"], &["ANTHROPIC_BASE_URL"]),
        &["ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS"],
    ),
    provider(
        &["google", "google-decisions"],
        Needs::Key,
        &["GOOGLE_API_KEY", "GEMINI_API_KEY"],
        &["GOOGLE_GEMINI_BASE_URL"],
    ),
    reads(
        provider(
            &["google-cloud"],
            Needs::Nothing,
            &["GOOGLE_API_KEY", "GEMINI_API_KEY"],
            &["GOOGLE_VERTEX_BASE_URL"],
        ),
        &["GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION"],
    ),
    reads(
        provider(
            &["azure", "azure-responses"],
            Needs::KeyAndUrl,
            &["AZURE_OPENAI_API_KEY"],
            &["AZURE_OPENAI_ENDPOINT"],
        ),
        &["OPENAI_API_VERSION"],
    ),
    reads(provider(&["bedrock"], Needs::Nothing, &["AWS_BEARER_TOKEN_BEDROCK"], &[]), AWS),
    reads(provider(&["bedrock-mantle"], Needs::Nothing, &["AWS_BEARER_TOKEN_BEDROCK"], &[]), AWS),
    provider(&["ollama"], Needs::Url, &["OLLAMA_API_KEY"], &["OLLAMA_BASE_URL"]),
    provider(&["vllm"], Needs::Url, &["VLLM_API_KEY"], &["VLLM_BASE_URL"]),
    provider(&["system-one"], Needs::Url, &["SYSTEM_ONE_API_KEY"], &["SYSTEM_ONE_BASE_URL"]),
    provider(&["litellm"], Needs::Nothing, &[], &[]),
    provider(&["groq"], Needs::Key, &["GROQ_API_KEY"], &["GROQ_BASE_URL"]),
    provider(&["mistral"], Needs::Key, &["MISTRAL_API_KEY"], &[]),
    provider(&["cohere"], Needs::Key, &["CO_API_KEY"], &["CO_BASE_URL"]),
    provider(&["deepseek"], Needs::Key, &["DEEPSEEK_API_KEY"], &[]),
    reads(
        provider(&["openrouter"], Needs::Key, &["OPENROUTER_API_KEY"], &[]),
        &["OPENROUTER_APP_URL", "OPENROUTER_APP_TITLE"],
    ),
    provider(&["vercel"], Needs::Key, &["VERCEL_AI_GATEWAY_API_KEY", "VERCEL_OIDC_TOKEN"], &[]),
    provider(&["cerebras"], Needs::Key, &["CEREBRAS_API_KEY"], &[]),
    provider(&["crusoe"], Needs::Key, &["CRUSOE_API_KEY"], &[]),
    provider(&["xai"], Needs::Key, &["XAI_API_KEY"], &[]),
    provider(&["moonshotai"], Needs::Key, &["MOONSHOTAI_API_KEY"], &["MOONSHOTAI_BASE_URL"]),
    provider(&["meta"], Needs::Key, &["META_API_KEY"], &[]),
    provider(&["fireworks"], Needs::Key, &["FIREWORKS_API_KEY"], &[]),
    provider(&["together"], Needs::Key, &["TOGETHER_API_KEY"], &[]),
    provider(&["heroku"], Needs::Key, &["HEROKU_INFERENCE_KEY"], &["HEROKU_INFERENCE_URL"]),
    provider(&["huggingface"], Needs::Key, &["HF_TOKEN"], &[]),
    provider(&["github"], Needs::Key, &["GITHUB_API_KEY"], &[]),
    reads(
        provider(
            &["github-copilot"],
            Needs::Key,
            &["GITHUB_COPILOT_API_KEY", "GITHUB_COPILOT_API_TOKEN", "COPILOT_GITHUB_TOKEN"],
            &["GITHUB_COPILOT_BASE_URL", "COPILOT_API_URL", "GITHUB_COPILOT_API_BASE"],
        ),
        &["GITHUB_COPILOT_INTEGRATION_ID"],
    ),
    provider(&["nebius"], Needs::Key, &["NEBIUS_API_KEY"], &[]),
    provider(&["ovhcloud"], Needs::Key, &["OVHCLOUD_API_KEY"], &[]),
    provider(&["alibaba"], Needs::Key, &["ALIBABA_API_KEY", "DASHSCOPE_API_KEY"], &[]),
    provider(&["sambanova"], Needs::Key, &["SAMBANOVA_API_KEY"], &["SAMBANOVA_BASE_URL"]),
    provider(&["snowflake"], Needs::KeyAndUrl, &["SNOWFLAKE_TOKEN"], &["SNOWFLAKE_ACCOUNT"]),
    provider(&["typesafe"], Needs::Key, &["TYPESAFE_API_KEY"], &["TYPESAFE_BASE_URL"]),
    provider(&["zai"], Needs::Key, &["ZAI_API_KEY"], &[]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::EnvName;

    fn model(text: &str) -> ModelName {
        ModelName::try_from(text).unwrap()
    }

    fn missing(text: &str, spec: Option<&ProviderSpec>, set: &[&str]) -> Option<String> {
        let lookup = |name: &str| set.contains(&name).then(|| "value".to_owned());
        missing_key(&model(text), spec, &lookup).map(|missing| missing.to_string())
    }

    #[test]
    fn a_missing_key_is_named() {
        assert_eq!(
            missing("openai:gpt-5", None, &[]).unwrap(),
            "the model `openai:gpt-5` needs a key: set OPENAI_API_KEY"
        );
        assert_eq!(
            missing("google:gemini-3", None, &[]).unwrap(),
            "the model `google:gemini-3` needs a key: set GOOGLE_API_KEY or GEMINI_API_KEY"
        );
        assert_eq!(missing("google:gemini-3", None, &["GEMINI_API_KEY"]), None);
        assert_eq!(
            missing("ollama:llama3", None, &[]).unwrap(),
            "the model `ollama:llama3` needs its provider's address: set OLLAMA_BASE_URL"
        );
        assert!(missing("gateway/anthropic:claude", None, &["ANTHROPIC_API_KEY"]).is_some());
        assert!(missing("azure:gpt-5", None, &["AZURE_OPENAI_API_KEY"]).is_some());
    }

    #[test]
    fn models_that_need_no_key_are_left_alone() {
        for text in ["test", "python:a.b:model", "bedrock:x", "litellm:x", "nowhere:x"] {
            assert_eq!(missing(text, None, &[]), None, "{text}");
        }
        let local = ProviderSpec { base_url: Some("http://x/v1".to_owned()), api_key_env: None };
        assert_eq!(missing("openai-chat:local", Some(&local), &[]), None);
        assert_eq!(missing("openai-chat:local", None, &["OPENAI_BASE_URL"]), None);
        assert_eq!(missing("ollama:x", Some(&local), &[]), None);
        assert!(missing("anthropic:x", Some(&local), &[]).is_some());
    }

    #[test]
    fn a_key_of_the_agents_own_comes_in_place_of_the_usual_one() {
        let own = EnvName::try_from("BANK_KEY").unwrap();
        let spec = ProviderSpec { base_url: None, api_key_env: Some(own) };
        let text = "the model `openai:gpt-5` needs a key: set BANK_KEY";
        assert_eq!(missing("openai:gpt-5", Some(&spec), &["OPENAI_API_KEY"]).unwrap(), text);
        let passed = variables(&model("openai:gpt-5"), Some(&spec));
        assert!(passed.contains(&"BANK_KEY".to_owned()), "{passed:?}");
        assert!(!passed.contains(&"OPENAI_API_KEY".to_owned()), "{passed:?}");
    }

    #[test]
    fn only_the_models_own_provider_is_passed_on() {
        assert_eq!(variables(&model("python:a:b"), None), Vec::<String>::new());
        let passed = variables(&model("anthropic:claude"), None);
        assert!(passed.iter().all(|name| name.starts_with("ANTHROPIC_")), "{passed:?}");
    }

    #[test]
    fn an_unknown_provider_gets_the_nearest_known_one() {
        let nearest = |text| of(&model(text)).unwrap_err().nearest;
        assert_eq!(nearest("antropic:x"), Some("anthropic"));
        assert_eq!(nearest("google-gla:x"), Some("google"));
        assert_eq!(nearest("google-vertex:x"), Some("google-cloud"));
        assert_eq!(nearest("zzz:x"), None);
    }

    #[test]
    fn no_prefix_selects_two_providers() {
        let mut prefixes: Vec<_> = PROVIDERS.iter().flat_map(|p| p.prefixes).collect();
        prefixes.sort_unstable();
        let count = prefixes.len();
        prefixes.dedup();
        assert_eq!(prefixes.len(), count);
    }
}

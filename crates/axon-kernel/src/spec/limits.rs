//! What one agent may use: at once, waiting, and per run.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

/// How deep work is handed on from agent to agent, below the agent of the top-level run.
pub const MAX_DELEGATIONS: usize = 8;

/// How often one message is handed on: from run to run, and within a run from agent to agent.
pub const MAX_HOPS: u32 = 16;

/// How much one agent may do: at once, waiting, and per run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How many runs may be under way at once.
    pub concurrency: NonZeroU32,
    /// How many accepted runs may wait for their turn.
    pub queue: u32,
    /// The deadline of a run whose caller gives none.
    #[serde(with = "super::duration")]
    #[schemars(schema_with = "super::duration::schema")]
    pub timeout: Duration,
    /// How many model requests a run may make.
    pub requests: u64,
    /// How many calls of Rust tools and of other agents a run may make at the same time.
    pub parallel_tools: NonZeroU32,
    /// How many tool calls a run may make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<u64>,
    /// How many tokens a run may send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// How many tokens a run may receive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// How many tokens a run may use in both directions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_tokens: Option<u64>,
    /// How much a run may cost, in US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Usd>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrency: NonZeroU32::MIN.saturating_add(15),
            queue: 64,
            timeout: Duration::from_secs(60),
            requests: 50,
            parallel_tools: NonZeroU32::MIN.saturating_add(15),
            tool_calls: None,
            input_tokens: None,
            output_tokens: None,
            total_tokens: None,
            cost: None,
        }
    }
}

impl Limits {
    /// Returns the limits of one run as pydantic-ai's `UsageLimits`, leaving out what is not set.
    #[must_use]
    pub fn usage_limits(&self) -> Map<String, Value> {
        let counts = [
            ("request_limit", Some(self.requests)),
            ("tool_calls_limit", self.tool_calls),
            ("input_tokens_limit", self.input_tokens),
            ("output_tokens_limit", self.output_tokens),
            ("total_tokens_limit", self.total_tokens),
        ];
        let mut limits: Map<String, Value> = counts
            .into_iter()
            .filter_map(|(key, count)| Some((key.to_owned(), count?.into())))
            .collect();
        if let Some(cost) = self.cost {
            limits.insert("cost_limit".to_owned(), cost.to_string().into());
        }
        limits
    }
}

/// An amount of US dollars, exact to a millionth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd {
    micros: u64,
}

/// A text that is no amount of dollars.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount in US dollars: write it like 0.50, with at most six decimals")]
pub struct UsdError(String);

impl Usd {
    /// Makes the amount of `micros` millionths of a dollar.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self { micros }
    }

    /// Returns the amount in millionths of a dollar.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.micros
    }
}

impl FromStr for Usd {
    type Err = UsdError;

    fn from_str(text: &str) -> Result<Self, UsdError> {
        let refused = || UsdError(crate::json::excerpt(text, 40));
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > 6 || whole.len() > 12 {
            return Err(refused());
        }
        let micros = format!("{whole}{fraction:0<6}").parse().ok().ok_or_else(refused)?;
        Ok(Self { micros })
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:06}", self.micros % 1_000_000);
        let fraction = fraction.trim_end_matches('0');
        let whole = self.micros / 1_000_000;
        if fraction.is_empty() { write!(f, "{whole}") } else { write!(f, "{whole}.{fraction}") }
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Usd;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount in US dollars, like 0.50")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Usd, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, whole: i64) -> Result<Usd, E> {
                whole.to_string().parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, whole: u64) -> Result<Usd, E> {
                whole.to_string().parse().map_err(E::custom)
            }

            fn visit_f64<E: de::Error>(self, amount: f64) -> Result<Usd, E> {
                amount.to_string().parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Usd {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Usd".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"], "pattern": r"^\d+(\.\d{1,6})?$", "minimum": 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        for (text, micros, shown) in
            [("0.1", 100_000, "0.1"), ("12", 12_000_000, "12"), ("0.000001", 1, "0.000001")]
        {
            let amount: Usd = text.parse().unwrap();
            assert_eq!((amount.micros(), amount.to_string().as_str()), (micros, shown));
        }
        for bad in ["", "-1", "1.", ".5", "1e3", "0.0000001", "9999999999999", "١"] {
            assert!(bad.parse::<Usd>().is_err(), "{bad}");
        }
    }

    #[test]
    fn usage_limits_leave_out_what_is_not_set() {
        let limits = Limits { cost: Some(Usd::from_micros(500_000)), ..Limits::default() };
        assert_eq!(
            Value::Object(limits.usage_limits()),
            serde_json::json!({ "request_limit": 50, "cost_limit": "0.5" })
        );
    }
}

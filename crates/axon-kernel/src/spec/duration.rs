//! Durations as people write them: `"5s"`, `"200ms"`, `"1m 30s"`.

use std::time::Duration;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserializer, Serializer, de};

/// The longest duration that a definition may give: a year, far from any clock's overflow.
const MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = Duration;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a duration as text with its unit, like \"5s\", \"200ms\" or \"1m 30s\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        let duration = humantime::parse_duration(text)
            .map_err(|_unsaid| E::invalid_value(de::Unexpected::Str(text), &self))?;
        match duration {
            Duration::ZERO => Err(E::custom("a duration must be longer than nothing")),
            _ if duration > MAX => Err(E::custom("a duration must not be longer than 365 days")),
            _ => Ok(duration),
        }
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    deserializer.deserialize_str(Visitor)
}

pub(crate) fn serialize<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

/// Returns the JSON Schema of a duration.
pub(crate) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "pattern": r"^\s*(\d+\s*[a-zA-Zµ]+\s*)+$",
        "examples": ["5s", "200ms", "1m 30s"],
    })
}

/// The same for a duration that need not be given.
pub(crate) mod option {
    use super::{Deserializer, Duration, Serializer};

    #[expect(clippy::ref_option, reason = "serde hands the field over as it is")]
    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        super::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Given(#[serde(deserialize_with = "deserialize")] Duration);

    fn read(text: &str) -> Result<Duration, String> {
        serde_json::from_value::<Given>(text.into()).map(|given| given.0).map_err(|e| e.to_string())
    }

    #[test]
    fn durations_need_a_unit_and_a_sane_length() {
        assert_eq!(read("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(read("200ms"), Ok(Duration::from_millis(200)));
        assert!(read("5").unwrap_err().contains("like \"5s\""));
        assert!(read("0s").unwrap_err().contains("longer than nothing"));
        assert!(read("2years").unwrap_err().contains("365 days"));
        assert!(read("99999999999999999999999y").is_err());
    }
}

//! What can be decided about a call that a run waits for, or of which nobody knows what became.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::json::RawJson;

/// What can be decided about a call.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Resolution {
    /// It may be made, perhaps with other arguments.
    Approve {
        /// The arguments in place of the model's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        args: Option<RawJson>,
        /// Whether further calls of the same tool are approved, too, as long as the run lasts: each
        /// with the arguments that the model gives it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        always: bool,
    },
    /// It must not be made.
    Deny {
        /// What the model is told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// A question to a person, or a call that is made elsewhere, has this result.
    Answer {
        /// The result.
        result: RawJson,
    },
    /// An ambiguous call did not take effect: it is made again.
    Retry,
    /// An ambiguous call took effect, with this result as far as anybody knows; it is not made
    /// again.
    Skip {
        /// What the model is told that it returned.
        #[serde(default = "RawJson::null")]
        result: RawJson,
    },
    /// The run ends with a failure.
    Fail {
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
}

impl Resolution {
    /// Returns the decision that a call may be made as it is.
    #[must_use]
    pub fn approve() -> Self {
        Self::Approve { args: None, always: false }
    }

    /// Returns what holds for a call that `earlier` was decided about before.
    ///
    /// A call that was approved and then came into doubt stays approved: made again, it would ask
    /// for an approval once more, and even its result is only taken for a call that may be made.
    #[must_use]
    pub fn after(self, earlier: Option<&Self>) -> Self {
        match earlier {
            Some(approval @ Self::Approve { .. })
                if matches!(self, Self::Retry | Self::Skip { .. }) =>
            {
                approval.clone()
            }
            Some(_) | None => self,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Do {
    Approve,
    Deny,
    Answer,
    Retry,
    Skip,
    Fail,
}

// Its raw JSON cannot be read through serde's own tagged enums either.
impl<'de> Deserialize<'de> for Resolution {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Flat {
            r#do: Do,
            args: Option<RawJson>,
            #[serde(default)]
            always: bool,
            message: Option<String>,
            result: Option<RawJson>,
        }

        let Flat { r#do, args, always, message, result } = Flat::deserialize(deserializer)?;
        Ok(match r#do {
            Do::Approve => Self::Approve { args, always },
            Do::Deny => Self::Deny { message },
            Do::Answer => Self::Answer { result: result.unwrap_or_else(RawJson::null) },
            Do::Retry => Self::Retry,
            Do::Skip => Self::Skip { result: result.unwrap_or_else(RawJson::null) },
            Do::Fail => Self::Fail { message },
        })
    }
}

impl Resolution {
    /// Returns the name used in data.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Approve { .. } => "approve",
            Self::Deny { .. } => "deny",
            Self::Answer { .. } => "answer",
            Self::Retry => "retry",
            Self::Skip { .. } => "skip",
            Self::Fail { .. } => "fail",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::RunEvent;

    #[test]
    fn decisions_with_raw_json_survive_a_round_trip() {
        for resolution in [
            r#"{"do":"approve","args":{"n":123456789012345678901234567890}}"#,
            r#"{"do":"approve"}"#,
            r#"{"do":"approve","always":true}"#,
            r#"{"do":"deny","message":"no"}"#,
            r#"{"do":"answer","result":[1]}"#,
            r#"{"do":"answer","result":null}"#,
            r#"{"do":"retry"}"#,
            r#"{"do":"skip","result":null}"#,
            r#"{"do":"fail"}"#,
        ] {
            let text = format!(
                r#"{{"event":"resolved","tool_call_id":"c1","resolution":{resolution},"by":"me"}}"#
            );
            let event: RunEvent = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&event).unwrap(), text);
        }
    }

    #[test]
    fn an_approval_outlives_the_doubt_about_its_call() {
        let args = Some(RawJson::parse("{\"amount\":5}").unwrap());
        let approved = Resolution::Approve { args, always: false };
        let skipped = Resolution::Skip { result: RawJson::null() };
        let failed = Resolution::Fail { message: None };
        assert_eq!(Resolution::Retry.after(Some(&approved)), approved);
        assert_eq!(skipped.clone().after(Some(&approved)), approved);
        assert_eq!(failed.clone().after(Some(&approved)), failed);
        assert_eq!(skipped.clone().after(Some(&Resolution::Retry)), skipped);
        assert_eq!(approved.clone().after(None), approved);
    }
}

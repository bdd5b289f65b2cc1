//! What a caller gives to tools and prompts.

use axon_kernel::json::RawJson;
use axon_kernel::secret::{self, Encoded, MASK, Whole};
use axon_kernel::wire::LogRecord;
use serde::Serialize;

/// What a caller gives to tools and prompts: as tools get it, and as everybody else does.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Given {
    masked: Option<RawJson>,
    whole: Option<Whole>,
}

impl Given {
    /// Writes what a caller gives.
    pub(crate) fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        let Encoded { masked, whole } = secret::encode(value)?;
        Ok(Self { masked: Some(masked), whole })
    }

    /// Takes what holds no secret, or has lost it.
    pub(crate) fn of_json(value: RawJson) -> Self {
        Self { masked: Some(value), whole: None }
    }

    /// Returns it without its secrets.
    pub(crate) fn masked(&self) -> Option<&RawJson> {
        self.masked.as_ref()
    }

    /// Returns it with its secrets.
    pub(crate) fn whole(&self) -> Option<&RawJson> {
        self.whole.as_ref().map(Whole::value).or(self.masked.as_ref())
    }

    pub(crate) fn has_secrets(&self) -> bool {
        self.whole.is_some()
    }

    /// Returns `text` without the secrets.
    pub(crate) fn redact(&self, text: &str) -> String {
        let secrets = self.whole.iter().flat_map(Whole::secrets);
        let secrets = secrets.filter(|secret| !secret.is_empty());
        secrets.fold(text.to_owned(), |text, secret| text.replace(secret, MASK))
    }

    /// Returns a log record without the secrets.
    pub(crate) fn redact_record(&self, record: LogRecord) -> LogRecord {
        if self.has_secrets() { record.map_texts(&|text| self.redact(text)) } else { record }
    }

    /// Returns the secrets, for whoever has to keep them out of what is shown.
    pub(crate) fn secrets(&self) -> Vec<String> {
        self.whole.iter().flat_map(Whole::secrets).map(str::to_owned).collect()
    }
}

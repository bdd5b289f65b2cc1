//! How a caller wants to be answered, as the headers say it.

use axon_kernel::ids::RunId;
use axon_kernel::spec::AgentName;
use axon_kernel::trace::TraceContext;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use utoipa::IntoParams;

use crate::problem::Problem;
use crate::trace::context_of;

/// The longest key that is taken.
const MAX_KEY_BYTES: usize = 255;

/// How a caller wants to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    pub(crate) mode: Mode,
    pub(crate) at_disconnect: AtDisconnect,
    pub(crate) key: Option<String>,
    /// Where in which trace the request stands.
    pub(crate) trace: Option<TraceContext>,
}

/// When an answer comes, and in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// When the run is over.
    Wait,
    /// As the run goes.
    Stream,
    /// At once: only that it was accepted.
    Async,
}

/// What becomes of a run whose caller goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AtDisconnect {
    /// It is cancelled.
    Cancel,
    /// It goes on.
    Detach,
}

/// What can be said in the address where headers cannot.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct MannerQuery {
    /// What becomes of the run when the caller goes away, as `X-Axon-Disconnect` says it.
    #[param(value_type = Option<String>, pattern = "^(cancel|detach)$")]
    disconnect: Option<AtDisconnect>,
}

impl Manner {
    /// Reads the headers.
    pub(crate) fn of(headers: &HeaderMap, query: MannerQuery) -> Result<Self, Problem> {
        let mode = if lists(headers, "prefer", "respond-async") {
            Mode::Async
        } else if lists(headers, ACCEPT.as_str(), "text/event-stream") {
            Mode::Stream
        } else {
            Mode::Wait
        };
        let key = key(headers)?;
        let said = disconnect(headers)?.or(query.disconnect);
        // Whoever gives a key comes again for the answer.
        let by_default = match (mode, &key) {
            (Mode::Async, _) | (Mode::Wait | Mode::Stream, Some(_)) => AtDisconnect::Detach,
            (Mode::Wait | Mode::Stream, None) => AtDisconnect::Cancel,
        };
        let (at_disconnect, trace) = (said.unwrap_or(by_default), context_of(headers));
        Ok(Self { mode, at_disconnect, key, trace })
    }

    /// Returns the identity of the run that the caller's key stands for: the same in every process,
    /// and over every restart.
    pub(crate) fn run_of_key(&self, agent: &AgentName) -> Option<RunId> {
        let key = self.key.as_ref()?;
        let digest = Sha256::digest(format!("axon idempotency key\n{agent}\n{key}"));
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Some(RunId::new(uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()))
    }
}

/// Returns whether a header lists `item`, whatever its parameters.
pub(crate) fn lists(headers: &HeaderMap, name: &str, item: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let items = values.flat_map(|value| value.split(','));
    let mut bare = items.map(|listed| listed.split(';').next().unwrap_or_default().trim());
    bare.any(|listed| listed.eq_ignore_ascii_case(item))
}

fn disconnect(headers: &HeaderMap) -> Result<Option<AtDisconnect>, Problem> {
    match headers.get("x-axon-disconnect").map(|value| value.as_bytes()) {
        None => Ok(None),
        Some(b"cancel") => Ok(Some(AtDisconnect::Cancel)),
        Some(b"detach") => Ok(Some(AtDisconnect::Detach)),
        Some(_) => Err(Problem::invalid("`X-Axon-Disconnect` has to be `cancel` or `detach`")),
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().map(str::trim);
    match key.filter(|key| (1..=MAX_KEY_BYTES).contains(&key.len())) {
        Some(key) => Ok(Some(key.to_owned())),
        None => {
            let detail = format!("`Idempotency-Key` has to have 1 to {MAX_KEY_BYTES} characters");
            Err(Problem::invalid(detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn manner(headers: &[(&'static str, &'static str)]) -> Result<Manner, Problem> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Manner::of(&headers.collect(), MannerQuery::default())
    }

    #[test]
    fn callers_that_wait_cancel_and_those_that_come_again_do_not() {
        let stream = ("accept", "text/html, text/event-stream;q=0.9");
        let (wait, key) = (manner(&[]).unwrap(), ("idempotency-key", "k"));
        assert_eq!((wait.mode, wait.at_disconnect), (Mode::Wait, AtDisconnect::Cancel));
        let stream = manner(&[stream, key]).unwrap();
        assert_eq!((stream.mode, stream.at_disconnect), (Mode::Stream, AtDisconnect::Detach));
        let apart = manner(&[("prefer", "wait=1, respond-async")]).unwrap();
        assert_eq!((apart.mode, apart.at_disconnect), (Mode::Async, AtDisconnect::Detach));
        let said = manner(&[key, ("x-axon-disconnect", "cancel")]).unwrap();
        assert_eq!(said.at_disconnect, AtDisconnect::Cancel);
        assert!(manner(&[("x-axon-disconnect", "stay")]).is_err());
        assert!(manner(&[("idempotency-key", " ")]).is_err());
    }

    #[test]
    fn a_key_stands_for_one_run_of_one_agent() {
        let (bank, fraud) = ("bank".parse().unwrap(), "fraud".parse().unwrap());
        let keyed = manner(&[("idempotency-key", "k1")]).unwrap();
        assert_eq!(keyed.run_of_key(&bank), keyed.run_of_key(&bank));
        assert_ne!(keyed.run_of_key(&bank), keyed.run_of_key(&fraud));
        assert_eq!(manner(&[]).unwrap().run_of_key(&bank), None);
    }
}

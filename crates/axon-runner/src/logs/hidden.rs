//! What must be in nothing that is passed on of what a runner writes.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axon_kernel::wire::{Launch, LogRecord};

/// The shortest value that is looked for; shorter ones would blot out ordinary words.
const SECRET_BYTES: usize = 6;

/// How many secrets of runs that have left are still looked for: what a run has printed is read
/// later than its end, and a thread of its own may print on.
const KEPT_GIVEN: usize = 64;

/// The secrets of one runner: those that it was launched with, and those of the runs in it.
#[derive(Default)]
pub(crate) struct Hidden {
    launched_with: Vec<String>,
    given: Mutex<VecDeque<Given>>,
}

/// A secret of runs.
struct Given {
    text: String,
    /// How many of those are in the runner.
    runs: usize,
}

/// Keeps the secrets of one run out of what its runner writes; dropped when the run has left.
#[derive(Debug)]
#[must_use = "secrets are kept out for as long as this lives"]
pub struct Hiding {
    hidden: Arc<Hidden>,
    secrets: Vec<String>,
}

/// Returns the parts of secrets that are looked for: what is read comes line by line, and so do
/// secrets of several lines.
fn lines(secrets: impl Iterator<Item = impl AsRef<str>>) -> Vec<String> {
    let mut lines = Vec::new();
    for secret in secrets {
        let parts = secret.as_ref().lines().map(str::trim);
        lines.extend(parts.filter(|part| part.len() >= SECRET_BYTES).map(str::to_owned));
    }
    lines
}

impl Hidden {
    /// What a runner that is launched with `launch` must not pass on.
    pub(super) fn of(launch: &Launch) -> Self {
        let launched_with = lines(launch.env.values().chain([&launch.token]));
        Self { launched_with, given: Mutex::default() }
    }

    /// Keeps the secrets of a run out, too.
    pub(crate) fn also(self: &Arc<Self>, secrets: &[String]) -> Hiding {
        let mut secrets = lines(secrets.iter());
        secrets.sort_unstable();
        secrets.dedup();
        let mut given = self.given();
        for secret in &secrets {
            let known = given.iter().position(|known| known.text == *secret);
            let known = known.and_then(|at| given.remove(at));
            let mut known = known.unwrap_or_else(|| Given { text: secret.clone(), runs: 0 });
            known.runs += 1;
            given.push_back(known);
        }
        drop(given);
        Hiding { hidden: self.clone(), secrets }
    }

    /// Blots every secret out.
    pub(crate) fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        self.launched_with.iter().for_each(|secret| blot(&mut text, secret));
        self.given().iter().for_each(|given| blot(&mut text, &given.text));
        text
    }

    /// Blots out the secrets of runs: those are not known for ever.
    pub(super) fn redact_given<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        self.given().iter().for_each(|given| blot(&mut text, &given.text));
        text
    }

    /// Blots secrets out of all that a record says.
    pub(super) fn redact_record<'a>(&self, record: &'a LogRecord) -> Cow<'a, LogRecord> {
        if self.launched_with.is_empty() && self.given().is_empty() {
            return Cow::Borrowed(record);
        }
        Cow::Owned(record.map_texts(&|text| self.redact(text).into_owned()))
    }

    fn given(&self) -> MutexGuard<'_, VecDeque<Given>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn blot(text: &mut Cow<'_, str>, secret: &str) {
    if text.contains(secret) {
        *text = Cow::Owned(text.replace(secret, "[redacted]"));
    }
}

impl Drop for Hiding {
    fn drop(&mut self) {
        let mut given = self.hidden.given();
        for known in given.iter_mut().filter(|known| self.secrets.contains(&known.text)) {
            known.runs = known.runs.saturating_sub(1);
        }
        let mut left = given.iter().filter(|known| known.runs == 0).count();
        given.retain(|known| {
            let is_too_many = known.runs == 0 && left > KEPT_GIVEN;
            left -= usize::from(is_too_many);
            !is_too_many
        });
    }
}

/// Shows how many secrets there are only.
impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.launched_with.len() + self.given().len();
        f.debug_struct("Hidden").field("count", &count).finish()
    }
}

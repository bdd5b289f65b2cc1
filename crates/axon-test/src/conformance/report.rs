//! What came of the checks.

use std::fmt;

/// What the protocol asks for and the runner does not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}; saw {seen}")]
pub struct Disagreement {
    /// What was expected.
    pub expected: String,
    /// What was seen instead.
    pub seen: String,
}

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckResult {
    /// The check: a claim about the runner.
    pub name: &'static str,
    /// Whether the claim holds.
    pub outcome: Result<(), Disagreement>,
}

/// What came of every check, in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The results.
    pub results: Vec<CheckResult>,
}

impl Report {
    /// Returns the claims that do not hold.
    pub fn disagreements(&self) -> impl Iterator<Item = (&'static str, &Disagreement)> {
        self.results.iter().filter_map(|result| Some((result.name, result.outcome.as_ref().err()?)))
    }

    /// Returns whether claims were checked and every one holds.
    #[must_use]
    pub fn conforms(&self) -> bool {
        !self.results.is_empty() && self.disagreements().next().is_none()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for CheckResult { name, outcome } in &self.results {
            let claim = name.replace('_', " ");
            match outcome {
                Ok(()) => writeln!(f, "ok    {claim}")?,
                Err(disagreement) => writeln!(f, "FAIL  {claim}\n      {disagreement}")?,
            }
        }
        Ok(())
    }
}

/// What a check says.
pub(super) type Verdict = Result<(), Disagreement>;

/// Makes a disagreement.
pub(super) fn expected(expected: impl fmt::Display, seen: impl fmt::Display) -> Disagreement {
    Disagreement { expected: expected.to_string(), seen: seen.to_string() }
}

/// Checks that `seen` is `wanted`.
pub(super) fn same<S, W>(what: &str, seen: S, wanted: W) -> Verdict
where
    S: PartialEq<W> + fmt::Debug,
    W: fmt::Debug,
{
    if seen == wanted {
        return Ok(());
    }
    Err(expected(format_args!("{what} {wanted:?}"), format_args!("{seen:?}")))
}

/// Checks that something holds.
pub(super) fn holds(condition: bool, what: &str, seen: impl fmt::Display) -> Verdict {
    if condition { Ok(()) } else { Err(expected(what, seen)) }
}

//! Whether a run kills its runners.

use crate::agent::Death;
use axon_kernel::ids::RunId;

/// After so many deaths in company a run goes on alone.
const IN_COMPANY: u32 = 2;

/// After so many deaths alone nobody tries again.
const ALONE: usize = 2;

/// What speaks against one run. A death counts only if the run was alone in the runner; company
/// makes it a suspect at most. Our own kills never count.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    in_company: u32,
    alone: Vec<String>,
}

impl Suspicion {
    /// Notes that `run` was in a runner that died.
    pub(super) fn note(&mut self, run: &RunId, death: &Death, evidence: &str) {
        match death {
            Death::With(runs) if runs.contains(run) => match death.lone() {
                Some(_) => self.alone.push(evidence.to_owned()),
                None => self.in_company += 1,
            },
            // It came when the runner was dead already, or nobody but us ended that.
            Death::With(_) | Death::Ours(_) => {}
        }
    }

    /// Returns whether the run has to have its next runner for itself.
    pub(super) fn isolates(&self) -> bool {
        self.in_company >= IN_COMPANY
    }

    /// Returns how the runners ended that the run killed alone, if those are enough.
    pub(super) fn proof(&self) -> Option<&[String]> {
        (self.alone.len() >= ALONE).then_some(&self.alone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(runs: &[&str]) -> Death {
        Death::With(runs.iter().map(|run| RunId::new(*run)).collect())
    }

    #[test]
    fn two_deaths_in_company_isolate_and_two_alone_prove() {
        let run = RunId::new("a");
        let mut suspicion = Suspicion::default();
        suspicion.note(&run, &with(&["a", "b"]), "");
        assert!(!suspicion.isolates());
        suspicion.note(&run, &with(&["a", "b"]), "");
        assert!(suspicion.isolates());
        suspicion.note(&run, &with(&["a"]), "first");
        assert_eq!(suspicion.proof(), None);
        suspicion.note(&run, &with(&["a"]), "second");
        assert_eq!(suspicion.proof(), Some(&["first".to_owned(), "second".to_owned()][..]));
    }

    #[test]
    fn our_own_kills_count_against_nobody() {
        let mut suspicion = Suspicion::default();
        for _ in 0..5 {
            suspicion.note(&RunId::new("a"), &Death::Ours("test".to_owned()), "");
        }
        assert!(!suspicion.isolates());
    }
}

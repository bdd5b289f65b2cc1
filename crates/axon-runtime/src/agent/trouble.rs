//! What an agent remembers of its runners' ends: how many count, and how long to wait.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use axon_kernel::failure::Failure;
use axon_kernel::ids::RunId;
use axon_kernel::spec::Supervision;
use tokio::time::Instant;

use super::tenancy::Death;

/// Whether the end of a runner counts against its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It does.
    Counts,
    /// It counts against the run that was alone in the runner.
    CountsAgainstRun,
    /// It was our own doing: against nobody.
    CountsAgainstNobody,
}

#[derive(Debug, Default)]
pub(super) struct Trouble {
    restarts: VecDeque<Restart>,
    /// Who was in the runner whose end was judged last.
    aboard: BTreeSet<RunId>,
    /// The last run that a runner died with alone, and how many runs had completed then.
    lone: Option<(RunId, u64)>,
    /// When a runner was restarted last whose end counted against a run.
    blamed_at: Option<Instant>,
}

/// A restart that counts.
#[derive(Debug)]
struct Restart {
    at: Instant,
    aboard: BTreeSet<RunId>,
}

impl Trouble {
    /// Judges the end of a runner.
    ///
    /// A run that dies alone with its runner takes the blame, for the deaths too that it was in
    /// company of before. Only when runner after runner dies with one run after another, and none
    /// completes in between, the agent itself is at fault.
    pub(super) fn judge(&mut self, death: &Death, completed: u64) -> Verdict {
        let Death::With(aboard) = death else { return Verdict::CountsAgainstNobody };
        self.aboard.clone_from(aboard);
        let Some(run) = death.lone() else { return Verdict::Counts };
        let before = self.lone.replace((run.clone(), completed));
        match before {
            Some((other, at)) if other != *run && at == completed => Verdict::Counts,
            _ => {
                let in_company =
                    |Restart { aboard, .. }: &Restart| aboard.len() > 1 && aboard.contains(run);
                self.restarts.retain(|restart| !in_company(restart));
                Verdict::CountsAgainstRun
            }
        }
    }

    /// Returns how long to wait before the next start; nothing if there were too many. The first of
    /// a window is not waited for: callers are, and what has worked until now mostly works again.
    pub(super) fn next_wait(
        &mut self,
        verdict: Verdict,
        supervision: &Supervision,
        now: Instant,
    ) -> Option<Duration> {
        self.forget(supervision, now);
        let aboard = std::mem::take(&mut self.aboard);
        match verdict {
            Verdict::CountsAgainstNobody => return Some(Duration::ZERO),
            Verdict::CountsAgainstRun => return Some(self.wait_after_run(supervision, now)),
            Verdict::Counts => self.restarts.push_back(Restart { at: now, aboard }),
        }
        let count = u32::try_from(self.restarts.len()).unwrap_or(u32::MAX);
        let wait = match count.checked_sub(2) {
            None => Duration::ZERO,
            Some(doublings) => supervision.backoff.min.saturating_mul(1 << doublings.min(16)),
        };
        let jitter = 0.5 + crate::run::jitter() / 2.0;
        (count <= supervision.intensity.max_restarts)
            .then(|| wait.min(supervision.backoff.max).mul_f64(jitter))
    }

    fn wait_after_run(&mut self, supervision: &Supervision, now: Instant) -> Duration {
        let within = supervision.intensity.within;
        let before = self.blamed_at.replace(now);
        let recent = before.is_some_and(|at| now.duration_since(at) < within);
        if recent || !self.restarts.is_empty() { supervision.backoff.min } else { Duration::ZERO }
    }

    /// Returns how many more restarts are allowed now.
    pub(super) fn left(&self, supervision: &Supervision, now: Instant) -> u32 {
        let within = supervision.intensity.within;
        let recent =
            self.restarts.iter().filter(|restart| now.duration_since(restart.at) < within).count();
        supervision.intensity.max_restarts.saturating_sub(u32::try_from(recent).unwrap_or(u32::MAX))
    }

    fn forget(&mut self, supervision: &Supervision, now: Instant) {
        let within = supervision.intensity.within;
        self.restarts.retain(|restart| now.duration_since(restart.at) < within);
    }
}

/// Returns whether no restart can heal `cause`.
pub(super) fn is_hopeless(cause: &Failure) -> bool {
    !cause.kind.row().row.heals()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(runs: &[&str]) -> Death {
        Death::With(runs.iter().map(|run| RunId::new(*run)).collect())
    }

    #[test]
    fn a_run_that_dies_alone_with_its_runners_is_to_blame_and_not_the_agent() {
        let mut trouble = Trouble::default();
        assert_eq!(trouble.judge(&with(&["a", "b"]), 0), Verdict::Counts);
        assert_eq!(trouble.judge(&with(&["a"]), 0), Verdict::CountsAgainstRun);
        assert_eq!(trouble.judge(&with(&["a"]), 0), Verdict::CountsAgainstRun);
        assert_eq!(trouble.judge(&with(&[]), 0), Verdict::Counts);
    }

    #[test]
    fn when_every_run_dies_the_agent_is_to_blame() {
        let mut trouble = Trouble::default();
        assert_eq!(trouble.judge(&with(&["a"]), 5), Verdict::CountsAgainstRun);
        assert_eq!(trouble.judge(&with(&["b"]), 5), Verdict::Counts);
        assert_eq!(trouble.judge(&with(&["c"]), 6), Verdict::CountsAgainstRun);
    }

    #[tokio::test]
    async fn who_is_to_blame_takes_back_what_counted_against_the_agent() {
        let (supervision, now) = (Supervision::default(), Instant::now());
        let mut trouble = Trouble::default();
        let mut left = |death: &Death| {
            let verdict = trouble.judge(death, 0);
            trouble.next_wait(verdict, &supervision, now);
            trouble.left(&supervision, now)
        };
        assert_eq!(left(&with(&["a", "b"])), 2);
        assert_eq!(left(&with(&["b", "c"])), 1);
        assert_eq!(left(&with(&["a"])), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn restarts_beyond_the_intensity_are_not_waited_for_until_the_window_moved_on() {
        let supervision = Supervision::default();
        let mut trouble = Trouble::default();
        let mut wait = || trouble.next_wait(Verdict::Counts, &supervision, Instant::now());
        let waits: Vec<_> = (0..4).map(|_| wait()).collect();
        assert!(waits[..3].iter().all(Option::is_some));
        assert_eq!(waits[3], None);
        assert_eq!(trouble.left(&supervision, Instant::now()), 0);
        tokio::time::advance(supervision.intensity.within).await;
        assert_eq!(trouble.left(&supervision, Instant::now()), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_first_restart_of_a_window_is_made_at_once() {
        let supervision = Supervision::default();
        let min = supervision.backoff.min;
        for verdict in [Verdict::Counts, Verdict::CountsAgainstRun] {
            let mut trouble = Trouble::default();
            let mut wait =
                || trouble.next_wait(verdict, &supervision, Instant::now()).unwrap_or_default();
            assert_eq!(wait(), Duration::ZERO, "{verdict:?}");
            let second = wait();
            assert!(second >= min / 2 && second <= min, "{verdict:?}: {second:?}");
            tokio::time::advance(supervision.intensity.within).await;
            assert_eq!(wait(), Duration::ZERO, "{verdict:?}");
        }
    }

    #[tokio::test]
    async fn our_own_kills_cost_neither_a_wait_nor_a_restart() {
        let supervision = Supervision::default();
        let mut trouble = Trouble::default();
        let death = Death::Ours("test".to_owned());
        let verdict = trouble.judge(&death, 0);
        let wait = trouble.next_wait(verdict, &supervision, Instant::now());
        assert_eq!(wait, Some(Duration::ZERO));
        assert_eq!(trouble.left(&supervision, Instant::now()), 3);
    }
}

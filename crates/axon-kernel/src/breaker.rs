//! The circuit breaker: a provider that keeps failing is left alone for a while, then probed.
//!
//! One breaker stands for one provider, model and credential. It is asked before each model
//! request and told how that went. Time is whatever the caller's clock says has passed since its
//! start; the same clock for all calls.
//!
//! The invariant: while it is not closed, at most one request is under way to find out whether the
//! provider answers again.

use std::num::NonZeroU32;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, FailureKind, Row};

/// A rate limit that asks for at least this long opens the breaker for as long as it asks. A
/// shorter one is left to the run that met it, which waits by itself.
pub const LONG_WAIT: Duration = Duration::from_secs(5);

/// How long a probe may go unreported before another one is let through.
pub const PROBE_TIME: Duration = Duration::from_secs(60);

/// The longest wait that a provider's rate limit is believed to ask for.
const MAX_ASKED: Duration = Duration::from_secs(60 * 60);

/// When to ask again that was refused because a probe is under way.
const NEXT_LOOK: Duration = Duration::from_secs(1);

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerSettings {
    /// How many failures in a row open it, from 1 to 1000.
    #[schemars(range(max = 1000))]
    pub failures: NonZeroU32,
    /// How long it stays open the first time; twice as long after each probe that fails.
    #[serde(with = "crate::spec::duration")]
    #[schemars(schema_with = "crate::spec::duration::schema")]
    pub open: Duration,
    /// The longest time that it stays open, unless the provider asks for more.
    #[serde(with = "crate::spec::duration")]
    #[schemars(schema_with = "crate::spec::duration::schema")]
    pub max_open: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failures: NonZeroU32::MIN.saturating_add(4),
            open: Duration::from_secs(10),
            max_open: Duration::from_secs(120),
        }
    }
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Requests pass.
    Closed,
    /// Requests are refused.
    Open {
        /// Until then, since the clock's start.
        until: Duration,
    },
    /// The next request probes, or a probe is under way.
    HalfOpen,
}

/// What a breaker says to a request.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It may be sent.
    Pass,
    /// It may be sent, and the others wait for what comes of it.
    Probe,
    /// It may not be sent.
    Refused {
        /// How long to wait before asking again; more than nothing.
        retry_after: Duration,
    },
}

/// How a request went.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'f> {
    /// The provider answered.
    Success,
    /// The attempt failed, whoever is to blame.
    Failure(&'f Failure),
}

/// The circuit breaker of one provider, model and credential.
///
/// ```
/// # use std::time::Duration;
/// # use axon_kernel::breaker::{Admitted, Answer, Breaker, BreakerSettings};
/// # use axon_kernel::failure::{Failure, FailureKind};
/// let mut breaker = Breaker::new(BreakerSettings::default());
/// let failure = Failure::new(FailureKind::ModelServer, "upstream is down");
/// let second = Duration::from_secs;
/// for now in 0..5 {
///     assert_eq!(breaker.admit(second(now)), Admitted::Pass);
///     breaker.record(second(now), Answer::Failure(&failure));
/// }
/// assert_eq!(breaker.admit(second(6)), Admitted::Refused { retry_after: second(8) });
/// assert_eq!(breaker.admit(second(14)), Admitted::Probe);
/// breaker.record(second(15), Answer::Success);
/// assert_eq!(breaker.admit(second(15)), Admitted::Pass);
/// ```
#[derive(Clone, Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed { failures: u32 },
    Open { until: Duration, openings: u32 },
    HalfOpen { probe: Option<Duration>, openings: u32 },
}

/// What an answer says about the provider.
enum Word {
    /// It answers.
    Up,
    /// It does not.
    Down,
    /// It asks to be left alone for this long.
    Leave(Duration),
    /// Nothing.
    Nothing,
}

impl Breaker {
    /// Makes a closed breaker.
    #[must_use]
    pub fn new(settings: BreakerSettings) -> Self {
        Self { settings, phase: Phase::Closed { failures: 0 } }
    }

    /// Returns where it stands at `now`, the time since the clock's start.
    #[must_use]
    pub fn state(&self, now: Duration) -> BreakerState {
        match self.phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { until, .. } if until > now => BreakerState::Open { until },
            Phase::Open { .. } | Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Says whether a request may be sent at `now`, the time since the clock's start.
    ///
    /// What came of a request that passed or probes is to be reported with [`Breaker::record`]; a
    /// probe that is never reported makes way for another one after [`PROBE_TIME`].
    pub fn admit(&mut self, now: Duration) -> Admitted {
        match self.phase {
            Phase::Closed { .. } => Admitted::Pass,
            Phase::Open { until, .. } if until > now => {
                Admitted::Refused { retry_after: until.saturating_sub(now) }
            }
            Phase::Open { openings, .. } => self.probe(now, openings),
            Phase::HalfOpen { probe: Some(expires), .. } if expires > now => {
                let left = expires.saturating_sub(now);
                Admitted::Refused { retry_after: left.min(NEXT_LOOK) }
            }
            Phase::HalfOpen { openings, .. } => self.probe(now, openings),
        }
    }

    /// Takes in how a request went that was let through, at `now`, the time since the clock's
    /// start.
    ///
    /// What counts against the provider is a transient failure, except `busy`, which is ours, and
    /// a rate limit that names a wait: below [`LONG_WAIT`] it says nothing, from there on it opens
    /// the breaker at once and for as long as it asks. A failure that only a provider at work can
    /// give, such as a refused key, closes the breaker as a success does. While it is open, only a
    /// longer wait is heard: what was sent before says nothing new.
    pub fn record(&mut self, now: Duration, answer: Answer<'_>) {
        self.phase = match (self.phase, word(answer)) {
            (Phase::Open { until, openings }, Word::Leave(asked)) => {
                Phase::Open { until: until.max(now.saturating_add(asked)), openings }
            }
            (open @ Phase::Open { .. }, Word::Up | Word::Down | Word::Nothing) => open,
            (Phase::Closed { .. } | Phase::HalfOpen { .. }, Word::Up) => {
                Phase::Closed { failures: 0 }
            }
            (Phase::Closed { .. }, Word::Leave(asked)) => {
                Phase::Open { until: now.saturating_add(asked), openings: 0 }
            }
            (Phase::HalfOpen { openings, .. }, Word::Leave(asked)) => {
                Phase::Open { until: now.saturating_add(asked), openings }
            }
            (Phase::Closed { failures }, Word::Down) => {
                let failures = failures.saturating_add(1);
                match failures < self.settings.failures.get() {
                    true => Phase::Closed { failures },
                    false => self.opened(now, 0),
                }
            }
            (Phase::HalfOpen { openings, .. }, Word::Down) => self.opened(now, openings),
            (closed @ Phase::Closed { .. }, Word::Nothing) => closed,
            // The probe found nothing out, so another one may.
            (Phase::HalfOpen { openings, .. }, Word::Nothing) => {
                Phase::HalfOpen { probe: None, openings }
            }
        };
    }

    fn probe(&mut self, now: Duration, openings: u32) -> Admitted {
        let probe = Some(now.saturating_add(PROBE_TIME));
        self.phase = Phase::HalfOpen { probe, openings };
        Admitted::Probe
    }

    /// Returns the open phase after `openings` others in a row.
    fn opened(&self, now: Duration, openings: u32) -> Phase {
        let BreakerSettings { open, max_open, .. } = self.settings;
        let time = open.saturating_mul(1 << openings.min(20)).min(max_open.max(open));
        Phase::Open { until: now.saturating_add(time), openings: openings.saturating_add(1) }
    }
}

fn word(answer: Answer<'_>) -> Word {
    let failure = match answer {
        Answer::Success => return Word::Up,
        Answer::Failure(failure) => failure,
    };
    match (failure.kind, failure.kind.row().row) {
        (FailureKind::ModelRateLimited, _) => match failure.retry_after() {
            Some(asked) if asked >= LONG_WAIT => Word::Leave(asked.min(MAX_ASKED)),
            Some(_) => Word::Nothing,
            None => Word::Down,
        },
        (FailureKind::ModelHttp, _) if !failure.retryable => Word::Up,
        (FailureKind::Busy | FailureKind::UsageLimit | FailureKind::FallbackExhausted, _) => {
            Word::Nothing
        }
        (_, Row::Transient) => Word::Down,
        (_, Row::Behavior | Row::Deterministic | Row::Credentials) => Word::Up,
        (_, Row::Process | Row::Unmapped | Row::Tool | Row::Configuration | Row::Stopped) => {
            Word::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::failure::KIND_TABLE;

    fn second(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn failed(kind: FailureKind) -> Failure {
        Failure::new(kind, "x")
    }

    fn rate_limited(retry_after: Option<f64>) -> Failure {
        Failure { retry_after, ..failed(FailureKind::ModelRateLimited) }
    }

    fn refused(seconds: u64) -> Admitted {
        Admitted::Refused { retry_after: second(seconds) }
    }

    /// Returns a breaker that opened at 0 s for 10 s.
    fn open() -> Breaker {
        let mut breaker = Breaker::new(BreakerSettings::default());
        fail(&mut breaker, second(0), 5);
        breaker
    }

    fn fail(breaker: &mut Breaker, now: Duration, times: u32) {
        for _ in 0..times {
            breaker.record(now, Answer::Failure(&failed(FailureKind::ModelServer)));
        }
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let mut breaker = Breaker::new(BreakerSettings::default());
        fail(&mut breaker, second(0), 4);
        breaker.record(second(1), Answer::Success);
        fail(&mut breaker, second(1), 4);
        assert_eq!(breaker.admit(second(1)), Admitted::Pass);
        fail(&mut breaker, second(2), 1);
        assert_eq!(breaker.state(second(2)), BreakerState::Open { until: second(12) });
        assert_eq!(breaker.admit(second(3)), refused(9));
    }

    #[test]
    fn one_probe_at_a_time_finds_out_whether_it_closes() {
        let mut breaker = open();
        assert_eq!(breaker.state(second(10)), BreakerState::HalfOpen);
        assert_eq!(breaker.admit(second(10)), Admitted::Probe);
        assert_eq!(breaker.admit(second(10)), refused(1));
        breaker.record(second(11), Answer::Success);
        assert_eq!(breaker.state(second(11)), BreakerState::Closed);
        fail(&mut breaker, second(12), 4);
        assert_eq!(breaker.admit(second(12)), Admitted::Pass, "it counts anew");
    }

    #[test]
    fn each_probe_that_fails_doubles_the_wait_up_to_the_longest() {
        let mut breaker = open();
        let mut now = second(10);
        for wait in [20, 40, 80, 120, 120] {
            assert_eq!(breaker.admit(now), Admitted::Probe);
            fail(&mut breaker, now, 1);
            assert_eq!(breaker.admit(now), refused(wait));
            now += second(wait);
        }
        assert_eq!(breaker.admit(now), Admitted::Probe);
        breaker.record(now, Answer::Success);
        fail(&mut breaker, now, 5);
        assert_eq!(breaker.admit(now), refused(10), "the wait begins anew too");
    }

    #[test]
    fn a_probe_that_is_never_reported_makes_way() {
        let mut breaker = open();
        assert_eq!(breaker.admit(second(10)), Admitted::Probe);
        assert_eq!(breaker.admit(second(69)), refused(1));
        assert_eq!(breaker.admit(second(70)), Admitted::Probe);
    }

    #[test]
    fn a_probe_that_says_nothing_of_the_provider_makes_way_at_once() {
        for kind in [FailureKind::Cancelled, FailureKind::RunnerDied, FailureKind::Tool] {
            let mut breaker = open();
            assert_eq!(breaker.admit(second(10)), Admitted::Probe);
            breaker.record(second(11), Answer::Failure(&failed(kind)));
            assert_eq!(breaker.admit(second(11)), Admitted::Probe, "{kind}");
        }
    }

    #[test]
    fn a_long_rate_limit_opens_it_for_as_long_as_it_asks() {
        let mut breaker = Breaker::new(BreakerSettings::default());
        breaker.record(second(0), Answer::Failure(&rate_limited(Some(300.0))));
        assert_eq!(breaker.admit(second(0)), refused(300));
        breaker.record(second(0), Answer::Failure(&rate_limited(Some(1e12))));
        assert_eq!(breaker.admit(second(0)), refused(3_600), "but not for ever");
        assert_eq!(breaker.admit(second(3_600)), Admitted::Probe);
        fail(&mut breaker, second(3_600), 1);
        assert_eq!(breaker.admit(second(3_600)), refused(10));
    }

    #[test]
    fn a_short_rate_limit_and_our_own_admission_never_open_it() {
        let mut breaker = Breaker::new(BreakerSettings::default());
        for _ in 0..20 {
            breaker.record(second(0), Answer::Failure(&rate_limited(Some(4.9))));
            breaker.record(second(0), Answer::Failure(&failed(FailureKind::Busy)));
        }
        assert_eq!(breaker.admit(second(0)), Admitted::Pass);
        for _ in 0..5 {
            breaker.record(second(0), Answer::Failure(&rate_limited(None)));
        }
        assert_eq!(breaker.admit(second(0)), refused(10));
    }

    #[test]
    fn a_refusal_proves_that_the_provider_is_at_work() {
        let teapot = Failure { retryable: false, ..failed(FailureKind::ModelHttp) };
        for failure in [failed(FailureKind::ModelAuth), failed(FailureKind::ContextWindow), teapot]
        {
            let mut breaker = open();
            assert_eq!(breaker.admit(second(10)), Admitted::Probe);
            breaker.record(second(10), Answer::Failure(&failure));
            assert_eq!(breaker.admit(second(10)), Admitted::Pass, "{failure}");
        }
    }

    #[test]
    fn what_was_sent_before_it_opened_says_nothing_new() {
        let mut breaker = open();
        breaker.record(second(1), Answer::Success);
        fail(&mut breaker, second(9), 50);
        assert_eq!(breaker.admit(second(9)), refused(1));
    }

    fn any_failure() -> impl Strategy<Value = Failure> {
        let kind = (0..KIND_TABLE.len()).prop_map(|at| KIND_TABLE[at].kind);
        (kind, any::<bool>(), prop::option::of(0.0..1e5_f64)).prop_map(
            |(kind, retryable, retry_after)| Failure { retryable, retry_after, ..failed(kind) },
        )
    }

    /// A step of a history: time passes, then a request asks (`None`) or reports.
    fn any_step() -> impl Strategy<Value = (u64, Option<Option<Failure>>)> {
        let report = prop_oneof![Just(None), any_failure().prop_map(Some)];
        (0..30_000_u64, prop::option::of(report))
    }

    proptest! {
        #[test]
        fn at_most_one_probe_is_under_way_and_every_refusal_ends(
            steps in prop::collection::vec(any_step(), 1..200),
        ) {
            let mut breaker = Breaker::new(BreakerSettings::default());
            let mut now = Duration::ZERO;
            let mut probe: Option<Duration> = None;
            for (passed, step) in steps {
                now += Duration::from_millis(passed);
                match step {
                    None => match breaker.admit(now) {
                        Admitted::Pass => {
                            prop_assert_eq!(breaker.state(now), BreakerState::Closed);
                        }
                        Admitted::Probe => {
                            prop_assert!(probe.is_none_or(|since| now - since >= PROBE_TIME));
                            prop_assert_eq!(breaker.state(now), BreakerState::HalfOpen);
                            probe = Some(now);
                        }
                        Admitted::Refused { retry_after } => {
                            prop_assert!(retry_after > Duration::ZERO && retry_after <= MAX_ASKED);
                            let mut later = breaker.clone();
                            let settled = later.admit(now + MAX_ASKED);
                            prop_assert_eq!(settled, Admitted::Probe);
                        }
                    },
                    Some(report) => {
                        probe = None;
                        let answer = report.as_ref().map_or(Answer::Success, Answer::Failure);
                        breaker.record(now, answer);
                    }
                }
            }
        }
    }
}

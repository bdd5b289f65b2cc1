//! What all runs together know of the models they ask: breakers, and limits on their rate.

use std::collections::{BTreeMap, HashMap};
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axon_kernel::breaker::{Admitted, Answer, Breaker, BreakerSettings, BreakerState};
use axon_kernel::config::{RateLimit, RateLimitKey};
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::spec::ModelName;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;

use crate::events::{Events, RuntimeEvent};
use crate::meters::Meters;

/// How many breakers are kept. Models come from definitions and from callers, so their number has
/// no bound of its own; beyond this one, those that have nothing to tell are forgotten.
const MAX_BREAKERS: usize = 1024;

/// A model, reached with one credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ModelKey {
    /// The model string, `provider:name`.
    pub(crate) model: String,
    /// Tells credentials and addresses apart without holding them.
    pub(crate) credential: u64,
}

/// The models that the runs of a runtime ask.
#[derive(Debug)]
pub(crate) struct Models {
    settings: BreakerSettings,
    breakers: Mutex<HashMap<ModelKey, Breaker>>,
    rates: Vec<(RateLimitKey, Rate)>,
    began: Instant,
    events: Events,
    meters: Arc<Meters>,
}

#[derive(Debug)]
struct Rate {
    requests: Option<DefaultDirectRateLimiter>,
    tokens: Option<(DefaultDirectRateLimiter, NonZeroU32)>,
    /// Tokens that were used and not paid for.
    owed: AtomicU64,
    /// One request at a time pays, so that no debt is paid twice; the others wait for it in turn.
    paying: tokio::sync::Mutex<()>,
}

impl Models {
    pub(crate) fn new(
        (settings, rates): (BreakerSettings, &BTreeMap<RateLimitKey, RateLimit>),
        events: Events,
        meters: Arc<Meters>,
    ) -> Self {
        let rates = rates.iter().map(|(key, limit)| (key.clone(), Rate::new(limit))).collect();
        Self { settings, breakers: Mutex::default(), rates, began: Instant::now(), events, meters }
    }

    /// Says whether the model may be asked now.
    ///
    /// # Errors
    ///
    /// The [`Failure`] that the run meets while the breaker is open.
    pub(crate) fn admit(&self, key: &ModelKey) -> Result<(), Failure> {
        let admitted = self.with_breaker(key, |breaker, now| breaker.admit(now));
        let Admitted::Refused { retry_after } = admitted else { return Ok(()) };
        let message = format!(
            "`{}` has kept failing and is left alone for another {:.1} s",
            key.model,
            retry_after.as_secs_f64()
        );
        let mut failure = Failure::new(FailureKind::ModelUnavailable, message).in_phase("breaker");
        failure.retry_after = Some(retry_after.as_secs_f64());
        Err(failure)
    }

    /// Takes in what came of asking the model.
    pub(crate) fn record(&self, key: &ModelKey, answer: Answer<'_>) {
        self.with_breaker(key, |breaker, now| breaker.record(now, answer));
    }

    fn with_breaker<T>(&self, key: &ModelKey, act: impl FnOnce(&mut Breaker, Duration) -> T) -> T {
        let now = self.began.elapsed();
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        if breakers.len() >= MAX_BREAKERS && !breakers.contains_key(key) {
            breakers.retain(|_, breaker| breaker.state(now) != BreakerState::Closed);
        }
        let is_new = !breakers.contains_key(key);
        let breaker = breakers.entry(key.clone()).or_insert_with(|| Breaker::new(self.settings));
        let before = name_of(breaker.state(now));
        let told = act(breaker, now);
        let after = name_of(breaker.state(now));
        drop(breakers);
        if is_new || before != after {
            self.show();
        }
        if before != after {
            tracing::warn!(model = key.model, before, after, "a breaker changed");
            let model = key.model.clone();
            self.events.tell(RuntimeEvent::Breaker { model, state: after });
        }
        told
    }

    /// Shows where the breakers stand; of those of one model the one that stands worst.
    pub(crate) fn show(&self) {
        let now = self.began.elapsed();
        let breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut worst: BTreeMap<&str, u8> = BTreeMap::new();
        for (key, breaker) in breakers.iter() {
            let level = match breaker.state(now) {
                BreakerState::Closed => 0,
                BreakerState::HalfOpen => 1,
                BreakerState::Open { .. } => 2,
            };
            let shown = worst.entry(self.meters.model(&key.model)).or_default();
            *shown = level.max(*shown);
        }
        for (model, level) in worst {
            self.meters.breaker(model, level.into());
        }
    }

    /// Waits until the rate limits of the model, and of its provider, allow one more request, and
    /// what earlier responses used is paid for.
    pub(crate) async fn wait(&self, model: &str) {
        for rate in self.rates_of(model) {
            rate.pay().await;
            if let Some(requests) = &rate.requests {
                wait(requests, NonZeroU32::MIN).await;
            }
        }
    }

    /// Notes tokens that a response has used: the next request that is made pays for them.
    pub(crate) fn owe(&self, model: &str, tokens: u64) {
        for rate in self.rates_of(model) {
            rate.owed.fetch_add(tokens, Ordering::Relaxed);
        }
    }

    fn rates_of(&self, model: &str) -> impl Iterator<Item = &Rate> {
        // A model that Python code brings along has no name that a limit could be given for.
        let model = ModelName::try_from(model).ok();
        let covers =
            move |key: &RateLimitKey| model.as_ref().is_some_and(|model| key.covers(model));
        self.rates.iter().filter(move |(key, _)| covers(key)).map(|(_, rate)| rate)
    }
}

impl Rate {
    fn new(limit: &RateLimit) -> Self {
        let limiter = |count: NonZeroU64| {
            let count = NonZeroU32::try_from(count).unwrap_or(NonZeroU32::MAX);
            let period = limit.within / count.get();
            let quota = Quota::with_period(period.max(Duration::from_nanos(1)))?;
            Some((RateLimiter::direct(quota.allow_burst(count)), count))
        };
        Self {
            requests: limit.requests.and_then(limiter).map(|(limiter, _)| limiter),
            tokens: limit.tokens.and_then(limiter),
            owed: AtomicU64::new(0),
            paying: tokio::sync::Mutex::default(),
        }
    }
}

impl Rate {
    /// Waits until everything that is owed is paid for, in pieces that the limiter can allow.
    async fn pay(&self) {
        let Some((limiter, most)) = &self.tokens else { return };
        let _turn = self.paying.lock().await;
        loop {
            let owed = u32::try_from(self.owed.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
            let Some(part) = NonZeroU32::new(owed.min(most.get())) else { return };
            wait(limiter, part).await;
            self.owed.fetch_sub(part.get().into(), Ordering::Relaxed);
        }
    }
}

/// Waits until `limiter` allows `count` more.
async fn wait(limiter: &DefaultDirectRateLimiter, count: NonZeroU32) {
    // More than it ever allows at once was cut down before: an error here allows nothing.
    while let Ok(Err(not_yet)) = limiter.check_n(count) {
        tokio::time::sleep(not_yet.wait_time_from(DefaultClock::default().now())).await;
    }
}

fn name_of(state: BreakerState) -> &'static str {
    match state {
        BreakerState::Closed => "closed",
        BreakerState::Open { .. } => "open",
        BreakerState::HalfOpen => "half_open",
    }
}

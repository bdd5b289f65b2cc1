//! What routers and pipelines remember of those that they hand messages to: whose turn it is, and
//! who is left alone for a while.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axon_kernel::breaker::{Admitted, Answer, Breaker, BreakerSettings, BreakerState};
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::flow::Balance;
use axon_kernel::spec::AgentName;
use tokio::time::Instant;

use crate::registry::Registry;

/// A way from a flow to one that it asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Edge {
    pub(crate) from: AgentName,
    pub(crate) to: AgentName,
}

/// What is remembered of all ways. Bounded by the definitions: each names its own.
#[derive(Debug)]
pub(crate) struct Edges {
    began: Instant,
    breakers: Mutex<HashMap<Edge, Breaker>>,
    /// Whose turn it is, of those among whom a flow chooses.
    turns: Mutex<HashMap<(AgentName, Vec<AgentName>), usize>>,
}

impl Default for Edges {
    fn default() -> Self {
        Self { began: Instant::now(), breakers: Mutex::default(), turns: Mutex::default() }
    }
}

impl Edges {
    /// Says whether the way may be gone now.
    ///
    /// # Errors
    ///
    /// The [`Failure`] that the call meets while its breaker is open.
    pub(crate) fn admit(&self, edge: &Edge, settings: BreakerSettings) -> Result<(), Failure> {
        let admitted = self.with_breaker(edge, settings, Breaker::admit);
        let Admitted::Refused { retry_after } = admitted else { return Ok(()) };
        let seconds = retry_after.as_secs_f64();
        let message =
            format!("`{}` keeps failing and is left alone for another {seconds:.1} s", edge.to);
        let mut failure = Failure::new(FailureKind::ModelUnavailable, message).in_phase("breaker");
        failure.retry_after = Some(seconds);
        Err(failure)
    }

    /// Takes in what came of going it.
    pub(crate) fn record(&self, edge: &Edge, settings: BreakerSettings, answer: Answer<'_>) {
        self.with_breaker(edge, settings, |breaker, now| breaker.record(now, answer));
    }

    /// Returns whether the breaker of a way is open.
    fn is_open(&self, edge: &Edge) -> bool {
        let now = self.began.elapsed();
        let breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        let state = breakers.get(edge).map(|breaker| breaker.state(now));
        matches!(state, Some(BreakerState::Open { .. }))
    }

    fn with_breaker<T>(
        &self,
        edge: &Edge,
        settings: BreakerSettings,
        act: impl FnOnce(&mut Breaker, Duration) -> T,
    ) -> T {
        let now = self.began.elapsed();
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        act(breakers.entry(edge.clone()).or_insert_with(|| Breaker::new(settings)), now)
    }

    /// Chooses one of those that are there.
    pub(crate) fn choose(
        &self,
        (from, by): (&AgentName, Balance),
        of: &[AgentName],
        (registry, key): (&Registry, &str),
    ) -> Option<AgentName> {
        let there = |name: &&AgentName| {
            let edge = Edge { from: from.clone(), to: (*name).clone() };
            let found = registry.find(name.as_str());
            found.is_some_and(|found| found.agent.takes_runs()) && !self.is_open(&edge)
        };
        let mut open: Vec<&AgentName> = of.iter().filter(there).collect();
        if open.is_empty() {
            // Whoever is asked says why not.
            open = of.iter().collect();
        }
        match by {
            Balance::RoundRobin => {
                let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
                let turn = turns.entry((from.clone(), of.to_vec())).or_default();
                *turn = turn.wrapping_add(1);
                open.get((*turn - 1) % open.len().max(1)).copied().cloned()
            }
            Balance::LeastInFlight => {
                let load = |name: &&&AgentName| {
                    let found = registry.find(name.as_str());
                    found.map_or(usize::MAX, |found| found.agent.gate.inside())
                };
                open.iter().min_by_key(load).copied().cloned()
            }
            // Rendezvous hashing: only what went to one that has gone goes elsewhere.
            Balance::Conversation => open.into_iter().max_by_key(|name| weight(key, name)).cloned(),
        }
    }
}

fn weight(key: &str, name: &AgentName) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, name.as_str()).hash(&mut hasher);
    hasher.finish()
}

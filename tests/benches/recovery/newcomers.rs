//! Those who ask for new runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axon_runtime::AgentHandle;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How many there are.
const CALLERS: usize = 4;

/// What new runs took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Newcomers {
    pub(crate) latencies: Vec<Duration>,
}

impl Newcomers {
    /// Returns the time, in milliseconds, that this share of the runs did not exceed.
    pub(crate) fn quantile(&self, at: f64) -> f64 {
        let mut times = self.latencies.clone();
        times.sort();
        let rank = (times.len() as f64 * at).ceil().max(1.0) as usize;
        times.get(rank - 1).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }
}

/// Callers who go on asking.
#[derive(Debug)]
pub(crate) struct Callers {
    enough: Arc<AtomicBool>,
    tasks: JoinSet<anyhow::Result<Vec<Duration>>>,
}

/// Has callers ask `agent`, each for one run after the other.
pub(crate) fn come(agent: &AgentHandle) -> Callers {
    let enough = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for _ in 0..CALLERS {
        let (agent, enough) = (agent.clone(), enough.clone());
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            while !enough.load(Ordering::Relaxed) {
                let began = Instant::now();
                agent.run("What is my balance?").wait().await?.completed()?;
                latencies.push(began.elapsed());
            }
            Ok(latencies)
        });
    }
    Callers { enough, tasks }
}

impl Callers {
    /// Waits for the last answers, and returns what all of them took.
    pub(crate) async fn leave(mut self) -> anyhow::Result<Newcomers> {
        self.enough.store(true, Ordering::Relaxed);
        let mut all = Newcomers::default();
        while let Some(latencies) = self.tasks.join_next().await {
            all.latencies.extend(latencies??);
        }
        Ok(all)
    }
}

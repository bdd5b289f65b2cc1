//! Everything that is measured of one way to start runners.

use std::time::Duration;

use axon_kernel::spec::LauncherMode;
use axon_runtime::Host;

use crate::fleet::Fleet;
use crate::fleet::Memory;
use crate::shared::say;

/// What is to be measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) launcher: LauncherMode,
    /// How often one agent is started, and killed.
    pub(crate) rounds: usize,
    /// How many agents are started at once.
    pub(crate) fleets: [usize; 3],
}

/// What was measured.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) ready: Vec<Duration>,
    pub(crate) answered: Vec<Duration>,
    pub(crate) killed: Vec<Duration>,
    pub(crate) fleets: Vec<Measured>,
}

/// What was measured of some agents that were started at once.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) agents: usize,
    pub(crate) ready: Duration,
    pub(crate) idle: Memory,
    pub(crate) after_run: Memory,
}

impl Trial {
    /// Measures it all.
    pub(crate) async fn of(host: &Host, plan: &Plan) -> anyhow::Result<Self> {
        let Plan { launcher, rounds, fleets } = *plan;
        let mut trial = Self {
            ready: Vec::new(),
            answered: Vec::new(),
            killed: Vec::new(),
            fleets: Vec::new(),
        };
        trial.one_by_one(host, launcher, rounds).await?;
        for agents in fleets {
            say(&format!("{launcher:?}: {agents} at once"));
            let (fleet, ready) = Fleet::start(host, launcher, agents).await?;
            let idle = fleet.memory().await?;
            fleet.ask_all().await?;
            let after_run = fleet.memory().await?;
            fleet.end().await?;
            trial.fleets.push(Measured { agents, ready, idle, after_run });
        }
        Ok(trial)
    }

    async fn one_by_one(
        &mut self,
        host: &Host,
        launcher: LauncherMode,
        rounds: usize,
    ) -> anyhow::Result<()> {
        let (fleet, _first) = Fleet::start(host, launcher, 1).await?;
        for round in 0..=rounds {
            say(&format!("{launcher:?}: round {round} of {rounds}"));
            let (ready, answered) = fleet.one_more().await?;
            let killed = fleet.kill().await?;
            // The first one is the warm-up.
            if round > 0 {
                self.ready.push(ready);
                self.answered.push(answered);
                self.killed.push(killed);
            }
        }
        fleet.end().await
    }
}

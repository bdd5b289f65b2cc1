//! Budgets that runs share: whatever runs side by side, together they never use more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axon_kernel::budget::{Allowance, Cost, Ledger, Node, Spent, Usage};
use tokio::time::Instant;

/// A budget that several runs share. Cheap to clone.
///
/// Model requests and tool calls are taken out before they are made, so they are exact over any
/// number of parallel runs. Tokens and money are known only afterwards: each run can overshoot them
/// by one response.
///
/// ```no_run
/// # async fn example(runtime: axon_runtime::Runtime) -> Result<(), Box<dyn std::error::Error>> {
/// use axon_runtime::kernel::budget::Allowance;
///
/// let five = runtime.budget(Allowance { requests: Some(5), ..Allowance::default() });
/// let bank = runtime.named("bank_support")?;
/// let first = bank.run("What is my balance?").budget(&five).start().await?;
/// let second = bank.run("I just lost my card!").budget(&five).start().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Budget {
    held: Arc<Held>,
}

#[derive(Debug)]
struct Held {
    ledger: Arc<Mutex<Ledger>>,
    node: Node,
    deadline: Option<Instant>,
    /// What this was handed on from lasts as long as this does.
    _above: Option<Budget>,
}

impl Budget {
    /// Makes the budget of everything together.
    pub(crate) fn of_all(allowance: Allowance) -> Self {
        let ledger = Ledger::new(allowance);
        let node = ledger.root();
        let deadline = allowance.wall.map(|wall| Instant::now() + wall);
        let ledger = Arc::new(Mutex::new(ledger));
        Self { held: Arc::new(Held { ledger, node, deadline, _above: None }) }
    }

    /// Makes a budget without any limit, which nobody shares.
    pub(crate) fn unlimited() -> Self {
        Self::of_all(Allowance::default())
    }

    /// Hands on up to `allowance` of this budget: what the child uses is taken out of both.
    #[must_use]
    pub fn child(&self, allowance: Allowance) -> Self {
        let node = self.ledger().child(self.held.node, allowance);
        let own = allowance.wall.map(|wall| Instant::now() + wall);
        let deadline = match (own, self.held.deadline) {
            (Some(own), Some(above)) => Some(own.min(above)),
            (own, above) => own.or(above),
        };
        let ledger = self.held.ledger.clone();
        Self { held: Arc::new(Held { ledger, node, deadline, _above: Some(self.clone()) }) }
    }

    /// Returns what is left, of this budget and of those above it.
    #[must_use]
    pub fn remaining(&self) -> Allowance {
        let left = self.ledger().remaining(self.held.node);
        Allowance { wall: self.time_left(), ..left }
    }

    pub(crate) fn time_left(&self) -> Option<Duration> {
        let deadline = self.held.deadline?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn reserve(&self, cost: &Cost) -> Result<(), Spent> {
        self.ledger().reserve(self.held.node, cost)
    }

    pub(crate) fn refund(&self, cost: &Cost) {
        self.ledger().refund(self.held.node, cost);
    }

    pub(crate) fn charge(&self, usage: &Usage) {
        self.ledger().charge(self.held.node, usage);
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.held.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).end(self.node);
    }
}

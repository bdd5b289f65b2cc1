//! What holds for the whole process: read from `agents/axon.toml`, checked once.
//!
//! [`Config::from_toml`] is the way in from a file; a process without one has
//! [`Config::default`]. The invariant: settings from a file keep every rule of [`Config::check`];
//! whether the agents exist that they name is for [`Config::check_agents`].
//!
//! ```
//! # use axon_kernel::config::Config;
//! # use axon_kernel::spec::FileText;
//! let text = r#"
//! [rate_limits.openai]
//! requests = 500
//! [groups.desk]
//! agents = ["triage", "fraud"]
//! strategy = "one_for_all"
//! "#;
//! let config = Config::from_toml(FileText { path: "agents/axon.toml", text }, &|_| None)?;
//! let error = config.check_agents(["triage", "frauds"]).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "agents/axon.toml:5:21: groups.desk.agents[1]: there is no agent `fraud`; \
//!      did you mean `frauds`?"
//! );
//! # Ok::<(), axon_kernel::spec::SpecError>(())
//! ```

mod group;
mod load;
mod rate;
mod serve;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use group::{Group, GroupStrategy};
pub use rate::{RateLimit, RateLimitKey, RateLimitKeyError};
pub use serve::ServeSettings;
pub use store::{Durability, StoreSettings};

use crate::breaker::BreakerSettings;
use crate::budget::Allowance;
use crate::spec::check::Broke;
use crate::spec::{AgentName, Broken, GroupName, ModelName, Rule};

/// What holds for the whole process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "axon.toml")]
pub struct Config {
    /// When a provider that keeps failing is left alone, and for how long.
    pub breaker: BreakerSettings,
    /// What a model may be asked, by its name (`openai:gpt-5`), or all models of a provider
    /// together (`openai`).
    pub rate_limits: BTreeMap<RateLimitKey, RateLimit>,
    /// How runners are started.
    pub starts: Starts,
    /// Agents that only make sense together.
    pub groups: BTreeMap<GroupName, Group>,
    /// What all runs together may use while the process lives; no limit unless given.
    pub budget: Allowance,
    /// Where runs and conversations are kept, and for how long.
    pub store: StoreSettings,
    /// How the agents are served over HTTP.
    pub serve: ServeSettings,
    #[serde(skip)]
    origin: load::Origin,
}

/// How runners are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Starts {
    /// How many may be starting at the same time, from 1 to 1000 (4).
    #[schemars(range(max = 1000))]
    pub at_once: NonZeroU32,
}

impl Default for Starts {
    fn default() -> Self {
        Self { at_once: NonZeroU32::MIN.saturating_add(3) }
    }
}

impl Config {
    /// Returns the limits that a request to `model` counts against: its own, and its provider's.
    pub fn rate_limits_of<'c>(
        &'c self,
        model: &'c ModelName,
    ) -> impl Iterator<Item = (&'c RateLimitKey, &'c RateLimit)> {
        self.rate_limits.iter().filter(|(key, _)| key.covers(model))
    }

    /// Returns the group that `agent` is in.
    #[must_use]
    pub fn group_of(&self, agent: &AgentName) -> Option<(&GroupName, &Group)> {
        self.groups.iter().find(|(_, group)| group.agents.contains(agent))
    }

    /// Checks the rules that the types do not express.
    ///
    /// # Errors
    ///
    /// Every rule that is broken, with its place.
    pub fn check(&self) -> Result<(), Vec<Broken>> {
        let mut broken = Broke::default();
        let failures = Some(self.breaker.failures.get().into());
        broken.range("/breaker/failures", failures, 1..=1_000);
        if self.breaker.open > self.breaker.max_open {
            broken.add("/breaker/open", Rule::OpenTimes);
        }
        broken.range("/store/recoveries", Some(self.store.recoveries.into()), 1..=100);
        broken.range("/starts/at_once", Some(self.starts.at_once.get().into()), 1..=1_000);
        for (key, limit) in &self.rate_limits {
            if limit.requests.is_none() && limit.tokens.is_none() {
                let key = key.to_string();
                broken.add(crate::spec::source::child("/rate_limits", &key), Rule::NoRate);
            }
        }
        self.check_groups(&mut broken);
        broken.into_result()
    }

    fn check_groups(&self, broken: &mut Broke) {
        let mut taken: BTreeMap<&AgentName, &GroupName> = BTreeMap::new();
        for (name, group) in &self.groups {
            let at = format!("/groups/{name}");
            if group.agents.is_empty() {
                broken.add(format!("{at}/agents"), Rule::EmptyGroup);
            }
            for (index, agent) in group.agents.iter().enumerate() {
                if let Some(first) = taken.insert(agent, name) {
                    taken.insert(agent, first);
                    let rule = Rule::SecondGroup { agent: agent.clone(), group: first.clone() };
                    broken.add(format!("{at}/agents/{index}"), rule);
                }
            }
            let restarts = Some(group.intensity.max_restarts.into());
            broken.range(format!("{at}/intensity/max_restarts"), restarts, 0..=1_000);
            broken.backoff(format!("{at}/backoff"), Some(group.backoff));
        }
    }
}

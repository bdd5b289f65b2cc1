//! What steps and arms have in common, apart from what only one of them has.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::Value;

use super::{
    ArmFile, BalancedFile, ConditionFile, OnFailureFile, RepeatFile, ScriptFile, StepFile,
};
use crate::breaker::BreakerSettings;
use crate::flow::plan::{Join, StepName};
use crate::spec::{AgentName, PromptName};

/// What a step or an arm does, and how those are asked who are.
#[derive(Default)]
pub(in crate::flow) struct DoesFile {
    pub(in crate::flow) agent: Option<AgentName>,
    pub(in crate::flow) human: Option<ScriptFile>,
    pub(in crate::flow) rust: Option<PromptName>,
    pub(in crate::flow) balance: Option<BalancedFile>,
    pub(in crate::flow) prompt: Option<ScriptFile>,
    pub(in crate::flow) deps: Option<Value>,
    pub(in crate::flow) timeout: Option<Duration>,
    pub(in crate::flow) retry: Option<u32>,
    pub(in crate::flow) breaker: Option<BreakerSettings>,
    pub(in crate::flow) on_failure: Option<OnFailureFile>,
    pub(in crate::flow) join: Option<Join>,
    pub(in crate::flow) choose: Option<Vec<ArmFile>>,
    pub(in crate::flow) parallel: Option<Vec<StepFile>>,
    pub(in crate::flow) steps: Option<Vec<StepFile>>,
}

/// What only a step has.
pub(in crate::flow) struct RestFile {
    pub(in crate::flow) name: StepName,
    pub(in crate::flow) after: Option<Vec<StepName>>,
    pub(in crate::flow) when: Option<ConditionFile>,
    pub(in crate::flow) map: Option<ScriptFile>,
    pub(in crate::flow) max_concurrency: Option<NonZeroU32>,
    pub(in crate::flow) need: Option<u32>,
    pub(in crate::flow) repeat: Option<RepeatFile>,
}

impl StepFile {
    /// Takes the step apart.
    pub(in crate::flow) fn split(self) -> (RestFile, DoesFile) {
        let rest = RestFile {
            name: self.name,
            after: self.after,
            when: self.when,
            map: self.map,
            max_concurrency: self.max_concurrency,
            need: self.need,
            repeat: self.repeat,
        };
        let does = DoesFile {
            agent: self.agent,
            human: self.human,
            rust: self.rust,
            balance: self.balance,
            prompt: self.prompt,
            deps: self.deps,
            timeout: self.timeout,
            retry: self.retry,
            breaker: self.breaker,
            on_failure: self.on_failure,
            join: self.join,
            choose: self.choose,
            parallel: self.parallel,
            steps: self.steps,
        };
        (rest, does)
    }

    /// Puts a step together.
    pub(in crate::flow) fn of(rest: RestFile, does: DoesFile) -> Self {
        Self {
            name: rest.name,
            after: rest.after,
            when: rest.when,
            map: rest.map,
            max_concurrency: rest.max_concurrency,
            need: rest.need,
            repeat: rest.repeat,
            agent: does.agent,
            human: does.human,
            rust: does.rust,
            balance: does.balance,
            prompt: does.prompt,
            deps: does.deps,
            timeout: does.timeout,
            retry: does.retry,
            breaker: does.breaker,
            on_failure: does.on_failure,
            join: does.join,
            choose: does.choose,
            parallel: does.parallel,
            steps: does.steps,
        }
    }
}

impl ArmFile {
    /// Takes the arm apart.
    pub(in crate::flow) fn split(self) -> (Option<ConditionFile>, DoesFile) {
        let does = DoesFile {
            agent: self.agent,
            human: self.human,
            rust: self.rust,
            balance: self.balance,
            prompt: self.prompt,
            deps: self.deps,
            timeout: self.timeout,
            retry: self.retry,
            breaker: self.breaker,
            on_failure: self.on_failure,
            join: self.join,
            choose: self.choose,
            parallel: self.parallel,
            steps: self.steps,
        };
        (self.when, does)
    }

    /// Puts an arm together.
    pub(in crate::flow) fn of(when: Option<ConditionFile>, does: DoesFile) -> Self {
        Self {
            when,
            agent: does.agent,
            human: does.human,
            rust: does.rust,
            balance: does.balance,
            prompt: does.prompt,
            deps: does.deps,
            timeout: does.timeout,
            retry: does.retry,
            breaker: does.breaker,
            on_failure: does.on_failure,
            join: does.join,
            choose: does.choose,
            parallel: does.parallel,
            steps: does.steps,
        }
    }
}

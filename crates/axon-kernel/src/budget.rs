//! What runs may use: a tree of budgets, where what one run hands on to another comes out of its
//! own.
//!
//! Requests and tool calls are reserved before they are made, so they never exceed a limit. Tokens
//! and cost are known only afterwards: they are charged, and once a limit is used up nothing more
//! may be reserved.
//!
//! Time does not add up where runs go on side by side, so an allowance of it is handed on and
//! capped, and no more: whoever has the clock turns it into a deadline.
//!
//! The invariant: whatever the order of the calls, what the runs below a node have reserved never
//! exceeds what the node was allowed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::spec::Usd;

/// How much may be used; what is not given has no limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Allowance {
    /// How many model requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// How many tool calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<u64>,
    /// How many tokens sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// How many tokens received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// How many tokens in both directions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_tokens: Option<u64>,
    /// How much money, in US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Usd>,
    /// How long, from its beginning.
    #[serde(with = "crate::spec::duration::option", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::spec::duration::schema")]
    pub wall: Option<Duration>,
}

impl Allowance {
    /// Reads what one run may use from the limits that its runner gets, by pydantic-ai's names.
    #[must_use]
    pub fn of_usage_limits(limits: &Map<String, Value>) -> Self {
        let count = |key: &str| limits.get(key).and_then(Value::as_u64);
        let cost = limits.get("cost_limit").and_then(|cost| {
            let text = cost.as_str().map_or_else(|| cost.to_string(), str::to_owned);
            text.parse().ok()
        });
        Self {
            requests: count("request_limit"),
            tool_calls: count("tool_calls_limit"),
            input_tokens: count("input_tokens_limit"),
            output_tokens: count("output_tokens_limit"),
            total_tokens: count("total_tokens_limit"),
            cost,
            wall: None,
        }
    }

    /// Returns the smaller of the two, limit by limit.
    #[must_use]
    pub fn capped(&self, by: &Self) -> Self {
        Self {
            requests: lesser(self.requests, by.requests),
            tool_calls: lesser(self.tool_calls, by.tool_calls),
            input_tokens: lesser(self.input_tokens, by.input_tokens),
            output_tokens: lesser(self.output_tokens, by.output_tokens),
            total_tokens: lesser(self.total_tokens, by.total_tokens),
            cost: lesser(self.cost, by.cost),
            wall: lesser(self.wall, by.wall),
        }
    }
}

/// What is about to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Model requests.
    pub requests: u64,
    /// Tool calls.
    pub tool_calls: u64,
}

impl Cost {
    /// One model request.
    pub const REQUEST: Self = Self { requests: 1, tool_calls: 0 };
    /// One tool call.
    pub const TOOL_CALL: Self = Self { requests: 0, tool_calls: 1 };
}

/// What was used, as it is known afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens sent.
    pub input_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// What it cost.
    pub cost: Usd,
}

/// A limit, with how much it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Model requests.
    Requests(u64),
    /// Tool calls.
    ToolCalls(u64),
    /// Tokens sent.
    InputTokens(u64),
    /// Tokens received.
    OutputTokens(u64),
    /// Tokens in both directions.
    TotalTokens(u64),
    /// Money.
    Cost(Usd),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, unit) = match self {
            Self::Requests(count) => (count, "model request"),
            Self::ToolCalls(count) => (count, "tool call"),
            Self::InputTokens(count) => (count, "input token"),
            Self::OutputTokens(count) => (count, "output token"),
            Self::TotalTokens(count) => (count, "token"),
            Self::Cost(amount) => return write!(f, "{amount} US dollars"),
        };
        write!(f, "{count} {unit}{}", if *count == 1 { "" } else { "s" })
    }
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The node's own.
    Own,
    /// That of the node so many steps above it, from 1.
    Above(u32),
    /// That of the whole tree.
    Root,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("this run"),
            Self::Above(1) => f.write_str("the runs that share its budget"),
            Self::Above(steps) => write!(f, "the runs that share the budget {steps} levels above"),
            Self::Root => f.write_str("all runs together"),
        }
    }
}

/// Why nothing more may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Spent {
    /// A limit is used up, or too little of it is left.
    #[error("the limit of {limit} for {level} is reached")]
    Limit {
        /// The limit.
        limit: Limit,
        /// Whose it is.
        level: Level,
    },
    /// The run has ended.
    #[error("the run has ended, and its budget with it")]
    Ended,
}

/// One budget of a ledger; never used for another one again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(u64);

/// A tree of budgets.
///
/// ```
/// # use axon_kernel::budget::{Allowance, Cost, Ledger};
/// let mut ledger = Ledger::new(Allowance { requests: Some(2), ..Allowance::default() });
/// let run = ledger.child(ledger.root(), Allowance::default());
/// let handed_on = ledger.child(run, Allowance { requests: Some(50), ..Allowance::default() });
/// assert_eq!(ledger.remaining(handed_on).requests, Some(2));
/// ledger.reserve(handed_on, &Cost::REQUEST)?;
/// ledger.reserve(run, &Cost::REQUEST)?;
/// let spent = ledger.reserve(handed_on, &Cost::REQUEST).unwrap_err();
/// let message = "the limit of 2 model requests for all runs together is reached";
/// assert_eq!(spent.to_string(), message);
/// # Ok::<(), axon_kernel::budget::Spent>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    entries: BTreeMap<Node, Entry>,
    next: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// The node that this one was handed on by; none for the root.
    parent: Option<Node>,
    /// How many nodes hang on this one.
    children: usize,
    ended: bool,
    allowance: Allowance,
    reserved: Cost,
    used: Usage,
}

const ROOT: Node = Node(0);

impl Ledger {
    /// Makes a ledger whose root is allowed `allowance`.
    #[must_use]
    pub fn new(allowance: Allowance) -> Self {
        Self { entries: [(ROOT, Entry::new(None, allowance))].into(), next: 1 }
    }

    /// Returns the root, which never ends.
    #[must_use]
    pub fn root(&self) -> Node {
        ROOT
    }

    /// Returns how many nodes are held.
    #[must_use]
    pub fn size(&self) -> usize {
        self.entries.len()
    }

    /// Hands on up to `allowance` of what `node` has, and never more than that has itself.
    ///
    /// A child of a node that has ended has ended too.
    pub fn child(&mut self, node: Node, allowance: Allowance) -> Node {
        let child = Node(self.next);
        self.next = self.next.saturating_add(1);
        if let Some(parent) = self.entries.get_mut(&node).filter(|parent| !parent.ended) {
            parent.children += 1;
            self.entries.insert(child, Entry::new(Some(node), allowance));
        }
        child
    }

    /// Takes `cost` out of `node` and every node above it, or out of none.
    ///
    /// # Errors
    ///
    /// [`Spent`] with the limit that is reached: that of the nearest node that has one.
    pub fn reserve(&mut self, node: Node, cost: &Cost) -> Result<(), Spent> {
        if self.entries.get(&node).is_none_or(|entry| entry.ended) {
            return Err(Spent::Ended);
        }
        for (steps, at) in self.path(node).into_iter().enumerate() {
            if let Some(limit) = self.entries.get(&at).and_then(|entry| entry.reached(cost)) {
                let level = match u32::try_from(steps).unwrap_or(u32::MAX) {
                    _ if at == ROOT => Level::Root,
                    0 => Level::Own,
                    steps => Level::Above(steps),
                };
                return Err(Spent::Limit { limit, level });
            }
        }
        self.each_up(node, |entry| {
            let Cost { requests, tool_calls } = &mut entry.reserved;
            *requests = requests.saturating_add(cost.requests);
            *tool_calls = tool_calls.saturating_add(cost.tool_calls);
        });
        Ok(())
    }

    /// Gives back what was reserved for something that turned out not to have been done.
    pub fn refund(&mut self, node: Node, cost: &Cost) {
        self.each_up(node, |entry| {
            let Cost { requests, tool_calls } = &mut entry.reserved;
            *requests = requests.saturating_sub(cost.requests);
            *tool_calls = tool_calls.saturating_sub(cost.tool_calls);
        });
    }

    /// Adds what was used to `node` and every node above it, whether or not a limit is passed.
    ///
    /// What comes after `node` has been let go of is charged to the root alone.
    pub fn charge(&mut self, node: Node, usage: &Usage) {
        let from = if self.entries.contains_key(&node) { node } else { ROOT };
        self.each_up(from, |entry| {
            let Usage { input_tokens, output_tokens, cost } = &mut entry.used;
            *input_tokens = input_tokens.saturating_add(usage.input_tokens);
            *output_tokens = output_tokens.saturating_add(usage.output_tokens);
            let micros = cost.micros().saturating_add(usage.cost.micros());
            *cost = Usd::from_micros(micros);
        });
    }

    /// Returns how much `node` may still use: what is left of its own and of every allowance above
    /// it; nothing at all once it has ended. Its time is what it was handed.
    #[must_use]
    pub fn remaining(&self, node: Node) -> Allowance {
        if self.entries.get(&node).is_none_or(|entry| entry.ended) {
            return NOTHING;
        }
        self.path(node)
            .iter()
            .filter_map(|at| self.entries.get(at))
            .fold(Allowance::default(), |least, entry| least.capped(&entry.left()))
    }

    /// Lets go of `node`, whose run has ended, as soon as nothing hangs on it any more. What it
    /// used stays with the nodes above it.
    pub fn end(&mut self, node: Node) {
        if node == ROOT {
            return;
        }
        if let Some(entry) = self.entries.get_mut(&node) {
            entry.ended = true;
        }
        let mut at = node;
        while let Some(entry) = self.entries.get(&at) {
            let Some(parent) = entry.parent else { return };
            if !entry.ended || entry.children > 0 {
                return;
            }
            self.entries.remove(&at);
            if let Some(entry) = self.entries.get_mut(&parent) {
                entry.children -= 1;
            }
            at = parent;
        }
    }

    /// Returns `node` and the nodes above it, up to the root.
    fn path(&self, node: Node) -> Vec<Node> {
        let above = |at: &Node| self.entries.get(at).and_then(|entry| entry.parent);
        std::iter::successors(Some(node), above).collect()
    }

    fn each_up(&mut self, node: Node, change: impl Fn(&mut Entry)) {
        for at in self.path(node) {
            if let Some(entry) = self.entries.get_mut(&at) {
                change(entry);
            }
        }
    }
}

/// What is left to a node that has ended.
const NOTHING: Allowance = Allowance {
    requests: Some(0),
    tool_calls: Some(0),
    input_tokens: Some(0),
    output_tokens: Some(0),
    total_tokens: Some(0),
    cost: Some(Usd::from_micros(0)),
    wall: Some(Duration::ZERO),
};

impl Entry {
    fn new(parent: Option<Node>, allowance: Allowance) -> Self {
        let (reserved, used) = (Cost::default(), Usage::default());
        Self { parent, children: 0, ended: false, allowance, reserved, used }
    }

    fn left(&self) -> Allowance {
        let Self { allowance, reserved, used, .. } = self;
        let left = |limit: Option<u64>, used: u64| limit.map(|limit| limit.saturating_sub(used));
        let cost = left(allowance.cost.map(Usd::micros), used.cost.micros());
        Allowance {
            requests: left(allowance.requests, reserved.requests),
            tool_calls: left(allowance.tool_calls, reserved.tool_calls),
            input_tokens: left(allowance.input_tokens, used.input_tokens),
            output_tokens: left(allowance.output_tokens, used.output_tokens),
            total_tokens: left(allowance.total_tokens, used.total_tokens()),
            cost: cost.map(Usd::from_micros),
            wall: allowance.wall,
        }
    }

    /// Returns the limit that stands in the way of `cost`.
    fn reached(&self, cost: &Cost) -> Option<Limit> {
        let Allowance { requests, tool_calls, input_tokens, output_tokens, total_tokens, .. } =
            self.allowance;
        let left = self.left();
        let reserved = |limit: Option<u64>, left: Option<u64>, cost: u64| {
            limit.filter(|_| left.is_some_and(|left| left < cost))
        };
        let used_up = |limit: Option<u64>, left: Option<u64>| limit.filter(|_| left == Some(0));
        let money = left.cost.is_some_and(|left| left.micros() == 0);
        reserved(requests, left.requests, cost.requests)
            .map(Limit::Requests)
            .or(reserved(tool_calls, left.tool_calls, cost.tool_calls).map(Limit::ToolCalls))
            .or(used_up(input_tokens, left.input_tokens).map(Limit::InputTokens))
            .or(used_up(output_tokens, left.output_tokens).map(Limit::OutputTokens))
            .or(used_up(total_tokens, left.total_tokens).map(Limit::TotalTokens))
            .or(self.allowance.cost.filter(|_| money).map(Limit::Cost))
    }
}

impl Usage {
    fn total_tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}

fn lesser<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests;

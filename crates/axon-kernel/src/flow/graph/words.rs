//! What flows do, in words for drawings.

use std::time::Duration;

use crate::flow::condition::{Condition, Test};
use crate::flow::expression::Expression;
use crate::flow::plan::{Ask, Balance, Does, Edge, Join, OnFailure, Over, Repeat, Step, Target};
use crate::json::excerpt;

/// The longest expression that is shown, in bytes.
const MAX_SHOWN: usize = 60;

/// Returns a text in a line, shortened, with nothing in it that a terminal obeys.
pub(super) fn shown(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    excerpt(&line.replace(char::is_control, "\u{fffd}"), MAX_SHOWN)
}

/// Returns who is asked.
pub(super) fn target(target: &Target) -> String {
    match target {
        Target::Agent(name) => name.to_string(),
        Target::Human => "a person".to_owned(),
        Target::Balanced { by, of } => {
            let of: Vec<&str> = of.iter().map(|name| name.as_str()).collect();
            format!("one of {} {}", of.join(", "), balance(*by))
        }
    }
}

pub(super) fn balance(by: Balance) -> &'static str {
    match by {
        Balance::RoundRobin => "in turn",
        Balance::LeastInFlight => "with the least to do",
        Balance::Conversation => "by conversation",
    }
}

pub(super) fn join(join: Join) -> String {
    match join {
        Join::All => "all".to_owned(),
        Join::First => "the first".to_owned(),
        Join::Quorum(need) => format!("the first {need}"),
    }
}

pub(super) fn condition(condition: &Condition) -> String {
    let Condition::Message { pointer, test } = condition else {
        let Condition::Holds(expression) = condition else { return String::new() };
        return self::expression(expression);
    };
    let part = if pointer.is_empty() { "input" } else { pointer };
    match test {
        Test::Matches(regex) => format!("{part} matches {}", shown(regex.as_str())),
        Test::Equals(value) => format!("{part} is {}", shown(&value.to_string())),
        Test::Fits(schema) => format!("{part} fits {}", shown(&schema.raw().to_string())),
    }
}

fn expression(expression: &Expression) -> String {
    match expression {
        Expression::Text(source) => shown(source),
        Expression::Code(name) => format!("{name} (Rust)"),
    }
}

/// Returns when and how often a step is made.
pub(super) fn made(step: &Step) -> Vec<String> {
    let over = |Over { list, max_concurrency, .. }: &Over| {
        format!("for each of {}, {max_concurrency} at once", expression(list))
    };
    let repeat = |Repeat { until, at_most }: &Repeat| {
        format!("until {}, {at_most} times at most", condition(until))
    };
    let when = step.when.as_ref().map(|when| format!("when {}", condition(when)));
    let over = step.over.as_ref().map(over);
    when.into_iter().chain(over).chain(step.repeat.as_ref().map(repeat)).collect()
}

/// Returns how long, how often and when somebody is asked.
pub(super) fn edge(edge: &Edge) -> Vec<String> {
    let within = |time: Duration| format!("within {}", humantime::format_duration(time));
    let retries = match edge.retry {
        0 => None,
        1 => Some("1 retry".to_owned()),
        more => Some(format!("{more} retries")),
    };
    let breaker = edge.breaker.map(|breaker| {
        let open = humantime::format_duration(breaker.open);
        format!("left alone for {open} after {} failures", breaker.failures)
    });
    edge.timeout.map(within).into_iter().chain(retries).chain(breaker).collect()
}

/// Returns what happens after a failure.
pub(super) fn on_failure(on_failure: &OnFailure) -> Option<String> {
    match on_failure {
        OnFailure::Fail => None,
        OnFailure::Skip => Some("else left out".to_owned()),
        OnFailure::Ask(others) => {
            let others: Vec<String> = others.iter().map(target).collect();
            Some(format!("else {}", others.join(", then ")))
        }
    }
}

/// Returns the question of a step that asks somebody, and whatever else it does in a word.
pub(super) fn does(does: &Does) -> String {
    match does {
        Does::Ask(ask) => self::ask(ask),
        Does::Route(route) => format!("as {} chooses", target(&route.by.target)),
        Does::Choose(_) => "the first that holds".to_owned(),
        Does::Parallel { join, .. } => format!("{} of", self::join(*join)),
        Does::Steps(_) => "one after the other".to_owned(),
        Does::Code(name) => format!("{name} (Rust)"),
        Does::Fail(message) => format!("fails: {}", shown(message)),
    }
}

/// Returns who is asked, and how.
pub(super) fn ask(ask: &Ask) -> String {
    [target(&ask.target)].into_iter().chain(how(ask)).collect::<Vec<_>>().join(", ")
}

/// Returns how somebody is asked.
pub(super) fn how(ask: &Ask) -> Vec<String> {
    edge(&ask.edge).into_iter().chain(on_failure(&ask.edge.on_failure)).collect()
}

//! Where the parts of a flow stand in its file.
//!
//! Checks know each part by where it would stand in a `pipeline.toml`. A router has one step, whose
//! parts have places of their own in a `router.toml`.

use super::plan::{Ask, Does, Flow, FlowKind, OnFailure, Step, Target};

/// Those who are asked in a router when everything else has failed, by the keys of its file.
#[derive(Clone, Copy)]
pub(super) struct Others<'f> {
    pub(super) fallback: Option<&'f Target>,
    pub(super) on_escalate: Option<&'f Target>,
}

impl<'f> Others<'f> {
    pub(super) fn of(flow: &'f Flow, does: &Does) -> Self {
        let others = match &flow.on_failure {
            OnFailure::Ask(others) => others.as_slice(),
            OnFailure::Fail | OnFailure::Skip => &[],
        };
        let escalates = match does {
            // The last way of all is the fallback, if there is one.
            Does::Choose(arms) => arms.last().is_some_and(|arm| matches!(arm.does, Does::Fail(_))),
            Does::Ask(_)
            | Does::Route(_)
            | Does::Parallel { .. }
            | Does::Steps(_)
            | Does::Code(_)
            | Does::Fail(_) => others == [Target::Human],
        };
        match others {
            [one] if escalates => Self { fallback: None, on_escalate: Some(one) },
            _ => Self { fallback: others.first(), on_escalate: others.get(1) },
        }
    }

    fn key(self, target: Option<&Target>) -> Option<&'static str> {
        let is = |other: Option<&Target>| target.is_some() && other == target;
        let fallback = is(self.fallback).then_some("/fallback");
        fallback.or(is(self.on_escalate).then_some("/on_escalate"))
    }
}

/// Returns where the part of `flow` at `pointer` stands in its file.
pub(super) fn in_file(flow: &Flow, pointer: &str) -> String {
    let step = match (flow.kind, flow.steps.as_slice()) {
        (FlowKind::Router, [step]) => step,
        (FlowKind::Router | FlowKind::Pipeline, _) => return pointer.to_owned(),
    };
    let parts: Vec<&str> = pointer.split('/').skip(1).collect();
    let router =
        Router { step, others: Others::of(flow, &step.does), on_failure: &flow.on_failure };
    match parts.as_slice() {
        ["on_failure", index] => router.instead(router.on_failure, index).unwrap_or_default(),
        ["steps", "0", rest @ ..] => router.part(rest),
        _ => pointer.to_owned(),
    }
}

struct Router<'f> {
    step: &'f Step,
    others: Others<'f>,
    on_failure: &'f OnFailure,
}

impl Router<'_> {
    fn part(&self, parts: &[&str]) -> String {
        match parts {
            ["route", "by", rest @ ..] => self.asked(("/by", None), rest),
            ["route", "to", index, rest @ ..] | ["parallel", index, rest @ ..] => {
                self.asked((&format!("/to/{index}"), self.ask(index)), rest)
            }
            ["choose", index, "when", rest @ ..] => joined(&format!("/rules/{index}/when"), rest),
            ["choose", index, rest @ ..] => {
                let at = if self.is_last(index) {
                    "/fallback".to_owned()
                } else {
                    format!("/rules/{index}/to")
                };
                self.asked((&at, self.ask(index)), rest)
            }
            ["join"] => "/broadcast".to_owned(),
            ["parallel" | "route", ..] => "/to".to_owned(),
            ["balance", "of", rest @ ..] => joined("/to", rest),
            ["on_failure", index] => {
                let on_failure = self.ask("").map(|ask| &ask.edge.on_failure);
                on_failure.and_then(|others| self.instead(others, index)).unwrap_or_default()
            }
            rest => joined("", rest),
        }
    }

    /// Returns the place of a part of what `at` names: how somebody is asked is said elsewhere.
    fn asked(&self, (at, ask): (&str, Option<&Ask>), parts: &[&str]) -> String {
        let edge = ask.map(|ask| format!("/edges/{}", ask.target.name())).unwrap_or_default();
        match parts {
            [key @ ("timeout" | "retry" | "breaker"), rest @ ..] => {
                joined(&format!("{edge}/{key}"), rest)
            }
            ["on_failure", index] => ask
                .and_then(|ask| self.instead(&ask.edge.on_failure, index))
                .unwrap_or_else(|| format!("{edge}/fallback")),
            _ => at.to_owned(),
        }
    }

    /// Returns the ask of the one whom messages go to as number `index`.
    fn ask(&self, index: &str) -> Option<&Ask> {
        let index = || index.parse::<usize>().ok();
        match &self.step.does {
            Does::Ask(ask) => Some(ask),
            Does::Route(route) => route.to.get(index()?),
            Does::Choose(arms) => ask_of(&arms.get(index()?)?.does),
            Does::Parallel { branches, .. } => ask_of(&branches.get(index()?)?.does),
            Does::Steps(_) | Does::Code(_) | Does::Fail(_) => None,
        }
    }

    fn is_last(&self, index: &str) -> bool {
        let Does::Choose(arms) = &self.step.does else { return false };
        let arm = index.parse().ok().and_then(|index: usize| arms.get(index));
        arm.is_some_and(|arm| arm.when.is_none())
    }

    /// Returns the place of the one of `others` who is asked as number `index`, unless it is said
    /// for one edge only.
    fn instead(&self, others: &OnFailure, index: &str) -> Option<String> {
        let OnFailure::Ask(others) = others else { return None };
        let other = index.parse().ok().and_then(|index: usize| others.get(index));
        self.others.key(other).map(str::to_owned)
    }
}

pub(super) fn ask_of(does: &Does) -> Option<&Ask> {
    if let Does::Ask(ask) = does { Some(ask) } else { None }
}

fn joined(at: &str, rest: &[&str]) -> String {
    rest.iter().fold(at.to_owned(), |at, part| format!("{at}/{part}"))
}

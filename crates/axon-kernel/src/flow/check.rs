//! The check of a flow before anything of it is started: names, order, reach and bounds.

mod names;
mod order;

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use self::names::Level;
use self::order::Order;
use super::condition::{Condition, Test};
use super::place::in_file;
use super::plan::{
    Arm, Ask, Does, Edge, Flow, FlowKind, Join, OnFailure, Over, Repeat, Route, Step, Target,
    is_reserved,
};
use super::rule::{FlowRule, MAX_NESTING, MAX_STEPS, Why};
use crate::spec::check::Broke;
use crate::spec::{AgentName, AgentSpec, OutputMode, Rule, RunnerSpec, Supervision};

/// How often somebody is asked again at most.
const MAX_RETRIES: u64 = 10;

/// How often something is made again at most, and how many items are under way at the same time.
const MAX_ROUNDS: u64 = 100;

/// Adds the rules that `flow`, which is what `spec` does, breaks.
pub(crate) fn check(spec: &AgentSpec, flow: &Flow, broken: &mut Broke) {
    only_of_agents(spec, flow.kind, broken);
    let mut check = Check { flow, levels: Vec::new(), broken: Vec::new() };
    let steps = check.count(&flow.steps, 1);
    match steps {
        0..=MAX_STEPS if check.broken.is_empty() => check.whole(),
        0..=MAX_STEPS => {}
        found => check.add("/steps", FlowRule::TooManySteps { found }),
    }
    for (pointer, rule) in check.broken {
        broken.add(in_file(flow, &pointer), rule);
    }
}

/// Checks that a router or a pipeline has nothing that only agents have.
fn only_of_agents(spec: &AgentSpec, kind: FlowKind, broken: &mut Broke) {
    let output = spec.output.as_ref();
    let own = [
        ("model", spec.model.is_some()),
        ("instructions", !spec.instructions.is_empty()),
        ("dynamic_instructions", !spec.dynamic_instructions.is_empty()),
        ("retries", spec.retries != crate::spec::Retries::default()),
        ("end_strategy", spec.end_strategy.is_some()),
        ("tool_timeout", spec.tool_timeout.is_some()),
        ("model_settings", !spec.model_settings.is_empty()),
        ("capabilities", !spec.capabilities.is_empty()),
        ("provider", spec.provider.is_some()),
        ("runner", spec.runner != RunnerSpec::default()),
        ("deps/factory", spec.deps.factory.is_some()),
        ("output/mode", output.is_some_and(|output| output.mode != OutputMode::Auto)),
        ("output/name", output.is_some_and(|output| output.name.is_some())),
        ("output/description", output.is_some_and(|output| output.description.is_some())),
        ("output/strict", output.is_some_and(|output| output.strict.is_some())),
        ("tools", !spec.tools.is_empty()),
        ("fallback/model", spec.fallback.model.is_some()),
        ("fallback/agent", spec.fallback.agent.is_some()),
        ("supervision", spec.supervision != Supervision::default()),
        ("policy", !spec.policy.is_empty()),
    ];
    for (key, _) in own.into_iter().filter(|(_, own)| *own) {
        broken.add(format!("/{key}"), FlowRule::NotOfFlow { kind, key });
    }
}

/// The names that are known at one place, in the order in which they became known.
#[derive(Clone, Default)]
struct Known<'f>(Vec<&'f str>);

impl<'f> Known<'f> {
    fn with(&self, more: &[&'f str]) -> Self {
        let mut known = self.clone();
        for name in more {
            if !known.has(name) {
                known.0.push(name);
            }
        }
        known
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains(&name)
    }
}

struct Check<'f> {
    flow: &'f Flow,
    /// The lists around the current place, and where it is in each.
    levels: Vec<Level<'f>>,
    broken: Vec<(String, Rule)>,
}

impl<'f> Check<'f> {
    fn add(&mut self, pointer: impl Into<String>, rule: impl Into<Rule>) {
        self.broken.push((pointer.into(), rule.into()));
    }

    fn range(&mut self, pointer: &str, found: u64, (min, max): (u64, u64)) {
        if !(min..=max).contains(&found) {
            self.add(pointer, Rule::Range { found, min, max });
        }
    }

    /// Returns what the file calls a list that pipelines call `word`.
    fn word(&self, word: &'static str) -> &'static str {
        if self.flow.kind == FlowKind::Router { "to" } else { word }
    }

    /// Counts the steps, and refuses what nests too deep, which nothing else looks into.
    fn count(&mut self, steps: &[Step], depth: usize) -> usize {
        if depth > MAX_NESTING {
            return self.too_deep();
        }
        steps.iter().map(|step| 1 + self.count_in(&step.does, depth)).sum()
    }

    fn count_in(&mut self, does: &Does, depth: usize) -> usize {
        match does {
            Does::Choose(_) if depth >= MAX_NESTING => self.too_deep(),
            Does::Choose(arms) => arms.iter().map(|arm| self.count_in(&arm.does, depth + 1)).sum(),
            Does::Parallel { branches: steps, .. } | Does::Steps(steps) => {
                self.count(steps, depth + 1)
            }
            Does::Ask(_) | Does::Route(_) | Does::Code(_) | Does::Fail(_) => 0,
        }
    }

    fn too_deep(&mut self) -> usize {
        if self.broken.is_empty() {
            self.add("/steps", FlowRule::TooDeep);
        }
        0
    }

    fn whole(&mut self) {
        let known = Known::default().with(&["input", "prompt", "deps", "previous", "failures"]);
        let flow = self.flow;
        self.steps(&flow.steps, "/steps", &known);
        self.on_failure("", &flow.on_failure, &[]);
        if flow.on_failure == OnFailure::Skip {
            self.add("/on_failure", FlowRule::SkipAll);
        }
    }

    fn steps(&mut self, steps: &'f [Step], at: &str, known: &Known<'f>) {
        if steps.is_empty() {
            self.add(at, FlowRule::Empty { key: "steps" });
        }
        self.step_names(steps, at, known);
        let order = Order::of(steps);
        for (index, pointer, rule) in order.broken(steps) {
            self.add(format!("{at}/{index}{pointer}"), rule);
        }
        let mut never: BTreeSet<usize> = BTreeSet::new();
        for (index, step) in steps.iter().enumerate() {
            let at = format!("{at}/{index}");
            if let Some(why) = never_made(step, &order.places(steps, index), &never) {
                let key = if why == Why::Condition { "/when" } else { "/after" };
                self.add(format!("{at}{key}"), FlowRule::Unreachable { why });
                never.insert(index);
            }
            let before: Vec<&str> =
                order.before(index).iter().map(|before| steps[*before].name.as_str()).collect();
            self.levels.push(Level { steps, at: index, order: order.clone() });
            self.step(step, &at, &known.with(&before));
            self.levels.pop();
        }
    }

    fn step_names(&mut self, steps: &'f [Step], at: &str, known: &Known<'f>) {
        let mut names = BTreeSet::new();
        for (index, step) in steps.iter().enumerate() {
            let (name, at) = (step.name.to_string(), format!("{at}/{index}/name"));
            let is_own = self.flow.kind == FlowKind::Pipeline;
            if is_own && is_reserved(&name) {
                self.add(at, FlowRule::ReservedStep { name });
            } else if !names.insert(step.name.as_str()) || is_own && known.has(&name) {
                let doubled = FlowRule::Doubled { name: name.clone() };
                self.add(at, if is_own { FlowRule::DuplicateStep { name } } else { doubled });
            }
        }
    }

    fn step(&mut self, step: &'f Step, at: &str, known: &Known<'f>) {
        if let Some(when) = &step.when {
            self.condition(when, &format!("{at}/when"), known);
        }
        let mut inside = known.clone();
        if let Some(over) = &step.over {
            self.over(over, &step.does, (at, known));
            inside = inside.with(&["item", "index"]);
        }
        if let Some(repeat) = &step.repeat {
            if step.over.is_some() {
                self.add(format!("{at}/repeat"), FlowRule::MapAndRepeat);
            }
            inside = inside.with(&["last", "iteration"]);
            self.repeat(repeat, at, &inside);
        }
        self.does(&step.does, at, &inside);
        self.on_failure(at, &step.on_failure, &[]);
    }

    fn over(&mut self, over: &'f Over, does: &Does, (at, known): (&str, &Known<'f>)) {
        self.names(over.list.uses(), &format!("{at}/map"), known);
        let at_once = over.max_concurrency.get().into();
        self.range(&format!("{at}/max_concurrency"), at_once, (1, MAX_ROUNDS));
        let most = super::advance::MAX_ITEMS as u64;
        self.range(&format!("{at}/need"), over.need.into(), (0, most));
        let skips = matches!(does, Does::Ask(ask) if ask.edge.on_failure == OnFailure::Skip);
        if over.need != 1 && !skips {
            self.add(format!("{at}/need"), FlowRule::NeedWithoutSkip);
        }
    }

    fn repeat(&mut self, repeat: &'f Repeat, at: &str, known: &Known<'f>) {
        self.condition(&repeat.until, &format!("{at}/repeat/until"), known);
        let at_most = repeat.at_most.get().into();
        self.range(&format!("{at}/repeat/at_most"), at_most, (1, MAX_ROUNDS));
    }

    fn does(&mut self, does: &'f Does, at: &str, known: &Known<'f>) {
        match does {
            Does::Ask(ask) => self.ask(ask, at, known),
            Does::Route(route) => self.route(route, at, known),
            Does::Choose(arms) => self.choose(arms, at, known),
            Does::Parallel { branches, join } => {
                self.parallel((branches, *join), &format!("{at}/parallel"), known);
            }
            Does::Steps(steps) => self.steps(steps, &format!("{at}/steps"), known),
            Does::Code(_) | Does::Fail(_) => {}
        }
    }

    fn route(&mut self, route: &'f Route, at: &str, known: &Known<'f>) {
        self.ask(&route.by, &format!("{at}/route/by"), known);
        if route.to.is_empty() {
            self.add(format!("{at}/route/to"), FlowRule::Empty { key: "to" });
        }
        let names = route.to.iter().map(|ask| ask.target.name());
        self.doubles(&format!("{at}/route/to"), names.collect());
        let known = known.with(&["route"]);
        for (index, ask) in route.to.iter().enumerate() {
            self.ask(ask, &format!("{at}/route/to/{index}"), &known);
        }
    }

    fn choose(&mut self, arms: &'f [Arm], at: &str, known: &Known<'f>) {
        if arms.is_empty() {
            self.add(format!("{at}/choose"), FlowRule::Empty { key: "choose" });
        }
        let mut always = false;
        for (index, arm) in arms.iter().enumerate() {
            let at = format!("{at}/choose/{index}");
            let holds = arm.when.as_ref().map_or(Some(true), Condition::constant);
            // A router's fallback also answers for those whom it stands behind.
            let stands_in = self.flow.kind == FlowKind::Router && arm.when.is_none();
            if always && !stands_in && !matches!(arm.does, Does::Fail(_)) {
                self.add(at.as_str(), FlowRule::Unreachable { why: Why::Behind });
            } else if holds == Some(false) {
                let why = Why::Condition;
                self.add(format!("{at}/when"), FlowRule::Unreachable { why });
            }
            always |= holds == Some(true);
            if let Some(when) = &arm.when {
                self.condition(when, &format!("{at}/when"), known);
            }
            self.does(&arm.does, &at, known);
        }
    }

    fn parallel(&mut self, (branches, join): (&'f [Step], Join), at: &str, known: &Known<'f>) {
        if branches.is_empty() {
            self.add(at, FlowRule::Empty { key: self.word("parallel") });
        }
        if let Join::Quorum(need) = join
            && need.get() as usize > branches.len()
        {
            let (need, branches) = (need.get(), branches.len());
            let around = at.strip_suffix("/parallel").unwrap_or(at);
            self.add(format!("{around}/join"), FlowRule::Quorum { need, branches });
        }
        self.step_names(branches, at, known);
        for (index, branch) in branches.iter().enumerate() {
            let at = format!("{at}/{index}");
            if !branch.after.is_empty() {
                self.add(format!("{at}/after"), FlowRule::BranchAfter);
            }
            if let Some(why) = never_made(branch, &[], &BTreeSet::new()) {
                self.add(format!("{at}/when"), FlowRule::Unreachable { why });
            }
            self.levels.push(Level { steps: branches, at: index, order: Order::default() });
            self.step(branch, &at, known);
            self.levels.pop();
        }
    }

    fn ask(&mut self, ask: &'f Ask, at: &str, known: &Known<'f>) {
        if let Target::Balanced { of, .. } = &ask.target {
            let at = format!("{at}/balance/of");
            if of.is_empty() {
                self.add(at.as_str(), FlowRule::Empty { key: self.word("of") });
            }
            self.doubles(&at, of.iter().map(AgentName::as_str).collect());
            for (index, name) in of.iter().enumerate() {
                if Target::named(name.clone()) == Target::Human {
                    self.add(format!("{at}/{index}"), FlowRule::SpreadOverPeople);
                }
            }
        }
        if let Some(prompt) = &ask.prompt {
            let key = if ask.target == Target::Human { "human" } else { "prompt" };
            self.names(prompt.uses(), &format!("{at}/{key}"), known);
        }
        if let Some(deps) = &ask.deps {
            self.names(deps.uses(), &format!("{at}/deps"), known);
        }
        let Edge { retry, breaker, on_failure, .. } = &ask.edge;
        self.range(&format!("{at}/retry"), (*retry).into(), (0, MAX_RETRIES));
        if let Some(breaker) = breaker {
            let failures = u64::from(NonZeroU32::get(breaker.failures));
            self.range(&format!("{at}/breaker/failures"), failures, (1, 1_000));
            if breaker.open > breaker.max_open {
                self.add(format!("{at}/breaker/open"), Rule::OpenTimes);
            }
        }
        self.on_failure(at, on_failure, &[&ask.target]);
    }

    /// Checks who is asked when `failed` has.
    fn on_failure(&mut self, at: &str, on_failure: &OnFailure, failed: &[&Target]) {
        let OnFailure::Ask(others) = on_failure else { return };
        let at = format!("{at}/on_failure");
        if others.is_empty() {
            self.add(at.as_str(), FlowRule::Empty { key: "on_failure" });
        }
        self.doubles(&at, others.iter().map(Target::name).collect());
        for (index, other) in others.iter().enumerate() {
            if failed.contains(&other) {
                let name = other.name().to_owned();
                self.add(format!("{at}/{index}"), FlowRule::Itself { name });
            }
        }
    }

    fn doubles(&mut self, at: &str, names: Vec<&str>) {
        let mut seen = BTreeSet::new();
        for (index, name) in names.into_iter().enumerate() {
            if !seen.insert(name) {
                let name = name.to_owned();
                self.add(format!("{at}/{index}"), FlowRule::Doubled { name });
            }
        }
    }

    fn condition(&mut self, condition: &Condition, at: &str, known: &Known<'f>) {
        self.names(condition.uses(), at, known);
        if let Condition::Message {
            pointer,
            test: Test::Matches(_) | Test::Equals(_) | Test::Fits(_),
        } = condition
            && !pointer.is_empty()
            && !pointer.starts_with('/')
        {
            let pointer = pointer.clone();
            self.add(format!("{at}/pointer"), FlowRule::Pointer { pointer });
        }
    }
}

/// Returns why `step` is never made, if it never is; `places` are those of the steps that it waits
/// for, and `never` those of the steps that are never made.
fn never_made(step: &Step, places: &[usize], never: &BTreeSet<usize>) -> Option<Why> {
    if step.when.as_ref().and_then(Condition::constant) == Some(false) {
        return Some(Why::Condition);
    }
    let only = !places.is_empty() && places.iter().all(|place| never.contains(place));
    only.then(|| Why::After(step.after.iter().map(|name| format!("`{name}`")).collect()))
}

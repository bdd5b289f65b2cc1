//! Whether what steps hand on can be what is done with it.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value, json};

use super::shape::{Defs, Shapes, any, null};
use super::{Found, GraphError, System, who};
use crate::flow::condition::Condition;
use crate::flow::expression::{Expression, Given, TextTemplate, whole};
use crate::flow::place::in_file;
use crate::flow::plan::{Ask, Does, Flow, OnFailure, Route, Step, StepName, Target};
use crate::schema::fit::{Member, Node, fits_raw, kinds, member, telling, texts};
use crate::schema::{Mismatch, Schema};
use crate::spec::{AgentName, AgentSpec};

/// How long a path of members is followed.
const MAX_PATH: usize = 32;

impl System<'_> {
    /// Checks that what the steps of `spec` hand on can fit.
    pub(super) fn check_types(&self, spec: &AgentSpec, shapes: &Shapes<'_>, found: &mut Found) {
        let Some(flow) = &spec.flow else { return };
        let mut defs = Defs::default();
        let mut given = |name: &str, schema: Option<&Schema>| match schema {
            Some(schema) => defs.refer(name, schema.raw()),
            None => true.into(),
        };
        // No agent has these names.
        let input = given("-input", flow.input.as_ref());
        let deps = given("-deps", spec.deps.schema.as_ref());
        let mut outputs = BTreeMap::new();
        outputs_of(&flow.steps, "/steps", &mut |at, step| {
            outputs.insert(
                at,
                (shapes.of_does(&step.does, &mut defs), shapes.of_step(step, &mut defs)),
            );
        });
        let last = shapes.of_flow(flow, &mut defs);
        let root = Rc::new(defs.whole(json!({})));
        let types = Types { spec, flow, shapes, root, outputs, problems: Vec::new() };
        types.check((input, deps), last, found);
    }
}

/// Calls `see` for every step, with its place.
fn outputs_of<'f>(steps: &'f [Step], at: &str, see: &mut dyn FnMut(String, &'f Step)) {
    for (index, step) in steps.iter().enumerate() {
        let at = format!("{at}/{index}");
        inner_outputs(&step.does, &at, see);
        see(at, step);
    }
}

fn inner_outputs<'f>(does: &'f Does, at: &str, see: &mut dyn FnMut(String, &'f Step)) {
    match does {
        Does::Choose(arms) => {
            for (index, arm) in arms.iter().enumerate() {
                inner_outputs(&arm.does, &format!("{at}/choose/{index}"), see);
            }
        }
        Does::Parallel { branches, .. } => outputs_of(branches, &format!("{at}/parallel"), see),
        Does::Steps(steps) => outputs_of(steps, &format!("{at}/steps"), see),
        Does::Ask(_) | Does::Route(_) | Does::Code(_) | Does::Fail(_) => {}
    }
}

/// The shapes of what is known at one place, by name.
#[derive(Clone)]
struct Known(BTreeMap<String, Value>);

impl Known {
    fn with(&self, name: &str, shape: Value) -> Self {
        let mut known = self.clone();
        known.0.insert(name.to_owned(), shape);
        known
    }

    fn previous(&self) -> Value {
        self.0.get("previous").cloned().unwrap_or(Value::Bool(true))
    }

    /// Returns the shape of the flow's own deps.
    fn deps(&self) -> Value {
        self.0.get("deps").cloned().unwrap_or(Value::Bool(true))
    }
}

struct Types<'t, 's> {
    spec: &'t AgentSpec,
    flow: &'t Flow,
    shapes: &'t Shapes<'s>,
    /// What all shapes refer to.
    root: Rc<Value>,
    /// The shapes of what each step gives once, and in all, by its place.
    outputs: BTreeMap<String, (Value, Value)>,
    problems: Vec<(String, GraphError)>,
}

impl Types<'_, '_> {
    fn check(mut self, (input, deps): (Value, Value), last: Value, found: &mut Found) {
        let list = json!({ "type": "array", "items": { "type": "object" } });
        let known = [
            ("previous", input.clone()),
            ("input", input),
            ("deps", deps),
            ("prompt", true.into()),
            ("failures", list),
        ];
        let known =
            Known(known.into_iter().map(|(name, shape)| (name.to_owned(), shape)).collect());
        let flow = self.flow;
        self.steps(&flow.steps, "/steps", &known);
        self.others("", &flow.on_failure, known.deps());
        let promised = self.spec.output.as_ref().and_then(|output| output.schema.as_ref());
        if let Some(promised) = promised
            && let Err(mismatch) = self.fits(&last, promised.raw())
        {
            self.problems.push(("/output/schema".to_owned(), GraphError::Output { mismatch }));
        }
        for (pointer, what) in self.problems {
            found.add(self.spec, in_file(self.flow, &pointer), what);
        }
    }

    fn fits(&self, shape: &Value, to: &Value) -> Result<(), Mismatch> {
        fits_raw(Node { root: &self.root, value: shape }, Node::root(to))
    }

    fn output(&self, at: &str) -> (Value, Value) {
        self.outputs.get(at).cloned().unwrap_or((true.into(), true.into()))
    }

    fn steps(&mut self, steps: &[Step], at: &str, known: &Known) {
        // What is known behind each step: its own output, and what is known behind those before it.
        let mut behind: BTreeMap<&StepName, BTreeMap<String, Value>> = BTreeMap::new();
        for (index, step) in steps.iter().enumerate() {
            let at = format!("{at}/{index}");
            let mut inside = known.clone();
            let before = step.after.iter().filter_map(|name| behind.get(name));
            let before: BTreeMap<String, Value> =
                before.flatten().map(|(name, shape)| (name.clone(), shape.clone())).collect();
            inside.0.extend(before.clone());
            let previous = previous_of(step, &before, known.previous());
            let inside = inside.with("previous", previous);
            self.step(step, &at, &inside);
            let mut after = before;
            after.insert(step.name.to_string(), self.output(&at).1);
            behind.insert(&step.name, after);
        }
    }

    fn step(&mut self, step: &Step, at: &str, known: &Known) {
        let (once, _) = self.output(at);
        if let Some(when) = &step.when {
            self.condition(when, &format!("{at}/when"), known);
        }
        let mut inside = known.clone();
        if let Some(over) = &step.over {
            let item = self.items(&over.list, &format!("{at}/map"), known);
            let index = json!({ "type": "integer" });
            inside = inside.with("index", index).with("item", item.clone()).with("previous", item);
        }
        if let Some(repeat) = &step.repeat {
            let iteration = json!({ "type": "integer" });
            let until = inside.with("iteration", iteration).with("last", once.clone());
            let until = until.with("previous", once.clone());
            self.condition(&repeat.until, &format!("{at}/repeat/until"), &until);
            let previous = any(vec![inside.previous(), once.clone()]);
            inside = until.with("last", any(vec![once, null()])).with("previous", previous);
        }
        self.does(&step.does, at, &inside);
        self.others(at, &step.on_failure, known.deps());
    }

    fn does(&mut self, does: &Does, at: &str, known: &Known) {
        match does {
            Does::Ask(ask) => self.ask(ask, at, known),
            Does::Route(route) => self.route(route, at, known),
            Does::Choose(arms) => {
                for (index, arm) in arms.iter().enumerate() {
                    let at = format!("{at}/choose/{index}");
                    if let Some(when) = &arm.when {
                        self.condition(when, &format!("{at}/when"), known);
                    }
                    self.does(&arm.does, &at, known);
                }
            }
            Does::Parallel { branches, .. } => {
                for (index, branch) in branches.iter().enumerate() {
                    self.step(branch, &format!("{at}/parallel/{index}"), known);
                }
            }
            Does::Steps(steps) => self.steps(steps, &format!("{at}/steps"), known),
            Does::Code(_) | Does::Fail(_) => {}
        }
    }

    fn route(&mut self, route: &Route, at: &str, known: &Known) {
        let by = format!("{at}/route/by");
        self.ask(&route.by, &by, known);
        for (_, name) in who::targets(&by, &route.by.target) {
            self.choice(route, name, &by);
        }
        for (index, ask) in route.to.iter().enumerate() {
            let known = known.with("route", true.into());
            self.ask(ask, &format!("{at}/route/to/{index}"), &known);
        }
    }

    /// Checks that the agent `name` can choose those to whom messages go, and nobody else.
    fn choice(&mut self, route: &Route, name: &AgentName, at: &str) {
        let answer = self.shapes.answer(name);
        let node = Node::root(&answer);
        let chosen = match member(node, "to") {
            // Its answer may be nothing but a name.
            Member::Never(_) if kinds(node).may_be_text() => vec![node],
            Member::Any => return,
            Member::Of(nodes) => nodes,
            Member::Never(why) => {
                let what = GraphError::NoChoice { name: name.clone(), why };
                return self.problems.push((at.to_owned(), what));
            }
        };
        let may_be_text = chosen.iter().any(|node| kinds(*node).may_be_text());
        if !may_be_text {
            let why = chosen.first().map(|node| kinds(*node).to_string()).unwrap_or_default();
            let why = format!("has {why} as `to`");
            let what = GraphError::NoChoice { name: name.clone(), why };
            return self.problems.push((at.to_owned(), what));
        }
        let texts: Option<Vec<Vec<String>>> = chosen.into_iter().map(texts).collect();
        let known: Vec<String> = route.to.iter().map(|ask| ask.target.name().to_owned()).collect();
        let mut others = texts.unwrap_or_default().concat();
        others.retain(|other| !known.contains(other));
        if !others.is_empty() {
            let what = GraphError::NoTargets { name: name.clone(), others, known };
            self.problems.push((at.to_owned(), what));
        }
    }

    fn ask(&mut self, ask: &Ask, at: &str, known: &Known) {
        if let Some(prompt) = &ask.prompt {
            let key = if ask.target == Target::Human { "human" } else { "prompt" };
            self.uses(prompt.uses(), &format!("{at}/{key}"), known);
        }
        if let Some(deps) = &ask.deps {
            self.uses(deps.uses(), &format!("{at}/deps"), known);
        }
        let asked = self.asked(ask.prompt.as_ref(), known);
        let deps = match &ask.deps {
            Some(given) => self.given(given, known),
            None => known.deps(),
        };
        for (place, name) in who::targets(at, &ask.target) {
            let deps_at = if ask.deps.is_some() { format!("{at}/deps") } else { place.clone() };
            self.takes(name, (&asked, &place), (&deps, &deps_at));
        }
        self.others(at, &ask.edge.on_failure, deps);
    }

    /// Checks those who are asked after a failure, and get these deps.
    fn others(&mut self, at: &str, on_failure: &OnFailure, deps: Value) {
        for (place, name) in who::others(at, on_failure) {
            self.takes(name, (&Value::Bool(true), &place), (&deps, &place));
        }
    }

    /// Checks that `name` can take what it is asked, and the deps that it gets.
    fn takes(
        &mut self,
        name: &AgentName,
        (asked, asked_at): (&Value, &str),
        (deps, deps_at): (&Value, &str),
    ) {
        let Some(spec) = self.shapes.spec(name) else { return };
        if let Some(own) = &spec.deps.schema
            && let Err(mismatch) = self.fits(deps, own.raw())
        {
            let what = GraphError::Deps { name: name.clone(), mismatch };
            self.problems.push((deps_at.to_owned(), what));
        }
        let input = spec.flow.as_ref().and_then(|flow| flow.input.as_ref());
        if let Some(input) = input
            && let Err(mismatch) = self.message_fits(asked, input.raw())
        {
            let what = GraphError::Input { name: name.clone(), mismatch };
            self.problems.push((asked_at.to_owned(), what));
        }
    }

    /// Checks a message, which is text: that of an object or a list is read as one again.
    fn message_fits(&self, asked: &Value, input: &Value) -> Result<(), Mismatch> {
        let found = kinds(Node { root: &self.root, value: asked });
        let text = json!({ "type": "string" });
        let as_text = found.may_be_plain() && self.fits(&text, input).is_ok();
        if found.may_be_text() || as_text { Ok(()) } else { self.fits(asked, input) }
    }

    /// Returns the shape of what is asked.
    fn asked(&self, prompt: Option<&TextTemplate>, known: &Known) -> Value {
        match prompt {
            None => known.previous(),
            Some(TextTemplate::Text(source)) => {
                whole(source).map_or(Value::Bool(true), |inner| self.value(inner, known))
            }
            Some(TextTemplate::Code(_)) => true.into(),
        }
    }

    /// Returns the shape of an expression, if that is a name or a member of one.
    fn value(&self, source: &str, known: &Known) -> Value {
        let parts: Vec<&str> = source.split('.').map(str::trim).collect();
        let Some((name, members)) = parts.split_first() else { return true.into() };
        let Some(shape) = known.0.get(*name) else { return true.into() };
        let found = self.follow(shape, members);
        found.unwrap_or(Value::Bool(true))
    }

    /// Returns the shape of the member that `path` leads to; nothing if there never is one.
    fn follow(&self, shape: &Value, path: &[&str]) -> Option<Value> {
        let mut nodes = vec![Node { root: &self.root, value: shape }];
        for name in path.iter().take(MAX_PATH) {
            nodes = match any_member(&nodes, name) {
                Member::Any => return Some(true.into()),
                Member::Of(nodes) => nodes,
                Member::Never(_) => return None,
            };
        }
        Some(any(nodes.into_iter().map(|node| node.value.clone()).collect()))
    }

    fn given(&self, given: &Given, known: &Known) -> Value {
        match given {
            Given::Text(TextTemplate::Text(_)) => json!({ "type": "string" }),
            Given::Text(TextTemplate::Code(_)) | Given::Value(Expression::Code(_)) => true.into(),
            Given::Value(Expression::Text(source)) => self.value(source, known),
            Given::Plain(value) => json!({ "const": value }),
            Given::List(items) => {
                let shapes: Vec<Value> = items.iter().map(|item| self.given(item, known)).collect();
                let count = shapes.len();
                json!({
                    "type": "array", "prefixItems": shapes, "items": false,
                    "minItems": count, "maxItems": count,
                })
            }
            Given::Object(members) => {
                let shapes: Map<String, Value> = members
                    .iter()
                    .map(|(name, given)| (name.clone(), self.given(given, known)))
                    .collect();
                let names: Vec<&String> = members.keys().collect();
                json!({
                    "type": "object", "properties": shapes, "required": names,
                    "additionalProperties": false,
                })
            }
        }
    }

    /// Checks that `list` can be one, and returns the shape of its items.
    fn items(&mut self, list: &Expression, at: &str, known: &Known) -> Value {
        self.uses(list.uses(), at, known);
        let Expression::Text(source) = list else { return true.into() };
        let shape = self.value(source, known);
        if let Err(mismatch) = self.fits(&shape, &json!({ "type": "array" })) {
            let list = source.trim().to_owned();
            self.problems.push((at.to_owned(), GraphError::NoList { list, mismatch }));
            return true.into();
        }
        let items = items_of(Node { root: &self.root, value: &shape });
        items.cloned().unwrap_or(Value::Bool(true))
    }

    fn condition(&mut self, condition: &Condition, at: &str, known: &Known) {
        self.uses(condition.uses(), at, known);
    }

    /// Checks that the members can be there that are taken.
    fn uses(&mut self, uses: Vec<String>, at: &str, known: &Known) {
        for used in uses {
            let parts: Vec<&str> = used.split('.').collect();
            let Some((name, members)) = parts.split_first() else { continue };
            let Some(shape) = known.0.get(*name) else { continue };
            if let Some((depth, why)) = self.missing(shape, members) {
                let of = parts[..=depth].join(".");
                self.problems.push((at.to_owned(), GraphError::NoMember { of, why }));
            }
        }
    }

    /// Returns how far `path` leads and why no further, if it does not lead to its end.
    fn missing(&self, shape: &Value, path: &[&str]) -> Option<(usize, String)> {
        let mut nodes = vec![Node { root: &self.root, value: shape }];
        for (depth, name) in path.iter().take(MAX_PATH).enumerate() {
            nodes = match any_member(&nodes, name) {
                Member::Any => return None,
                Member::Of(nodes) => nodes,
                Member::Never(why) => return Some((depth, why)),
            };
        }
        None
    }
}

/// Returns what is known of a member of what fits one of `nodes`.
fn any_member<'a>(nodes: &[Node<'a>], name: &str) -> Member<'a> {
    let (mut found, mut never) = (Vec::new(), None);
    for node in nodes {
        match member(*node, name) {
            Member::Any => return Member::Any,
            Member::Of(nodes) => found.extend(nodes),
            Member::Never(why) => never = Some(telling(never, why)),
        }
    }
    match never {
        Some(why) if found.is_empty() => Member::Never(why),
        Some(_) | None => Member::Of(found),
    }
}

/// Returns the shape of the items of lists of this shape, if it is said at once.
fn items_of<'a>(node: Node<'a>) -> Option<&'a Value> {
    let reference = node.value.get("$ref").and_then(Value::as_str);
    let target = reference.and_then(|at| node.root.pointer(at.strip_prefix('#')?));
    match target {
        Some(value) => items_of(Node { value, ..node }),
        None => node.value.get("items").filter(|items| !items.is_array()),
    }
}

/// Returns the shape of what came before `step`.
fn previous_of(step: &Step, before: &BTreeMap<String, Value>, first: Value) -> Value {
    let output = |name: &StepName| before.get(name.as_str()).cloned().unwrap_or(Value::Bool(true));
    match step.after.as_slice() {
        [] => first,
        [one] => output(one),
        several => {
            let shapes: Map<String, Value> =
                several.iter().map(|name| (name.to_string(), output(name))).collect();
            json!({
                "type": "object", "properties": shapes, "required": several,
                "additionalProperties": false,
            })
        }
    }
}

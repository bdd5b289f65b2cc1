//! What answers look like, as far as definitions say.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value, json};

use crate::flow::plan::{Ask, Does, Flow, Join, OnFailure, Step, Target};
use crate::schema::MAX_SCHEMA_BYTES;
use crate::schema::fit::embedded;
use crate::spec::{AgentName, AgentSpec, OutputMode};

/// The schemas of the answers of all definitions; `true` where nothing is known.
pub(super) struct Shapes<'s> {
    specs: &'s BTreeMap<&'s AgentName, &'s AgentSpec>,
    /// Those that are known; nothing yet of one that is being worked out.
    known: RefCell<BTreeMap<&'s AgentName, Option<Rc<Value>>>>,
}

/// The definitions that the shapes in one flow refer to, by name, and their schemas.
#[derive(Default)]
pub(super) struct Defs(Map<String, Value>);

impl<'s> Shapes<'s> {
    pub(super) fn new(specs: &'s BTreeMap<&'s AgentName, &'s AgentSpec>) -> Self {
        Self { specs, known: RefCell::default() }
    }

    /// Returns the definition of `name`, if there is one.
    pub(super) fn spec(&self, name: &AgentName) -> Option<&'s AgentSpec> {
        self.specs.get(name).copied()
    }

    /// Returns the schema of what `name` answers.
    pub(super) fn answer(&self, name: &AgentName) -> Rc<Value> {
        let any = || Rc::new(Value::Bool(true));
        let Some((name, spec)) = self.specs.get_key_value(name) else { return any() };
        match self.known.borrow().get(name) {
            Some(Some(known)) => return Rc::clone(known),
            // It asks itself, which is told elsewhere.
            Some(None) => return any(),
            None => {}
        }
        self.known.borrow_mut().insert(name, None);
        let mut answer = Rc::new(self.of(spec));
        if answer.to_string().len() > MAX_SCHEMA_BYTES {
            answer = any();
        }
        self.known.borrow_mut().insert(name, Some(Rc::clone(&answer)));
        answer
    }

    fn of(&self, spec: &AgentSpec) -> Value {
        match (&spec.output, &spec.flow) {
            (Some(output), _) => match (&output.schema, output.mode) {
                (Some(schema), _) => schema.raw().clone(),
                (None, OutputMode::Text) => json!({ "type": "string" }),
                (None, _) => true.into(),
            },
            (None, Some(flow)) => {
                let mut defs = Defs::default();
                let mut shapes = vec![self.of_flow(flow, &mut defs)];
                shapes.extend(self.of_others(&flow.on_failure, &mut defs));
                defs.whole(any(shapes))
            }
            // What an agent that is defined in Python answers is said there.
            (None, None) if spec.runner.module.is_some() => true.into(),
            (None, None) => json!({ "type": "string" }),
        }
    }

    /// Returns the shape of what the last step of `flow` gives.
    pub(super) fn of_flow(&self, flow: &Flow, defs: &mut Defs) -> Value {
        flow.steps.last().map_or_else(null, |step| self.of_step(step, defs))
    }

    /// Returns the shape of the output of `step`.
    pub(super) fn of_step(&self, step: &Step, defs: &mut Defs) -> Value {
        let mut shape = self.of_does(&step.does, defs);
        if step.over.is_some() {
            shape = json!({ "type": "array", "items": shape });
        }
        let mut shapes = vec![shape];
        shapes.extend(self.of_others(&step.on_failure, defs));
        if step.when.is_some() {
            shapes.push(null());
        }
        any(shapes)
    }

    /// Returns the shape of what `does` gives once.
    pub(super) fn of_does(&self, does: &Does, defs: &mut Defs) -> Value {
        match does {
            Does::Ask(ask) => self.of_ask(ask, defs),
            Does::Route(route) => any(route.to.iter().map(|ask| self.of_ask(ask, defs)).collect()),
            Does::Choose(arms) => {
                let mut shapes: Vec<Value> =
                    arms.iter().map(|arm| self.of_does(&arm.does, defs)).collect();
                if arms.last().is_none_or(|arm| arm.when.is_some()) {
                    shapes.push(null());
                }
                any(shapes)
            }
            Does::Parallel { branches, join } => self.of_branches(branches, *join, defs),
            Does::Steps(steps) => steps.last().map_or_else(null, |step| self.of_step(step, defs)),
            Does::Code(_) => true.into(),
            // It never gives anything.
            Does::Fail(_) => false.into(),
        }
    }

    fn of_branches(&self, branches: &[Step], join: Join, defs: &mut Defs) -> Value {
        let shapes = branches.iter().map(|step| (step.name.to_string(), self.of_step(step, defs)));
        let shapes: Map<String, Value> = shapes.collect();
        let names: Vec<String> = shapes.keys().cloned().collect();
        let object = |required: Vec<String>| {
            json!({
                "type": "object", "properties": shapes, "required": required,
                "additionalProperties": false,
            })
        };
        match join {
            Join::First => any(shapes.into_values().collect()),
            Join::All => object(names),
            Join::Quorum(_) => object(Vec::new()),
        }
    }

    pub(super) fn of_ask(&self, ask: &Ask, defs: &mut Defs) -> Value {
        let mut shapes = vec![self.of_target(&ask.target, defs)];
        shapes.extend(self.of_others(&ask.edge.on_failure, defs));
        any(shapes)
    }

    fn of_others(&self, on_failure: &OnFailure, defs: &mut Defs) -> Vec<Value> {
        match on_failure {
            OnFailure::Fail => Vec::new(),
            OnFailure::Skip => vec![null()],
            OnFailure::Ask(others) => {
                others.iter().map(|target| self.of_target(target, defs)).collect()
            }
        }
    }

    fn of_target(&self, target: &Target, defs: &mut Defs) -> Value {
        match target {
            // What a person answers is said nowhere.
            Target::Human => true.into(),
            Target::Agent(name) => defs.refer(name.as_str(), &self.answer(name)),
            Target::Balanced { of, .. } => {
                any(of.iter().map(|name| defs.refer(name.as_str(), &self.answer(name))).collect())
            }
        }
    }
}

impl Defs {
    /// Returns a reference to `schema`, which is known as `name`.
    pub(super) fn refer(&mut self, name: &str, schema: &Value) -> Value {
        if let Value::Bool(_) = schema {
            return schema.clone();
        }
        let pointer = format!("/$defs/{name}");
        if !self.0.contains_key(name) {
            self.0.insert(name.to_owned(), embedded(schema, &pointer));
        }
        json!({ "$ref": format!("#{pointer}") })
    }

    /// Returns `shape` with all that it refers to.
    pub(super) fn whole(self, shape: Value) -> Value {
        match shape {
            Value::Object(mut members) if !self.0.is_empty() => {
                members.insert("$defs".to_owned(), self.0.into());
                members.into()
            }
            other @ (Value::Object(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)) => other,
        }
    }
}

pub(super) fn null() -> Value {
    json!({ "type": "null" })
}

/// Returns the shape of what has one of these.
pub(super) fn any(shapes: Vec<Value>) -> Value {
    let mut distinct: Vec<Value> = Vec::new();
    for shape in shapes {
        if shape == Value::Bool(true) {
            return shape;
        }
        if shape != Value::Bool(false) && !distinct.contains(&shape) {
            distinct.push(shape);
        }
    }
    match distinct.len() {
        0 => false.into(),
        1 => distinct.remove(0),
        _ => json!({ "anyOf": distinct }),
    }
}

//! Whether any value fits a schema: a type that has none can never be answered.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::survey::{Survey, child};

/// A part that every value of a schema needs and that no value fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Barren {
    pub(super) pointer: String,
    /// It is needed inside itself, so that a value would never end.
    pub(super) endless: bool,
}

/// Returns such a part of `root`, a schema that is known to be one. What is not understood is taken
/// to fit something.
pub(super) fn barren(root: &Value) -> Option<Barren> {
    let targets: BTreeSet<String> = Survey::references(root)
        .into_iter()
        .filter_map(|(_, reference)| target(&reference).map(str::to_owned))
        .collect();
    let mut fits = Fits { root, known: BTreeSet::new() };
    loop {
        let more = targets.iter().filter(|target| !fits.known.contains(*target));
        let more: Vec<String> = more.filter(|target| fits.at(target)).cloned().collect();
        if more.is_empty() {
            return (!fits.schema(root)).then(|| fits.blame(root));
        }
        fits.known.extend(more);
    }
}

/// Returns the pointer that `reference` is; an anchor is none.
fn target(reference: &str) -> Option<&str> {
    reference.strip_prefix('#').filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

struct Fits<'a> {
    root: &'a Value,
    /// The targets of references that some value fits, as far as is known.
    known: BTreeSet<String>,
}

impl Fits<'_> {
    fn at(&self, pointer: &str) -> bool {
        self.root.pointer(pointer).is_none_or(|schema| self.schema(schema))
    }

    fn schema(&self, schema: &Value) -> bool {
        match schema {
            Value::Bool(all) => *all,
            Value::Object(members) => {
                !is_empty(members)
                    && self.reference(members)
                    && needed(members).iter().all(|(_, part)| self.schema(part))
                    && ["anyOf", "oneOf"].iter().all(|keyword| self.any(members, keyword))
            }
            Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => true,
        }
    }

    fn reference(&self, members: &Map<String, Value>) -> bool {
        let reference = members.get("$ref").and_then(Value::as_str).and_then(target);
        reference.is_none_or(|pointer| self.known.contains(pointer))
    }

    fn any(&self, members: &Map<String, Value>, keyword: &str) -> bool {
        let choices = members.get(keyword).and_then(Value::as_array);
        choices.is_none_or(|choices| choices.iter().any(|choice| self.schema(choice)))
    }

    /// Follows what is needed and does not fit down to where that begins.
    fn blame(&self, root: &Value) -> Barren {
        let (mut pointer, mut schema) = (String::new(), root);
        let mut seen = BTreeSet::new();
        loop {
            if !seen.insert(pointer.clone()) {
                return Barren { pointer, endless: true };
            }
            let Some((next, below)) = self.cause(&pointer, schema) else {
                return Barren { pointer, endless: false };
            };
            (pointer, schema) = (next, below);
        }
    }

    fn cause<'s>(&'s self, pointer: &str, schema: &'s Value) -> Option<(String, &'s Value)> {
        let members = schema.as_object().filter(|members| !is_empty(members))?;
        if !self.reference(members) {
            let target = members.get("$ref").and_then(Value::as_str).and_then(target)?;
            return Some((target.to_owned(), self.root.pointer(target)?));
        }
        let choices = ["anyOf", "oneOf"].into_iter().filter(|keyword| !self.any(members, keyword));
        let choices = choices.filter_map(|keyword| {
            Some((vec![keyword.to_owned(), "0".to_owned()], members.get(keyword)?.get(0)?))
        });
        let mut needed = needed(members).into_iter().chain(choices);
        let (path, part) = needed.find(|(_, part)| !self.schema(part))?;
        Some((path.iter().fold(pointer.to_owned(), |at, key| child(&at, key)), part))
    }
}

/// Says of itself that nothing fits.
fn is_empty(members: &Map<String, Value>) -> bool {
    let none = |keyword| members.get(keyword).and_then(Value::as_array).is_some_and(Vec::is_empty);
    let excluded = members.get("not");
    let all = excluded
        .is_some_and(|not| *not == Value::Bool(true) || not.as_object().is_some_and(Map::is_empty));
    all || none("enum")
}

/// Returns the parts of which each needs a value, by their path.
fn needed(members: &Map<String, Value>) -> Vec<(Vec<String>, &Value)> {
    let all = members.get("allOf").and_then(Value::as_array).into_iter().flatten().enumerate();
    let all = all.map(|(n, part)| (vec!["allOf".to_owned(), n.to_string()], part));
    let parts: Vec<(Vec<String>, &Value)> = match members.get("type").and_then(Value::as_str) {
        Some("object") => {
            let required = members.get("required").and_then(Value::as_array).into_iter().flatten();
            let part = |name: &str| members.get("properties")?.get(name);
            required
                .filter_map(Value::as_str)
                .filter_map(|name| Some((vec!["properties".into(), name.into()], part(name)?)))
                .collect()
        }
        Some("array") => items(members),
        Some(_) | None => Vec::new(),
    };
    parts.into_iter().chain(all).collect()
}

fn items(members: &Map<String, Value>) -> Vec<(Vec<String>, &Value)> {
    let least = members.get("minItems").and_then(Value::as_u64).unwrap_or(0);
    let least = usize::try_from(least).unwrap_or(usize::MAX);
    let prefix =
        members.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let first = prefix.iter().take(least).enumerate();
    let first = first.map(|(n, part)| (vec!["prefixItems".to_owned(), n.to_string()], part));
    let rest = members.get("items").filter(|_| least > prefix.len());
    first.chain(rest.map(|part| (vec!["items".to_owned()], part))).collect()
}

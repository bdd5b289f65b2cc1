//! Whether values of one schema can fit another one.
//!
//! Only what can never fit is told. Whatever is not understood, and whatever may fit by chance,
//! counts as fitting.

mod kind;
mod member;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

pub(crate) use self::kind::{Kinds, kinds};
pub(crate) use self::member::{Member, member, telling, texts};
use super::Schema;
use super::survey::{Survey, child};
use crate::json::excerpt;

/// How many pairs of subschemas are compared before the rest counts as fitting.
const MAX_PAIRS: u32 = 20_000;

/// How deep subschemas are compared before the rest counts as fitting.
const MAX_DEPTH: u32 = 48;

/// Why no value of one schema fits another one, except perhaps an empty list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mismatch {
    /// Where in the value, as a JSON pointer; `*` stands for any item of a list.
    pub pointer: String,
    /// What is wrong with the value there: the rest of a sentence about it.
    pub message: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pointer.as_str() {
            "" => write!(f, "it {}", self.message),
            pointer => write!(f, "`{pointer}` {}", self.message),
        }
    }
}

/// Checks that a value of the schema `from` can fit the schema `to`.
///
/// # Errors
///
/// [`Mismatch`] if none ever can: they are of different types, something that `to` requires cannot
/// be there, something that is always there is not allowed, or the values that are listed differ.
///
/// ```
/// # use axon_kernel::schema::{Schema, fits};
/// # use serde_json::json;
/// let text = Schema::new(json!({ "type": "string" }))?;
/// let list = Schema::new(json!({ "type": "array" }))?;
/// assert_eq!(fits(&text, &list).unwrap_err().to_string(), "it is text, and a list is expected");
/// # Ok::<(), axon_kernel::schema::SchemaError>(())
/// ```
pub fn fits(from: &Schema, to: &Schema) -> Result<(), Mismatch> {
    fits_raw(Node::root(from.raw()), Node::root(to.raw()))
}

/// A part of a schema, and the whole that its references point into.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    pub(crate) root: &'a Value,
    pub(crate) value: &'a Value,
}

impl<'a> Node<'a> {
    pub(crate) fn root(root: &'a Value) -> Self {
        Self { root, value: root }
    }

    fn at(self, value: &'a Value) -> Self {
        Self { value, ..self }
    }

    /// Returns the parts, all of which a value fits, without itself: what a reference points to,
    /// and what is in `allOf`.
    fn parts(self) -> Vec<Self> {
        let reference = self.value.get("$ref").and_then(Value::as_str);
        let target = reference.and_then(|reference| reference.strip_prefix('#'));
        let target = target.and_then(|pointer| self.root.pointer(pointer));
        let all = self.value.get("allOf").and_then(Value::as_array).into_iter().flatten();
        target.into_iter().chain(all).map(|value| self.at(value)).collect()
    }

    /// Returns the parts, at least one of which a value fits, for each list of such.
    fn choices(self) -> Vec<Vec<Self>> {
        let lists =
            ["anyOf", "oneOf"].into_iter().filter_map(|key| self.value.get(key)?.as_array());
        lists.map(|list| list.iter().map(|value| self.at(value)).collect()).collect()
    }

    fn address(self) -> usize {
        std::ptr::from_ref(self.value).addr()
    }
}

/// Checks the same of parts of schemas.
pub(crate) fn fits_raw(from: Node<'_>, to: Node<'_>) -> Result<(), Mismatch> {
    Fit { known: BTreeMap::new(), left: MAX_PAIRS }.check(from, to, 0)
}

/// Returns `schema` with its references as they have to be once it stands at `pointer` of another
/// one.
pub(crate) fn embedded(schema: &Value, pointer: &str) -> Value {
    let mut moved = schema.clone();
    for (at, reference) in Survey::references(schema) {
        let fragment = reference.strip_prefix('#');
        let fragment = fragment.filter(|rest| rest.is_empty() || rest.starts_with('/'));
        if let (Some(fragment), Some(there)) = (fragment, moved.pointer_mut(&at)) {
            *there = format!("#{pointer}{fragment}").into();
        }
    }
    moved
}

struct Fit {
    /// What is known of pairs, by where they are; nothing yet of those that are being compared.
    known: BTreeMap<(usize, usize), Option<Mismatch>>,
    left: u32,
}

impl Fit {
    fn check(&mut self, from: Node<'_>, to: Node<'_>, depth: u32) -> Result<(), Mismatch> {
        let pair = (from.address(), to.address());
        match self.known.get(&pair) {
            Some(Some(mismatch)) => return Err(mismatch.clone()),
            Some(None) => return Ok(()),
            None if self.left == 0 || depth > MAX_DEPTH => return Ok(()),
            None => self.left -= 1,
        }
        self.known.insert(pair, None);
        let checked = self.compare(from, to, depth + 1);
        self.known.insert(pair, checked.as_ref().err().cloned());
        checked
    }

    fn compare(&mut self, from: Node<'_>, to: Node<'_>, depth: u32) -> Result<(), Mismatch> {
        match (from.value, to.value) {
            (Value::Bool(false), _) => return Ok(()),
            (_, Value::Bool(false)) => return Err(mismatch("can be nothing")),
            (_, _) => {}
        }
        // A value fits all parts of its own schema, and has to fit all parts of the other one.
        for part in from.parts() {
            self.check(part, to, depth)?;
        }
        for part in to.parts() {
            self.check(from, part, depth)?;
        }
        for choices in from.choices() {
            self.any(choices.into_iter().map(|choice| (choice, to)), depth)?;
        }
        for choices in to.choices() {
            self.any(choices.into_iter().map(|choice| (from, choice)), depth)?;
        }
        let (Some(own), Some(other)) = (from.value.as_object(), to.value.as_object()) else {
            return Ok(());
        };
        let (gives, takes) = (Kinds::own(own), Kinds::own(other));
        let both = gives.and(takes);
        if both.is_empty() {
            return Err(mismatch(format!("is {gives}, and {takes} is expected")));
        }
        listed(own, other)?;
        if both.is_only_objects() {
            self.objects((from, own), (to, other), depth)?;
        }
        if both.is_only_lists() {
            self.lists((from, own), (to, other), depth)?;
        }
        Ok(())
    }

    /// Checks that at least one of some pairs fits.
    fn any<'a>(
        &mut self,
        pairs: impl Iterator<Item = (Node<'a>, Node<'a>)>,
        depth: u32,
    ) -> Result<(), Mismatch> {
        let mut first = None;
        for (from, to) in pairs {
            match self.check(from, to, depth) {
                Ok(()) => return Ok(()),
                Err(mismatch) => first = first.or(Some(mismatch)),
            }
        }
        first.map_or(Ok(()), Err)
    }

    fn objects(
        &mut self,
        (from, own): (Node<'_>, &Map<String, Value>),
        (to, other): (Node<'_>, &Map<String, Value>),
        depth: u32,
    ) -> Result<(), Mismatch> {
        for name in required(other) {
            let given = property(own, name);
            if given == Some(&Value::Bool(false)) {
                return Err(mismatch(format!("has no `{name}`, which is required")));
            }
            self.property((from, given), (to, property(other, name)), (name, depth))?;
        }
        for name in required(own) {
            let taken = property(other, name);
            if taken == Some(&Value::Bool(false)) {
                return Err(mismatch(format!("has `{name}`, which is not allowed")));
            }
            self.property((from, property(own, name)), (to, taken), (name, depth))?;
        }
        Ok(())
    }

    fn property(
        &mut self,
        (from, given): (Node<'_>, Option<&Value>),
        (to, taken): (Node<'_>, Option<&Value>),
        (name, depth): (&str, u32),
    ) -> Result<(), Mismatch> {
        let (Some(given), Some(taken)) = (given, taken) else { return Ok(()) };
        let (from, to) = (Node { value: given, ..from }, Node { value: taken, ..to });
        self.check(from, to, depth).map_err(|mismatch| below(&child("", name), mismatch))
    }

    fn lists(
        &mut self,
        (from, own): (Node<'_>, &Map<String, Value>),
        (to, other): (Node<'_>, &Map<String, Value>),
        depth: u32,
    ) -> Result<(), Mismatch> {
        let count = |members: &Map<String, Value>, key| members.get(key).and_then(Value::as_u64);
        let least = count(own, "minItems").unwrap_or(0);
        if count(other, "maxItems").is_some_and(|most| least > most) {
            return Err(mismatch(format!("has at least {least} items, which are too many")));
        }
        if let (Some(most), Some(needed)) = (count(own, "maxItems"), count(other, "minItems"))
            && most < needed
        {
            return Err(mismatch(format!("has at most {most} items, which are too few")));
        }
        let firsts = own.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
        let firsts = firsts.min(usize::try_from(least).unwrap_or(usize::MAX));
        let rest = usize::MAX;
        for (index, shown) in (0..firsts).map(|index| (index, index.to_string())).chain([
            // What holds of all others.
            (rest, "*".to_owned()),
        ]) {
            let (Some(given), Some(taken)) = (item(own, index), item(other, index)) else {
                continue;
            };
            if *given == Value::Bool(false) || index == rest && *taken == Value::Bool(false) {
                continue;
            }
            let (from, to) = (Node { value: given, ..from }, Node { value: taken, ..to });
            let checked = self.check(from, to, depth);
            checked.map_err(|mismatch| below(&format!("/{shown}"), mismatch))?;
        }
        Ok(())
    }
}

/// Compares the values that are listed, where they are.
fn listed(own: &Map<String, Value>, other: &Map<String, Value>) -> Result<(), Mismatch> {
    let (given, taken) = (values(own), values(other));
    let fits = |value: &&Value| {
        let same = |other: &&Value| equal(value, other);
        let listed = taken.as_ref().is_none_or(|taken| taken.iter().any(same));
        listed && !Kinds::own(other).and(Kinds::of(value)).is_empty()
    };
    let Some(given) = given else { return Ok(()) };
    if given.iter().any(fits) {
        return Ok(());
    }
    let shown = |values: &[&Value]| {
        let all: Vec<String> = values.iter().map(|value| excerpt(&value.to_string(), 40)).collect();
        excerpt(&all.join(", "), 120)
    };
    Err(mismatch(match taken {
        Some(taken) => {
            format!("can only be {}, and {} is expected", shown(&given), shown(&taken))
        }
        None => format!("can only be {}, and {} is expected", shown(&given), Kinds::own(other)),
    }))
}

/// Returns whether two values are one in a schema, where `1` is `1.0`.
fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| equal(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let same = |(name, value)| other.get(name).is_some_and(|other| equal(value, other));
            one.len() == other.len() && one.iter().all(same)
        }
        (_, _) => one == other,
    }
}

/// Returns the values that a schema lists, if it does.
fn values(members: &Map<String, Value>) -> Option<Vec<&Value>> {
    let listed = members.get("enum").and_then(Value::as_array);
    let one = members.get("const");
    one.map(|value| vec![value]).or(listed.map(|values| values.iter().collect()))
}

fn required(members: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let names = members.get("required").and_then(Value::as_array).into_iter().flatten();
    names.filter_map(Value::as_str)
}

/// Returns what is said about the property `name`, if anything is.
fn property<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let named = members.get("properties").and_then(|properties| properties.get(name));
    // Whether a pattern speaks of it is not looked into.
    let other = || {
        let patterns = members.get("patternProperties").is_some();
        members.get("additionalProperties").filter(|_| !patterns)
    };
    named.or_else(other)
}

/// Returns what is said about the item `index` of a list, if anything is.
fn item(members: &Map<String, Value>, index: usize) -> Option<&Value> {
    let first = members.get("prefixItems").and_then(|items| items.get(index));
    // Before Draft 2020-12, "items" could be a list.
    first.or_else(|| members.get("items").filter(|items| !items.is_array()))
}

fn mismatch(message: impl Into<String>) -> Mismatch {
    Mismatch { pointer: String::new(), message: message.into() }
}

fn below(at: &str, mismatch: Mismatch) -> Mismatch {
    Mismatch { pointer: format!("{at}{}", mismatch.pointer), ..mismatch }
}

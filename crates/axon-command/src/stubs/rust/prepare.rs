//! A schema in the words that the generator knows, which are those of an older draft.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::survey::{Holds, LISTED, NAMED, SINGLE, escaped, holds};

/// Stands before the place of a schema in its description, and behind it: the description is what
/// the generator hands on. No text of a schema has it, since none needs it.
pub(super) const MARK: char = '\u{1}';

/// A schema for the generator, and what its parts were, by their places.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) schema: Value,
    pub(super) originals: BTreeMap<String, Value>,
}

/// Prepares `schema`, whose type is to be called `title`.
pub(super) fn prepare(schema: &Value, title: &str) -> Prepared {
    let mut originals = BTreeMap::new();
    let mut prepared = at(schema, "#", &mut originals);
    if let Value::Object(root) = &mut prepared {
        if let Some(Value::Object(definitions)) = root.remove("$defs") {
            let known = root.entry("definitions").or_insert_with(|| json!({}));
            if let Value::Object(known) = known {
                known.extend(definitions);
            }
        }
        // A schema that only refers is what it refers to.
        if !root.contains_key("$ref") {
            root.insert("title".to_owned(), title.into());
        }
    }
    Prepared { schema: prepared, originals }
}

fn at(schema: &Value, pointer: &str, originals: &mut BTreeMap<String, Value>) -> Value {
    let Value::Object(schema) = schema else { return schema.clone() };
    originals.insert(pointer.to_owned(), Value::Object(schema.clone()));
    let mut prepared = Map::new();
    for (key, value) in schema {
        let place = format!("{pointer}/{key}");
        let value = child(key, value, &place, originals);
        prepared.insert(key.clone(), value);
    }
    spell(&mut prepared);
    if prepared.contains_key("$ref") {
        return Value::Object(prepared);
    }
    if prepared.contains_key("properties") && pointer.matches('/').count() > 2 {
        // Where the generator knows no name for a struct, it gives up.
        prepared.insert("title".to_owned(), name_of(pointer, originals).into());
    }
    let description = prepared.get("description").and_then(Value::as_str).unwrap_or_default();
    let description = format!("{MARK}{pointer}{MARK}{}", description.replace(MARK, ""));
    prepared.insert("description".to_owned(), description.into());
    Value::Object(prepared)
}

/// Returns a name for what stands at `pointer`, which no other place has.
fn name_of(pointer: &str, originals: &BTreeMap<String, Value>) -> String {
    let own = |pointer: &str| {
        let words = pointer.split('/').skip(1).filter(|word| !is_structure(word));
        words.map(type_name).collect::<String>()
    };
    let name = own(pointer);
    // What was met before has the name.
    let before = originals.keys().filter(|other| own(other) == name).count();
    if before > 1 { format!("{name}{before}") } else { name }
}

fn is_structure(word: &str) -> bool {
    let known = NAMED.contains(&word) || LISTED.contains(&word) || SINGLE.contains(&word);
    known || word.parse::<usize>().is_ok()
}

/// Returns the name of a type that is made of `text`.
pub(super) fn type_name(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let capital = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(char::to_uppercase);
        first.into_iter().flatten().chain(letters).collect::<String>()
    };
    words.map(capital).collect()
}

fn child(key: &str, value: &Value, place: &str, originals: &mut BTreeMap<String, Value>) -> Value {
    match (holds(key, value), value) {
        (Holds::Named, Value::Object(members)) => members
            .iter()
            .map(|(name, child)| {
                let place = format!("{place}/{}", escaped(name));
                (name.clone(), at(child, &place, originals))
            })
            .collect::<Map<_, _>>()
            .into(),
        (Holds::Listed, Value::Array(items)) => items
            .iter()
            .enumerate()
            .map(|(number, child)| at(child, &format!("{place}/{number}"), originals))
            .collect(),
        (Holds::One, schema) => at(schema, place, originals),
        (Holds::Named | Holds::Listed | Holds::Data, _) => value.clone(),
    }
}

/// Says what is new in the draft that we read in the words of the older one.
fn spell(schema: &mut Map<String, Value>) {
    // Two that have the same title would become one type. Texts with a format stay texts: the types
    // of dates and the like are the user's choice.
    for key in ["title", "format", "$schema", "$id", "$comment", "examples", "discriminator"] {
        schema.remove(key);
    }
    if let Some(value) = schema.remove("const") {
        schema.insert("enum".to_owned(), json!([value]));
    }
    // One enum, whose first variant that fits is taken: the generator would make a struct of `anyOf`.
    if let Some(choices) = schema.remove("anyOf") {
        schema.insert("oneOf".to_owned(), choices);
    }
    if let Some(places) = schema.remove("prefixItems") {
        let count = places.as_array().map_or(0, Vec::len);
        schema.insert("items".to_owned(), places);
        schema.insert("minItems".to_owned(), count.into());
        schema.insert("maxItems".to_owned(), count.into());
    }
    if let Some(Value::String(reference)) = schema.get_mut("$ref") {
        *reference = reference.replacen("#/$defs/", "#/definitions/", 1);
    }
}

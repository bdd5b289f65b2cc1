//! Keys that mean nothing, found by walking the file along its own JSON Schema.

use std::ops::Range;

use serde_json::Value;
use toml::Spanned;
use toml::de::DeValue;

use super::error::What;
use super::source::child;

/// A key that means nothing where it stands.
pub(super) struct Unknown {
    pub(super) pointer: String,
    /// The place of the key itself.
    pub(super) key: Range<usize>,
    pub(super) what: What,
}

/// Returns every key of `tree` that `schema` does not have.
pub(super) fn unknown_keys(tree: &Spanned<DeValue<'_>>, schema: &Value) -> Vec<Unknown> {
    let mut walk = Walk { schema, found: Vec::new() };
    walk.value(tree.get_ref(), schema, "");
    walk.found
}

struct Walk<'s> {
    schema: &'s Value,
    found: Vec<Unknown>,
}

impl<'s> Walk<'s> {
    fn value(&mut self, value: &DeValue<'_>, schema: &'s Value, pointer: &str) {
        let options = self.options(schema);
        match value {
            DeValue::Table(table) => {
                let Some(option) = options.iter().find(|option| is_table(option)) else { return };
                let properties = &option["properties"];
                for (key, item) in table.iter() {
                    let below = child(pointer, key.get_ref());
                    let known = properties.get(key.get_ref().as_ref()).or(any_key(option));
                    if let Some(schema) = known {
                        self.value(item.get_ref(), schema, &below);
                    } else if option["additionalProperties"] == false {
                        let what = unknown(key.get_ref(), properties);
                        self.found.push(Unknown {
                            pointer: pointer.to_owned(),
                            key: key.span(),
                            what,
                        });
                    }
                }
            }
            DeValue::Array(items) => {
                let Some(schema) = options.iter().find_map(|option| option.get("items")) else {
                    return;
                };
                for (index, item) in items.iter().enumerate() {
                    self.value(item.get_ref(), schema, &format!("{pointer}/{index}"));
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }

    /// Returns the schemas, any one of which a value may fit, with references followed.
    fn options(&self, schema: &'s Value) -> Vec<&'s Value> {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let target = reference.strip_prefix('#').and_then(|at| self.schema.pointer(at));
            return target.map(|target| self.options(target)).unwrap_or_default();
        }
        match schema.get("anyOf").and_then(Value::as_array) {
            Some(options) => options.iter().flat_map(|option| self.options(option)).collect(),
            None => vec![schema],
        }
    }
}

/// Returns whether `schema` says anything about the members of a table.
fn is_table(schema: &Value) -> bool {
    schema.get("properties").is_some() || any_key(schema).is_some()
}

/// Returns the schema of whatever stands under a key that users choose.
fn any_key(schema: &Value) -> Option<&Value> {
    let patterns = schema.get("patternProperties").and_then(Value::as_object);
    let of_pattern = patterns.and_then(|patterns| patterns.values().next());
    of_pattern.or(schema.get("additionalProperties").filter(|schema| schema.is_object()))
}

fn unknown(key: &str, properties: &Value) -> What {
    let valid: Vec<String> =
        properties.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    let nearest = nearest(key, valid.iter().map(String::as_str)).map(str::to_owned);
    What::UnknownKey { key: crate::json::excerpt(key, 80), nearest, valid }
}

/// Returns the one of `valid` that looks most like `given`, if any does.
pub(crate) fn nearest<'v>(given: &str, valid: impl Iterator<Item = &'v str>) -> Option<&'v str> {
    valid
        .map(|name| (likeness(given, name), name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

fn likeness(key: &str, name: &str) -> f64 {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    strsim::jaro_winkler(&plain(key), &plain(name))
}

//! What is known of a schema before it is compiled: where its references lead, and how much of it
//! applies to one value.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{MAX_CHAIN, MAX_UNFOLDED, SchemaError, shown};
use crate::json::excerpt;

/// How a keyword holds subschemas, and whether those apply to the same value or to a part of it.
enum Holds {
    One { same_value: bool },
    List { same_value: bool },
    Named { same_value: bool },
    Nothing,
}

fn holds(keyword: &str) -> Holds {
    match keyword {
        "not" | "if" | "then" | "else" => Holds::One { same_value: true },
        "items"
        | "additionalItems"
        | "unevaluatedItems"
        | "contains"
        | "additionalProperties"
        | "unevaluatedProperties"
        | "propertyNames"
        | "contentSchema" => Holds::One { same_value: false },
        "allOf" | "anyOf" | "oneOf" => Holds::List { same_value: true },
        "prefixItems" => Holds::List { same_value: false },
        "dependentSchemas" | "dependencies" => Holds::Named { same_value: true },
        "properties" | "patternProperties" | "$defs" | "definitions" => {
            Holds::Named { same_value: false }
        }
        _ => Holds::Nothing,
    }
}

/// What is known of each subschema, by its pointer, before anything is compiled.
pub(super) struct Survey<'a> {
    root: &'a Value,
    anchors: BTreeMap<&'a str, String>,
    /// The subschemas that apply to the same value as the one at the key.
    same_value: BTreeMap<String, Vec<String>>,
    /// References that are still to be followed, by the subschema that has them.
    references: Vec<(String, &'a str)>,
    /// All references, by where they are written.
    written: Vec<(String, String)>,
}

impl<'a> Survey<'a> {
    /// Refuses what must not reach the compiler.
    pub(super) fn of(root: &'a Value) -> Result<(), SchemaError> {
        let survey = Self::linked(root)?;
        let mut seen = BTreeMap::new();
        let pointers: Vec<String> = survey.same_value.keys().cloned().collect();
        pointers.iter().try_for_each(|pointer| survey.unfold(pointer, 1, &mut seen).map(drop))
    }

    /// Returns every reference of a schema that is known to be one, by where it is written.
    pub(super) fn references(root: &'a Value) -> Vec<(String, String)> {
        Self::linked(root).map(|survey| survey.written).unwrap_or_default()
    }

    /// Calls `see` for every subschema, with its pointer.
    pub(super) fn each(root: &'a Value, mut see: impl FnMut(&str, &'a Value)) {
        let Ok(survey) = Self::linked(root) else { return };
        for pointer in survey.same_value.keys() {
            if let Some(schema) = root.pointer(pointer) {
                see(pointer, schema);
            }
        }
    }

    fn linked(root: &'a Value) -> Result<Self, SchemaError> {
        let mut survey = Self {
            root,
            anchors: BTreeMap::new(),
            same_value: BTreeMap::new(),
            references: Vec::new(),
            written: Vec::new(),
        };
        survey.visit(root, String::new())?;
        survey.link()?;
        Ok(survey)
    }

    fn visit(&mut self, schema: &'a Value, pointer: String) -> Result<(), SchemaError> {
        let Value::Object(members) = schema else {
            self.same_value.insert(pointer, Vec::new());
            return Ok(());
        };
        if !pointer.is_empty() && members.get("$id").is_some_and(Value::is_string) {
            return Err(SchemaError::NestedId { pointer });
        }
        self.note(members, &pointer);
        let mut same = Vec::new();
        for (keyword, value) in members {
            let below = child(&pointer, keyword);
            let (same_value, parts) = subschemas(keyword, value, &below);
            for (at, subschema) in parts {
                self.visit(subschema, at.clone())?;
                if same_value {
                    same.push(at);
                }
            }
        }
        self.same_value.insert(pointer, same);
        Ok(())
    }

    /// Remembers the anchors and references of one subschema.
    fn note(&mut self, members: &'a Map<String, Value>, pointer: &str) {
        for keyword in ["$anchor", "$dynamicAnchor"] {
            if let Some(Value::String(anchor)) = members.get(keyword) {
                self.anchors.insert(anchor, pointer.to_owned());
            }
        }
        for keyword in ["$ref", "$dynamicRef", "$recursiveRef"] {
            if let Some(Value::String(reference)) = members.get(keyword) {
                self.references.push((pointer.to_owned(), reference));
                self.written.push((child(pointer, keyword), reference.clone()));
            }
        }
    }

    /// Joins each reference to what it points to.
    fn link(&mut self) -> Result<(), SchemaError> {
        while let Some((pointer, reference)) = self.references.pop() {
            let there = shown(&pointer);
            let Some(fragment) = reference.strip_prefix('#') else {
                return Err(SchemaError::RemoteRef {
                    pointer: there,
                    reference: excerpt(reference, 120),
                });
            };
            let target = self.find(fragment).ok_or_else(|| SchemaError::DanglingRef {
                pointer: there,
                reference: excerpt(reference, 120),
            })?;
            // A target outside every keyword that holds schemas has not been seen yet.
            if !self.same_value.contains_key(&target) {
                let schema = self.root.pointer(&target).unwrap_or(&Value::Null);
                self.visit(schema, target.clone())?;
            }
            self.same_value.entry(pointer).or_default().push(target);
        }
        Ok(())
    }

    fn find(&self, fragment: &str) -> Option<String> {
        if fragment.is_empty() || fragment.starts_with('/') {
            let pointer = percent_decoded(fragment)?;
            return self.root.pointer(&pointer).map(|_| pointer);
        }
        self.anchors.get(fragment).cloned()
    }

    /// Measures the subschemas that apply to one value at `pointer`, itself included.
    fn unfold(
        &self,
        pointer: &str,
        depth: u32,
        seen: &mut BTreeMap<String, Option<Unfolded>>,
    ) -> Result<Unfolded, SchemaError> {
        match seen.get(pointer) {
            Some(Some(unfolded)) => return Ok(*unfolded),
            Some(None) => return Err(SchemaError::Circular { pointer: shown(pointer) }),
            None => {}
        }
        seen.insert(pointer.to_owned(), None);
        let mut whole = Unfolded { count: 1, height: 1 };
        for below in self.same_value.get(pointer).into_iter().flatten() {
            if depth == MAX_CHAIN {
                return Err(SchemaError::TooComplex { pointer: shown(pointer) });
            }
            let part = self.unfold(below, depth + 1, seen)?;
            whole.count = whole.count.saturating_add(part.count);
            whole.height = whole.height.max(part.height + 1);
        }
        if whole.count > MAX_UNFOLDED || whole.height > MAX_CHAIN {
            return Err(SchemaError::TooComplex { pointer: shown(pointer) });
        }
        seen.insert(pointer.to_owned(), Some(whole));
        Ok(whole)
    }
}

/// The subschemas that apply to one value.
#[derive(Clone, Copy)]
struct Unfolded {
    count: u64,
    height: u32,
}

/// Returns the subschemas in the value of `keyword`, with their pointers, and whether they apply
/// to the same value as the schema around them.
fn subschemas<'a>(
    keyword: &str,
    value: &'a Value,
    pointer: &str,
) -> (bool, Vec<(String, &'a Value)>) {
    let listed = || -> Vec<(String, &'a Value)> {
        let items = value.as_array().into_iter().flatten().enumerate();
        items.map(|(index, item)| (format!("{pointer}/{index}"), item)).collect()
    };
    let named = || -> Vec<(String, &'a Value)> {
        let members = value.as_object().into_iter().flatten();
        members.map(|(name, item)| (child(pointer, name), item)).collect()
    };
    match holds(keyword) {
        // Before Draft 2020-12, "items" could be a list.
        Holds::One { same_value } if value.is_array() => (same_value, listed()),
        Holds::One { same_value } => (same_value, vec![(pointer.to_owned(), value)]),
        Holds::List { same_value } => (same_value, listed()),
        Holds::Named { same_value } => (same_value, named()),
        Holds::Nothing => (false, Vec::new()),
    }
}

pub(super) fn child(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

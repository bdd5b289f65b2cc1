//! JSON Schemas as Python types. What a type cannot say is left out of it: the type is wider then,
//! and never wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::names::{class_name, is_plain_key, literal, quoted};

/// The type of anything.
pub(super) const ANY: &str = "Any";

/// The names that a module has before any type of its own.
const TAKEN: [&str; 9] =
    ["None", "True", "False", "Any", "Literal", "NotRequired", "TypeAlias", "TypedDict", "Unset"];

/// The types of one module, in the order in which they were met.
#[derive(Debug)]
pub(super) struct Types {
    taken: BTreeSet<String>,
    declared: Vec<String>,
}

impl Types {
    pub(super) fn new() -> Self {
        let taken = TAKEN.iter().map(|name| (*name).to_owned()).collect();
        Self { taken, declared: Vec::new() }
    }

    /// Begins with a schema of its own, whose types are named after `owner` where their names are
    /// taken.
    pub(super) fn of<'a>(&'a mut self, root: &'a Value, owner: &'a str) -> Document<'a> {
        Document { types: self, root, owner, named: BTreeMap::new() }
    }

    /// Returns the declarations.
    pub(super) fn declared(&self) -> &[String] {
        &self.declared
    }

    fn name(&mut self, wanted: &str, owner: &str) -> String {
        let plain = class_name(wanted);
        let owned = format!("{}{plain}", class_name(owner));
        let numbered = (2..).map(|number| format!("{owned}{number}"));
        let mut names = [plain.clone(), owned.clone()].into_iter().chain(numbered);
        let name = names.find(|name| !self.taken.contains(name)).unwrap_or(plain);
        self.taken.insert(name.clone());
        name
    }
}

/// One schema, whose references point into itself.
#[derive(Debug)]
pub(super) struct Document<'a> {
    types: &'a mut Types,
    root: &'a Value,
    owner: &'a str,
    /// The names of what is referred to.
    named: BTreeMap<String, String>,
}

impl Document<'_> {
    /// Returns the type of `schema`; an object in it is declared as `hint`.
    pub(super) fn expression(&mut self, schema: &Value, hint: &str) -> String {
        let Value::Object(schema) = schema else { return ANY.to_owned() };
        let expression = self.of_object(schema, hint);
        match schema.get("nullable") {
            Some(Value::Bool(true)) => union([expression, "None".to_owned()]),
            _ => expression,
        }
    }

    fn of_object(&mut self, schema: &Map<String, Value>, hint: &str) -> String {
        if let Some(Value::String(reference)) = schema.get("$ref") {
            return self.referred(reference);
        }
        if let Some(value) = schema.get("const") {
            return literals(std::slice::from_ref(value));
        }
        if let Some(Value::Array(values)) = schema.get("enum") {
            return literals(values);
        }
        let has_shape =
            ["properties", "items", "prefixItems"].iter().any(|&k| schema.contains_key(k));
        for key in ["oneOf", "anyOf"] {
            if let (Some(Value::Array(choices)), false) = (schema.get(key), has_shape) {
                return self.choice(choices, hint);
            }
        }
        match (schema.get("allOf"), has_shape) {
            (Some(Value::Array(parts)), false) => match parts.as_slice() {
                [only] => self.expression(only, hint),
                _ => ANY.to_owned(),
            },
            (Some(_), true) => wide(schema),
            (_, _) => self.typed(schema, hint),
        }
    }

    fn choice(&mut self, choices: &[Value], hint: &str) -> String {
        let each = choices.iter().enumerate().map(|(at, choice)| {
            let title = choice.get("title").and_then(Value::as_str);
            self.expression(choice, title.unwrap_or(&format!("{hint}{}", at + 1)))
        });
        union(each.collect::<Vec<_>>())
    }

    fn typed(&mut self, schema: &Map<String, Value>, hint: &str) -> String {
        match schema.get("type") {
            Some(Value::String(kind)) => self.of_type(kind, schema, hint),
            Some(Value::Array(kinds)) => {
                let kinds = kinds.iter().filter_map(Value::as_str);
                let each: Vec<String> =
                    kinds.map(|kind| self.of_type(kind, schema, hint)).collect();
                union(each)
            }
            _ if schema.contains_key("properties") => self.of_type("object", schema, hint),
            _ => ANY.to_owned(),
        }
    }

    fn of_type(&mut self, kind: &str, schema: &Map<String, Value>, hint: &str) -> String {
        match kind {
            "object" => self.mapping(schema, hint),
            "array" => self.sequence(schema, hint),
            plain => scalar(plain).to_owned(),
        }
    }

    fn sequence(&mut self, schema: &Map<String, Value>, hint: &str) -> String {
        let item = format!("{hint}Item");
        if let Some(Value::Array(places)) = schema.get("prefixItems") {
            let count = Some(places.len() as u64);
            let bound = |key| schema.get(key).and_then(Value::as_u64) == count;
            let closed = bound("maxItems") || schema.get("items") == Some(&Value::Bool(false));
            if places.is_empty() || !closed || !bound("minItems") {
                return format!("list[{ANY}]");
            }
            let each = places.iter().enumerate();
            let each = each.map(|(at, place)| self.expression(place, &format!("{item}{}", at + 1)));
            return format!("tuple[{}]", each.collect::<Vec<_>>().join(", "));
        }
        let items = schema.get("items").map(|items| self.expression(items, &item));
        format!("list[{}]", items.as_deref().unwrap_or(ANY))
    }

    fn mapping(&mut self, schema: &Map<String, Value>, hint: &str) -> String {
        let extra = schema.get("additionalProperties");
        let patterns = schema.get("patternProperties").is_some();
        let has_extra = patterns || matches!(extra, Some(Value::Object(_) | Value::Bool(true)));
        match schema.get("properties") {
            // A typed dictionary has no keys but its own.
            Some(Value::Object(members)) if !members.is_empty() && !has_extra => {
                let title = schema.get("title").and_then(Value::as_str);
                let name = self.types.name(title.unwrap_or(hint), self.owner);
                self.declare(&name, schema);
                name
            }
            Some(Value::Object(members)) if !members.is_empty() => wide(schema),
            _ => match extra {
                Some(values @ Value::Object(_)) if !patterns => {
                    format!("dict[str, {}]", self.expression(values, &format!("{hint}Value")))
                }
                _ => wide(schema),
            },
        }
    }

    fn referred(&mut self, reference: &str) -> String {
        if let Some(name) = self.named.get(reference) {
            return name.clone();
        }
        let pointer = reference.strip_prefix('#').map(unescaped);
        let target = pointer.as_deref().and_then(|pointer| self.root.pointer(pointer));
        let target = target.cloned().unwrap_or_default();
        let Value::Object(schema) = &target else { return ANY.to_owned() };
        let last = reference.rsplit('/').next().unwrap_or_default();
        let name = self.types.name(if last == "#" { self.owner } else { last }, self.owner);
        self.named.insert(reference.to_owned(), name.clone());
        if is_record(schema) {
            self.declare(&name, schema);
        } else {
            let place = self.types.declared.len();
            self.types.declared.push(String::new());
            let meaning = self.expression(&target, &name);
            let doc = description(schema).map(|doc| format!("\n{}", docstring(doc, "")));
            self.types.declared[place] =
                format!("{name}: TypeAlias = {}{}\n", quoted(&meaning), doc.unwrap_or_default());
        }
        name
    }

    /// Declares a typed dictionary.
    fn declare(&mut self, name: &str, schema: &Map<String, Value>) {
        let place = self.types.declared.len();
        self.types.declared.push(String::new());
        let members = schema.get("properties").and_then(Value::as_object).cloned();
        let members = members.unwrap_or_default();
        let required = required(schema);
        let fields: Vec<(String, String, Option<String>)> = members
            .iter()
            .map(|(key, member)| {
                let hint = format!("{name}{}", class_name(key));
                let kind = self.expression(member, &hint);
                let is_required = required.contains(key.as_str());
                let kind = if is_required { kind } else { format!("NotRequired[{kind}]") };
                let doc = member.as_object().and_then(description).map(str::to_owned);
                (key.clone(), kind, doc)
            })
            .collect();
        let doc = description(schema);
        self.types.declared[place] = if members.keys().all(|key| is_plain_key(key)) {
            class(name, &fields, doc)
        } else {
            function(name, &fields, doc)
        };
    }
}

/// Returns a typed dictionary as a class.
fn class(name: &str, fields: &[(String, String, Option<String>)], doc: Option<&str>) -> String {
    let mut text = format!("class {name}(TypedDict):\n");
    if let Some(doc) = doc {
        let _ = write!(text, "{}\n\n", docstring(doc, "    "));
    }
    for (key, kind, doc) in fields {
        let _ = writeln!(text, "    {key}: {kind}");
        if let Some(doc) = doc {
            let _ = writeln!(text, "{}", docstring(doc, "    "));
        }
    }
    text
}

/// Returns a typed dictionary with keys that are no names.
fn function(name: &str, fields: &[(String, String, Option<String>)], doc: Option<&str>) -> String {
    let mut text = format!("{name} = TypedDict(\n    {},\n    {{\n", quoted(name));
    for (key, kind, _) in fields {
        let _ = writeln!(text, "        {}: {},", quoted(key), quoted(kind));
    }
    text.push_str("    },\n)\n");
    if let Some(doc) = doc {
        let _ = writeln!(text, "{}", docstring(doc, ""));
    }
    text
}

/// Returns whether a typed dictionary says it.
fn is_record(schema: &Map<String, Value>) -> bool {
    let is_object = matches!(schema.get("type"), None | Some(Value::String(_)))
        && schema.get("type").is_none_or(|kind| kind == "object");
    let has = |key| schema.get(key).is_some();
    let has_extra = has("patternProperties")
        || matches!(schema.get("additionalProperties"), Some(Value::Object(_) | Value::Bool(true)));
    let members = schema.get("properties").and_then(Value::as_object);
    let others = ["$ref", "const", "enum", "allOf", "nullable"].into_iter().any(has);
    is_object && !has_extra && !others && members.is_some_and(|members| !members.is_empty())
}

/// Returns the names of what an object must have.
pub(super) fn required(schema: &Map<String, Value>) -> BTreeSet<&str> {
    let names = schema.get("required").and_then(Value::as_array);
    names.into_iter().flatten().filter_map(Value::as_str).collect()
}

pub(super) fn description(schema: &Map<String, Value>) -> Option<&str> {
    let text = schema.get("description").and_then(Value::as_str).map(str::trim)?;
    (!text.is_empty()).then_some(text)
}

/// Returns a docstring, each line behind `indent`.
pub(super) fn docstring(text: &str, indent: &str) -> String {
    let text = text.trim().replace('\\', "\\\\").replace('"', "\\\"");
    let plain = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
    let text: String = text.chars().map(plain).collect();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    match lines.as_slice() {
        [only] => format!("{indent}\"\"\"{only}\"\"\""),
        [first, rest @ ..] => {
            let mut doc = format!("{indent}\"\"\"{first}\n");
            for line in rest {
                let indent = if line.is_empty() { "" } else { indent };
                let _ = writeln!(doc, "{indent}{line}");
            }
            doc + indent + "\"\"\""
        }
        [] => format!("{indent}\"\"\"\"\"\""),
    }
}

/// Returns the widest type of what a schema describes.
fn wide(schema: &Map<String, Value>) -> String {
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => format!("dict[str, {ANY}]"),
        Some("array") => format!("list[{ANY}]"),
        Some(_) | None => ANY.to_owned(),
    }
}

fn scalar(kind: &str) -> &'static str {
    match kind {
        "string" => "str",
        "integer" => "int",
        "number" => "float",
        "boolean" => "bool",
        "null" => "None",
        _ => ANY,
    }
}

/// Returns a type that has exactly these values, as far as there is one.
fn literals(values: &[Value]) -> String {
    let exact: Option<Vec<String>> = values.iter().map(literal).collect();
    match exact {
        Some(exact) if exact.is_empty() => ANY.to_owned(),
        Some(exact) if exact.iter().all(|value| value == "None") => "None".to_owned(),
        Some(mut exact) => {
            let mut seen = BTreeSet::new();
            exact.retain(|value| seen.insert(value.clone()));
            let all = exact.len();
            exact.retain(|value| value != "None");
            let or_none = if exact.len() < all { " | None" } else { "" };
            format!("Literal[{}]{or_none}", exact.join(", "))
        }
        None => union(values.iter().map(kind_of)),
    }
}

fn kind_of(value: &Value) -> String {
    let kind = match value {
        Value::Null => "None",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list[Any]",
        Value::Object(_) => "dict[str, Any]",
    };
    kind.to_owned()
}

fn union(each: impl IntoIterator<Item = String>) -> String {
    let mut found: Vec<String> = Vec::new();
    for one in each.into_iter().flat_map(|each| alternatives(&each)) {
        if one == ANY {
            return one;
        }
        if !found.contains(&one) {
            found.push(one);
        }
    }
    if found.is_empty() { ANY.to_owned() } else { found.join(" | ") }
}

/// Returns the members of a union.
fn alternatives(expression: &str) -> Vec<String> {
    let (mut found, mut depth, mut quoted, mut escaped) = (vec![String::new()], 0, false, false);
    for c in expression.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '[' if !quoted => depth += 1,
            ']' if !quoted => depth -= 1,
            _ => {}
        }
        match (c, depth, quoted) {
            ('|', 0, false) => found.push(String::new()),
            _ => found.last_mut().expect("it begins with one").push(c),
        }
    }
    found.iter().map(|one| one.trim().to_owned()).collect()
}

/// Returns a pointer as it is looked up: a reference is part of an address, where `%` escapes.
fn unescaped(pointer: &str) -> String {
    let mut bytes = Vec::with_capacity(pointer.len());
    let mut rest = pointer.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

//! The types that values of a schema can have.

use std::fmt;

use serde_json::{Map, Value};

use super::{Node, values};

/// The types, in the order in which they are told.
const NAMES: [(&str, &str); 7] = [
    ("object", "an object"),
    ("array", "a list"),
    ("string", "text"),
    ("integer", "an integer"),
    ("number", "a number"),
    ("boolean", "true or false"),
    ("null", "null"),
];

const OBJECT: u8 = 1;
const ARRAY: u8 = 1 << 1;
const STRING: u8 = 1 << 2;
const INTEGER: u8 = 1 << 3;
const NUMBER: u8 = 1 << 4;
const ALL: u8 = (1 << NAMES.len()) - 1;

/// How deep references are followed before anything is possible.
const MAX_DEPTH: u32 = 32;

/// Some of the types that JSON has. One of a number has an integer, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kinds(u8);

impl Kinds {
    /// Returns the types that `schema` itself allows, whatever it refers to.
    pub(super) fn own(schema: &Map<String, Value>) -> Self {
        let listed = values(schema)
            .map_or(ALL, |values| values.iter().fold(0, |kinds, value| kinds | Self::of(value).0));
        let typed = match schema.get("type") {
            Some(Value::String(name)) => bit(name),
            Some(Value::Array(names)) => {
                names.iter().filter_map(Value::as_str).fold(0, |kinds, name| kinds | bit(name))
            }
            Some(_) | None => ALL,
        };
        Self(listed).and(Self(typed))
    }

    /// Returns the type of one value.
    pub(super) fn of(value: &Value) -> Self {
        Self(match value {
            Value::Object(_) => OBJECT,
            Value::Array(_) => ARRAY,
            Value::String(_) => STRING,
            Value::Number(number) if number.is_f64() => NUMBER | INTEGER,
            Value::Number(_) => INTEGER,
            Value::Bool(_) => bit("boolean"),
            Value::Null => bit("null"),
        })
    }

    pub(super) fn and(self, other: Self) -> Self {
        let widened = |kinds: u8| if kinds & NUMBER != 0 { kinds | INTEGER } else { kinds };
        Self(widened(self.0) & widened(other.0))
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn is_only_objects(self) -> bool {
        self.0 == OBJECT
    }

    pub(super) fn is_only_lists(self) -> bool {
        self.0 == ARRAY
    }

    pub(crate) fn may_be_object(self) -> bool {
        self.0 & OBJECT != 0
    }

    pub(crate) fn may_be_text(self) -> bool {
        self.0 & STRING != 0
    }

    /// Returns whether it may be a value that is neither an object nor a list.
    pub(crate) fn may_be_plain(self) -> bool {
        self.0 & !(OBJECT | ARRAY) != 0
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == ALL {
            return f.write_str("anything");
        }
        let names = NAMES.iter().enumerate();
        let names: Vec<&str> = names
            .filter(|(index, _)| self.0 & (1 << index) != 0)
            // A number is told, and not that it may be an integer.
            .filter(|(_, (name, _))| *name != "integer" || self.0 & NUMBER == 0)
            .map(|(_, (_, words))| *words)
            .collect();
        f.write_str(&names.join(" or "))
    }
}

/// Returns the types that values of `node` can have.
pub(crate) fn kinds(node: Node<'_>) -> Kinds {
    within(node, 0)
}

fn within(node: Node<'_>, depth: u32) -> Kinds {
    let own = match node.value {
        Value::Bool(false) => return Kinds(0),
        Value::Object(members) if depth < MAX_DEPTH => Kinds::own(members),
        Value::Object(_)
        | Value::Bool(true)
        | Value::Null
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_) => return Kinds(ALL),
    };
    let parts =
        node.parts().into_iter().fold(own, |kinds, part| kinds.and(within(part, depth + 1)));
    node.choices().into_iter().fold(parts, |kinds, choices| {
        let any = choices.into_iter().map(|choice| within(choice, depth + 1));
        kinds.and(any.fold(Kinds(0), Kinds::or))
    })
}

fn bit(name: &str) -> u8 {
    let place = NAMES.iter().position(|(known, _)| *known == name);
    place.map_or(ALL, |place| 1 << place)
}

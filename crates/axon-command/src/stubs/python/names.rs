//! Names and values as Python writes them.

use serde_json::Value;

/// Words that name nothing in Python.
const KEYWORDS: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue",
    "def", "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import",
    "in", "is", "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while",
    "with", "yield",
];

/// What a generated module uses itself.
const OURS: [&str; 12] = [
    "annotations",
    "bool",
    "call_rust",
    "cast",
    "dict",
    "float",
    "int",
    "list",
    "object",
    "str",
    "tuple",
    "type",
];

/// Returns a class name made of `text`.
pub(super) fn class_name(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let capital = |word: &str| {
        let (first, rest) = word.split_at(1);
        first.to_ascii_uppercase() + rest
    };
    let name: String = words.map(capital).collect();
    match name.as_bytes().first() {
        None => "Value".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("T{name}"),
        Some(_) => name,
    }
}

/// Returns whether a class can declare a field of this name.
pub(super) fn is_plain_key(key: &str) -> bool {
    // Two underscores would be mangled.
    is_identifier(key) && !KEYWORDS.contains(&key) && !key.starts_with("__")
}

/// Returns a function's or an argument's name made of `text`, other than `taken`.
pub(super) fn variable(text: &str, taken: &[String]) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let mut name: String = text.chars().map(plain).collect();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    if name.starts_with("__") || name == "_call" {
        name.insert_str(0, "arg");
    }
    let is_free = |name: &str| {
        let ours = KEYWORDS.contains(&name) || OURS.contains(&name);
        !ours && !taken.iter().any(|taken| taken == name)
    };
    while !is_free(&name) {
        name.push('_');
    }
    name
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Returns `text` as a string of Python.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() || !is_shown(c) => {
                quoted.push_str(&format!("\\U{:08x}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Returns whether a character is one that readers see: marks of direction and line ends hide code.
fn is_shown(c: char) -> bool {
    !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Returns a value as a `Literal` has it, if it can.
pub(super) fn literal(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("None".to_owned()),
        Value::Bool(true) => Some("True".to_owned()),
        Value::Bool(false) => Some("False".to_owned()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        Value::String(text) => Some(quoted(text)),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

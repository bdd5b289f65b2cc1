//! One record of the log, and how it is written.

use std::time::SystemTime;

use serde_json::{Map, Value};
use tracing::Level;

use super::escape::{push_json, push_plain};
use crate::terminal::{CYAN, DIM, GREEN, RED, YELLOW, styled};

/// How much of a message is kept, in bytes; fields have their own bounds where they come from.
const MESSAGE_BYTES: usize = 32 * 1024;

/// How records are written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Style {
    /// A line of text.
    Human(Look),
    /// A line of JSON.
    Json,
}

/// What a line of text shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) colors: bool,
    pub(super) targets: bool,
}

/// One record.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(super) level: Level,
    pub(super) target: String,
    pub(super) message: String,
    pub(super) fields: Map<String, Value>,
}

impl Record {
    /// Makes a record of the service itself.
    pub(crate) fn new(level: Level, message: impl Into<String>) -> Self {
        let (target, message) = ("axon".to_owned(), message.into());
        Self { level, target, message, fields: Map::new() }
    }

    /// Adds a field.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// Returns the record as a line, with its end.
    pub(super) fn line(&self, style: Style) -> String {
        let mut line = match style {
            Style::Json => self.json(),
            Style::Human(look) => self.human(look),
        };
        line.push('\n');
        line
    }

    /// Returns the record as a line of JSON, with its end.
    pub(crate) fn json_line(&self) -> String {
        self.line(Style::Json)
    }

    fn json(&self) -> String {
        let now = humantime::format_rfc3339_micros(SystemTime::now());
        let mut object = Map::new();
        object.insert("timestamp".to_owned(), now.to_string().into());
        object.insert("level".to_owned(), self.level.as_str().into());
        object.insert("target".to_owned(), self.target.as_str().into());
        object.insert("message".to_owned(), self.kept().into());
        for (name, value) in &self.fields {
            // A field cannot pass for what we say ourselves.
            let name =
                if object.contains_key(name) { format!("field.{name}") } else { name.clone() };
            object.insert(name, value.clone());
        }
        let json = Value::Object(object).to_string();
        let mut line = String::with_capacity(json.len());
        push_json(&mut line, &json);
        line
    }

    fn human(&self, look: Look) -> String {
        let level = format!("{:>5}", self.level.as_str());
        let style = match self.level {
            Level::ERROR => RED,
            Level::WARN => YELLOW,
            Level::INFO => GREEN,
            Level::DEBUG => CYAN,
            Level::TRACE => DIM,
        };
        let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let (now, level) = match look.colors {
            true => (styled(DIM, &now), styled(style, &level)),
            false => (now, level),
        };
        let mut line = format!("{now} {level} ");
        if look.targets {
            push_plain(&mut line, &self.target);
            line.push_str(": ");
        }
        push_message(&mut line, self.kept());
        for (name, value) in &self.fields {
            if !value.is_null() {
                line.push(' ');
                push_plain(&mut line, name);
                line.push('=');
                push_value(&mut line, value);
            }
        }
        line
    }

    fn kept(&self) -> &str {
        &self.message[..self.message.floor_char_boundary(MESSAGE_BYTES)]
    }
}

/// Appends a message: as it is, or as JSON where it could pass for one with fields behind it.
fn push_message(line: &mut String, message: &str) {
    let has_fields = message.split_whitespace().any(|word| word.find('=').is_some_and(|at| at > 0));
    if has_fields || message.starts_with('"') {
        push_json(line, &Value::from(message).to_string());
    } else {
        push_plain(line, message);
    }
}

/// Appends a value: a word as it is, everything else as JSON.
fn push_value(line: &mut String, value: &Value) {
    let is_word = |text: &str| {
        let plain = |c: char| c.is_alphanumeric() || "-_.:/+".contains(c);
        !text.is_empty() && text.chars().all(plain)
    };
    match value.as_str() {
        Some(text) if is_word(text) => push_plain(line, text),
        _ => push_json(line, &value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record::new(Level::WARN, "no\nline")
            .with("level", "ERROR")
            .with("run", "r1")
            .with("said", "two words\u{1b}[2J")
    }

    #[test]
    fn a_field_cannot_pass_for_the_level_and_everything_is_one_line() {
        let line = record().line(Style::Json);
        assert_eq!(line.matches('\n').count(), 1);
        let json: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&json["level"], &json["field.level"]), (&"WARN".into(), &"ERROR".into()));
        assert_eq!(json["message"], "no\nline");
    }

    #[test]
    fn people_read_words_as_they_are_and_the_rest_quoted() {
        let line = record().line(Style::Human(Look { colors: false, targets: false }));
        let expected = "WARN no\\nline level=ERROR run=r1 said=\"two words\\u001b[2J\"\n";
        assert_eq!(line.split_once("Z  ").unwrap().1, expected);
    }
}

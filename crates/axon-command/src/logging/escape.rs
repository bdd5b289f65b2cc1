//! Text of others in a line of ours.

use std::fmt::Write;

/// Returns whether a character does something to the line or to how it is read, in place of being
/// in it: breaks it, controls the terminal, turns its direction, or cannot be seen.
fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// Appends `text` as it can stand in a line.
pub(super) fn push_plain(line: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            // Writing to a string cannot fail.
            c if is_active(c) => drop(write!(line, "\\u{{{:x}}}", u32::from(c))),
            c => line.push(c),
        }
    }
}

/// Appends JSON, in whose strings everything active becomes an escape: what it says is the same.
pub(super) fn push_json(line: &mut String, json: &str) {
    for c in json.chars() {
        if is_active(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                // Writing to a string cannot fail.
                let _ = write!(line, "\\u{unit:04x}");
            }
        } else {
            line.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\nb\r\u{1b}[2J\u{9b}1m\u{202e}c\u{2028}\u{200b}\u{e0041}\u{0}é";

    #[test]
    fn text_stays_one_line_that_shows_what_was_in_it() {
        let mut line = String::new();
        push_plain(&mut line, HOSTILE);
        assert!(!line.chars().any(is_active), "{line:?}");
        assert!(line.starts_with("a\\nb\\r\\u{1b}[2J\\u{9b}1m\\u{202e}c") && line.ends_with('é'));
    }

    #[test]
    fn json_says_the_same_in_one_plain_line() {
        let mut line = String::new();
        push_json(&mut line, &serde_json::to_string(HOSTILE).unwrap());
        assert!(!line.chars().any(is_active), "{line:?}");
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), HOSTILE);
    }
}

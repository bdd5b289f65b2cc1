//! The limits of JSON that its grammar does not know, checked in one pass that builds nothing.

use std::borrow::Cow;
use std::collections::HashSet;

use super::{JsonError, MAX_DEPTH};

/// Up to so many keys of one object are compared with one another; more are hashed.
const FEW_KEYS: usize = 16;

/// No number of so many characters and no exponent is beyond a float of 64 bits.
const SURELY_FINITE: usize = 308;

/// Checks that `text`, if it is JSON at all, keeps the limits that both ends hold it to: nested
/// at most [`MAX_DEPTH`] levels, no number beyond a float of 64 bits, no lone surrogate, and no key
/// twice in one object.
///
/// Whether it *is* JSON is for the parser to say, before or after.
///
/// # Errors
///
/// [`JsonError`] with the offset of the first thing beyond the limits.
pub fn check_limits(text: &[u8]) -> Result<(), JsonError> {
    Scan { text, at: 0, open: Vec::new(), keys: Vec::new() }.run()
}

/// An array, or an object with the index in `keys` of its first key.
enum Open<'t> {
    Array,
    Object { first: usize, seen: HashSet<Cow<'t, [u8]>> },
}

struct Scan<'t> {
    text: &'t [u8],
    at: usize,
    open: Vec<Open<'t>>,
    /// The keys of all objects that are open and have few, innermost last.
    keys: Vec<Cow<'t, [u8]>>,
}

impl<'t> Scan<'t> {
    fn run(mut self) -> Result<(), JsonError> {
        // A text in an object is a key where a `{` or a `,` went before it.
        let mut key_may_follow = false;
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b'"' => {
                    let text = self.string()?;
                    if key_may_follow {
                        self.key(text)?;
                    }
                    key_may_follow = false;
                    continue;
                }
                b'{' | b'[' => {
                    self.enter(byte == b'{')?;
                    key_may_follow = byte == b'{';
                }
                b'}' | b']' => {
                    self.leave();
                    key_may_follow = false;
                }
                b',' => key_may_follow = matches!(self.open.last(), Some(Open::Object { .. })),
                b'-' | b'0'..=b'9' => {
                    self.number()?;
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
        Ok(())
    }

    fn enter(&mut self, object: bool) -> Result<(), JsonError> {
        if self.open.len() == MAX_DEPTH {
            return Err(JsonError::TooDeep { at: self.at });
        }
        let first = self.keys.len();
        let seen = HashSet::new();
        self.open.push(if object { Open::Object { first, seen } } else { Open::Array });
        Ok(())
    }

    fn leave(&mut self) {
        if let Some(Open::Object { first, .. }) = self.open.pop() {
            self.keys.truncate(first);
        }
    }

    /// Steps over the string that begins here, and returns what is between its quotes.
    fn string(&mut self) -> Result<&'t [u8], JsonError> {
        let start = self.at + 1;
        self.at = start;
        let text = self.text;
        loop {
            let rest = text.get(self.at..).unwrap_or_default();
            let Some(found) = memchr::memchr2(b'"', b'\\', rest) else {
                self.at = text.len();
                return Ok(text.get(start..).unwrap_or_default());
            };
            self.at += found;
            if text[self.at] == b'"' {
                self.at += 1;
                return Ok(&text[start..self.at - 1]);
            }
            self.escape()?;
        }
    }

    /// Steps over one escape, or over both that make up a character.
    fn escape(&mut self) -> Result<(), JsonError> {
        let lone = JsonError::LoneSurrogate { at: self.at };
        match escaped_unit(self.text, self.at) {
            Some(0xd800..=0xdbff) => match escaped_unit(self.text, self.at + 6) {
                Some(0xdc00..=0xdfff) => self.at += 12,
                Some(_) | None => return Err(lone),
            },
            Some(0xdc00..=0xdfff) => return Err(lone),
            Some(_) => self.at += 6,
            None => self.at += 2,
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let rest = &self.text[self.at..];
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let end = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        let number = &rest[..end];
        let plain =
            number.len() <= SURELY_FINITE && !number.iter().any(|b| matches!(b, b'e' | b'E'));
        let beyond = || {
            let number = std::str::from_utf8(number).ok().and_then(|text| text.parse::<f64>().ok());
            number.is_some_and(f64::is_infinite)
        };
        if !plain && beyond() {
            return Err(JsonError::NotFinite { at: self.at });
        }
        self.at += end;
        Ok(())
    }

    /// Takes note of a key, written as `text`, of the innermost object.
    fn key(&mut self, text: &'t [u8]) -> Result<(), JsonError> {
        let Some(Open::Object { first, seen }) = self.open.last_mut() else { return Ok(()) };
        let key = unescaped(text);
        let few = &self.keys[*first..];
        let again = if few.len() < FEW_KEYS {
            few.contains(&key)
        } else {
            if seen.is_empty() {
                seen.extend(few.iter().cloned());
            }
            !seen.insert(key.clone())
        };
        if again {
            return Err(JsonError::DuplicateKey {
                at: self.at,
                key: super::excerpt(&String::from_utf8_lossy(&key), 80),
            });
        }
        if self.keys.len() - *first < FEW_KEYS {
            self.keys.push(key);
        }
        Ok(())
    }
}

/// Returns the UTF-16 code unit that is written as `\uXXXX` at `at`.
fn escaped_unit(text: &[u8], at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
    digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Returns the key that `text` stands for: the same key can be written in many ways.
fn unescaped(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', text).is_none() {
        return Cow::Borrowed(text);
    }
    let quoted = [b"\"", text, b"\""].concat();
    // What is no string is no JSON either: the parser says so.
    serde_json::from_slice::<String>(&quoted)
        .map_or(Cow::Borrowed(text), |key| Cow::Owned(key.into_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn refused(text: &str) -> JsonError {
        check_limits(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_key_twice_in_one_object_is_refused_however_it_is_written() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"[{"b":{"a":{},"\u0061":2}}]"#,
            r#"{"é":[{"x":1}],"c":"b","\u00e9":0}"#,
        ] {
            assert!(matches!(refused(text), JsonError::DuplicateKey { .. }), "{text}");
        }
        let many: Vec<String> = (0..100).map(|n| format!("\"k{n}\":0")).collect();
        assert!(check_limits(format!("{{{}}}", many.join(",")).as_bytes()).is_ok());
        for again in ["k3", "k16", "k99"] {
            let text = format!("{{{},\"{again}\":1}}", many.join(","));
            assert!(matches!(refused(&text), JsonError::DuplicateKey { .. }), "{again}");
        }
        for text in [r#"{"a":{"a":1},"b":"a","c":["a","a"]}"#, r#"[{"a":1},{"a":1}]"#] {
            assert!(check_limits(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn numbers_beyond_a_float_and_lone_surrogates_are_refused_by_place() {
        for text in ["[1,1e400]", "[1,-1E+309]", &format!("[1,{}]", "9".repeat(400))] {
            assert!(matches!(refused(text), JsonError::NotFinite { at: 3 }), "{text}");
        }
        for text in [r#"["\ud800"]"#, r#"["\udc00\ud800"]"#, r#"["\ud800\u0041"]"#] {
            assert!(matches!(refused(text), JsonError::LoneSurrogate { at: 2 }), "{text}");
        }
        let (tiny, long) = ("1e-400".to_owned(), format!("0.{}1", "0".repeat(5000)));
        for text in [r#"["\ud83d\ude00","\\ud800"]"#, &tiny, &long, "1.7976931348623157e308"] {
            assert!(check_limits(text.as_bytes()).is_ok(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_a_serialiser_wrote_keeps_the_limits_and_any_bytes_are_survived(
            bytes in prop::collection::vec(prop::sample::select(b"{}[]\":,\\ud8c0e-91a ".to_vec()), 0..40),
            keys in prop::collection::btree_map(".*", prop::collection::btree_map("[a-c\\\\\"\u{1}é]{0,3}", any::<f64>(), 0..30), 0..4),
        ) {
            let tree = serde_json::json!(keys);
            prop_assert!(check_limits(tree.to_string().as_bytes()).is_ok());
            // A parsed tree has no duplicates, no surrogates and no infinities any more.
            if let Ok(tree) = serde_json::from_slice::<Value>(&bytes)
                && check_limits(&bytes).is_ok()
            {
                prop_assert!(check_limits(tree.to_string().as_bytes()).is_ok());
            }
        }
    }
}

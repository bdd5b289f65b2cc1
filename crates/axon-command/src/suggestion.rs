//! Commands that are shown to be typed next: with the options that found what they are about.

use std::borrow::Cow;
use std::sync::OnceLock;

use crate::args::GlobalArgs;
use crate::terminal::printable;

/// The options of this process that a further command needs, too. Set once, by the command line.
static OPTIONS: OnceLock<String> = OnceLock::new();

/// Remembers where this process looks for agents and runs.
pub(crate) fn remember(args: &GlobalArgs) {
    let agents = args.agents.as_ref().map(|folder| folder.display().to_string());
    // A URL of a store may hold a password, and is no option to show. One of a service holds none.
    let store = args.store.clone().filter(|store| !store.contains("://"));
    let url = args.url.clone().filter(|url| !url.contains('@'));
    let token = args.token_file.as_ref().map(|file| file.display().to_string());
    let given = [("--agents", agents), ("--store", store), ("--url", url), ("--token-file", token)];
    let options = given
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .map(|(name, value)| format!(" {name} {}", quoted(&value)));
    // The first command line of the process stands.
    let _first = OPTIONS.set(options.collect());
}

/// Returns `command` as it has to be typed here, if it is one of ours; anything else as it is. None
/// of it controls the terminal.
pub(crate) fn here(command: &str) -> String {
    let options = OPTIONS.get().map(String::as_str).unwrap_or_default();
    match command.strip_prefix("axon ") {
        Some(rest) if !options.is_empty() && !rest.contains("--store") => {
            printable(&format!("axon{options} {rest}"))
        }
        _ => printable(command),
    }
}

/// Returns `text` as one word of a shell, and of one line.
pub(crate) fn quoted(text: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return Cow::Borrowed(text);
    }
    if text.contains(char::is_control) {
        return Cow::Owned(format!("$'{}'", text.chars().map(escaped).collect::<String>()));
    }
    Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
}

/// Returns a character as it stands between `$'` and `'`. A shell that knows no such quotes reads one
/// word there all the same.
fn escaped(c: char) -> String {
    if !c.is_control() && !matches!(c, '\'' | '\\') {
        return c.to_string();
    }
    c.to_string().bytes().map(|byte| format!("\\{byte:03o}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word_whatever_is_in_it() {
        assert_eq!(quoted("c1"), "c1");
        assert_eq!(quoted("it's; rm x"), r"'it'\''s; rm x'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("a\u{1b}]0;\\'\n\u{9b}"), r"$'a\033]0;\134\047\012\302\233'");
    }
}

//! Variables in values: `${NAME}`, `${NAME:-default}`, and `$${` for a plain `${`.

use std::borrow::Cow;

use super::error::What;

/// Fills the variables of `text` in.
pub(super) fn interpolate<'a>(
    text: &'a str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Cow<'a, str>, What> {
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            filled.push_str(before);
            filled.push_str("${");
            rest = &from[2..];
            continue;
        }
        filled.push_str(before);
        let (name, default, after) = reference(from)
            .ok_or_else(|| What::BadVariable { text: crate::json::excerpt(from, 40) })?;
        // As in a shell, a default also replaces an empty value.
        match (lookup(name), default) {
            (Some(value), Some(default)) if value.is_empty() => filled.push_str(default),
            (Some(value), _) => filled.push_str(&value),
            (None, Some(default)) => filled.push_str(default),
            (None, None) => return Err(What::UnsetVariable { variable: name.to_owned() }),
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(Cow::Owned(filled))
}

/// Returns `text` so that filling variables in gives it back.
pub(super) fn escape(text: &str) -> String {
    text.replace("${", "$${")
}

/// Splits the `${NAME:-default}` at the beginning of `text` from what follows it.
fn reference(text: &str) -> Option<(&str, Option<&str>, &str)> {
    let (inside, after) = text.strip_prefix("${")?.split_once('}')?;
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let valid = super::EnvName::try_from(name).is_ok();
    valid.then_some((name, default, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fill(text: &str) -> Result<String, What> {
        let lookup = |name: &str| match name {
            "NAME" => Some("Ada".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        interpolate(text, &lookup).map(Cow::into_owned)
    }

    #[test]
    fn variables_are_filled_in_and_defaults_serve_unset_and_empty_ones() {
        for (text, filled) in [
            ("hi ${NAME}!", "hi Ada!"),
            ("${NAME}${NAME}", "AdaAda"),
            ("${GONE:-x:y}", "x:y"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY}", ""),
            ("${GONE:-}", ""),
            ("$${NAME} costs $5 $", "${NAME} costs $5 $"),
            ("$$${NAME}", "$${NAME}"),
        ] {
            assert_eq!(fill(text).as_deref(), Ok(filled), "{text}");
        }
    }

    #[test]
    fn unset_and_malformed_variables_are_named() {
        assert_eq!(fill("a ${GONE}"), Err(What::UnsetVariable { variable: "GONE".to_owned() }));
        for bad in ["${", "${}", "${a b}", "${1}", "x ${NAME", "${NAME-x}"] {
            assert!(matches!(fill(bad), Err(What::BadVariable { .. })), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_filled_or_refused(text in "[${}A-Z:é -]{0,40}") {
            let _ = fill(&text);
        }

        #[test]
        fn escaped_text_comes_back(text in r"[${}A-Z:\\é -]{0,40}") {
            prop_assert_eq!(fill(&escape(&text)), Ok(text));
        }
    }
}

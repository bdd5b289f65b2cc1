//! The versions that Axon is tested with.

use std::path::Path;

/// The oldest Python that the runner runs on: major and minor.
pub const OLDEST_PYTHON: (u32, u32) = (3, 11);

/// The releases of pydantic-ai that the runner works with; `python/src/axon_runner` says the same.
pub const TESTED_PYDANTIC_AI: &str = ">=2.60,<3";

/// The distribution that carries pydantic-ai, and the extra that the examples need.
const DISTRIBUTION: &str = "pydantic-ai-slim";

/// Tells whether `version` (of pydantic-ai, as PEP 440 writes it) is in [`TESTED_PYDANTIC_AI`].
pub(crate) fn is_tested(version: &str) -> bool {
    let digits = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    let (release, suffix) = version.split_at(digits);
    let mut numbers = release.trim_end_matches('.').split('.').map(|part| part.parse().ok());
    let (major, minor) = (numbers.next().flatten(), numbers.next().flatten().unwrap_or(0));
    let patches = numbers.any(|number: Option<u32>| number != Some(0));
    // 2.60.0rc1 and 2.60.dev3 come before 2.60; 2.60.post1 and 2.60+local do not.
    let before =
        ["a", "b", "rc", "dev"].iter().any(|mark| suffix.trim_matches('.').starts_with(mark));
    major == Some(2) && (minor > 60 || (minor == 60 && (patches || !before)))
}

/// Tells whether a Python of this version can run the runner; `version` is like `3.11.7`.
pub(crate) fn is_python_recent(version: &str) -> bool {
    let mut numbers = version.split('.').map_while(|part| part.parse().ok());
    matches!((numbers.next(), numbers.next()), (Some(major), Some(minor)) if (major, minor) >= OLDEST_PYTHON)
}

/// The requirement that the fixing commands install: what `lock` pins, extras included, or the
/// tested range when it pins none.
pub(crate) fn requirement(lock: &[u8]) -> String {
    let extras = format!("{DISTRIBUTION}[openai]");
    match pinned(lock) {
        Some(version) => format!("{extras}=={version}"),
        None => format!("{extras}{TESTED_PYDANTIC_AI}"),
    }
}

/// The release of pydantic-ai that `lock` pins.
pub(crate) fn pinned(lock: &[u8]) -> Option<&str> {
    std::str::from_utf8(lock).ok()?.lines().find_map(|line| {
        let rest = line.trim_start().strip_prefix(DISTRIBUTION)?;
        let rest = match rest.strip_prefix('[') {
            Some(extras) => extras.split_once(']')?.1,
            None => rest,
        };
        rest.trim_start().strip_prefix("==")?.split([' ', ';', '\\', '\t']).next()
    })
}

/// A path as a shell takes it.
pub(crate) fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded;

    #[test]
    fn range_takes_its_releases_and_no_others() {
        for version in
            ["2.60", "2.60.0", "2.60.1rc1", "2.60.post1", "2.68.0", "2.100.0b2", "2.61.0+x"]
        {
            assert!(is_tested(version), "{version}");
        }
        for version in [
            "2.59.9",
            "2.60.0rc1",
            "2.60.0.dev1",
            "2.60b1",
            "3.0.0a1",
            "3.0",
            "1.99",
            "2",
            "",
            "x",
            "20.61",
        ] {
            assert!(!is_tested(version), "{version}");
        }
    }

    #[test]
    fn python_is_compared_by_number() {
        assert!(["3.11.0", "3.14.0rc1", "3.100.1", "4.0"].into_iter().all(is_python_recent));
        assert!(!["3.9.18", "3.10.14", "2.7.18", "3", ""].into_iter().any(is_python_recent));
    }

    #[test]
    fn lock_pins_a_tested_release_that_the_fixing_command_names() {
        let pin = pinned(embedded::requirements_lock()).expect("the lock pins pydantic-ai-slim");
        assert!(is_tested(pin), "{pin}");
        assert_eq!(
            requirement(embedded::requirements_lock()),
            format!("pydantic-ai-slim[openai]=={pin}")
        );
    }

    #[test]
    fn pin_is_found_among_other_lines() {
        let lock = b"# pydantic-ai-slim==1.0\npydantic-ai-slim-x==3\n\
                     pydantic-ai-slim[openai]==2.68.0 ; python_version>'3' \\\n    --hash=sha256:ab\n";
        assert_eq!(pinned(lock), Some("2.68.0"));
        assert_eq!(pinned(b"openai==3.0"), None);
        assert_eq!(requirement(b""), "pydantic-ai-slim[openai]>=2.60,<3");
    }

    #[test]
    fn python_side_tests_the_same_range() {
        let says = |(_, bytes): &(&str, &[u8])| {
            String::from_utf8_lossy(bytes).contains(TESTED_PYDANTIC_AI)
        };
        assert!(embedded::sources().iter().any(says), "no source says {TESTED_PYDANTIC_AI}");
    }

    #[test]
    fn path_with_spaces_is_quoted() {
        assert_eq!(shell_word(Path::new("/a/b-1.0/python")), "/a/b-1.0/python");
        assert_eq!(shell_word(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}

//! What was probably meant.

/// How much a name has to look like another to be taken for a slip of it.
const LIKELY: f64 = 0.7;

/// Returns `, did you mean …?` with the one of `valid` that looks most like `given`; nothing if
/// none does.
pub(crate) fn did_you_mean(given: &str, valid: &[&str]) -> String {
    valid
        .iter()
        .map(|name| (strsim::jaro_winkler(&given.to_lowercase(), name), name))
        .filter(|(likeness, _)| *likeness > LIKELY)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(String::new, |(_, name)| format!(", did you mean `{name}`?"))
}

//! Figures as they are printed.

use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

/// Prints lines, each a name with its figures.
pub(crate) fn print(title: &str, rows: &[(&str, String)]) -> anyhow::Result<()> {
    let mut text = format!("{title}\n");
    for (name, figures) in rows {
        writeln!(text, "  {name:<34}{figures}")?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Returns a percentile; nothing if nothing was measured.
pub(crate) fn percentile(of: &[Duration], percent: usize) -> Duration {
    let mut sorted = of.to_vec();
    sorted.sort();
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Median, 99th percentile and maximum.
pub(crate) fn times(of: &[Duration]) -> String {
    let [p50, p99, most] = [50, 99, 100].map(|percent| millis(percentile(of, percent)));
    format!("p50 {p50:.1} ms, p99 {p99:.1} ms, at most {most:.1} ms ({} of them)", of.len())
}

pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}

/// What each of `count` took of the growth from `before` to `after`.
pub(crate) fn each(before: u64, after: u64, count: usize) -> String {
    let kib = after.saturating_sub(before) as f64 / 1024.0 / count.max(1) as f64;
    format!("{kib:.1} KiB")
}

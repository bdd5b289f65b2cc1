//! Times of the record, told to a person.

use std::time::{Duration, SystemTime};

use axon_kernel::event::millis;
use axon_kernel::time::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Returns this moment.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp(millis(since.unwrap_or_default()))
}

/// Returns a time in its largest unit: `5s`, `3m`, `2h`, `40d`.
pub(super) fn short(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..MINUTE => format!("{seconds}s"),
        seconds @ MINUTE..HOUR => format!("{}m", seconds / MINUTE),
        seconds @ HOUR..DAY => format!("{}h", seconds / HOUR),
        seconds => format!("{}d", seconds / DAY),
    }
}

/// Returns the date and time of a moment, in UTC.
pub(super) fn date(moment: Timestamp) -> String {
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(moment.0));
    at.map_or_else(|| moment.0.to_string(), |at| humantime::format_rfc3339_seconds(at).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short_and_dates_are_exact() {
        let ages = [0, 59, 61, 7200, 90 * 86_400].map(|s| short(Duration::from_secs(s)));
        assert_eq!(ages, ["0s", "59s", "1m", "2h", "90d"]);
        assert_eq!(date(Timestamp(0)), "1970-01-01T00:00:00Z");
        assert!(now() > Timestamp(1_700_000_000_000));
    }
}

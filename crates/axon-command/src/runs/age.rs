//! Times of the record, told to a person.

use std::time::{Duration, SystemTime};

use axon_kernel::event::{Expiry, millis};
use axon_kernel::spec::OnTimeout;
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

/// Returns until when a run waits, and what happens then.
pub(crate) fn until(expiry: Expiry, now: Timestamp) -> String {
    let then = match expiry.then {
        OnTimeout::Deny => "counts as denied",
        OnTimeout::Fail => "fails the run",
    };
    let at = date(expiry.at);
    match expiry.is_over(now) {
        true => format!("nobody decided until {at}, which {then}"),
        false => {
            let left = short(expiry.at.since(now));
            format!("until {at}, in {left}; no decision by then {then}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_decide_says_when_it_is_over_and_what_happens_then() {
        let expiry =
            Expiry { at: Timestamp(7_200_000), timeout_ms: 7_200_000, then: OnTimeout::Fail };
        let waits = "until 1970-01-01T02:00:00Z, in 2h; no decision by then fails the run";
        assert_eq!(until(expiry, Timestamp(0)), waits);
        let over = "nobody decided until 1970-01-01T02:00:00Z, which fails the run";
        assert_eq!(until(expiry, Timestamp(7_200_000)), over);
    }

    #[test]
    fn ages_are_short_and_dates_are_exact() {
        let ages = [0, 59, 61, 7200, 90 * 86_400].map(|s| short(Duration::from_secs(s)));
        assert_eq!(ages, ["0s", "59s", "1m", "2h", "90d"]);
        assert_eq!(date(Timestamp(0)), "1970-01-01T00:00:00Z");
        assert!(now() > Timestamp(1_700_000_000_000));
    }
}

//! What a process uses of the machine, as the kernel counts it.

use std::time::{Duration, SystemTime};

/// What a process uses of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The memory that it has in RAM, in bytes. What it shares with others counts in full.
    pub resident_bytes: u64,
    /// The CPU time of all its threads, user and system, since its start. Its children's is not in
    /// it: they would be added in one leap, at their end, and memory does not count them either.
    pub cpu: Duration,
    /// When it was started, to a hundredth of a second. A fork starts at the fork.
    pub started_at: SystemTime,
    /// How many threads it has.
    pub threads: u32,
}

/// Returns what the process `pid` uses, or nothing if there is none, it has ended and was not
/// waited for, or this is not Linux.
#[cfg(target_os = "linux")]
#[must_use]
pub fn of(pid: u32) -> Option<Usage> {
    let process = procfs::process::Process::new(i32::try_from(pid).ok()?).ok()?;
    let stat = process.stat().ok()?;
    if matches!(stat.state, 'Z' | 'X') {
        return None;
    }
    let booted = Duration::from_secs(procfs::boot_time_secs().ok()?);
    Some(Usage {
        resident_bytes: stat.rss.saturating_mul(procfs::page_size()),
        cpu: ticks(stat.utime.saturating_add(stat.stime)),
        started_at: SystemTime::UNIX_EPOCH + booted + ticks(stat.starttime),
        threads: u32::try_from(stat.num_threads).unwrap_or_default(),
    })
}

#[cfg(target_os = "linux")]
fn ticks(count: u64) -> Duration {
    let per_second = procfs::ticks_per_second().max(1);
    let nanos = (count % per_second) * 1_000_000_000 / per_second;
    Duration::from_secs(count / per_second) + Duration::from_nanos(nanos)
}

/// Returns what the process `pid` uses, or nothing if there is none, it has ended and was not
/// waited for, or this is not Linux.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn of(_pid: u32) -> Option<Usage> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_tells_its_memory_its_work_and_when_it_was_started() {
        let before = of(std::process::id()).unwrap();
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        while of(std::process::id()).unwrap().cpu < before.cpu + Duration::from_millis(30) {
            std::hint::black_box(block.iter().map(|byte| u64::from(*byte)).sum::<u64>());
        }
        let after = of(std::process::id()).unwrap();
        assert!(after.resident_bytes >= block.len() as u64);
        assert_eq!(after.started_at, before.started_at);
        assert!(after.threads >= 1);
        // The boot time, which it is counted from, has whole seconds.
        let age = SystemTime::now().duration_since(after.started_at).unwrap_or_default();
        assert!(age < Duration::from_secs(600), "{age:?}");
    }

    #[test]
    fn a_process_that_has_ended_uses_nothing_even_before_it_is_waited_for() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(of(child.id()).is_some());
        child.kill().unwrap();
        while of(child.id()).is_some() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert_eq!(of(child.id()), None);
    }
}

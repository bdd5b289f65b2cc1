//! The CPU that processes have used, and what else the machine was busy with.

use std::fs::read_to_string;
use std::time::Duration;

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// Returns what this process has used, all threads, user and system.
pub(crate) fn of_this_process() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(used).unwrap_or_default()
}

/// Returns what another process has used, all threads, user and system, in steps of 10 ms.
pub(crate) fn of_process(pid: u32) -> anyhow::Result<Duration> {
    ticks(&pid.to_string(), 11)
}

/// Returns what the children of this process have used that have ended, and theirs.
fn of_ended_children() -> anyhow::Result<Duration> {
    ticks("self", 13)
}

/// Returns the sum of two fields, user and system, counted from behind the program's name.
fn ticks(process: &str, field: usize) -> anyhow::Result<Duration> {
    let stat = read_to_string(format!("/proc/{process}/stat"))
        .with_context(|| format!("process {process} is gone"))?;
    // The second field is the program's name in parentheses, which may hold anything.
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<u64>().ok());
    let both =
        ticks(field).zip(ticks(field + 1)).context("/proc/PID/stat is not as proc(5) says")?;
    Ok(of_ticks(both.0 + both.1))
}

/// What the machine and these processes had used at one moment.
#[derive(Debug)]
pub(crate) struct Machine {
    at: Instant,
    busy: Duration,
    ours: Duration,
}

/// What the machine was like while it was measured.
#[derive(Debug)]
pub(crate) struct Noise {
    /// How many cores other processes kept busy, on average.
    pub(crate) cores: f64,
    /// How many cores there are.
    pub(crate) of: usize,
    /// How long it took.
    pub(crate) wall: Duration,
}

impl std::fmt::Display for Noise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cores, of, wall } = self;
        let seconds = wall.as_secs_f64();
        write!(f, "Other processes kept {cores:.2} of {of} cores busy during these {seconds:.0} s.")
    }
}

impl Machine {
    /// Looks now; `pids` are ours, beside this process and its children that have ended.
    pub(crate) fn look(pids: &[u32]) -> anyhow::Result<Self> {
        let mut ours = of_this_process() + of_ended_children()?;
        for pid in pids {
            ours += of_process(*pid)?;
        }
        Ok(Self { at: Instant::now(), busy: busy()?, ours })
    }

    /// Returns what others have used since then.
    pub(crate) fn busy_with_others(&self, pids: &[u32]) -> anyhow::Result<Noise> {
        let now = Self::look(pids)?;
        let ours = now.ours.saturating_sub(self.ours);
        let others = now.busy.saturating_sub(self.busy).saturating_sub(ours);
        let wall = now.at - self.at;
        let of = std::thread::available_parallelism()?.get();
        Ok(Noise { cores: others.as_secs_f64() / wall.as_secs_f64(), of, wall })
    }
}

/// Returns what all processes of the machine have used, stolen time included.
fn busy() -> anyhow::Result<Duration> {
    let stat = read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|text| text.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, stolen, ..] = ticks[..] else {
        anyhow::bail!("/proc/stat is not as proc(5) says");
    };
    Ok(of_ticks(user + nice + system + irq + softirq + stolen))
}

fn of_ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

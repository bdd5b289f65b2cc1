//! Tells the kernel what a process may have.

use crate::plan::ProcessLimits;

/// Between the soft and the hard limit of processor time, in seconds: SIGXCPU says why a process
/// ends, and the SIGKILL behind it does not.
#[cfg(target_os = "linux")]
const CPU_GRACE: u64 = 5;

/// Limits a process that was started a moment ago and waits for its launch data.
#[cfg(target_os = "linux")]
pub(crate) fn set(pid: u32, limits: &ProcessLimits) -> std::io::Result<()> {
    use rustix::process::{Pid, Resource};

    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let cpu = limits.cpu_time.map(|time| time.as_secs().max(1));
    for (resource, soft, grace) in [
        (Resource::Data, limits.memory, 0),
        (Resource::Cpu, cpu, CPU_GRACE),
        (Resource::Nofile, limits.open_files, 0),
    ] {
        if let Some(soft) = soft {
            set_one(raw, resource, (soft, soft + grace))?;
        }
    }
    Ok(())
}

/// Sets one limit; what is above what the process may have anyway is cut to that.
#[cfg(target_os = "linux")]
fn set_one(
    pid: Option<rustix::process::Pid>,
    resource: rustix::process::Resource,
    (soft, hard): (u64, u64),
) -> std::io::Result<()> {
    use rustix::process::{Rlimit, getrlimit, prlimit};

    // A child has what this process has.
    let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let wanted = Rlimit { current: Some(soft.min(most)), maximum: Some(hard.min(most)) };
    prlimit(pid, resource, wanted)?;
    Ok(())
}

/// Elsewhere no limit can be set from outside.
#[cfg(not(target_os = "linux"))]
pub(crate) fn set(_pid: u32, limits: &ProcessLimits) -> std::io::Result<()> {
    if *limits != ProcessLimits::default() {
        tracing::warn!("limits of a runner are set on Linux only");
    }
    Ok(())
}

//! What processes hold in memory.

use std::fs::read_to_string;

use anyhow::Context;

/// Returns the proportional set size of a process in bytes: what it shares is divided among those
/// that share it.
pub(crate) fn pss(pid: u32) -> anyhow::Result<u64> {
    let rollup = read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .with_context(|| format!("the memory of process {pid} cannot be read"))?;
    let kilobytes = rollup.lines().find_map(|line| {
        line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    Ok(1024 * kilobytes.context("/proc/PID/smaps_rollup is not as proc(5) says")?)
}

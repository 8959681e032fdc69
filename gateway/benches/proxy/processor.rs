//! Where processes run, and how long they did.

use std::fs;

use anyhow::{Context, Result};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

/// Keeps a process's threads on one core; those that it starts later stay there too.
pub(crate) fn pin(pid: u32, core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    for thread in threads(pid)? {
        let thread = Pid::from_raw(i32::try_from(thread)?).context("a thread has a number")?;
        sched_setaffinity(Some(thread), &cores).context("pin a thread")?;
    }
    Ok(())
}

/// How long the threads of a process were on a processor, in nanoseconds: all of
/// them, or those whose name begins so.
pub(crate) fn on_processor_ns(pid: u32, name: Option<&str>) -> Result<u64> {
    let mut total = 0;
    for thread in threads(pid)? {
        let file = |name: &str| format!("/proc/{pid}/task/{thread}/{name}");
        let called = fs::read_to_string(file("comm")).unwrap_or_default();
        if name.is_some_and(|name| !called.starts_with(name)) {
            continue;
        }
        let times = fs::read_to_string(file("schedstat")).unwrap_or_default();
        let first = times.split_whitespace().next().unwrap_or("0");
        total += first.parse::<u64>().context("read a thread's time")?;
    }
    Ok(total)
}

fn threads(pid: u32) -> Result<Vec<u32>> {
    let listed = fs::read_dir(format!("/proc/{pid}/task")).context("list a process's threads")?;
    listed.map(|entry| Ok(entry?.file_name().to_string_lossy().parse()?)).collect()
}

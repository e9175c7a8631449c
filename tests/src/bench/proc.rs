//! Processes as the kernel counts them: cpu from `/proc/PID/stat`, memory from `/proc/PID/status`.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};

/// Ticks a second in `/proc`: `USER_HZ`, fixed by the kernel's interface (proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// A process's cpu time, in ticks.
#[derive(Clone, Copy, Debug)]
struct Stat {
    parent: u32,
    own: u64,
    /// That of its children that have ended and were waited for, and of theirs.
    ended_children: u64,
}

fn stat(pid: &str) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(field(1)?).ok()?,
        own: field(11)? + field(12)?,
        ended_children: field(13)? + field(14)?,
    })
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS_PER_SECOND
}

/// Returns the cpu seconds that process `pid` itself has used.
pub(super) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = stat(&pid.to_string()).with_context(|| format!("process {pid} has ended"))?;
    Ok(seconds(stat.own))
}

/// Returns the cpu seconds that this process has used.
pub(super) fn own_cpu_seconds() -> Result<f64> {
    cpu_seconds(std::process::id())
}

/// Returns the cpu seconds of all programs that this process has started and waited for.
pub(super) fn waited_cpu_seconds() -> Result<f64> {
    let own = stat("self").context("/proc/self/stat cannot be read")?;
    Ok(seconds(own.ended_children))
}

/// Returns the cpu seconds of everything that this process has caused and that is not itself.
///
/// What has ended is in it too: either somebody waited for it and counts it, or it is still there.
pub(super) fn descendants_cpu_seconds() -> Result<f64> {
    let ticks: u64 = descendants()?.values().map(|stat| stat.own + stat.ended_children).sum();
    Ok(seconds(ticks) + waited_cpu_seconds()?)
}

/// Returns the pids of all descendants whose second argument is `argument`.
pub(super) fn descendants_called_with(argument: &str) -> Result<Vec<u32>> {
    let is_called = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(argument.as_bytes())
    };
    Ok(descendants()?.into_keys().filter(is_called).collect())
}

/// Returns the cpu seconds of process `pid` and of all that it has started.
pub(super) fn tree_cpu_seconds(pid: u32) -> Result<f64> {
    let below: u64 = descendants_of(pid)?.values().map(|it| it.own + it.ended_children).sum();
    let own = stat(&pid.to_string()).with_context(|| format!("process {pid} has ended"))?;
    Ok(seconds(own.own + own.ended_children + below))
}

/// Returns the resident memory of process `pid` and of all that it has started, in MiB.
///
/// Pages that they share count once: each one's own, and the greatest of what is in files.
pub(super) fn tree_resident(pid: u32) -> Result<f64> {
    let pids = descendants_of(pid)?.into_keys().chain([pid]);
    let all = pids.map(resident).collect::<Result<Vec<_>>>()?;
    let own: f64 = all.iter().map(|it| it.anonymous).sum();
    Ok(own + all.iter().map(|it| it.all - it.anonymous).fold(0.0, f64::max))
}

fn descendants() -> Result<BTreeMap<u32, Stat>> {
    descendants_of(std::process::id())
}

fn descendants_of(pid: u32) -> Result<BTreeMap<u32, Stat>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("/proc cannot be listed")? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if let (Ok(pid), Some(stat)) = (name.parse::<u32>(), stat(&name)) {
            all.insert(pid, stat);
        }
    }
    let mut found = BTreeMap::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        let children = all.iter().filter(|(_, stat)| stat.parent == parent);
        let children: Vec<(u32, Stat)> = children.map(|(pid, stat)| (*pid, *stat)).collect();
        parents.extend(children.iter().map(|(pid, _)| *pid));
        found.extend(children);
    }
    Ok(found)
}

/// Resident memory of a process, in MiB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resident {
    pub(super) all: f64,
    /// Its own: neither its program nor anything else that is in a file.
    pub(super) anonymous: f64,
}

/// Returns the resident memory of process `pid`.
pub(super) fn resident(pid: u32) -> Result<Resident> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} has ended"))?;
    let mib = |key: &str| -> Result<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|line| line.split_whitespace().next());
        let kib: f64 = kib.with_context(|| format!("process {pid} has no {key}"))?.parse()?;
        Ok(kib / 1024.0)
    };
    Ok(Resident { all: mib("VmRSS:")?, anonymous: mib("RssAnon:")? })
}

//! The machine that is measured on, and how much of it others used meanwhile.

use std::{fs, path::Path, thread};

use anyhow::{Context as _, Result};

use super::proc;

/// Describes the machine, name by name.
pub(super) fn describe() -> Result<Vec<(&'static str, String)>> {
    let cpus = read("/proc/cpuinfo")?;
    let model = value_of(&cpus, "model name").unwrap_or("unknown").to_owned();
    let memory = read("/proc/meminfo")?;
    let memory = value_of(&memory, "MemTotal").and_then(|text| text.split(' ').next());
    let kib: f64 = memory.context("/proc/meminfo has no MemTotal")?.parse()?;
    let folder = std::env::temp_dir();
    let (fs_type, mount) = file_system(&folder)?;
    Ok(vec![
        ("cpu", model),
        ("cores", thread::available_parallelism()?.to_string()),
        ("memory", format!("{:.1} GiB", kib / 1024.0 / 1024.0)),
        ("kernel", read("/proc/sys/kernel/osrelease")?.trim().to_owned()),
        ("disk", format!("{fs_type} ({mount}) under {}", folder.display())),
        ("load at start", load()?),
    ])
}

/// Returns the load averages of 1, 5 and 15 minutes.
pub(super) fn load() -> Result<String> {
    let text = read("/proc/loadavg")?;
    Ok(text.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
}

/// How busy all cpus have been, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Busy {
    busy: f64,
    all: f64,
    ours: f64,
}

impl Busy {
    pub(super) fn read() -> Result<Self> {
        let text = read("/proc/stat")?;
        let line = text.lines().next().context("/proc/stat is empty")?;
        let ticks: Vec<f64> = line.split_whitespace().skip(1).flat_map(str::parse).collect();
        // user nice system idle iowait irq softirq steal; guests are in user already.
        let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = ticks[..] else {
            anyhow::bail!("/proc/stat has another form: {line}");
        };
        let busy = user + nice + system + irq + softirq + steal;
        let ours = proc::own_cpu_seconds()? + proc::descendants_cpu_seconds()?;
        Ok(Self { busy: busy / 100.0, all: (busy + idle + iowait) / 100.0, ours })
    }

    /// Returns the share of all cpus that others have used since: neither we nor what we started.
    pub(super) fn foreign_since(self) -> Result<f64> {
        let now = Self::read()?;
        let foreign = (now.busy - self.busy) - (now.ours - self.ours);
        Ok((foreign / (now.all - self.all)).clamp(0.0, 1.0))
    }
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{path} cannot be read"))
}

fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

/// Returns the type of the file system that `path` is on, and what is mounted.
fn file_system(path: &Path) -> Result<(String, String)> {
    let path = path.canonicalize()?;
    let mounts = read("/proc/self/mounts")?;
    let mut best: Option<(usize, &str, &str)> = None;
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [device, mount, fs_type, ..] = fields[..] else { continue };
        // A later mount on the same place hides the earlier one.
        let is_better = best.is_none_or(|(length, ..)| mount.len() >= length);
        if path.starts_with(mount) && is_better {
            best = Some((mount.len(), fs_type, device));
        }
    }
    let (_, fs_type, device) = best.context("no file system holds the folder for benchmarks")?;
    Ok((fs_type.to_owned(), device.to_owned()))
}

//! How busy the host is: processor, memory, disk and load average, for the heartbeat.

use std::{
    io,
    path::{Path, PathBuf},
};

use cutover_common::HostLoad;

use crate::shim::files::read_capped;

/// The largest `/proc` file read here is `/proc/stat`: 1024 processors and a long interrupt line
/// make about 200 KiB.
const PROC_BYTES_MAX: u64 = 1024 * 1024;

/// Why the host's load is not known.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    #[error("could not read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} has no field {field:?} that is a number")]
    Field { path: PathBuf, field: &'static str },
}

/// Reads the host's load; the processor's share is that since the sample before.
#[derive(Debug)]
pub struct LoadSampler {
    data_dir: PathBuf,
    processor: ProcessorTicks,
}

impl LoadSampler {
    /// Begins to measure. `data_dir` names the disk to watch.
    ///
    /// # Errors
    ///
    /// When `/proc` cannot be read.
    pub fn new(data_dir: PathBuf) -> Result<Self, SampleError> {
        Ok(Self { data_dir, processor: ProcessorTicks::read()? })
    }

    /// Returns the load at this moment. Reads three small files; about 50 microseconds.
    ///
    /// # Errors
    ///
    /// When one of the sources cannot be read: no load is not the same as a load of zero.
    pub fn sample(&mut self) -> Result<HostLoad, SampleError> {
        let processor = ProcessorTicks::read()?;
        let cpu_permille = processor.busy_permille_since(self.processor);
        self.processor = processor;
        let memory = read_memory()?;
        let disk = read_disk(&self.data_dir)?;
        Ok(HostLoad {
            cpu_permille,
            memory_used_bytes: memory.total_bytes.saturating_sub(memory.available_bytes),
            memory_total_bytes: memory.total_bytes,
            disk_used_bytes: disk.used_bytes,
            disk_total_bytes: disk.total_bytes,
            load1_milli: read_load1()?,
        })
    }
}

/// Processor time since boot, in clock ticks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct ProcessorTicks {
    idle: u64,
    total: u64,
}

impl ProcessorTicks {
    fn read() -> Result<Self, SampleError> {
        let path = Path::new("/proc/stat");
        Self::parse(&read_text(path)?)
            .ok_or_else(|| SampleError::Field { path: path.to_owned(), field: "cpu" })
    }

    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        // user nice system idle iowait irq softirq steal; guest time, which follows, is already
        // part of user (proc(5)).
        let ticks: Vec<u64> =
            line.split_ascii_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
        if ticks.len() < 4 {
            return None;
        }
        let idle = ticks[3] + ticks.get(4).copied().unwrap_or(0);
        Some(Self { idle, total: ticks.iter().sum() })
    }

    fn busy_permille_since(self, earlier: Self) -> u32 {
        let total = self.total.saturating_sub(earlier.total);
        // iowait may go backwards (proc(5)), hence the saturation.
        let idle = self.idle.saturating_sub(earlier.idle).min(total);
        if total == 0 {
            return 0;
        }
        u32::try_from((total - idle) * 1000 / total).unwrap_or(1000)
    }
}

pub(super) struct Memory {
    pub(super) total_bytes: u64,
    pub(super) available_bytes: u64,
}

pub(super) fn read_memory() -> Result<Memory, SampleError> {
    let path = Path::new("/proc/meminfo");
    let text = read_text(path)?;
    let bytes = |field: &'static str| {
        text.lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok())
            .map(|kib| kib.saturating_mul(1024))
            .ok_or_else(|| SampleError::Field { path: path.to_owned(), field })
    };
    Ok(Memory { total_bytes: bytes("MemTotal")?, available_bytes: bytes("MemAvailable")? })
}

pub(super) struct Disk {
    pub(super) total_bytes: u64,
    pub(super) used_bytes: u64,
}

pub(super) fn read_disk(dir: &Path) -> Result<Disk, SampleError> {
    let stat = rustix::fs::statvfs(dir)
        .map_err(|errno| SampleError::Read { path: dir.to_owned(), source: errno.into() })?;
    Ok(Disk {
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        used_bytes: stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize),
    })
}

fn read_load1() -> Result<u32, SampleError> {
    let path = Path::new("/proc/loadavg");
    parse_load1(&read_text(path)?)
        .ok_or_else(|| SampleError::Field { path: path.to_owned(), field: "one minute" })
}

/// Parses `0.56 0.21 …` into thousandths without a float.
fn parse_load1(text: &str) -> Option<u32> {
    let (whole, hundredths) = text.split_ascii_whitespace().next()?.split_once('.')?;
    let whole: u32 = whole.parse().ok()?;
    let hundredths: u32 = hundredths.parse().ok()?;
    whole.checked_mul(1000)?.checked_add(hundredths.checked_mul(10)?)
}

fn read_text(path: &Path) -> Result<String, SampleError> {
    let bytes = read_capped(path, PROC_BYTES_MAX)
        .map_err(|source| SampleError::Read { path: path.to_owned(), source })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processors_share_is_that_between_two_samples() {
        let before = ProcessorTicks::parse("cpu  100 0 100 800 0 0 0 0 50 0\ncpu0 1 2").unwrap();
        let after = ProcessorTicks::parse("cpu  150 0 125 850 50 0 0 25 99 0").unwrap();

        // 200 ticks, of which 50 idle and 50 waiting for a disk.
        assert_eq!(after.busy_permille_since(before), 500);
        assert_eq!(after.busy_permille_since(after), 0);
        assert_eq!(before.busy_permille_since(after), 0);
        assert_eq!(ProcessorTicks::parse("cpu  1 2"), None);
        assert_eq!(ProcessorTicks::parse("intr 5"), None);
    }

    #[test]
    fn the_load_average_is_read_in_thousandths() {
        assert_eq!(parse_load1("0.56 0.21 0.12 2/92 10083"), Some(560));
        assert_eq!(parse_load1("12.05 0.21"), Some(12050));
        assert_eq!(parse_load1("x"), None);
    }

    #[test]
    fn a_sample_of_this_host_is_plausible() {
        let mut sampler = LoadSampler::new(PathBuf::from("/")).unwrap();
        let load = sampler.sample().unwrap();

        assert!(load.cpu_permille <= 1000, "{load:?}");
        assert!(load.memory_used_bytes > 0, "{load:?}");
        assert!(load.memory_used_bytes < load.memory_total_bytes, "{load:?}");
        assert!(load.disk_used_bytes > 0, "{load:?}");
        assert!(load.disk_used_bytes <= load.disk_total_bytes, "{load:?}");
    }

    #[test]
    fn a_missing_data_directory_is_named() {
        let mut sampler = LoadSampler::new(PathBuf::from("/no/such/dir")).unwrap();

        let error = sampler.sample().unwrap_err();

        assert_eq!(error.to_string(), "could not read /no/such/dir");
    }
}

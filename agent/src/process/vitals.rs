//! What an instance needs and complains of: the memory of its processes, and its error lines.

use std::{io, path::Path};

use cutover_common::{ApplicationName, InstanceId, InstanceVitals, Slot};

use super::{
    ProcessRuntime, blocking,
    identity::ProcessMark,
    stat::{ProcStat, all_processes, descendants_of},
};
use crate::shim::{
    error_lines::read_error_lines,
    files::read_capped,
    record::{STATE_FILE, StateRecord, read_record},
};

/// Seven numbers of twenty digits at most.
const STATM_BYTES_MAX: u64 = 256;

impl ProcessRuntime {
    /// Measures instances that run. Who does not, or cannot be measured, is left out.
    ///
    /// One walk through `/proc` for all of them, about 10 microseconds for each process of the
    /// host.
    pub async fn vitals(
        &self,
        instances: Vec<(ApplicationName, Slot, InstanceId)>,
    ) -> Vec<InstanceVitals> {
        let runtime = self.clone();
        blocking(move || {
            let all = all_processes().unwrap_or_else(|error| {
                tracing::warn!(%error, "could not list the host's processes");
                Vec::new()
            });
            let vitals = |(application, slot, instance): (ApplicationName, Slot, InstanceId)| {
                let dir = runtime.dir_of(&application, instance);
                let (memory_bytes, error_lines) =
                    measure(&dir, instance, &runtime.places.boot_id, &all)?;
                Some(InstanceVitals { application, slot, instance, memory_bytes, error_lines })
            };
            instances.into_iter().filter_map(vitals).collect()
        })
        .await
    }
}

/// Returns what the instance of `dir` needs and complains of, if it is among `all` processes.
fn measure(
    dir: &Path,
    instance: InstanceId,
    boot_id: &str,
    all: &[ProcStat],
) -> Option<(Option<u64>, Option<u64>)> {
    let state = read_record::<StateRecord>(dir, STATE_FILE).ok()??;
    if state.instance != instance.0 {
        return None;
    }
    let find = |mark: &ProcessMark| {
        let is_same = |stat: &&ProcStat| {
            stat.pid == mark.pid && stat.start_ticks == mark.start_ticks && !stat.is_ended()
        };
        all.iter().filter(|_| mark.boot_id == boot_id).find(is_same)
    };
    let application = find(&state.application)?;
    // Whoever lost its parent is the shim's; where somebody has killed the shim, only those are
    // known that still have theirs.
    let processes = match find(&state.shim) {
        Some(shim) => descendants_of(shim.pid, all),
        None => [vec![*application], descendants_of(application.pid, all)].concat(),
    };
    // One that ends meanwhile needs nothing any more.
    let resident = processes.iter().filter_map(|stat| resident_bytes(stat.pid).ok());
    let memory_bytes = resident.fold(0_u64, u64::saturating_add);
    let error_lines = read_error_lines(dir).ok().flatten();
    let believable = (1..=InstanceVitals::MEMORY_BYTES_MAX).contains(&memory_bytes);
    Some((believable.then_some(memory_bytes), error_lines))
}

/// Returns how much memory of a process is resident. That is cheap to know; telling apart what
/// several processes share would need a walk through all of its pages.
fn resident_bytes(pid: u32) -> io::Result<u64> {
    let text = read_capped(Path::new(&format!("/proc/{pid}/statm")), STATM_BYTES_MAX)?;
    let pages = parse_resident(&text).ok_or(io::ErrorKind::InvalidData)?;
    Ok(pages.saturating_mul(rustix::param::page_size() as u64))
}

/// The second number of `/proc/PID/statm` (proc(5)).
fn parse_resident(statm: &[u8]) -> Option<u64> {
    str::from_utf8(statm).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_part_is_the_second_number() {
        assert_eq!(parse_resident(b"2345 678 90 1 0 2 0\n"), Some(678));
        assert_eq!(parse_resident(b"2345"), None);
        assert_eq!(parse_resident(b"x y"), None);
    }

    #[test]
    fn a_process_knows_what_it_needs_itself() {
        let before = resident_bytes(std::process::id()).unwrap();
        // More than whatever else of this test's process ends at the same time.
        let touched = vec![1_u8; 64 << 20];

        let after = resident_bytes(std::process::id()).unwrap();

        assert!(after > before + (32 << 20), "{before} {after} {}", touched.len());
        assert!(resident_bytes(5_000_000).is_err());
    }
}

//! `/proc/PID/stat`: who a process is, whose child, and when it was started.

use std::{fs, io, path::Path};

use crate::shim::files::read_capped;

/// A stat line is about 300 bytes; its longest part, the name, has 64 at most.
const STAT_BYTES_MAX: u64 = 4096;

/// What the kernel says of one process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProcStat {
    pub pid: u32,
    /// The state's letter: `R`, `S`, `Z` and so on.
    pub state: char,
    pub parent: u32,
    pub group: u32,
    /// Field 22, in clock ticks since boot.
    pub start_ticks: u64,
}

impl ProcStat {
    /// Returns whether the process ended and only its exit status is left.
    pub const fn is_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Returns what the kernel says of `pid`, or None when there is no such process.
///
/// # Errors
///
/// When `/proc` cannot be read, or its line is not understood.
pub fn read_stat(pid: u32) -> io::Result<Option<ProcStat>> {
    match read_capped(Path::new(&format!("/proc/{pid}/stat")), STAT_BYTES_MAX) {
        Ok(line) => parse(&line).map(Some).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("/proc/{pid}/stat is not understood"),
            )
        }),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns all processes. One that ends meanwhile is left out.
///
/// # Errors
///
/// When `/proc` cannot be listed.
pub fn all_processes() -> io::Result<Vec<ProcStat>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Ok(Some(stat)) = read_stat(pid) {
            found.push(stat);
        }
    }
    Ok(found)
}

/// Returns those of `all` that descend from `ancestor`, without itself.
pub fn descendants_of(ancestor: u32, all: &[ProcStat]) -> Vec<ProcStat> {
    let mut found: Vec<ProcStat> = Vec::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        for stat in all.iter().filter(|stat| stat.parent == parent && stat.pid != ancestor) {
            // Pids read one after the other may form a circle when one is reused meanwhile.
            if !found.iter().any(|known| known.pid == stat.pid) {
                found.push(*stat);
                parents.push(stat.pid);
            }
        }
    }
    found
}

/// A process that ends between open and read gives ESRCH, before that ENOENT.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

fn parse(line: &[u8]) -> Option<ProcStat> {
    let pid = str::from_utf8(line.split(|b| *b == b' ').next()?).ok()?.parse().ok()?;
    // The second field is the program's name in parentheses, and may hold spaces and parentheses
    // itself: fields are counted from the last one (proc(5)).
    let name_end = line.iter().rposition(|b| *b == b')')?;
    let mut fields = str::from_utf8(line.get(name_end + 1..)?).ok()?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    // Field 6 is next; the start time is field 22.
    let start_ticks = fields.nth(16)?.parse().ok()?;
    Some(ProcStat { pid, state, parent, group, start_ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS_7_TO_21: &str = "0 -1 4194304 101 0 0 0 0 0 0 0 20 0 1 0";

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        for name in ["head", "a b", "x) S 1 1 1 (", "\u{fffd})"] {
            let line = format!("77 ({name}) R 5 6 7 {FIELDS_7_TO_21} 131496 2998272\n");

            let stat = parse(line.as_bytes()).unwrap();

            let expected =
                ProcStat { pid: 77, state: 'R', parent: 5, group: 6, start_ticks: 131_496 };
            assert_eq!(stat, expected, "{name}");
        }
        assert_eq!(parse(b"77 (x) R 5"), None);
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"77 (\xff\xfe) R 5 6"), None);
    }

    #[test]
    fn a_process_that_is_not_there_is_no_error() {
        // Above the kernel's limit for pids, 2^22.
        assert_eq!(read_stat(5_000_000).unwrap(), None);
        assert_eq!(read_stat(std::process::id()).unwrap().unwrap().pid, std::process::id());
    }

    #[test]
    fn descendants_are_found_through_generations_and_circles_end() {
        let stat = |pid, parent| ProcStat { pid, state: 'S', parent, group: 1, start_ticks: 1 };
        let all = [stat(1, 0), stat(10, 1), stat(12, 11), stat(11, 10), stat(20, 1), stat(10, 12)];

        let mut pids: Vec<u32> = descendants_of(10, &all).iter().map(|stat| stat.pid).collect();
        pids.sort_unstable();

        assert_eq!(pids, [11, 12]);
    }
}

//! Ends whatever an instance left behind: by descent while its shim lives, by the token in its
//! environment after.
//!
//! Each process is opened, then proven, then killed through the handle (promise A8).

use std::{
    io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{
    identity::Proven,
    stat::{ProcStat, all_processes, descendants_of},
};
use crate::shim::files::read_capped;

/// A kill takes effect within microseconds; looking again costs one walk through `/proc`.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The kernel lets an environment and argv be 2 MiB together by default (execve(2)).
const ENVIRONMENT_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Why it is not known that nothing was left behind.
#[derive(Debug, thiserror::Error)]
pub enum LeftBehind {
    #[error("could not list the host's processes")]
    List(#[source] io::Error),
    /// Such as processes in uninterruptible sleep, or of another user.
    #[error("could not end {count} processes, such as pid {pid}")]
    StillRunning { count: usize, pid: u32 },
}

/// Sends SIGKILL to all descendants of the calling process that run at this moment.
///
/// # Errors
///
/// When `/proc` cannot be listed.
pub fn kill_own_descendants() -> io::Result<()> {
    let all = all_processes()?;
    for stat in descendants_of(std::process::id(), &all).iter().filter(|stat| !stat.is_ended()) {
        send(stat, Signal::KILL);
    }
    Ok(())
}

/// Sends `signal` to the members of the process group `group`, without its leader. Sends nothing
/// if the leader ended: the group's number may be that of strangers then.
///
/// # Errors
///
/// When `/proc` cannot be listed.
pub fn signal_followers(leader: &Proven, group: u32, signal: Signal) -> io::Result<()> {
    let all = all_processes()?;
    // A leader that lives after the listing lived during it, so the list shows its own group.
    if leader.has_ended()? {
        return Ok(());
    }
    for stat in all.iter().filter(|stat| stat.group == group && stat.pid != group) {
        send(stat, signal);
    }
    Ok(())
}

/// Ends every process whose environment holds `NAME=value`, within `within`. Blocks.
///
/// # Errors
///
/// When some are still there at the end, or `/proc` cannot be listed.
pub fn kill_by_token(name: &str, value: &str, within: Duration) -> Result<(), LeftBehind> {
    let token = format!("{name}={value}");
    let deadline = Instant::now() + within;
    loop {
        let all = all_processes().map_err(LeftBehind::List)?;
        let found: Vec<&ProcStat> = all
            .iter()
            .filter(|stat| stat.pid != std::process::id() && !stat.is_ended())
            .filter(|stat| carries(stat, token.as_bytes()))
            .collect();
        let Some(first) = found.first() else {
            return Ok(());
        };
        if Instant::now() >= deadline {
            return Err(LeftBehind::StillRunning { count: found.len(), pid: first.pid });
        }
        for stat in found {
            send(stat, Signal::KILL);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Another user's environment cannot be read: such a process is not ours.
fn carries(stat: &ProcStat, token: &[u8]) -> bool {
    read_capped(Path::new(&format!("/proc/{}/environ", stat.pid)), ENVIRONMENT_BYTES_MAX)
        .is_ok_and(|environment| environment.split(|b| *b == 0).any(|entry| entry == token))
}

/// Sends to the process that `stat` was read of, or to nobody.
fn send(stat: &ProcStat, signal: Signal) {
    if let Ok(Some(proven)) = Proven::of(stat) {
        // Refused for a process that changed its user: it will be counted as left behind.
        proven.signal(signal).ok();
    }
}

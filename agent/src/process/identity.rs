//! Proof that a pid still is the process it was: never a bare pid (promise A8).
//!
//! A pidfd is opened first and the start time compared after: from then on the handle names that
//! process for ever, whatever happens to the number.

use std::{io, os::fd::OwnedFd};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};

use super::stat::{ProcStat, read_stat};

/// What tells one process from all others, before and after it.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct ProcessMark {
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`, in clock ticks since boot.
    pub start_ticks: u64,
    pub boot_id: String,
}

impl ProcessMark {
    /// Makes the mark of `pid`, which must be a child of the caller or itself: its pid cannot be
    /// reused meanwhile.
    ///
    /// # Errors
    ///
    /// When `/proc` does not show it.
    pub fn of_own(pid: u32, boot_id: &str) -> io::Result<Self> {
        let stat = read_stat(pid)?.ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { pid, start_ticks: stat.start_ticks, boot_id: boot_id.to_owned() })
    }

    /// Opens the process that this mark was made of, if it still runs in boot `boot_id`.
    ///
    /// # Errors
    ///
    /// When the kernel refuses for another reason than that the process is not there.
    pub fn prove(&self, boot_id: &str) -> io::Result<Option<Proven>> {
        if self.boot_id != boot_id {
            return Ok(None);
        }
        Ok(Proven::open(self.pid)?.filter(|proven| proven.start_ticks == self.start_ticks))
    }
}

/// A handle on one running process. Signals sent through it reach that process or nobody.
#[derive(Debug)]
pub struct Proven {
    pidfd: OwnedFd,
    start_ticks: u64,
}

impl Proven {
    /// Opens whatever process has `pid` at this moment, unless it ended.
    fn open(pid: u32) -> io::Result<Option<Self>> {
        let Some(pid_raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let pidfd = match pidfd_open(pid_raw, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            // INVAL and NOENT: the number names a thread of another process.
            Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let stat = read_stat(pid)?.filter(|stat| !stat.is_ended());
        Ok(stat.map(|stat| Self { pidfd, start_ticks: stat.start_ticks }))
    }

    /// Opens the process that `stat` was read of, if it still runs.
    ///
    /// # Errors
    ///
    /// As [`ProcessMark::prove`].
    pub fn of(stat: &ProcStat) -> io::Result<Option<Self>> {
        Ok(Self::open(stat.pid)?.filter(|proven| proven.start_ticks == stat.start_ticks))
    }

    /// Sends `signal`. A process that ended meanwhile is no error.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, such as for a process of another user.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Returns whether the process ended. As long as it did not, its number is nobody else's, and
    /// its group's number neither.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to tell.
    pub fn has_ended(&self) -> io::Result<bool> {
        let mut ready = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        Ok(poll(&mut ready, Some(&now))? > 0)
    }

    /// Returns the descriptor, which becomes readable when the process ends.
    pub fn into_fd(self) -> OwnedFd {
        self.pidfd
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::boot_id;

    fn own_mark() -> ProcessMark {
        ProcessMark::of_own(std::process::id(), &boot_id().unwrap()).unwrap()
    }

    #[test]
    fn a_process_is_proven_by_pid_start_time_and_boot_together() {
        let boot = boot_id().unwrap();
        let mark = own_mark();
        assert!(mark.prove(&boot).unwrap().is_some());

        let reused = ProcessMark { start_ticks: mark.start_ticks + 1, ..mark.clone() };
        let rebooted = ProcessMark { boot_id: "another".to_owned(), ..mark };
        let no_pid = ProcessMark { pid: 5_000_000, ..reused.clone() };
        let negative = ProcessMark { pid: u32::MAX, ..reused.clone() };
        for stranger in [reused, rebooted, no_pid, negative] {
            assert!(stranger.prove(&boot).unwrap().is_none(), "{stranger:?}");
        }
    }

    #[test]
    fn a_zombie_is_not_running() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let mark = ProcessMark::of_own(child.id(), &boot_id().unwrap()).unwrap();
        let pid = Pid::from_child(&child);
        let ended = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), ended).unwrap();

        assert!(mark.prove(&boot_id().unwrap()).unwrap().is_none());

        child.wait().unwrap();
    }
}

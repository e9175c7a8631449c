//! Every process that this one caused, found again and ended: for the demo and for live tests.
//!
//! Instances outlive their agents on purpose, so ending the agents is not enough. Whoever wants to
//! clean up makes itself the reaper of its orphaned descendants; whatever is below it in the tree
//! is then its own for certain, as nobody else can reap it and give its pid to a stranger.

use std::{collections::BTreeMap, fs, io, time::Duration};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, waitpid};

/// How often all descendants are ended again: an ended one's children come to us only then.
const ROUNDS_MAX: usize = 200;

/// Between two rounds: long enough for the kernel to hand orphans over, short for who waits.
const ROUND_EVERY: Duration = Duration::from_millis(20);

/// Makes this process the reaper of its orphaned descendants.
///
/// # Errors
///
/// When the kernel refuses.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Kills every descendant and reaps it.
///
/// Blocks for a moment. Returns how many were left when it gave up: none, unless the kernel does
/// not end a process.
pub fn end_all() -> usize {
    for _ in 0..ROUNDS_MAX {
        reap();
        let left = all();
        if left.is_empty() {
            return 0;
        }
        for pid in left {
            // Fails only for one that has just ended.
            let _ended = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(ROUND_EVERY);
    }
    all().len()
}

/// Returns all living descendants.
pub fn all() -> Vec<Pid> {
    below(rustix::process::getpid())
}

fn reap() {
    while let Ok(Some(_)) = waitpid(None, WaitOptions::NOHANG) {}
}

/// Returns all living descendants of `root`.
fn below(root: Pid) -> Vec<Pid> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (pid, parent) in processes() {
        children.entry(parent).or_default().push(pid);
    }
    let mut found = Vec::new();
    let mut look = vec![root.as_raw_nonzero().get()];
    while let Some(parent) = look.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            found.extend(Pid::from_raw(child));
            look.push(child);
        }
    }
    found
}

/// Returns each process with its parent. Zombies are left out: they are ended.
fn processes() -> Vec<(i32, i32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // After the last ')': a program's name may hold anything.
            let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
            let state = fields.next()?;
            let parent = fields.next()?.parse().ok()?;
            (state != "Z").then_some((pid, parent))
        })
        .collect()
}

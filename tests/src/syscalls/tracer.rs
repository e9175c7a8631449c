//! Tracer: strace at one daemon, counting its calls and killing it after the one that is wanted.
//!
//! `inject=…:signal=KILL:when=N` alone cannot reach every call: strace counts "per syscall and per
//! tracee" (strace(1)), and each thread is a tracee. The second fsync of one thread is never the
//! second of the process if another thread had two before it. So strace only holds each call back
//! for a moment at its end (`delay_exit`), the calls of all threads are counted as they are
//! written down, and the process is killed while the wanted one is held: it is done, and its thread
//! has done nothing after it. Being killed after call N is being killed before call N + 1.
//!
//! Children are let go at their exec (`-b execve`): a shim and its application are not the daemon.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use cutover_runtime::descendants;
use rustix::process::{Pid, Signal, kill_process};

use crate::live::program_on_path;

/// The calls that touch a file system or the network, and those that make a thread or process.
const CALLS: &str = "openat,openat2,write,pwrite64,writev,fsync,fdatasync,sync_file_range,\
    /^rename,/^unlink,/^mkdir,/^symlink,/^link,ftruncate,chmod,fchmod,sendto,sendmsg,connect,\
    accept4,clone,clone3,vfork";

/// How long a call is held at its end, in microseconds: for this program to read of it and to kill.
/// Being too late is counted, not hidden.
const HELD_US: u32 = 1_000;

/// How long strace may take to end when the daemon that it was started with has.
const ENDED_WITHIN: Duration = Duration::from_secs(20);

/// One call of a daemon.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Call {
    /// Such as `fsync`.
    pub(super) kind: String,
    /// As strace wrote it.
    pub(super) text: String,
}

/// What was seen of a daemon.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) calls: Vec<Call>,
    /// How many calls were done when it was killed. None: it was not.
    pub(super) killed_after: Option<usize>,
}

/// A daemon that is being traced.
#[derive(Debug)]
pub(super) struct Tracer {
    /// None where the daemon was started under strace: strace ends with it.
    strace: Option<Child>,
    reader: JoinHandle<Trace>,
}

/// Finds out whether a running process can be traced here, as a daemon will be.
///
/// # Errors
///
/// Says why not, as a line for whoever runs this.
pub fn can_trace() -> Result<(), String> {
    let strace = program_on_path("strace").ok_or("there is no strace; run: tests/setup.sh test")?;
    let mut other = Command::new("sleep")
        .arg("60")
        .spawn()
        .map_err(|error| format!("sleep cannot be run, to try strace on: {error}"))?;
    let attached = try_on(&strace, other.id());
    end(&mut other);
    attached
}

/// Ends a child of ours.
fn end(child: &mut Child) {
    // Fails only when it has ended.
    let _ended = kill_process(Pid::from_child(child), Signal::KILL);
    child.wait().expect("our own child can be waited for");
}

fn try_on(strace: &Path, pid: u32) -> Result<(), String> {
    let mut strace = Command::new(strace)
        .args(options("/dev/null"))
        .args(["-p", &pid.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("strace cannot be run: {error}"))?;
    let said = strace.stderr.take().expect("stderr is a pipe");
    let first = BufReader::new(said).lines().next().and_then(Result::ok).unwrap_or_default();
    end(&mut strace);
    if first.contains("attached") {
        return Ok(());
    }
    Err(format!("strace may not trace here (see ptrace_scope), or is older than 5.14: {first}"))
}

/// Returns strace's options, with what it saw going to `output`.
fn options(output: &str) -> Vec<String> {
    let trace = format!("trace={CALLS}");
    let inject = format!("inject={CALLS}:delay_exit={HELD_US}");
    // -y: with the path of each descriptor. Long enough for any path that is written into a call.
    ["-f", "-b", "execve", "-y", "-s", "100", "-e", "signal=none", "-e", &trace, "-e", &inject]
        .into_iter()
        .chain(["-o", output])
        .map(ToOwned::to_owned)
        .collect()
}

/// Returns the command line under which a daemon is traced from its first call on.
pub(super) fn command_line() -> Vec<String> {
    // -D: the daemon is our child, and strace its grandchild.
    let strace = ["strace", "-D", "-qq"].map(ToOwned::to_owned);
    let end = "--".to_owned();
    strace.into_iter().chain(options("/dev/stdout")).chain([end]).collect()
}

impl Tracer {
    /// Traces process `pid` from now on, and kills it after call `kill_after`, if it comes to it.
    ///
    /// # Panics
    ///
    /// When strace does not attach to it.
    pub(super) fn attach(pid: u32, kill_after: usize) -> Self {
        let mut strace = Command::new("strace")
            .args(options("/dev/stdout"))
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace can be started");
        let said = strace.stderr.take().expect("stderr is a pipe");
        until_attached(said);
        let stdout = strace.stdout.take().expect("stdout is a pipe");
        Self { strace: Some(strace), reader: read(stdout, pid, kill_after) }
    }

    /// Follows process `pid`, which was started under [`command_line`] and says so on `stdout`.
    pub(super) fn follow(stdout: impl Read + Send + 'static, pid: u32, kill_after: usize) -> Self {
        Self { strace: None, reader: read(stdout, pid, kill_after) }
    }

    /// Returns whether the daemon can go on untraced.
    pub(super) const fn can_detach(&self) -> bool {
        self.strace.is_some()
    }

    /// Lets the daemon go on untraced, if it lives, and returns what was seen. A daemon that was
    /// started under strace must have ended.
    ///
    /// # Panics
    ///
    /// When strace does not end.
    pub(super) fn end(self) -> Trace {
        let Self { strace, reader } = self;
        if let Some(mut strace) = strace {
            // Not SIGTERM, after which strace 6.1 waits for ever for a call that it holds. The kernel
            // lets go of whatever is traced.
            end(&mut strace);
        } else {
            until_read(&reader);
        }
        reader.join().expect("the reader of the trace does not panic")
    }
}

/// Waits until a trace is read to its end. A daemon that is killed before strace has attached to it
/// leaves strace waiting for ever, and with it who reads what it says.
fn until_read(reader: &JoinHandle<Trace>) {
    let begun = Instant::now();
    while !reader.is_finished() {
        if begun.elapsed() > ENDED_WITHIN {
            for pid in descendants::all().into_iter().filter(is_strace) {
                // It may have ended by now.
                let _asked = kill_process(pid, Signal::KILL);
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn is_strace(pid: &Pid) -> bool {
    let name = fs::read(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default();
    name == b"strace\n"
}

/// Waits until strace says that it is attached to every thread.
fn until_attached(said: ChildStderr) {
    let mut lines = BufReader::new(said).lines();
    let first = lines.next().and_then(Result::ok).unwrap_or_default();
    assert!(first.contains("attached"), "strace does not attach: {first}");
    // The rest is said to nobody, but must not fill the pipe.
    thread::spawn(move || lines.by_ref().for_each(drop));
}

/// Counts the calls in `trace` and kills `pid` after the wanted one.
fn read(trace: impl Read + Send + 'static, pid: u32, kill_after: usize) -> JoinHandle<Trace> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    thread::spawn(move || {
        let mut seen = Trace::default();
        let mut begun = BTreeMap::new();
        for line in BufReader::new(trace).lines().map_while(Result::ok) {
            let Some(call) = finished_call(&line, &mut begun) else { continue };
            if !changes_nothing(&call) {
                seen.calls.push(call);
            }
            if seen.killed_after.is_none() && seen.calls.len() == kill_after {
                // The daemon is a child that nobody has waited for: its pid is its own.
                let killed = kill_process(pid, Signal::KILL);
                seen.killed_after = killed.ok().map(|()| kill_after);
            }
        }
        seen
    })
}

/// Reads a line of strace: `PID NAME(…) = …`, or in two parts when another thread's came between.
/// Returns the call that it finishes.
fn finished_call(line: &str, begun: &mut BTreeMap<String, String>) -> Option<Call> {
    let (thread, rest) = line.split_once(' ')?;
    let rest = rest.trim_start();
    if let Some(head) = rest.strip_suffix("<unfinished ...>") {
        begun.insert(thread.to_owned(), head.trim_end().to_owned());
        return None;
    }
    let text = match rest.strip_prefix("<... ") {
        Some(resumed) => {
            let tail = resumed.split_once("resumed>").map_or("", |(_, tail)| tail);
            format!("{}{tail}", begun.remove(thread)?)
        }
        None => rest.to_owned(),
    };
    let (kind, _) = text.split_once('(')?;
    let is_name =
        kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    // "= ?": the process was killed in it.
    let is_done = text.contains(" = ") && !text.contains(" = ?");
    (is_name && is_done).then(|| Call { kind: kind.to_owned(), text: text.clone() })
}

/// Whether nothing can tell that the call was made: it wakes a thread of the daemon's own, writes
/// the daemon's log, which nothing reads, asks the kernel about processes, hundreds of times, or
/// looks for a library where it is not.
fn changes_nothing(call: &Call) -> bool {
    let first = call.text.split(',').next().unwrap_or_default();
    let asks = ["\"/proc/", "\"/sys/", " = -1 "].iter().any(|sign| call.text.contains(sign));
    first.contains("anon_inode:")
        || first.starts_with("write(2<")
        || (call.kind == "openat" && asks && call.text.contains("O_RDONLY"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(lines: &[&str]) -> Vec<String> {
        let mut begun = BTreeMap::new();
        lines.iter().filter_map(|line| finished_call(line, &mut begun)).map(|it| it.text).collect()
    }

    #[test]
    fn a_call_counts_when_it_is_done_even_if_another_threads_came_between() {
        let seen = calls(&[
            "7 fsync(3</a> <unfinished ...>",
            "8 write(4</b>, \"x\", 1) = 1 (DELAYED)",
            "7 <... fsync resumed>) = 0",
            "7 rename(\"/a\", \"/b\") = ?",
            "7 +++ killed by SIGKILL +++",
        ]);
        assert_eq!(seen, ["write(4</b>, \"x\", 1) = 1 (DELAYED)", "fsync(3</a>) = 0"]);
    }

    #[test]
    fn what_only_wakes_a_thread_is_not_counted() {
        let of = |text: &str| Call { kind: "write".to_owned(), text: text.to_owned() };
        assert!(changes_nothing(&of("write(5<anon_inode:[eventfd]>, \"\\1\", 8) = 8")));
        assert!(changes_nothing(&of("write(2</tmp/agent.log>, \"INFO\", 4) = 4")));
        let asks = "openat(AT_FDCWD</>, \"/proc/7/stat\", O_RDONLY|O_CLOEXEC) = 5</proc/7/stat>";
        assert!(changes_nothing(&Call { kind: "openat".to_owned(), text: asks.to_owned() }));
        assert!(!changes_nothing(&of("write(9</tmp/agent.journal>, \"x\", 1) = 1")));
    }
}

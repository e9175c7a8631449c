//! One daemon: started, killed, started again.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::wait_for;

/// How long a daemon may take to end after SIGTERM.
const END_WITHIN: Duration = Duration::from_secs(15);

/// A program that runs until it is told not to.
#[derive(Debug)]
pub(crate) struct Daemon {
    program: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    pub(super) fn new(program: &Path, args: &[&str], log: PathBuf) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Self { program: program.to_owned(), args, log, child: None }
    }

    /// Starts `program` from now on.
    pub(super) fn replace_program(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    /// Starts it with these arguments too from now on.
    pub(super) fn add_args(&mut self, args: &[&str]) {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
    }

    pub(crate) fn start(&mut self) {
        let mut command = Command::new(&self.program);
        command.stdout(Stdio::null());
        self.spawn(command);
    }

    /// Starts it as the child that `tracer`, given as a command line, makes of itself; returns what
    /// the two say on stdout.
    pub(crate) fn start_under(&mut self, tracer: &[String]) -> ChildStdout {
        let mut command = Command::new(&tracer[0]);
        command.args(&tracer[1..]).arg(&self.program).stdout(Stdio::piped());
        self.spawn(command);
        let child = self.child.as_mut().expect("it was just started");
        child.stdout.take().expect("stdout is a pipe")
    }

    fn spawn(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "{} runs already", self.program.display());
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let child = command
            .args(&self.args)
            // A group of its own, as a service manager gives it: kill -9 hits this process only.
            .process_group(0)
            .stdin(Stdio::null())
            .stderr(log.expect("the cluster's folder takes a log file"))
            .spawn();
        self.child = Some(child.expect("the program can be started"));
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Ends it at once, wherever it is.
    pub(crate) fn kill_9(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("our own child can be killed");
        child.wait().expect("our own child can be waited for");
    }

    /// Asks it to end, and returns how it did.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::TERM).expect("our own child takes a signal");
        wait_for("a daemon to end after SIGTERM", END_WITHIN, || {
            child.try_wait().expect("our own child can be looked at")
        })
    }

    /// Takes note that it has ended, so that it can be started again.
    pub(crate) fn bury(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it ran");
        child.wait().expect("our own child can be waited for")
    }

    /// Returns how it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("our own child can be looked at")
    }

    /// Returns the end of its log.
    pub(crate) fn log_tail(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = File::open(&self.log) {
            let length = file.metadata().map_or(0, |it| it.len());
            let seek = file.seek(SeekFrom::Start(length.saturating_sub(4_000)));
            if seek.is_ok() {
                let mut bytes = Vec::new();
                drop(file.read_to_end(&mut bytes));
                text = String::from_utf8_lossy(&bytes).into_owned();
            }
        }
        text
    }
}

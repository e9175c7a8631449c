//! Runs one short command of a release, a hook or a probe, with a limit on everything: time,
//! output, and what it may leave behind (promises.md §3 row 97).

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use cutover_common::{ErrorChain, VariableName};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe,
    process::{Child, Command},
    time::timeout,
};

use super::{blocking, end_watch::EndWatch, kept_output::KeptOutput};
use crate::{secrets::reveal, shim::program::find_program};

/// How much of the output's end is kept: what fits into a report beside all the rest.
const OUTPUT_BYTES_MAX: usize = 4 * 1024;

/// How long to wait for the rest of the output once the whole group is dead: what is left is in
/// the pipe already, unless a process in another session holds it open.
const REST_WITHIN: Duration = Duration::from_millis(200);

/// What to run. Nothing is inherited from the agent: no environment, no input, no descriptor.
#[derive(Clone, Copy, Debug)]
pub struct BoundedCommand<'a> {
    pub argv: &'a [String],
    pub env: &'a BTreeMap<String, String>,
    /// What is in the environment besides, by the files that hold the values.
    pub secrets: &'a BTreeMap<VariableName, PathBuf>,
    pub directory: &'a Path,
    pub within: Duration,
}

/// How a bounded command ended, and the end of what it said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CommandResult {
    pub end: CommandEnd,
    /// The last 4 KiB of stdout and stderr together, as it came.
    pub output: String,
}

/// How a bounded command ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CommandEnd {
    Exited(i32),
    Signalled(i32),
    /// It was still running at the end of its time, and was killed.
    TimedOut,
    /// The text says why.
    NotStarted(String),
}

/// Runs `command` to its end. Its process group is dead when this returns, and also when the
/// future is dropped. What it says goes to `kept` too, if there is one.
pub async fn run_bounded(command: BoundedCommand<'_>, kept: Option<KeptOutput>) -> CommandResult {
    let said = Said { end: VecDeque::new(), kept };
    match spawn(command) {
        Ok(running) => running.finish(command.within, said).await,
        Err(text) => {
            said.into_text(&text).await;
            CommandResult { end: CommandEnd::NotStarted(text), output: String::new() }
        }
    }
}

struct Running {
    // Dropped in this order: the group is killed before tokio takes the leader's status, for as
    // long as the leader is a zombie its number is the group's and nobody else's.
    group: Group,
    child: Child,
    watch: EndWatch,
    output: pipe::Receiver,
}

struct Group(Option<Pid>);

impl Group {
    fn kill(&mut self) {
        if let Some(pid) = self.0.take() {
            // SRCH: the leader alone was in it, and is a zombie.
            kill_process_group(pid, Signal::KILL).ok();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(command: BoundedCommand<'_>) -> Result<Running, String> {
    let name = command.argv.first().map_or("", String::as_str);
    let program =
        find_program(name, command.directory).map_err(|error| ErrorChain(&error).to_string())?;
    let secrets = reveal(command.secrets)?;
    let could_not = |error: io::Error| format!("could not run {name:?}: {error}");
    let (reader, writer) = io::pipe().map_err(could_not)?;
    let stderr = writer.try_clone().map_err(could_not)?;
    let output = pipe::Receiver::from_owned_fd(reader.into()).map_err(could_not)?;
    let child = Command::new(&program)
        .arg0(name)
        .args(&command.argv[1..])
        .env_clear()
        .envs(command.env)
        .envs(secrets.iter().map(|(name, value)| (name.as_str(), value)))
        .current_dir(command.directory)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(stderr)
        .kill_on_drop(true)
        .spawn()
        .map_err(could_not)?;
    let pid = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw)
        .ok_or_else(|| format!("could not run {name:?}: it has no pid"))?;
    let group = Group(Some(pid));
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| could_not(errno.into()))?;
    let watch = EndWatch::new(pidfd).map_err(could_not)?;
    Ok(Running { group, child, watch, output })
}

impl Running {
    // `self` stays whole, so that a future that is dropped drops the fields in their order.
    async fn finish(mut self, within: Duration, mut said: Said) -> CommandResult {
        let (watch, output) = (&self.watch, &mut self.output);
        let ended = async {
            tokio::select! {
                ended = watch.ended() => ended,
                // Output that ends early is no end of the command.
                () = said.fill_from(output) => watch.ended().await,
            }
        };
        let in_time = timeout(within, ended).await.is_ok();
        self.group.kill();
        let status = self.child.wait().await;
        // A timeout means that somebody who left the group holds the pipe.
        timeout(REST_WITHIN, said.fill_from(&mut self.output)).await.ok();
        let end = if in_time { end_of(status) } else { CommandEnd::TimedOut };
        CommandResult { end, output: said.into_text("").await }
    }
}

fn end_of(status: io::Result<ExitStatus>) -> CommandEnd {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => CommandEnd::Exited(code),
            (None, signal) => CommandEnd::Signalled(signal.unwrap_or_default()),
        },
        Err(error) => CommandEnd::NotStarted(format!("could not take its exit status: {error}")),
    }
}

/// What a command says, of any length.
struct Said {
    end: VecDeque<u8>,
    kept: Option<KeptOutput>,
}

impl Said {
    /// Reads until the end. May be dropped at any moment and called again: nothing is lost.
    async fn fill_from(&mut self, output: &mut pipe::Receiver) {
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = output.read(&mut chunk).await {
            self.take(&chunk[..length]);
        }
    }

    fn take(&mut self, said: &[u8]) {
        self.end.extend(said);
        let surplus = self.end.len().saturating_sub(OUTPUT_BYTES_MAX);
        self.end.drain(..surplus);
        // At most a mebibyte in all, into the page cache: shorter than handing it over takes.
        let written = self.kept.as_mut().map_or(Ok(()), |kept| kept.take(said));
        if let Err(error) = written {
            tracing::warn!(%error, "a command's output is not kept before its end");
        }
    }

    /// Ends the file, with a last word of ours, and returns the end of what was said.
    async fn into_text(mut self, last_word: &str) -> String {
        self.take(last_word.as_bytes());
        if let Some(kept) = self.kept {
            let finished = blocking(move || kept.finish()).await;
            finished.unwrap_or_else(|error| {
                tracing::warn!(%error, "the end of a command's output is not kept");
            });
        }
        String::from_utf8_lossy(&Vec::from(self.end)).into_owned()
    }
}

#[cfg(test)]
mod tests;

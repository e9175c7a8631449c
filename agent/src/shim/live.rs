//! A shim's life: lock, start, record, wait, record, clean up.

use std::{
    fs::{self, OpenOptions, TryLockError},
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, atomic::AtomicBool, mpsc},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use cutover_common::{ErrorChain, Timestamp};
use rustix::{
    io::Errno,
    process::{Pid, WaitOptions, WaitStatus, getpid, set_child_subreaper, setsid, wait},
};

use super::{
    complain,
    error_lines::ErrorLines,
    log::RotatingLog,
    program::find_program,
    record::{
        EXIT_FILE, ExitCause, ExitRecord, LOCK_FILE, SHIM_FILE, SPEC_FILE, STATE_FILE, Spec,
        StateRecord, read_record, write_record,
    },
};
use crate::{
    host::boot_id,
    process::{identity::ProcessMark, sweep::kill_own_descendants},
    secrets::reveal,
};

/// How long to go on killing what an application left behind. A killed process ends within
/// milliseconds, unless it hangs in the kernel, for which nobody should wait.
const CLEAN_UP_WITHIN: Duration = Duration::from_secs(10);

/// How often the killed are looked for again.
const CLEAN_UP_EVERY: Duration = Duration::from_millis(2);

/// How long the last output may take to reach the disk: 64 KiB, the pipe's whole content.
const LOG_WITHIN: Duration = Duration::from_secs(2);

/// The copier's needs are one chunk on the heap and a few calls deep.
const LOG_STACK_BYTES: usize = 128 * 1024;

/// Signals that ask for an end, and whoever sends them to a shim means the application: a shim
/// that went first would take the exit status and the log along.
const DEAF_TO: [i32; 6] = [
    signal_hook::consts::SIGTERM,
    signal_hook::consts::SIGINT,
    signal_hook::consts::SIGHUP,
    signal_hook::consts::SIGQUIT,
    signal_hook::consts::SIGUSR1,
    signal_hook::consts::SIGUSR2,
];

/// Why a shim gave up. The agent finds the text in the instance's folder.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShimError {
    #[error("could not prepare the shim's own process")]
    Prepare(#[source] io::Error),
    #[error("could not lock the instance's folder")]
    Lock(#[source] io::Error),
    #[error("could not read {SPEC_FILE}")]
    ReadSpec(#[source] io::Error),
    #[error("the instance's folder has no {SPEC_FILE}")]
    NoSpec,
    #[error("could not write {file}")]
    Write {
        file: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("could not wait for the application")]
    Wait(#[source] io::Error),
}

pub(super) fn live(dir: &Path) -> Result<(), ShimError> {
    prepare_self().map_err(ShimError::Prepare)?;
    let lock_file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join(LOCK_FILE))
        .map_err(ShimError::Lock)?;
    match lock_file.try_lock() {
        Ok(()) => {}
        // An agent was killed while it started this instance, and another one tries again: there
        // is a shim already (promises.md §3 row 11).
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(ShimError::Lock(error)),
    }
    // One start for each id: what an earlier shim began is not begun again.
    if [SHIM_FILE, STATE_FILE, EXIT_FILE].iter().any(|file| dir.join(file).exists()) {
        return Ok(());
    }
    let spec: Spec =
        read_record(dir, SPEC_FILE).map_err(ShimError::ReadSpec)?.ok_or(ShimError::NoSpec)?;
    let boot_id = boot_id().map_err(ShimError::Prepare)?;
    let shim = ProcessMark::of_own(std::process::id(), &boot_id).map_err(ShimError::Prepare)?;
    write(dir, SHIM_FILE, &shim)?;

    let (child, copied) = match start(&spec, dir) {
        Ok(started) => started,
        Err(text) => return write(dir, EXIT_FILE, &record_of(ExitCause::SpawnError(text))),
    };
    let state = ProcessMark::of_own(child.id(), &boot_id).map(|application| StateRecord {
        instance: spec.instance,
        application,
        shim,
    });
    let recorded =
        state.map_err(ShimError::Prepare).and_then(|state| write(dir, STATE_FILE, &state));
    if let Err(error) = recorded {
        // Nobody could find this application again, so it must not live.
        end_descendants();
        return Err(error);
    }
    let ended = wait_for(Pid::from_child(&child)).map_err(ShimError::Wait);
    let exit = ended.map(record_of)?;
    let written = write(dir, EXIT_FILE, &exit);
    end_descendants();
    // A timeout means that something in the kernel still holds the pipe; what it may say is lost.
    copied.recv_timeout(LOG_WITHIN).ok();
    // A disk that was full may have room once the application and its files are gone.
    written.or_else(|_| write(dir, EXIT_FILE, &exit))
}

fn prepare_self() -> io::Result<()> {
    // No file system is kept busy, and relative paths mean nothing here.
    rustix::process::chdir("/")?;
    match setsid() {
        // PERM: a group leader already, as when started from a shell by hand.
        Ok(_) | Err(Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    // A handler and not SIG_IGN, which the application would inherit (execve(2)).
    for signal in DEAF_TO {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    // Whoever loses its parent becomes our child, even if it left its session.
    set_child_subreaper(Some(getpid()))?;
    Ok(())
}

/// Starts the application. What it says goes through a pipe of ours to the log; the receiver
/// hears when all of it is written.
fn start(spec: &Spec, dir: &Path) -> Result<(Child, mpsc::Receiver<()>), String> {
    let could_not = |what: &str, error: &io::Error| format!("could not {what}: {error}");
    let (reader, writer) = io::pipe().map_err(|error| could_not("make a pipe", &error))?;
    let stderr = writer.try_clone().map_err(|error| could_not("make a pipe", &error))?;
    let name = spec.command.first().map_or("", String::as_str);
    if !fs::metadata(&spec.directory).is_ok_and(|metadata| metadata.is_dir()) {
        let directory = spec.directory.display();
        return Err(format!("could not run {name:?}: its directory {directory} is not there"));
    }
    let program =
        find_program(name, &spec.directory).map_err(|error| ErrorChain(&error).to_string())?;

    let secrets = reveal(&spec.secrets)?;
    let (done, copied) = mpsc::channel();
    let (log, lines) = (RotatingLog::new(spec.log.clone()), ErrorLines::begin(dir));
    thread::Builder::new()
        .name("log".to_owned())
        .stack_size(LOG_STACK_BYTES)
        .spawn(move || {
            log.copy_from(reader, lines);
            // The shim stopped waiting when nobody receives.
            done.send(()).ok();
        })
        .map_err(|error| could_not("start the log's thread", &error))?;

    let child = Command::new(&program)
        .arg0(name)
        .args(&spec.command[1..])
        .env_clear()
        .envs(&spec.env)
        .envs(secrets.iter().map(|(name, value)| (name.as_str(), value)))
        .current_dir(&spec.directory)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(stderr)
        .spawn()
        .map_err(|error| spawn_error_text(name, &program, &error))?;
    Ok((child, copied))
}

fn spawn_error_text(name: &str, program: &Path, error: &io::Error) -> String {
    let hint = match error.raw_os_error().map(Errno::from_raw_os_error) {
        // The file itself was seen to be there.
        Some(Errno::NOENT) => "; the interpreter that it names is not on this host",
        Some(Errno::NOEXEC) => "; it is neither a program for this machine nor begins with #!",
        _ => "",
    };
    format!("could not run {name:?} ({}): {error}{hint}", program.display())
}

/// Waits for the application, and takes the exit status of every orphan that became our child.
fn wait_for(application: Pid) -> io::Result<ExitCause> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == application => {
                if let Some(cause) = cause_of(status) {
                    return Ok(cause);
                }
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn cause_of(status: WaitStatus) -> Option<ExitCause> {
    status
        .exit_status()
        .map(ExitCause::Exited)
        .or_else(|| status.terminating_signal().map(ExitCause::Signalled))
}

/// Kills until no child is left. New ones may be made while we look, so once is not enough.
fn end_descendants() {
    let deadline = Instant::now() + CLEAN_UP_WITHIN;
    while Instant::now() < deadline {
        if let Err(error) = kill_own_descendants() {
            complain(&format!("could not look for processes that were left behind: {error}"));
        }
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => break,
                // CHILD: none is left.
                Err(_) => return,
            }
        }
        thread::sleep(CLEAN_UP_EVERY);
    }
    complain("gave up on processes that do not end after SIGKILL");
}

fn record_of(cause: ExitCause) -> ExitRecord {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = Timestamp::from_unix_ms(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX));
    ExitRecord { cause, at }
}

fn write<T: serde::Serialize>(dir: &Path, file: &'static str, record: &T) -> Result<(), ShimError> {
    write_record(dir, file, record).map_err(|source| ShimError::Write { file, source })
}

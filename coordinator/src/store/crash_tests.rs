//! Processes that are killed, disks that fail, power that is cut: every acknowledged event is there.
//!
//! The writer is this test program itself, started again for the one test `writer` with its orders in
//! the environment. What it prints was acknowledged.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
};

use super::{AppendError, EventStore as _, Sequence, SledStore, StoreThread, luck::Luck};

/// Where the writer's store is.
const STORE: &str = "CUTOVER_TEST_STORE";
/// How many tasks write at once.
const WRITERS: &str = "CUTOVER_TEST_WRITERS";
/// How many events each of them writes; 0 for without end.
const EVENTS: &str = "CUTOVER_TEST_EVENTS";

/// The writer's event: who wrote it, its number there, and filling of a length that follows from both.
fn event(run: &str, writer: usize, number: usize) -> Vec<u8> {
    let seed = (writer as u64) << 32 | number as u64;
    let length = match Luck::seeded(seed).within(0..40) {
        // Some megabytes in each test: more than the anchor holds.
        0 => 200_000,
        length => length * 20,
    };
    let mut event = format!("{run}/{writer}/{number}/").into_bytes();
    event.resize(event.len() + length, b'.');
    event
}

/// Says one line to the test that started this process.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The other side has closed its end when it has seen enough; the kill is on its way.
    let _is_read = out.write_all(format!("\n@{line}\n").as_bytes()).and_then(|()| out.flush());
}

#[test]
#[ignore = "is a process that the other tests start"]
fn writer() {
    let order = |name: &str| std::env::var(name).expect("started by another test");
    let number = |name: &str| order(name).parse::<usize>().expect("a number");
    let (writers, events) = (number(WRITERS), number(EVENTS));
    say("opening");
    let store = SledStore::open(Path::new(&order(STORE))).expect("opened");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let (thread, handle) = StoreThread::start(Box::new(store)).expect("started");
        let run = Arc::<str>::from(std::process::id().to_string());
        let mut tasks = Vec::new();
        for writer in 0..writers {
            let (handle, run) = (handle.clone(), Arc::clone(&run));
            tasks.push(tokio::spawn(async move {
                for number in (0..).take_while(|number| events == 0 || *number < events) {
                    match handle.append(vec![event(&run, writer, number)]).await {
                        Ok(appended) => say(&format!("{} {run} {writer} {number}", appended.first)),
                        Err(AppendError::Poisoned { .. }) => say("poisoned"),
                        Err(other) => say(&format!("failed {other}")),
                    }
                }
            }));
        }
        for task in tasks {
            task.await.expect("a writer");
        }
        thread.stop().await;
    });
    say("done");
}

/// A writer that runs. Killed when dropped.
struct Writer {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Writer {
    fn start(mut command: Command, store: &Path, writers: usize, events: usize) -> Self {
        let mut child = command
            .args(["--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .arg(
                concat!(module_path!(), "::writer")
                    .split_once("::")
                    .expect("a path in the crate")
                    .1,
            )
            .env(STORE, store)
            .env(WRITERS, writers.to_string())
            .env(EVENTS, events.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, lines }
    }

    /// The next line that it says; `None` when it has ended.
    fn line(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).expect("readable") == 0 {
                return None;
            }
            // A line cut off by the kill was not said.
            if let Some(said) = line.strip_prefix('@').and_then(|line| line.strip_suffix('\n')) {
                return Some(said.to_owned());
            }
        }
    }

    fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("waited for");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.kill();
        }
    }
}

/// What has been acknowledged: the event at each place.
#[derive(Default)]
struct Acknowledged(BTreeMap<u64, Vec<u8>>);

impl Acknowledged {
    /// Takes note of a line of the writer, if it is an acknowledgement.
    fn note(&mut self, line: &str) -> bool {
        let words: Vec<&str> = line.split(' ').collect();
        let &[place, run, writer, number] = words.as_slice() else { return false };
        let count = |word: &str| word.parse::<usize>().expect("a number");
        let expected = event(run, count(writer), count(number));
        let before = self.0.insert(place.parse().expect("a place"), expected);
        assert!(before.is_none(), "two acknowledgements for event {place}");
        true
    }

    /// Everything acknowledged is in `store`, at its place.
    fn assert_in(&self, store: &SledStore, what: &str) {
        let mut missing = self.0.clone();
        for item in store.read_after(Sequence::ZERO) {
            let (sequence, event) = item.expect("readable");
            if let Some(expected) = missing.remove(&sequence.0) {
                assert!(event == expected, "{what}: event {sequence} differs");
            }
        }
        assert!(
            missing.is_empty(),
            "{what}: {} of {} acknowledged events are lost, the first is {:?}",
            missing.len(),
            self.0.len(),
            missing.first_key_value().map(|(sequence, _)| sequence)
        );
    }
}

fn this_program() -> Command {
    Command::new(std::env::current_exe().expect("the test program"))
}

fn new_store() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = dir.path().join("store");
    drop(SledStore::create(&store).expect("a new store"));
    (dir, store)
}

fn has_program(name: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}

#[test]
fn every_acknowledged_event_survives_kill_9_at_any_moment() {
    let (_dir, path) = new_store();
    let mut luck = Luck::from_environment();
    let mut acknowledged = Acknowledged::default();
    for round in 0..20 {
        let mut writer = Writer::start(this_program(), &path, luck.within(1..20), 0);
        assert_eq!(writer.line().as_deref(), Some("opening"));
        // None: killed while it opens the store.
        let mut wanted = if luck.within(0..5) == 0 { 0 } else { luck.within(1..800) };
        while wanted > 0 {
            let line = writer.line().expect("the writer writes without end");
            assert!(acknowledged.note(&line), "{line}");
            wanted -= 1;
        }
        writer.kill();
        while let Some(line) = writer.line() {
            acknowledged.note(&line);
        }
        let store = SledStore::open(&path).expect("opened");
        acknowledged.assert_in(&store, &format!("round {round}"));
    }
    println!("{} acknowledged events, 20 kills", acknowledged.0.len());
}

/// Runs a writer under strace and returns what it said and what strace wrote.
fn traced(store: &Path, writers: usize, events: usize, options: &[&str]) -> (Vec<String>, String) {
    let trace = store.with_extension("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-qq", "-e", "trace=fsync,fdatasync"]).args(options);
    command.arg("-o").arg(&trace).arg("--").arg(std::env::current_exe().expect("the test program"));
    let mut writer = Writer::start(command, store, writers, events);
    let mut lines = Vec::new();
    while let Some(line) = writer.line() {
        lines.push(line);
    }
    writer.child.wait().expect("waited for");
    (lines, fs::read_to_string(trace).expect("the trace"))
}

/// The syncs of the anchor, and those of anything else.
fn syncs(trace: &str) -> (usize, usize) {
    let calls = trace.lines().filter(|line| line.contains("sync("));
    let (anchor, others): (Vec<&str>, Vec<&str>) =
        calls.partition(|line| line.contains("/anchor>"));
    (anchor.len(), others.len())
}

#[test]
fn a_commit_costs_one_fdatasync() {
    if !has_program("strace") {
        println!("skipped: there is no strace");
        return;
    }
    let (_dir, path) = new_store();
    let (lines, trace) = traced(&path, 1, 250, &[]);
    let (anchor, others) = syncs(&trace);

    assert_eq!(lines.iter().filter(|line| line.contains(' ')).count(), 250, "{lines:?}");
    assert_eq!(anchor, 250);
    // Those of opening and closing: sled's files, the directories.
    assert!(others <= 20, "{others} syncs beside the anchor's:\n{trace}");
}

#[test]
fn where_writes_cannot_be_made_synchronous_each_commit_syncs_the_log_too() {
    if !has_program("strace") {
        println!("skipped: there is no strace");
        return;
    }
    let (_dir, path) = new_store();
    let refused = ["-e", "trace=fsync,fdatasync,ioctl", "-e", "inject=ioctl:error=EOPNOTSUPP"];
    let trace = traced(&path, 1, 50, &refused).1;

    let synced =
        |file| trace.lines().filter(|line| line.contains("sync(") && line.contains(file)).count();
    assert_eq!(synced("/anchor>"), 50, "{trace}");
    assert!(synced("/sled/db>") >= 50, "{trace}");
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_or_synced_and_nothing_acknowledged_is_lost() {
    if !has_program("strace") {
        println!("skipped: there is no strace");
        return;
    }
    let (_dir, path) = new_store();
    let (lines, trace) = traced(&path, 1, 60, &["-e", "inject=fdatasync:error=EIO:when=30"]);

    let mut acknowledged = Acknowledged::default();
    let before = lines.iter().take_while(|line| *line != "poisoned");
    let count = before.filter(|line| acknowledged.note(line)).count();
    assert_eq!(count, 29, "{lines:?}");
    assert_eq!(lines.iter().filter(|line| *line == "poisoned").count(), 31, "{lines:?}");
    let (_before, after) = trace.split_once("(INJECTED)").expect("the failure was injected");
    assert_eq!(syncs(after).0, 0, "a sync was tried again: {after}");
    let store = SledStore::open(&path).expect("opened");
    acknowledged.assert_in(&store, "after the failed sync");
}

/// Removes a mount when dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// Mounts `what` on the new directory `on`; `None`, with a message, if this machine does not allow it.
    fn mount(what: &Path, on: &Path, options: &[&str]) -> Option<Self> {
        fs::create_dir_all(on).expect("a directory");
        let mut command = Command::new("mount");
        let output = command.args(options).arg(what).arg(on).output();
        match output {
            Ok(output) if output.status.success() => Some(Self(on.to_owned())),
            Ok(output) => {
                let told = String::from_utf8_lossy(&output.stderr);
                println!("skipped: mounting {} is refused: {}", what.display(), told.trim());
                None
            }
            Err(error) => {
                println!("skipped: there is no mount: {error}");
                None
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            println!("{} is still mounted", self.0.display());
        }
    }
}

/// Makes an image of an empty ext4; `false`, with a message, if this machine has not what it takes.
fn make_ext4(image: &Path) -> bool {
    let file = fs::File::create(image).expect("an image");
    file.set_len(256 * 1024 * 1024).expect("a length");
    if !rustix::process::geteuid().is_root() {
        println!("skipped: cutting the power takes root, to mount an image");
        return false;
    }
    match Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image).status() {
        Ok(status) if status.success() => true,
        other => {
            println!("skipped: mkfs.ext4 does not work here: {other:?}");
            false
        }
    }
}

/// What the file system had not sent to its device at the moment of the copy is not in the copy, as after a
/// loss of power: the loop device's file is the disk. It cannot show a disk that lies about its cache.
#[test]
fn every_acknowledged_event_survives_a_power_cut() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (image, cut) = (dir.path().join("disk"), dir.path().join("cut"));
    if !make_ext4(&image) {
        return;
    }
    let options = ["-o", "loop,commit=300"];
    let Some(disk) = Mounted::mount(&image, &dir.path().join("mnt"), &options) else { return };
    let store = disk.0.join("store");
    drop(SledStore::create(&store).expect("a new store"));
    let mut luck = Luck::from_environment();
    let mut acknowledged = Acknowledged::default();
    let mut unsynced_lost = 0;
    for round in 0..10 {
        fs::write(disk.0.join(format!("unsynced-{round}")), vec![1; 100_000]).expect("written");
        let mut writer = Writer::start(this_program(), &store, luck.within(1..20), 0);
        assert_eq!(writer.line().as_deref(), Some("opening"));
        // None: cut while it opens the store.
        let mut wanted = if luck.within(0..4) == 0 { 0 } else { luck.within(1..1500) };
        while wanted > 0 {
            wanted -= usize::from(acknowledged.note(&writer.line().expect("writes without end")));
        }
        let pid = rustix::process::Pid::from_child(&writer.child);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("stopped");
        fs::copy(&image, &cut).expect("copied");
        writer.kill();
        // Said before the cut, and read after it.
        while let Some(line) = writer.line() {
            acknowledged.note(&line);
        }
        let options = ["-o", "loop"];
        let after = Mounted::mount(&cut, &dir.path().join("after"), &options).expect("mounted");
        let unsynced = fs::read(after.0.join(format!("unsynced-{round}"))).unwrap_or_default();
        unsynced_lost += usize::from(unsynced != vec![1; 100_000]);
        let store = SledStore::open(&after.0.join("store")).expect("opened after the power cut");
        acknowledged.assert_in(&store, &format!("round {round}"));
        drop(store);
    }
    assert!(unsynced_lost > 0, "no power was cut: what nobody had synced was there each time");
    println!(
        "{} acknowledged events, 10 cuts, {unsynced_lost} unsynced files lost",
        acknowledged.0.len()
    );
}

#[test]
fn a_full_disk_refuses_events_loses_none_and_accepts_again_when_there_is_room() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: a disk of its own takes root, to mount it");
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = ["-t", "tmpfs", "-o", "size=40m,mode=700"];
    let Some(disk) = Mounted::mount(Path::new("tmpfs"), &dir.path().join("mnt"), &options) else {
        return;
    };
    let path = disk.0.join("store");
    let mut store = SledStore::create(&path).expect("a new store");
    let large = vec![7; 200_000];
    let refused = loop {
        match store.append(store.last(), std::slice::from_ref(&large)) {
            Ok(_) => assert!(store.last().0 < 1000, "40 MB hold no 200 MB"),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, AppendError::Full { .. }) && !refused.is_fatal(), "{refused:?}");

    let full = store.last();
    assert!(full.0 > 10, "only {full} events fit");
    drop(store);
    let mut store = SledStore::open(&path).expect("opened");
    assert_eq!(store.last(), full);
    assert!(matches!(store.append(full, &[vec![7]]), Err(AppendError::Full { .. })));
    let remounted = Command::new("mount").args(["-o", "remount,size=80m"]).arg(&disk.0).status();
    assert!(remounted.is_ok_and(|status| status.success()), "no more room");
    store.append(full, &[vec![7]]).expect("appended by the same store");
    assert_eq!(store.read_after(Sequence::ZERO).filter(Result::is_ok).count() as u64, full.0 + 1);
}

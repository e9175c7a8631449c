//! The program `cutover-sim`: what it prints, and its exit status.

use std::{fs, path::PathBuf};

use cutover_sim::{
    script::{Call, Entry, Fault, Mode, Script, What},
    swarm,
};

/// What a command printed.
struct Printed {
    status: Option<i32>,
    out: String,
    notes: String,
}

fn cutover_sim(args: &[&str]) -> Printed {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_cutover-sim"))
        .args(args)
        .output()
        .expect("the program can be started");
    Printed {
        status: output.status.code(),
        out: String::from_utf8(output.stdout).expect("it prints text"),
        notes: String::from_utf8(output.stderr).expect("it prints text"),
    }
}

/// One host, one deploy, and a cut of the link.
fn tiny() -> Script {
    let drawn = swarm::draw(0);
    let mut application = drawn.applications[0].clone();
    application.hosts = vec![0];
    application.probe = None;
    application.releases.truncate(1);
    let options = vec![("strategy".to_owned(), "all_at_once".to_owned())];
    let deploy = Call::Deploy { application: 0, release: 0, options };
    let cut = Fault::ResetLink { host: 0 };
    Script {
        mode: Mode::Safety,
        ends_ms: 30_000,
        hosts: 1,
        applications: vec![application],
        entries: vec![
            Entry { at_ms: 2_000, what: What::Call(deploy) },
            Entry { at_ms: 20_000, what: What::Fault(cut) },
        ],
        ..drawn
    }
}

fn in_a_file(script: &Script) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let path = folder.path().join("tiny.toml");
    fs::write(&path, script.print()).expect("there is room for a script");
    (folder, path)
}

#[test]
fn explain_tells_a_script_in_plain_words() {
    let (_folder, path) = in_a_file(&tiny());

    let told = cutover_sim(&["explain", path.to_str().expect("a path in UTF-8")]);

    assert_eq!(told.status, Some(0), "{}", told.notes);
    for part in [
        "operator      asks: deploy app-0@1.0 strategy=all_at_once",
        "coordinator   begins a rollout of app-0 to 1.0",
        "host-0        accepts goal 1.1 of app-0: blue 1.0 prepared, green absent",
        "coordinator   app-0 to 1.0: succeeded: 1 of 1 hosts run 1.0 in health",
        "world         the connection of host-0 is reset",
    ] {
        assert!(told.out.contains(part), "{part:?} is not in:\n{}", told.out);
    }
}

#[test]
fn explain_tells_it_host_by_host() {
    let (_folder, path) = in_a_file(&tiny());
    let path = path.to_str().expect("a path in UTF-8");

    let told = cutover_sim(&["explain", path, "--by-host"]);
    let (above, host) = told.out.split_once("\nhost-0\n").expect("it has a chapter for host-0");

    assert!(above.starts_with("the coordinator and its operators\n"), "{above}");
    assert!(above.contains("begins a rollout of app-0"), "{above}");
    assert!(host.contains("begins as pid"), "{host}");
    assert!(host.contains("the connection of host-0 is reset"), "{host}");
    assert!(!host.contains("begins a rollout"), "{host}");
}

#[test]
fn replay_prints_the_hash_and_what_was_broken() {
    let (_folder, path) = in_a_file(&tiny());
    let path = path.to_str().expect("a path in UTF-8");

    let (one, other) = (cutover_sim(&["replay", path]), cutover_sim(&["replay", path]));

    assert_eq!(one.status, Some(0), "{}", one.notes);
    assert_eq!(one.out, other.out);
    assert!(one.out.starts_with("hash            "), "{}", one.out);
    assert!(one.out.contains("whole rollouts  1\n"), "{}", one.out);
    assert!(one.out.ends_with("broken          nothing\n"), "{}", one.out);
}

#[test]
fn run_prints_what_was_done() {
    let run = cutover_sim(&["run", "--seeds", "5", "--jobs", "2"]);

    assert_eq!(run.status, Some(0), "{}\n{}", run.out, run.notes);
    assert!(run.out.contains("seeds            5\n"), "{}", run.out);
    assert!(run.out.contains("broken           nothing\n"), "{}", run.out);
}

#[test]
fn what_is_no_script_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let path = folder.path().join("bad.toml");
    fs::write(&path, "seed = 1\n").expect("there is room for a file");
    let bad = cutover_sim(&["replay", path.to_str().expect("a path in UTF-8")]);
    let missing = cutover_sim(&["replay", "/does/not/exist.toml"]);
    let unknown = cutover_sim(&["run", "--seed", "1"]);

    assert_eq!((bad.status, missing.status, unknown.status), (Some(2), Some(2), Some(2)));
    assert!(bad.notes.contains("bad.toml is no script"), "{}", bad.notes);
    assert!(bad.notes.contains("missing field"), "{}", bad.notes);
    assert!(missing.notes.contains("could not read /does/not/exist.toml"), "{}", missing.notes);
    assert!(unknown.notes.contains("--seeds"), "{}", unknown.notes);
}

#[test]
fn there_is_nothing_to_shrink_where_nothing_breaks() {
    let (_folder, path) = in_a_file(&tiny());

    let shrunk = cutover_sim(&["shrink", path.to_str().expect("a path in UTF-8")]);

    assert_eq!(shrunk.status, Some(2));
    assert!(shrunk.notes.contains("breaks no promise"), "{}", shrunk.notes);
}

/// With a bug planted, a run is broken, found, shrunk and told.
#[cfg(feature = "planted-bugs")]
#[test]
fn a_planted_bug_is_found_and_shrunk_to_a_script_that_still_breaks() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let path = folder.path().join("small.toml");
    let path = path.to_str().expect("a path in UTF-8");
    let bug = ["--bug", "stops-before-prepared"];

    let run = cutover_sim(&[&["run", "--output", path], &bug[..]].concat());
    assert_eq!(run.status, Some(1), "{}\n{}", run.out, run.notes);
    // By what comes first: a hook of the new release, or its archive.
    let promises = [" broke E2: ", " broke E9: "];
    assert!(promises.iter().any(|broke| run.out.contains(broke)), "{}", run.out);

    let text = fs::read_to_string(path).expect("it wrote the script");
    let small = Script::parse(&text).expect("it wrote a script");
    // Which seed finds it follows from what seeds draw. One host and three calls are enough, unless the
    // run is one of groups, which are nothing without an edge and a host in each.
    assert!(small.entries.len() <= 8 && small.hosts <= 3, "{text}");
    let broken = cutover_sim(&[&["replay", path], &bug[..]].concat());
    assert_eq!(broken.status, Some(1), "{}", broken.out);
    let right = cutover_sim(&["replay", path]);
    assert_eq!(right.status, Some(0), "{}", right.out);
}

//! Hooks: what they see, how they end, what is kept of what they say, and what they leave behind.

use std::{collections::BTreeMap, fs, time::Duration};

use cutover_agent::process::{HookOutcome, HookSpec, KEPT_BYTES_MAX};

use super::support::{LONG, Place, until};

fn hook(place: &Place, script: &str) -> HookSpec {
    HookSpec {
        run: place.instance.0,
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: BTreeMap::from([("OUT".to_owned(), place.root().join("out").display().to_string())]),
        secrets: BTreeMap::new(),
        directory: place.release_dir(),
        within: LONG,
        log: place.root().join("data/logs/web/blue.smoke.log"),
    }
}

#[tokio::test]
async fn a_hook_runs_in_its_release_with_nothing_of_the_agents() {
    let place = Place::new();
    let spec = hook(&place, "pwd > $OUT; env | sort >> $OUT");

    assert_eq!(place.runtime.run_hook(spec.clone()).await, HookOutcome::Passed);

    let out = fs::read_to_string(place.root().join("out")).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    let release = place.release_dir().canonicalize().unwrap();
    assert_eq!(lines[0], release.to_str().unwrap());
    let names: Vec<&str> =
        lines[1..].iter().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert_eq!(names, ["CUTOVER_HOOK", "OUT", "PATH", "PWD"], "{out}");
}

#[tokio::test]
async fn how_a_hook_fails_is_told_with_the_end_of_what_it_said() {
    let place = Place::new();
    let table = [
        ("echo no; exit 2", LONG, "it exited with status 2; it said: no"),
        ("kill -9 $$", LONG, "signal 9 ended it"),
        ("setsid sleep 1000 & sleep 1000", Duration::from_millis(300), "it was killed after 300ms"),
    ];
    for (script, within, expected) in table {
        let spec = HookSpec { within, ..hook(&place, script) };

        let outcome = place.runtime.run_hook(spec).await;

        assert_eq!(outcome, HookOutcome::Failed(expected.to_owned()));
        assert_eq!(place.processes_with("CUTOVER_HOOK"), Vec::<u32>::new(), "{script}");
    }
    let missing = HookSpec { command: vec!["./nothing".to_owned()], ..hook(&place, "") };
    let log = missing.log.clone();
    let HookOutcome::Failed(text) = place.runtime.run_hook(missing).await else { panic!() };
    assert!(text.contains("./nothing"), "{text}");
    assert_eq!(fs::read_to_string(log).unwrap(), text, "and is found where output is looked for");
}

#[tokio::test]
async fn all_of_a_hooks_output_is_kept_up_to_a_mebibyte_and_the_latest_run_counts() {
    let place = Place::new();
    let flood =
        hook(&place, "echo first; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last >&2");
    let log = flood.log.clone();

    assert_eq!(place.runtime.run_hook(flood).await, HookOutcome::Passed);

    let kept = fs::read_to_string(&log).unwrap();
    assert!(kept.starts_with("first\nxxx") && kept.ends_with("xxx\nlast\n"));
    assert!(kept.contains("bytes are left out here"));
    assert!(kept.len() < KEPT_BYTES_MAX + 200, "{}", kept.len());

    assert_eq!(place.runtime.run_hook(hook(&place, "echo short")).await, HookOutcome::Passed);
    assert_eq!(fs::read_to_string(&log).unwrap(), "short\n");
}

#[tokio::test]
async fn another_agent_ends_what_a_hook_left_behind() {
    // promises.md E3 and §3 row 5.
    let place = Place::new();
    let spec = hook(&place, "echo begun; setsid sh -c 'echo up > $OUT; exec sleep 1000' & wait");
    let running = tokio::spawn({
        let runtime = place.runtime.clone();
        async move { runtime.run_hook(spec).await }
    });
    until("the hook to run", || place.root().join("out").exists()).await;
    let log = place.root().join("data/logs/web/blue.smoke.log");
    let kept = || fs::read_to_string(&log).unwrap_or_default();
    until("what it says to be kept", || kept() == "begun\n").await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    assert_eq!(kept(), "begun\n\n[... it was interrupted here ...]\n");
    until("the daemon of the hook", || !place.processes_with("CUTOVER_HOOK").is_empty()).await;

    let place = place.with_another_agent();
    place.runtime.end_hook(place.instance.0).await.unwrap();

    assert_eq!(place.processes_with("CUTOVER_HOOK"), Vec::<u32>::new());
}

//! Hooks and probes that misbehave in every way that a shell script can.

use std::{fs, time::Instant};

use rustix::process::kill_process;

use super::*;
use crate::process::stat::read_stat;

fn sh(script: &str) -> Vec<String> {
    vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()]
}

async fn run(argv: &[String], within: Duration) -> CommandResult {
    let env = BTreeMap::from([("PATH".to_owned(), crate::shim::program::PATH.to_owned())]);
    let command = BoundedCommand {
        argv,
        env: &env,
        secrets: &BTreeMap::new(),
        directory: Path::new("/tmp"),
        within,
    };
    run_bounded(command, None).await
}

const LONG: Duration = Duration::from_secs(20);

/// Waits until `pid` runs no more.
async fn gone(pid: u32) {
    let deadline = Instant::now() + LONG;
    while read_stat(pid).unwrap().is_some_and(|stat| !stat.is_ended()) {
        assert!(Instant::now() < deadline, "process {pid} still runs");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn the_status_and_both_outputs_are_kept() {
    let result = run(&sh("echo out; echo err >&2; exit 3"), LONG).await;

    assert_eq!(result.end, CommandEnd::Exited(3));
    assert_eq!(result.output, "out\nerr\n");
    assert_eq!(run(&sh("kill -USR1 $$"), LONG).await.end, CommandEnd::Signalled(10));
}

#[tokio::test]
async fn only_the_end_of_a_flood_is_kept() {
    let result = run(&sh("head -c 50000000 /dev/zero | tr '\\0' x; echo last"), LONG).await;

    assert_eq!(result.end, CommandEnd::Exited(0));
    assert_eq!(result.output.len(), OUTPUT_BYTES_MAX);
    assert!(result.output.ends_with("xlast\n"));
}

#[tokio::test]
async fn a_hanging_command_is_killed_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let script = format!("sleep 1000 & echo $$ $! > {}; wait", pids.display());

    // Enough to come to its second line on a busy machine.
    let result = run(&sh(&script), Duration::from_secs(5)).await;

    assert_eq!(result.end, CommandEnd::TimedOut);
    let pids = fs::read_to_string(pids).unwrap();
    let pids: Vec<u32> = pids.split_ascii_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2, "{pids:?}");
    for pid in pids {
        gone(pid).await;
    }
}

#[tokio::test]
async fn a_command_that_closes_its_output_is_waited_for() {
    let result = run(&sh("exec >/dev/null 2>&1; sleep 0.2; exit 4"), LONG).await;

    assert_eq!(result.end, CommandEnd::Exited(4));
}

#[tokio::test]
async fn a_daemon_that_holds_the_output_open_delays_nobody() {
    let started = Instant::now();

    let result = run(&sh("setsid sleep 60 & echo $!"), Duration::from_secs(50)).await;

    let daemon = Pid::from_raw(result.output.trim().parse().unwrap()).unwrap();
    kill_process(daemon, Signal::KILL).unwrap();
    assert_eq!(result.end, CommandEnd::Exited(0));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_dropped_run_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let argv =
        sh(&format!("sleep 1000 & echo $$ $! > {p}.new; mv {p}.new {p}; wait", p = pids.display()));
    {
        let running = run(&argv, LONG);
        tokio::pin!(running);
        while !pids.exists() {
            let step = timeout(Duration::from_millis(5), running.as_mut()).await;
            assert!(step.is_err(), "ended early: {step:?}");
        }
    }
    let pids = fs::read_to_string(pids).unwrap();
    for pid in pids.split_ascii_whitespace() {
        gone(pid.parse().unwrap()).await;
    }
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let result = run(&["./nothing".to_owned()], LONG).await;

    let CommandEnd::NotStarted(text) = result.end else { panic!("{result:?}") };
    assert_eq!(text, "could not run \"./nothing\": there is no file /tmp/./nothing");
}

#[tokio::test]
async fn arguments_are_never_seen_by_a_shell() {
    // promises.md §4 row 47.
    let argv = ["echo", "$(id)", "`id`", "a;b", "new\nline"].map(str::to_owned);

    assert_eq!(run(&argv, LONG).await.output, "$(id) `id` a;b new\nline\n");
}

#[tokio::test]
async fn the_environment_holds_what_was_given_and_the_input_is_empty() {
    let argv = sh("cat; /usr/bin/env | grep -vE '^(PWD|SHLVL|_)='");

    let expected = format!("PATH={}\n", crate::shim::program::PATH);
    assert_eq!(run(&argv, LONG).await.output, expected);
}

//! Starting: what an instance sees, one start for each id, and what cannot be started.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use cutover_agent::process::{Adopted, ExitCause, ProcessRuntime, StartError, Started};
use cutover_common::InstanceId;
use uuid::Uuid;

use crate::support::{LONG, Place, cause, runs_no_more, stop_within, until};

#[tokio::test]
async fn an_instance_runs_in_its_release_with_what_its_spec_names_and_nothing_else() {
    let place = Place::new();
    let mut spec = place.sh("pwd; /usr/bin/env | sort; cat; cut -d' ' -f5 /proc/$$/stat; \
         echo $$; echo oops >&2; echo done; exec sleep 1000");
    spec.env.insert("LOG".to_owned(), "a b; $(id)".to_owned());

    let evidence = place.start(spec).await;
    place.until_logged("done").await;

    let log = place.log();
    let release = place.release_dir().canonicalize().unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[0], release.to_str().unwrap(), "{log}");
    let mut names: Vec<&str> = log
        .lines()
        .filter_map(|line| line.split_once('=').map(|(name, _)| name))
        // The shell's own.
        .filter(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name))
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["CUTOVER_INSTANCE", "LOG", "PATH"], "{log}");
    assert!(log.contains("LOG=a b; $(id)\n"), "{log}");
    assert!(log.contains("PATH=/usr/local/sbin:"), "{log}");
    let pid = evidence.pid.to_string();
    assert_eq!(lines.iter().filter(|l| **l == pid).count(), 2, "leads its own group: {log}");
    assert!(log.contains("oops\n"), "{log}");

    place.stop(stop_within(LONG)).await;
}

#[tokio::test]
async fn an_instance_inherits_no_descriptor_of_the_agent() {
    // promises.md T5.3. What this test was given by whoever started it cannot be told apart.
    let inherited = Command::new("/bin/ls").arg("/proc/self/fd").output().unwrap().stdout;
    let place = Place::new();
    let _open = fs::File::open("/dev/zero").unwrap();
    let mut spec = place.sh("");
    spec.command = ["ls", "/proc/self/fd"].map(str::to_owned).to_vec();

    place.start_any(spec).await;

    assert_eq!(cause(&place.wait().await), &ExitCause::Exited(0));
    assert_eq!(place.log(), String::from_utf8(inherited).unwrap());
}

#[tokio::test]
async fn a_bare_name_and_a_program_of_the_release_are_both_found() {
    let place = Place::new();
    place.write_program("server", "#!/bin/sh\necho served $1\nexit 7\n");
    let mut spec = place.sh("");
    spec.command = vec!["./server".to_owned(), "$(id) ;".to_owned()];

    place.start_any(spec).await;

    let ended = place.wait().await;
    assert_eq!(cause(&ended), &ExitCause::Exited(7));
    assert_eq!(place.log(), "served $(id) ;\n");
}

#[tokio::test]
async fn a_command_that_cannot_be_run_says_why() {
    let place = Place::new();
    place.write_program("foreign", "\0not a program\n");
    place.write_program("odd", "#!/no/such/interpreter\n");
    let table = [
        (vec![], "the command is empty"),
        (vec!["./missing"], "could not run \"./missing\": there is no file "),
        (vec!["no-such-program-here"], "no such program in /usr/local/sbin"),
        (vec!["./foreign"], "it is neither a program for this machine nor begins with #!"),
        (vec!["./odd"], "the interpreter that it names is not on this host"),
    ];
    for (command, expected) in table {
        let mut spec = place.sh("");
        spec.instance = InstanceId(Uuid::new_v4());
        spec.command = command.into_iter().map(str::to_owned).collect();

        let started = place.runtime.start(spec.clone()).await.unwrap();

        let Started::Ended(record) = started else { panic!("{expected}: {started:?}") };
        let ExitCause::SpawnError(text) = &record.cause else { panic!("{record:?}") };
        assert!(text.contains(expected), "{text}");
        let adopted = place.runtime.adopt(&place.application, spec.instance).await.unwrap();
        assert_eq!(adopted, Adopted::Exited(record));
    }
}

#[tokio::test]
async fn a_release_directory_that_is_gone_is_named() {
    let place = Place::new();
    let mut spec = place.sh("");
    spec.release_dir = "/no/such/release".into();

    let Started::Ended(record) = place.runtime.start(spec).await.unwrap() else { panic!() };

    let text = record.cause.to_string();
    assert!(text.contains("its directory /no/such/release is not there"), "{text}");
}

#[tokio::test]
async fn one_id_is_one_process_however_often_it_is_started() {
    let place = Place::new();
    let first = place.start(place.sh("echo started; exec sleep 1000")).await;

    let again = place.start(place.sh("echo started; exec sleep 1000")).await;
    let place = place.with_another_agent();
    let by_another = place.start(place.sh("echo started; exec sleep 1000")).await;

    assert_eq!((&again, &by_another), (&first, &first));
    // An instance counts as started before its first line: the signal must not come first.
    place.until_logged("started").await;
    place.stop(stop_within(LONG)).await;
    assert_eq!(place.log(), "started\n");
    // Nor is it started again once it ended.
    let ended = place.runtime.start(place.sh("echo started")).await.unwrap();
    assert!(matches!(ended, Started::Ended(_)), "{ended:?}");
    assert_eq!(place.log(), "started\n");
}

#[tokio::test]
async fn of_two_shims_for_one_instance_one_starts_it() {
    // promises.md §3 row 11: an agent was killed right after it started a shim, the next one
    // starts another.
    for _ in 0..10 {
        let place = Place::new();
        place.write_spec("echo started; exec sleep 1000");
        let mut shims: Vec<_> = (0..4).map(|_| place.spawn_shim()).collect();

        let evidence = place.until_running().await;
        // The losers end by themselves, and well.
        until("three shims to end", || {
            shims.iter_mut().map(|shim| shim.try_wait().unwrap()).filter(Option::is_some).count()
                == 3
        })
        .await;
        place.until_logged("started").await;

        let outcome = place.stop(stop_within(LONG)).await;
        assert_eq!(cause(&outcome.ended), &ExitCause::Signalled(15));
        runs_no_more(evidence.pid).await;
        assert_eq!(place.log(), "started\n");
        for mut shim in shims {
            assert!(shim.wait().unwrap().success());
        }
    }
}

#[tokio::test]
async fn what_was_found_to_be_nothing_is_not_begun_by_a_late_shim() {
    let place = Place::new();
    place.write_spec("echo started; exec sleep 1000");
    assert_eq!(place.adopt().await, Adopted::Never);

    let mut late = place.spawn_shim();

    assert!(!late.wait().unwrap().success());
    assert_eq!(place.adopt().await, Adopted::Never);
    assert!(place.log_if_any().is_none());
}

#[tokio::test]
async fn a_shim_that_cannot_work_says_why_to_whoever_starts() {
    let place = Place::new();
    let broken = ProcessRuntime::new(place.root().join("data"), "/bin/false".into()).unwrap();
    let error = broken.start(place.sh("exit 0")).await.unwrap_err();
    assert!(matches!(error, StartError::ShimEnded { .. }), "{error}");

    let missing = ProcessRuntime::new(place.root().join("data"), "/no/shim".into()).unwrap();
    let error = missing.start(place.sh("exit 0")).await.unwrap_err();
    assert_eq!(error.to_string(), "could not run the shim /no/shim");
    // Nothing was begun, so the same id can be started with a shim that works.
    place.start_any(place.sh("exit 0")).await;
    assert_eq!(cause(&place.wait().await), &ExitCause::Exited(0));
}

#[tokio::test]
async fn environments_are_for_the_agents_user_only() {
    let place = Place::new();
    place.start_any(place.sh("exit 0")).await;
    place.wait().await;

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.instance_dir()), 0o700);
    assert_eq!(mode(&place.instance_dir().join("spec.json")), 0o600);
}

//! The `process` runtime with real shims and real processes.
//!
//! Instances are shell scripts. Whatever a test starts is stopped through the runtime at its end,
//! and by the token of its instance if the test fails.

mod process_support;

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use cutover_agent::process::{
    Adopted, Ended, ExitCause, HookOutcome, LogSpec, LookError, StartError, Started, StopHook,
    StopOutcome, stat::read_stat,
};
use cutover_common::InstanceId;
use process_support::{LONG, Place, is_running, runs_no_more, stop_within, until};
use uuid::Uuid;

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
async fn the_exit_status_is_kept_while_no_agent_looks() {
    let place = Place::new();
    let go = place.root().join("go");
    let script = format!("while ! test -e {}; do sleep 0.01; done; exit 7", go.display());
    let evidence = place.start(place.sh(&script)).await;

    // The agent goes, the application ends, another agent comes.
    let place = place.with_another_agent();
    fs::write(&go, "").unwrap();
    runs_no_more(evidence.pid).await;

    let adopted = place.adopt().await;
    let Adopted::Exited(record) = adopted else { panic!("{adopted:?}") };
    assert_eq!(record.cause, ExitCause::Exited(7));
    assert_eq!(place.wait().await, Ended::Exited(record));
}

#[tokio::test]
async fn a_running_instance_is_found_again_and_its_end_is_heard() {
    let place = Place::new();
    let evidence = place.start(place.sh("echo up; exec sleep 1000")).await;

    let place = place.with_another_agent();

    assert_eq!(place.adopt().await, Adopted::Running(evidence.clone()));
    assert_eq!(place.runtime.list().await.unwrap(), [(place.application.clone(), place.instance)]);
    let wait = tokio::spawn({
        let (runtime, application) = (place.runtime.clone(), place.application.clone());
        let instance = place.instance;
        async move { runtime.wait(&application, instance).await.unwrap() }
    });
    place.signal(evidence.pid, "USR1");
    assert_eq!(cause(&wait.await.unwrap()), &ExitCause::Signalled(10));
}

#[tokio::test]
async fn one_id_is_one_process_however_often_it_is_started() {
    let place = Place::new();
    let first = place.start(place.sh("echo started; exec sleep 1000")).await;

    let again = place.start(place.sh("echo started; exec sleep 1000")).await;
    let place = place.with_another_agent();
    let by_another = place.start(place.sh("echo started; exec sleep 1000")).await;

    assert_eq!((&again, &by_another), (&first, &first));
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
    let broken =
        cutover_agent::process::ProcessRuntime::new(place.root().join("data"), "/bin/false".into())
            .unwrap();
    let error = broken.start(place.sh("exit 0")).await.unwrap_err();
    assert!(matches!(error, StartError::ShimEnded { .. }), "{error}");

    let missing =
        cutover_agent::process::ProcessRuntime::new(place.root().join("data"), "/no/shim".into())
            .unwrap();
    let error = missing.start(place.sh("exit 0")).await.unwrap_err();
    assert_eq!(error.to_string(), "could not run the shim /no/shim");
    // Nothing was begun, so the same id can be started with a shim that works.
    place.start_any(place.sh("exit 0")).await;
    assert_eq!(cause(&place.wait().await), &ExitCause::Exited(0));
}

#[tokio::test]
async fn an_application_that_hears_the_signal_ends_within_its_grace() {
    let place = Place::new();
    let script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.01; done";
    place.start(place.sh(script)).await;
    place.until_logged("up").await;

    let outcome = place.stop(stop_within(LONG)).await;

    let Ended::Exited(record) = &outcome.ended else { panic!("{outcome:?}") };
    assert_eq!(record.cause, ExitCause::Exited(3));
    assert_eq!((outcome.killed, &outcome.hook), (false, &HookOutcome::NotRun));
    assert!(place.log().ends_with("bye\n"), "{}", place.log());
}

#[tokio::test]
async fn an_application_that_ignores_the_signal_is_killed_after_its_grace() {
    let place = Place::new();
    let evidence =
        place.start(place.sh("trap '' TERM; echo up; while :; do sleep 0.1; done")).await;
    place.until_logged("up").await;
    let started = Instant::now();

    let outcome = place.stop(stop_within(Duration::from_millis(300))).await;

    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(cause(&outcome.ended), &ExitCause::Signalled(9));
    assert!(outcome.killed);
    assert!(!is_running(evidence.pid));
}

#[tokio::test]
async fn a_frozen_application_hears_its_signal() {
    let place = Place::new();
    let evidence =
        place.start(place.sh("trap 'exit 3' TERM; echo up; while :; do sleep 0.01; done")).await;
    place.until_logged("up").await;
    place.signal(evidence.pid, "STOP");

    let outcome = place.stop(stop_within(LONG)).await;

    assert_eq!(cause(&outcome.ended), &ExitCause::Exited(3));
}

#[tokio::test]
async fn the_signal_reaches_each_member_of_the_group_once() {
    let place = Place::new();
    let child = "trap \"echo child heard\" TERM; echo child up; while :; do sleep 0.01; done";
    let script = format!(
        "trap 'echo leader heard' TERM; ({child}) & echo leader up; \
         while :; do sleep 0.01; done"
    );
    place.start(place.sh(&script)).await;
    place.until_logged("child up").await;
    place.until_logged("leader up").await;
    place.stop(stop_within(Duration::from_millis(300))).await;

    let log = place.log();
    assert_eq!(log.matches("leader heard").count(), 1, "{log}");
    assert_eq!(log.matches("child heard").count(), 1, "{log}");
}

#[tokio::test]
async fn children_in_the_background_end_with_the_application_wherever_they_went() {
    let place = Place::new();
    let script = "sleep 1000 & echo $!; setsid sleep 1000 & echo $!; \
         setsid sh -c 'echo $$; setsid sleep 1000 & echo $!; wait' & \
         (env -i setsid sleep 1000 & echo $!); wait";
    place.start(place.sh(script)).await;
    until("five children", || place.logged_pids().len() == 5).await;
    let pids = place.logged_pids();

    place.stop(stop_within(Duration::from_millis(500))).await;

    for pid in pids {
        assert!(!is_running(pid), "{pid}");
    }
}

#[tokio::test]
async fn children_end_also_when_the_application_ends_by_itself() {
    // promises.md §3 rows 72 and 74.
    let place = Place::new();
    let script = "trap '' TERM; setsid sh -c 'echo $$; sleep 1000' & echo $!; \
         while test $(grep -c . $LOG_FILE) != 2; do sleep 0.01; done; exit 5";
    let mut spec = place.sh(script);
    spec.env.insert("LOG_FILE".to_owned(), spec.log.path.display().to_string());
    place.start_any(spec).await;

    assert_eq!(cause(&place.wait().await), &ExitCause::Exited(5));

    assert_eq!(place.logged_pids().len(), 2);
    for pid in place.logged_pids() {
        assert!(!is_running(pid), "{pid}");
    }
}

#[tokio::test]
async fn a_stop_that_was_cut_off_goes_on_where_it_was() {
    let place = Place::new();
    let hook_runs = place.root().join("hook-runs");
    let script = "trap 'echo heard' TERM; echo up; while :; do sleep 0.01; done";
    place.start(place.sh(script)).await;
    place.until_logged("up").await;
    let mut spec = stop_within(LONG);
    spec.hook = Some(hook(&format!("echo run >> {}", hook_runs.display()), LONG));
    let first = tokio::spawn({
        let (runtime, application) = (place.runtime.clone(), place.application.clone());
        let (instance, spec) = (place.instance, spec.clone());
        async move { runtime.stop(&application, instance, spec).await }
    });
    place.until_logged("heard").await;
    until("the signal to be on record", || {
        place.record("stop.json").is_some_and(|stop| !stop["signalled_after"].is_null())
    })
    .await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());

    let place = place.with_another_agent();
    // As if the agent had been away for longer than the grace.
    place.edit("stop.json", |stop| stop["signalled_after"]["secs"] = 0.into());
    let resumed = Instant::now();
    let outcome = place.stop(spec).await;

    assert_eq!(outcome.hook, HookOutcome::Passed);
    assert!(outcome.killed);
    assert!(resumed.elapsed() < LONG / 2, "the grace began again");
    assert_eq!(place.log().matches("heard").count(), 1);
    assert_eq!(fs::read_to_string(hook_runs).unwrap(), "run\n");
    // And once more, of what is over.
    let StopOutcome { ended, killed, .. } = place.stop(stop_within(LONG)).await;
    assert_eq!((cause(&ended), killed), (&ExitCause::Signalled(9), false));
}

#[tokio::test]
async fn a_hook_runs_before_the_signal_in_the_instances_own_surroundings() {
    let place = Place::new();
    let mut spec =
        place.sh("trap 'echo stopped; exit 0' TERM; echo up; while :; do sleep 0.01; done");
    let out = place.root().join("out");
    spec.env.insert("OUT".to_owned(), out.display().to_string());
    place.start(spec).await;
    place.until_logged("up").await;
    let mut stop = stop_within(LONG);
    stop.hook = Some(hook("pwd > $OUT; test -z \"$CUTOVER_INSTANCE\"", LONG));

    let outcome = place.stop(stop).await;

    assert_eq!(outcome.hook, HookOutcome::Passed);
    assert_eq!(cause(&outcome.ended), &ExitCause::Exited(0));
    let release = place.release_dir().canonicalize().unwrap();
    assert_eq!(fs::read_to_string(out).unwrap().trim(), release.to_str().unwrap());
}

#[tokio::test]
async fn a_hook_that_fails_is_a_warning_and_never_a_veto() {
    let table = [
        ("echo no; exit 2", LONG, "it exited with status 2; it said: no"),
        ("kill -9 $$", LONG, "signal 9 ended it"),
        ("setsid sleep 1000 & sleep 1000", Duration::from_millis(300), "it was killed after 300ms"),
    ];
    for (script, within, expected) in table {
        let place = Place::new();
        let evidence = place.start(place.sh("exec sleep 1000")).await;
        let mut stop = stop_within(LONG);
        stop.hook = Some(hook(script, within));

        let outcome = place.stop(stop).await;

        assert_eq!(outcome.hook, HookOutcome::Failed(expected.to_owned()));
        assert_eq!(cause(&outcome.ended), &ExitCause::Signalled(15));
        assert!(!is_running(evidence.pid));
        assert_eq!(place.processes_with("CUTOVER_HOOK"), Vec::<u32>::new(), "{script}");
    }
}

#[tokio::test]
async fn an_interrupted_hook_is_ended_told_and_not_run_again() {
    // promises.md E3 and §3 row 5.
    let place = Place::new();
    let runs = place.root().join("runs");
    place.start(place.sh("exec sleep 1000")).await;
    let mut spec = stop_within(LONG);
    spec.hook = Some(hook(
        &format!("setsid sh -c 'echo run >> {}; exec sleep 1000' & wait", runs.display()),
        LONG,
    ));
    let first = tokio::spawn({
        let (runtime, application) = (place.runtime.clone(), place.application.clone());
        let (instance, spec) = (place.instance, spec.clone());
        async move { runtime.stop(&application, instance, spec).await }
    });
    until("the hook to run", || runs.exists()).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    until("the daemon of the hook", || !place.processes_with("CUTOVER_HOOK").is_empty()).await;

    let place = place.with_another_agent();
    let outcome = place.stop(spec).await;

    assert_eq!(outcome.hook, HookOutcome::Interrupted);
    assert_eq!(place.processes_with("CUTOVER_HOOK"), Vec::<u32>::new());
    assert_eq!(fs::read_to_string(runs).unwrap(), "run\n");
    assert_eq!(cause(&outcome.ended), &ExitCause::Signalled(15));
}

#[tokio::test]
async fn an_instance_that_never_ran_is_stopped_already() {
    let place = Place::new();
    let mut spec = stop_within(LONG);
    spec.hook = Some(hook("exit 1", LONG));

    let outcome = place.stop(spec).await;

    let expected = StopOutcome { ended: Ended::Never, hook: HookOutcome::NotRun, killed: false };
    assert_eq!(outcome, expected);
}

#[tokio::test]
async fn a_stranger_with_the_same_pid_is_neither_adopted_nor_signalled() {
    // promises.md A8 and §3 row 76.
    let place = Place::new();
    let mut stranger = Stranger(Command::new("/bin/sleep").arg("1000").spawn().unwrap());
    let stat = read_stat(stranger.0.id()).unwrap().unwrap();
    place.start(place.sh("exec sleep 1000")).await;
    place.stop(stop_within(LONG)).await;
    fs::remove_file(place.instance_dir().join("exit.json")).unwrap();
    for mark in ["application", "shim"] {
        place.edit("state.json", |state| state[mark]["pid"] = stat.pid.into());
    }
    place.edit("shim.json", |shim| shim["pid"] = stat.pid.into());
    place.edit("state.json", |state| {
        state["application"]["start_ticks"] = (stat.start_ticks + 1).into();
    });
    place.edit("shim.json", |shim| shim["start_ticks"] = (stat.start_ticks + 1).into());

    assert_eq!(place.adopt().await, Adopted::Gone);
    let outcome = place.stop(stop_within(Duration::ZERO)).await;
    let started = place.runtime.start(place.sh("echo again")).await;

    assert_eq!(outcome.ended, Ended::Gone);
    assert!(matches!(started, Err(StartError::Gone(_))), "{started:?}");
    assert!(stranger.0.try_wait().unwrap().is_none(), "the stranger was hit");
}

/// A process that is none of the runtime's business.
struct Stranger(Child);

impl Drop for Stranger {
    fn drop(&mut self) {
        drop((self.0.kill(), self.0.wait()));
    }
}

#[tokio::test]
async fn a_pid_of_another_boot_is_not_believed() {
    // promises.md §3 row 77.
    let place = Place::new();
    let evidence = place.start(place.sh("exec sleep 1000")).await;
    let change = |boot_id: &str| {
        for mark in ["application", "shim"] {
            place.edit("state.json", |state| state[mark]["boot_id"] = boot_id.into());
        }
        place.edit("shim.json", |shim| shim["boot_id"] = boot_id.into());
    };

    change("another-boot");
    assert_eq!(place.adopt().await, Adopted::Gone);
    assert!(is_running(evidence.pid));

    change(&evidence.boot_id);
    assert_eq!(place.adopt().await, Adopted::Running(evidence));
    place.stop(stop_within(LONG)).await;
}

#[tokio::test]
async fn damaged_and_foreign_records_are_errors_and_no_guess() {
    let place = Place::new();
    let evidence = place.start(place.sh("exec sleep 1000")).await;
    let state = place.instance_dir().join("state.json");
    let good = fs::read(&state).unwrap();

    fs::write(&state, &good[..good.len() / 2]).unwrap();
    let error = place.runtime.adopt(&place.application, place.instance).await.unwrap_err();
    assert!(matches!(error, LookError::Record { .. }), "{error}");
    fs::write(&state, &good).unwrap();
    place.edit("state.json", |state| state["instance"] = Uuid::nil().to_string().into());
    let error = place.runtime.adopt(&place.application, place.instance).await.unwrap_err();
    assert!(matches!(error, LookError::Foreign { .. }), "{error}");

    fs::write(&state, &good).unwrap();
    assert!(is_running(evidence.pid));
    place.stop(stop_within(LONG)).await;
}

#[tokio::test]
async fn an_instance_whose_shim_was_killed_is_found_by_its_token() {
    let place = Place::new();
    // Nothing is written, so that the broken pipe does not end it.
    let evidence = place.start(place.sh("setsid sleep 1000 & exec sleep 1000")).await;
    let shim = place.shim_pid();
    place.signal(shim, "KILL");
    runs_no_more(shim).await;

    let place = place.with_another_agent();
    assert_eq!(place.adopt().await, Adopted::Running(evidence.clone()));
    let outcome = place.stop(stop_within(LONG)).await;

    assert_eq!(outcome.ended, Ended::Gone);
    assert!(!is_running(evidence.pid));
    assert_eq!(place.processes_with("CUTOVER_INSTANCE"), Vec::<u32>::new());
}

#[tokio::test]
async fn a_shim_is_deaf_to_signals_that_ask_for_an_end() {
    let place = Place::new();
    let go = place.root().join("go");
    let script = format!(
        "while ! test -e {}; do sleep 0.01; done; echo still; exec sleep 1000",
        go.display()
    );
    let evidence = place.start(place.sh(&script)).await;
    let shim = place.shim_pid();

    for signal in ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"] {
        place.signal(shim, signal);
    }
    fs::write(go, "").unwrap();

    place.until_logged("still").await;
    assert!(is_running(shim) && is_running(evidence.pid));
    // And the application is not: it inherited nothing.
    place.signal(evidence.pid, "HUP");
    assert_eq!(cause(&place.wait().await), &ExitCause::Signalled(1));
}

#[tokio::test]
async fn a_shim_takes_the_status_of_every_orphan() {
    let place = Place::new();
    place
        .start(
            place.sh(
                "(setsid sleep 0.01 & echo $!); (sleep 0.01 & echo $!); echo up; exec sleep 1000",
            ),
        )
        .await;
    place.until_logged("up").await;

    let pids = place.logged_pids();
    assert_eq!(pids.len(), 2);
    until("no zombies", || pids.iter().all(|pid| read_stat(*pid).unwrap().is_none())).await;

    place.stop(stop_within(LONG)).await;
}

#[tokio::test]
async fn a_flood_of_output_takes_no_more_than_its_cap() {
    // promises.md §3 row 97.
    let place = Place::new();
    let mut spec = place.sh("head -c 30000000 /dev/zero | tr '\\0' x; echo; echo the end");
    spec.log = LogSpec { file_size_bytes_max: 100_000, old_files_max: 2, ..spec.log };
    place.start_any(spec).await;

    assert_eq!(cause(&place.wait().await), &ExitCause::Exited(0));

    let folder = place.log_path().parent().unwrap().to_owned();
    let sizes: Vec<u64> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect();
    assert_eq!(sizes.len(), 3);
    assert!(sizes.iter().all(|size| *size <= 100_000), "{sizes:?}");
    assert!(place.log().ends_with("x\nthe end\n"));
}

#[tokio::test]
async fn a_log_that_cannot_be_written_stops_nobody() {
    let place = Place::new();
    let mut spec = place.sh("head -c 3000000 /dev/zero; exit 6");
    spec.log.path = "/proc/no/such/folder/log".into();
    place.start_any(spec).await;

    assert_eq!(cause(&place.wait().await), &ExitCause::Exited(6));
}

#[tokio::test]
async fn only_what_does_not_run_is_forgotten_and_its_log_stays() {
    let place = Place::new();
    place.start(place.sh("echo up; exec sleep 1000")).await;
    place.until_logged("up").await;

    let error = place.runtime.forget(&place.application, place.instance).await.unwrap_err();
    assert!(error.to_string().contains("still runs; stop it before"), "{error}");
    place.stop(stop_within(LONG)).await;
    for _ in 0..2 {
        place.runtime.forget(&place.application, place.instance).await.unwrap();
    }

    assert_eq!(place.runtime.list().await.unwrap(), []);
    assert_eq!(place.adopt().await, Adopted::Never);
    assert_eq!(place.log(), "up\n");
}

#[tokio::test]
async fn what_is_no_instance_is_not_listed() {
    let place = Place::new();
    assert_eq!(place.runtime.list().await.unwrap(), []);
    let instances = place.root().join("data/instances");
    fs::create_dir_all(instances.join("web/not-a-uuid")).unwrap();
    fs::create_dir_all(instances.join("Not A Name").join(Uuid::nil().to_string())).unwrap();
    fs::write(instances.join("file"), "").unwrap();

    assert_eq!(place.runtime.list().await.unwrap(), []);
}

#[tokio::test]
async fn environments_are_for_the_agents_user_only() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    place.start_any(place.sh("exit 0")).await;
    place.wait().await;

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.instance_dir()), 0o700);
    assert_eq!(mode(&place.instance_dir().join("spec.json")), 0o600);
}

#[tokio::test]
async fn an_agent_that_is_killed_takes_nothing_along() {
    // promises.md A2 and §3 row 112: the application still runs and is still logged.
    let place = Place::new();
    let go = place.root().join("go");
    let script = format!(
        "echo up; while ! test -e {}; do sleep 0.01; done; echo after; exit 7",
        go.display()
    );
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "an_agent_to_be_killed", "--ignored", "--nocapture"])
        .env("AGENT_SCRIPT", &script)
        .env("AGENT_DIR", place.root())
        .env("AGENT_INSTANCE", place.instance.0.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("the agent to start the instance", || place.root().join("agent-started").exists()).await;
    agent.kill().unwrap();
    assert_eq!(agent.wait().unwrap().signal(), Some(9));

    let Adopted::Running(evidence) = place.adopt().await else { panic!("not running") };
    assert!(is_running(evidence.pid));
    fs::write(go, "").unwrap();

    assert_eq!(cause(&place.wait().await), &ExitCause::Exited(7));
    assert_eq!(place.log(), "up\nafter\n");
}

#[tokio::test]
#[ignore = "runs as the agent that an_agent_that_is_killed_takes_nothing_along kills"]
async fn an_agent_to_be_killed() {
    let instance = std::env::var("AGENT_INSTANCE").unwrap().parse().unwrap();
    let place = Place::at(std::env::var_os("AGENT_DIR").unwrap().into(), InstanceId(instance));
    place.start(place.sh(&std::env::var("AGENT_SCRIPT").unwrap())).await;
    fs::write(place.root().join("agent-started"), "").unwrap();
    std::future::pending::<()>().await;
}

fn hook(script: &str, within: Duration) -> StopHook {
    StopHook { command: ["sh", "-c", script].map(str::to_owned).to_vec(), within }
}

fn cause(ended: &Ended) -> &ExitCause {
    match ended {
        Ended::Exited(record) => &record.cause,
        Ended::Gone | Ended::Never => panic!("no exit record: {ended:?}"),
    }
}

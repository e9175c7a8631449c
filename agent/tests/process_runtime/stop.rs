//! Stopping: signals, grace, and stops that are cut off.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::Command,
    time::{Duration, Instant},
};

use cutover_agent::process::{Ended, ExitCause, StopOutcome};

use crate::support::{LONG, Place, cause, is_running, stop_within, until};

#[tokio::test]
async fn an_application_that_hears_the_signal_ends_within_its_grace() {
    let place = Place::new();
    let script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.01; done";
    place.start(place.sh(script)).await;
    place.until_logged("up").await;

    let outcome = place.stop(stop_within(LONG)).await;

    let Ended::Exited(record) = &outcome.ended else { panic!("{outcome:?}") };
    assert_eq!(record.cause, ExitCause::Exited(3));
    assert!(!outcome.killed);
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
async fn the_signal_reaches_the_whole_group() {
    let place = Place::new();
    let child = "trap \"echo child heard; exit\" TERM; echo child up; while :; do sleep 0.01; done";
    let script = format!(
        "({child}) & child=$!; trap 'echo leader heard; wait $child; exit' TERM; echo leader up; \
         while :; do sleep 0.01; done"
    );
    place.start(place.sh(&script)).await;
    place.until_logged("child up").await;
    place.until_logged("leader up").await;
    // Both end by themselves, the leader last.
    let outcome = place.stop(stop_within(LONG)).await;

    assert!(!outcome.killed, "{outcome:?}");
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
         while test 0$(grep -cs . $LOG_FILE) != 02; do sleep 0.01; done; exit 5";
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
    let script = "trap 'echo heard' TERM; echo up; while :; do sleep 0.01; done";
    place.start(place.sh(script)).await;
    place.until_logged("up").await;
    let spec = stop_within(LONG);
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

    assert!(outcome.killed);
    assert!(resumed.elapsed() < LONG / 2, "the grace began again");
    assert_eq!(place.log().matches("heard").count(), 1);
    // And once more, of what is over.
    let StopOutcome { ended, killed, .. } = place.stop(stop_within(LONG)).await;
    assert_eq!((cause(&ended), killed), (&ExitCause::Signalled(9), false));
}

#[tokio::test]
async fn an_instance_that_never_ran_is_stopped_already() {
    let place = Place::new();

    let outcome = place.stop(stop_within(LONG)).await;

    let expected = StopOutcome { ended: Ended::Never, killed: false };
    assert_eq!(outcome, expected);
}

#[tokio::test]
async fn what_an_interrupted_probe_has_left_is_ended_with_the_instance() {
    // An agent that is killed while it asks leaves the probe running.
    let place = Place::new();
    place.start(place.sh("exec sleep 1000")).await;
    let mut probe = Command::new("/bin/sleep")
        .arg("1000")
        .env("CUTOVER_PROBE", place.instance.0.to_string())
        .spawn()
        .unwrap();

    place.stop(stop_within(LONG)).await;

    let status = probe.try_wait().unwrap().expect("the probe ended");
    assert_eq!(status.signal(), Some(9));
}

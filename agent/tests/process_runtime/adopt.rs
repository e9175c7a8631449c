//! Finding again: after crashes of the agent and of the shim, reboots and reused pids.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    time::Duration,
};

use cutover_agent::process::{
    AdoptError, Adopted, Ended, ExitCause, LookError, StartError, stat::read_stat,
};
use cutover_common::InstanceId;
use serde_json::json;
use uuid::Uuid;

use crate::support::{LONG, Place, cause, is_running, runs_no_more, stop_within, until};

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
    let stranger = Stranger(Command::new("/bin/sleep").arg("1000").spawn().unwrap());
    let stat = read_stat(stranger.0.id()).unwrap().unwrap();
    let evidence = place.start(place.sh("exec sleep 1000")).await;
    place.stop(stop_within(LONG)).await;
    fs::remove_file(place.instance_dir().join("exit.json")).unwrap();
    let change = |boot_id: &str| {
        let mark = json!({ "pid": stat.pid, "start_ticks": stat.start_ticks, "boot_id": boot_id });
        for name in ["application", "shim"] {
            place.edit("state.json", |state| state[name] = mark.clone());
        }
        place.edit("shim.json", |shim| *shim = mark.clone());
    };

    change("another-boot");
    assert_eq!(place.adopt().await, Adopted::Gone);
    assert!(is_running(stat.pid));

    change(&evidence.boot_id);
    let believed = place.adopt().await;
    assert!(matches!(&believed, Adopted::Running(it) if it.pid == stat.pid), "{believed:?}");
}

#[tokio::test]
async fn damaged_and_foreign_records_are_errors_and_no_guess() {
    let place = Place::new();
    let evidence = place.start(place.sh("exec sleep 1000")).await;
    let state = place.instance_dir().join("state.json");
    let good = fs::read(&state).unwrap();

    fs::write(&state, &good[..good.len() / 2]).unwrap();
    let error = place.runtime.adopt(&place.application, place.instance).await.unwrap_err();
    assert!(matches!(error, AdoptError::Look(LookError::Record { .. })), "{error}");
    fs::write(&state, &good).unwrap();
    place.edit("state.json", |state| state["instance"] = Uuid::nil().to_string().into());
    let error = place.runtime.adopt(&place.application, place.instance).await.unwrap_err();
    assert!(matches!(error, AdoptError::Look(LookError::Foreign { .. })), "{error}");

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
async fn what_an_ended_instance_left_behind_is_ended_before_another_may_follow() {
    for (has_record, is_adopted) in [(false, true), (true, true), (true, false)] {
        let place = Place::new();
        let up = place.root().join("up");
        let script = format!(
            "setsid sleep 1000 & echo > {up}.new; mv {up}.new {up}; exec sleep 1000",
            up = up.display()
        );
        let evidence = place.start(place.sh(&script)).await;
        until("the daemon to be begun", || up.exists()).await;
        for pid in [place.shim_pid(), evidence.pid] {
            place.signal(pid, "KILL");
            runs_no_more(pid).await;
        }
        if has_record {
            // As of a shim that was killed before it came to what else there was.
            let record = json!({ "cause": { "exited": 7 }, "at": 1 });
            fs::write(place.instance_dir().join("exit.json"), record.to_string()).unwrap();
        }
        assert_ne!(place.processes_with("CUTOVER_INSTANCE"), Vec::<u32>::new());

        if is_adopted {
            let adopted = place.adopt().await;
            let has_ended = match adopted {
                Adopted::Exited(_) => has_record,
                Adopted::Gone => !has_record,
                Adopted::Running(_) | Adopted::Never => false,
            };
            assert!(has_ended, "{adopted:?}");
        } else {
            assert_eq!(cause(&place.wait().await), &ExitCause::Exited(7));
        }

        assert_eq!(place.processes_with("CUTOVER_INSTANCE"), Vec::<u32>::new());
    }
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
async fn an_agent_that_is_killed_takes_nothing_along() {
    // promises.md A2 and §3 row 112: the application still runs and is still logged.
    let place = Place::new();
    let go = place.root().join("go");
    let script = format!(
        "echo up; while ! test -e {}; do sleep 0.01; done; echo after; exit 7",
        go.display()
    );
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "adopt::an_agent_to_be_killed", "--ignored", "--nocapture"])
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

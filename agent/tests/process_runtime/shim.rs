//! The shim: signals, orphans and output.

use std::fs;

use cutover_agent::process::{ExitCause, LogSpec, stat::read_stat};

use crate::support::{LONG, Place, cause, is_running, stop_within, until};

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
